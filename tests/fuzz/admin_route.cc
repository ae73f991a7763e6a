// The line of a request: what a route gets of it is decoded text, and the same when it is encoded
// again.
//
// An input is a method, a space, and a target.

#include <algorithm>
#include <string>

#include "daemon/admin/route.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

std::string encoded(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

const RouteTable& table() {
  static const RouteTable routes = [] {
    const auto row = [](const char* method, const char* pattern) {
      return Route{.method = method,
                   .pattern = pattern,
                   .summary = "A route.",
                   .handler = [](const Request&) { return Response{}; }};
    };
    return RouteTable({row("GET", "/"), row("GET", "/status"),
                       row("POST", "/streams/{stream}/pause"), row("GET", "/streams/{stream}"),
                       row("PUT", "/streams/{stream}"), row("GET", "/dead-letters/{stream}/{id}")});
  }();
  return routes;
}

void check_text(std::string_view text) {
  require(std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }),
          "no name or value holds a control character");
}

}  // namespace

void admin_route(std::string_view input) {
  using Kind = RouteTable::Match::Kind;
  const std::string_view method = input.substr(0, input.find(' '));
  const std::string_view target = input.substr(std::min(method.size() + 1, input.size()));
  const RouteTable::Match match = table().match(method, target);
  if (match.kind == Kind::wrong_method) {
    return require(!match.allowed.empty() && std::ranges::count(match.allowed, method) == 0,
                   "another method is allowed");
  }
  if (match.kind != Kind::found) return;
  require(match.route != nullptr, "a match has its route");
  require(match.route->method == method || (method == "HEAD" && match.route->method == "GET"),
          "a match is of the method");
  require(match.path.find('?') == std::string::npos, "a path has no query");
  std::string again = match.route->pattern;
  for (const auto& [name, value] : match.params) {
    check_text(value);
    require(!value.empty(), "a part of the path is not empty");
    const std::string placeholder = "{" + name + "}";
    again.replace(again.find(placeholder), placeholder.size(), encoded(value));
  }
  for (const auto& [name, value] : match.query) {
    check_text(name);
    check_text(value);
    again += again.find('?') == std::string::npos ? '?' : '&';
    again.append(encoded(name)).append("=").append(encoded(value));
  }
  const RouteTable::Match second = table().match(method, again);
  require(second.kind == Kind::found && second.route == match.route &&
              second.params == match.params && second.query == match.query,
          "encoded again it means the same");
}

}  // namespace outfall::fuzz
