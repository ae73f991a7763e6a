// What an operator's request says: a refusal in its one form, or the fields that the route has, as
// their types.
//
// An input is a query, a line feed, and a body.

#include <algorithm>
#include <string>
#include <variant>

#include <boost/json.hpp>

#include "core/text.h"
#include "daemon/admin/fields.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

using In = RouteField::In;
using Type = RouteField::Type;

const std::vector<RouteField>& fields() {
  static const std::vector<RouteField> kFields = {
      {.in = In::query, .type = Type::integers, .name = "ids", .least = 0},
      {.in = In::query, .type = Type::texts, .name = "names"},
      {.in = In::query, .type = Type::number, .name = "rate"},
      {.in = In::body, .name = "reason", .required = true},
      {.in = In::body, .name = "action", .choices = {"replay", "discard"}},
      {.in = In::body, .type = Type::flag, .name = "hold_key"},
      {.in = In::body, .type = Type::number, .name = "per_second"},
      {.in = In::body, .type = Type::integers, .name = "after", .least = 0},
      {.in = In::body, .type = Type::integer, .name = "limit", .least = 1, .most = 100}};
  return kFields;
}

RouteTable field_table() {
  return RouteTable({{.method = "POST",
                      .pattern = "/v1/jobs",
                      .summary = "Begins.",
                      .handler = [](const Request&) { return Response{}; }}});
}

void check_text(const boost::json::value& value) {
  const std::string text(value.as_string());
  require(is_valid_utf8(text) && text.find('\0') == std::string::npos,
          "a text can be stored by the database");
}

void check_item(const RouteField& field, const boost::json::value& value) {
  switch (field.type) {
    case Type::text:
      check_text(value);
      require(field.choices.empty() ||
                  std::ranges::count(field.choices, std::string(value.as_string())) == 1,
              "a choice is one of them");
      return;
    case Type::integer:
      require(value.as_int64() >= field.least && value.as_int64() <= field.most,
              "a number is within its bounds");
      return;
    case Type::number:
      static_cast<void>(value.as_double());
      return;
    case Type::flag:
      static_cast<void>(value.as_bool());
      return;
    case Type::texts:
      for (const auto& item : value.as_array()) check_text(item);
      return;
    case Type::integers:
      for (const auto& item : value.as_array()) {
        require(item.as_int64() >= field.least, "a number is within its bounds");
      }
      return;
  }
}

}  // namespace

void admin_fields(std::string_view input) {
  static const RouteTable routes = field_table();
  const std::string_view query = input.substr(0, input.find('\n'));
  const auto match = routes.match("POST", "/v1/jobs?" + std::string(query));
  if (match.kind != RouteTable::Match::Kind::found) return;
  Request request;
  request.query = match.query;
  request.content_type = "application/json";
  request.body = input.substr(std::min(query.size() + 1, input.size()));
  const auto said = read_fields(fields(), request);
  if (const auto* refused = std::get_if<Response>(&said)) {
    require(refused->status == 400, "what is wrong is the client's fault");
    const boost::json::value error = boost::json::parse(refused->body);
    require(error.as_object().size() == 3, "a refusal has its form");
    return;
  }
  const auto& object = std::get<boost::json::object>(said);
  require(object.contains("reason"), "what is required is there");
  for (const auto& member : object) {
    const auto field = std::ranges::find(fields(), std::string(member.key()), &RouteField::name);
    require(field != fields().end(), "nothing is there that the route does not have");
    check_item(*field, member.value());
  }
}

}  // namespace outfall::fuzz
