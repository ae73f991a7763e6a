#include "daemon/admin/fields.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>
#include <utility>

#include "core/number.h"
#include "core/text.h"

namespace outfall {
namespace {

namespace json = boost::json;
using In = RouteField::In;
using Type = RouteField::Type;
using Fields = std::span<const RouteField>;

// Ends the reading; carries the whole answer.
struct Refused {
  Response response;
};

[[noreturn]] void refuse(const RouteField& field, std::string_view what) {
  throw Refused{field_refusal(field.name, what, field.summary)};
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string_view type_name(Type type) {
  switch (type) {
    case Type::text:
      return "a string";
    case Type::integer:
      return "a whole number";
    case Type::number:
      return "a number";
    case Type::flag:
      return "true or false";
    case Type::texts:
      return "a list of strings";
    case Type::integers:
      return "a list of whole numbers";
  }
  return "a string";
}

[[noreturn]] void refuse_type(const RouteField& field) {
  refuse(field, "must be " + std::string(type_name(field.type)));
}

json::value checked_text(const RouteField& field, std::string_view text) {
  if (!is_valid_utf8(text) || text.find('\0') != std::string_view::npos) {
    refuse(field, "must be UTF-8 without NUL");
  }
  if (field.required && !field.may_be_blank && is_blank(text)) refuse(field, "is blank");
  if (!field.choices.empty() && std::ranges::find(field.choices, text) == field.choices.end()) {
    std::string list;
    for (const std::string& choice : field.choices) list += (list.empty() ? "" : ", ") + choice;
    refuse(field, "must be one of " + list);
  }
  return json::string(text);
}

json::value checked_integer(const RouteField& field, std::int64_t number) {
  if (number >= field.least && number <= field.most) return number;
  std::string bounds = "must be at least " + std::to_string(field.least);
  if (field.most < INT64_MAX) bounds += " and at most " + std::to_string(field.most);
  refuse(field, bounds);
}

json::value checked_number(const RouteField& field, double number) {
  if (!std::isfinite(number)) refuse_type(field);
  if (number > static_cast<double>(field.least)) return number;
  refuse(field, "must be more than " + std::to_string(field.least));
}

// From a path or a query, where all is text.
json::value integer_of(const RouteField& field, std::string_view text) {
  const auto number = parse_number<std::int64_t>(text);
  if (!number) refuse_type(field);
  return checked_integer(field, *number);
}

json::value value_of(const RouteField& field, std::string_view text) {
  switch (field.type) {
    case Type::text:
      return checked_text(field, text);
    case Type::integer:
      return integer_of(field, text);
    case Type::flag:
      if (text == "true") return true;
      if (text == "false") return false;
      refuse_type(field);
    case Type::number: {
      const auto number = parse_number<double>(text);
      if (!number) refuse_type(field);
      return checked_number(field, *number);
    }
    case Type::texts:
    case Type::integers: {
      json::array list;
      while (true) {
        const auto comma = std::min(text.find(','), text.size());
        const std::string_view item = text.substr(0, comma);
        list.push_back(field.type == Type::texts ? checked_text(field, item)
                                                 : integer_of(field, item));
        if (comma == text.size()) return list;
        text.remove_prefix(comma + 1);
      }
    }
  }
  refuse_type(field);
}

// From a body.
json::value value_of(const RouteField& field, const json::value& given) {
  switch (field.type) {
    case Type::text:
      if (!given.is_string()) refuse_type(field);
      return checked_text(field, given.get_string());
    case Type::integer:
      // Also 5 above what fits, which is parsed as another kind of number.
      if (!given.is_int64()) refuse_type(field);
      return checked_integer(field, given.get_int64());
    case Type::number:
      if (!given.is_number()) refuse_type(field);
      return checked_number(field, given.to_number<double>());
    case Type::flag:
      if (!given.is_bool()) refuse_type(field);
      return given;
    case Type::texts:
    case Type::integers: {
      if (!given.is_array()) refuse_type(field);
      // As a filter it would name nothing, and so take everything.
      if (given.get_array().empty()) refuse(field, "is empty; leave it out or name some");
      json::array list;
      for (const json::value& item : given.get_array()) {
        const bool fits = field.type == Type::texts ? item.is_string() : item.is_int64();
        if (!fits) refuse_type(field);
        list.push_back(field.type == Type::texts ? checked_text(field, item.get_string())
                                                 : checked_integer(field, item.get_int64()));
      }
      return list;
    }
  }
  refuse_type(field);
}

[[noreturn]] void refuse_unknown(Fields fields, In in, std::string_view name) {
  std::string known;
  for (const RouteField& field : fields) {
    if (field.in == in) known += (known.empty() ? "" : ", ") + field.name;
  }
  throw Refused{field_refusal(name, "is not known here",
                              known.empty() ? "leave it out" : "there are: " + known)};
}

const RouteField* find(Fields fields, In in, std::string_view name) {
  const auto found = std::ranges::find_if(
      fields, [&](const RouteField& field) { return field.in == in && field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

// "application/json", also with parameters such as a charset.
bool is_json(std::string_view content_type) {
  constexpr std::string_view kJson = "application/json";
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  const auto last = type.find_last_not_of(" \t");
  const std::string_view bare =
      last == std::string_view::npos ? std::string_view() : type.substr(0, last + 1);
  return std::ranges::equal(bare, kJson, {}, lower_ascii);
}

json::object parse_body(const Request& request) {
  constexpr std::string_view kHint =
      "send one JSON object, such as {\"actor\":\"ana\",\"reason\":\"consumer fixed\"}";
  if (!is_json(request.content_type)) {
    throw Refused{error_response(415, "unsupported_media_type", "the body is not said to be JSON",
                                 "send the header \"Content-Type: application/json\"")};
  }
  json::error_code error;
  json::value value = json::parse(request.body, error);
  if (error) {
    throw Refused{
        error_response(400, "malformed_body", "the body is not JSON: " + error.message(), kHint)};
  }
  if (!value.is_object()) {
    throw Refused{error_response(400, "malformed_body", "the body is not a JSON object", kHint)};
  }
  return std::move(value.get_object());
}

void read_body(Fields fields, const Request& request, json::object& said) {
  const json::object body = parse_body(request);
  for (const auto& given : body) {
    const RouteField* field = find(fields, In::body, given.key());
    if (field == nullptr) refuse_unknown(fields, In::body, given.key());
    // What a script did not find must not widen a replay.
    if (given.value().is_null()) refuse(*field, "is null; leave it out or say it");
    said[field->name] = value_of(*field, given.value());
  }
}

}  // namespace

Response field_refusal(std::string_view field, std::string_view what, std::string_view hint) {
  return error_response(400, "bad_field", std::string(field) + " " + std::string(what), hint);
}

std::variant<json::object, Response> read_fields(Fields fields, const Request& request) {
  try {
    json::object said;
    for (const auto& [name, text] : request.params) {
      const RouteField* field = find(fields, In::path, name);
      if (field != nullptr) said[name] = value_of(*field, std::string_view(text));
    }
    for (const auto& [name, text] : request.query) {
      const RouteField* field = find(fields, In::query, name);
      if (field == nullptr) refuse_unknown(fields, In::query, name);
      said[name] = value_of(*field, std::string_view(text));
    }
    const bool has_body =
        std::ranges::any_of(fields, [](const RouteField& field) { return field.in == In::body; });
    if (has_body) read_body(fields, request, said);
    for (const RouteField& field : fields) {
      if (field.required && !said.contains(field.name)) refuse(field, "is missing");
    }
    return said;
  } catch (Refused& refused) {
    return std::move(refused.response);
  }
}

}  // namespace outfall
