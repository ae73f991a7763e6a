#include "daemon/admin/route.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "core/text.h"

namespace outfall {
namespace {

using Values = std::map<std::string, std::string, std::less<>>;

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty() && path.front() == '/') {
    path.remove_prefix(1);
    const auto end = std::min(path.find('/'), path.size());
    parts.emplace_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return parts;
}

bool is_parameter(std::string_view segment) {
  return segment.starts_with('{');
}

std::string parameter_name(std::string_view segment) {
  return std::string(segment.substr(1, segment.size() - 2));
}

void check_pattern(const Route& route, const std::vector<std::string>& segments) {
  bool ok = route.pattern.starts_with('/') && !route.method.empty() && route.handler;
  for (const std::string& segment : segments) {
    const bool braces = segment.find_first_of("{}?%") != std::string::npos;
    const bool whole = segment.size() > 2 && is_parameter(segment) && segment.back() == '}' &&
                       segment.find_first_of("{}?%", 1) == segment.size() - 1;
    ok = ok && (!braces || whole);
  }
  if (!ok) throw std::logic_error("malformed route " + route.method + " " + route.pattern);
}

// Whether two patterns could match the same path: segment by segment equal, or a parameter in
// either.
bool overlap(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x == y || is_parameter(x) || is_parameter(y);
  });
}

std::optional<int> hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

// Percent-decoding; nullopt for a broken escape or a control character, which no name here has.
std::optional<std::string> decode(std::string_view text, bool plus_is_space) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+' && plus_is_space) {
      c = ' ';
    } else if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const auto high = hex_digit(text[i + 1]);
      const auto low = hex_digit(text[i + 2]);
      if (!high || !low) return std::nullopt;
      c = static_cast<char>(*high * 16 + *low);
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return std::nullopt;
    out += c;
  }
  return out;
}

// False for broken escapes and for a name that is given twice.
bool parse_query(std::string_view query, Values& out) {
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (pair.empty()) continue;
    const auto equals = std::min(pair.find('='), pair.size());
    const auto name = decode(pair.substr(0, equals), true);
    const auto value = decode(pair.substr(std::min(equals + 1, pair.size())), true);
    if (!name || !value || !out.emplace(*name, *value).second) return false;
  }
  return true;
}

// RFC 9112 lets a client send the whole URL; only its path matters here.
std::string_view without_authority(std::string_view target) {
  if (!target.starts_with("http://")) return target;
  const auto path = target.find('/', 7);
  return path == std::string_view::npos ? std::string_view("/") : target.substr(path);
}

bool fits(const std::vector<std::string>& pattern, const std::vector<std::string>& path) {
  return std::equal(pattern.begin(), pattern.end(), path.begin(), path.end(),
                    [](const auto& want, const auto& have) {
                      return is_parameter(want) ? !have.empty() : want == have;
                    });
}

}  // namespace

Response error_response(int status, std::string_view code, std::string_view message,
                        std::string_view hint) {
  Response response;
  response.status = status;
  response.body = "{\"error\":";
  append_json_string(response.body, code);
  response.body += ",\"message\":";
  append_json_string(response.body, message);
  response.body += ",\"hint\":";
  append_json_string(response.body, hint);
  response.body += "}\n";
  return response;
}

RouteTable::RouteTable(std::vector<Route> routes) : routes_(std::move(routes)) {
  for (const Route& route : routes_) {
    segments_.push_back(split(route.pattern));
    check_pattern(route, segments_.back());
    for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
      if (routes_[i].method == route.method && overlap(segments_[i], segments_.back())) {
        throw std::logic_error("routes " + routes_[i].pattern + " and " + route.pattern +
                               " match the same requests");
      }
    }
  }
}

RouteTable::Match RouteTable::match(std::string_view method, std::string_view target) const {
  Match match;
  target = without_authority(target);
  const auto question = std::min(target.find('?'), target.size());
  match.path = target.substr(0, question);
  if (!match.path.starts_with('/')) return match;

  std::vector<std::string> path;
  for (const std::string& segment : split(match.path)) {
    auto decoded = decode(segment, false);
    if (!decoded) {
      match.kind = Match::Kind::malformed;
      return match;
    }
    path.push_back(std::move(*decoded));
  }
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    if (!fits(segments_[i], path)) continue;
    const Route& route = routes_[i];
    const bool is_get = route.method == "GET";
    match.allowed.push_back(route.method);
    if (is_get) match.allowed.emplace_back("HEAD");
    if (route.method != method && !(is_get && method == "HEAD")) continue;
    match.route = &route;
    for (std::size_t s = 0; s < path.size(); ++s) {
      if (is_parameter(segments_[i][s])) match.params[parameter_name(segments_[i][s])] = path[s];
    }
  }
  if (match.route == nullptr) {
    if (!match.allowed.empty()) match.kind = Match::Kind::wrong_method;
    return match;
  }
  const bool query_ok =
      parse_query(target.substr(std::min(question + 1, target.size())), match.query);
  match.kind = query_ok ? Match::Kind::found : Match::Kind::malformed;
  return match;
}

}  // namespace outfall
