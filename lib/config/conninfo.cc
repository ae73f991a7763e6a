#include "config/conninfo.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "config/suggest.h"
#include "core/number.h"

namespace outfall {
namespace {

constexpr std::string_view kMask = "***";

// Parameters that never hold a secret. What is not here is masked.
constexpr auto kHarmless = std::to_array<std::string_view>({"host",
                                                            "hostaddr",
                                                            "port",
                                                            "dbname",
                                                            "user",
                                                            "passfile",
                                                            "service",
                                                            "connect_timeout",
                                                            "options",
                                                            "application_name",
                                                            "sslmode",
                                                            "fallback_application_name",
                                                            "sslcert",
                                                            "client_encoding",
                                                            "sslkey",
                                                            "target_session_attrs",
                                                            "sslrootcert",
                                                            "ssl_min_protocol_version",
                                                            "sslcrl",
                                                            "ssl_max_protocol_version",
                                                            "sslcrldir",
                                                            "sslcompression",
                                                            "sslsni",
                                                            "requirepeer",
                                                            "require_auth",
                                                            "channel_binding",
                                                            "gssencmode",
                                                            "krbsrvname",
                                                            "gsslib",
                                                            "keepalives",
                                                            "replication",
                                                            "keepalives_idle",
                                                            "load_balance_hosts",
                                                            "keepalives_interval",
                                                            "tcp_user_timeout",
                                                            "keepalives_count"});

bool harmless(std::string_view keyword) {
  return std::ranges::find(kHarmless, keyword) != kHarmless.end();
}

// A parameter that is not harmless. Its keyword shows only where it is known: it may be the tail of
// a password that was not quoted.
std::string masked(std::string_view keyword) {
  const bool known = keyword == "password" || keyword == "sslpassword";
  return std::string(known ? keyword : kMask).append("=").append(kMask);
}

std::string_view uri_scheme(std::string_view conninfo) {
  for (const std::string_view scheme : {"postgresql://", "postgres://"}) {
    if (conninfo.starts_with(scheme)) return scheme;
  }
  return {};
}

std::string redact_parameters(std::string_view query) {
  std::string text;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view parameter = query.substr(0, end);
    const std::size_t equals = parameter.find('=');
    const std::string_view keyword = parameter.substr(0, equals);
    if (equals == std::string_view::npos) {
      text += kMask;
    } else if (harmless(keyword)) {
      text += parameter;
    } else {
      text += masked(keyword);
    }
    if (end < query.size()) text += '&';
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return text;
}

// The part before the parameters: [user[:password]@][host][/database]. libpq ends the user part at
// the first '@'; a password with a bare '@' or '/' in it is a mistake that must not show the rest
// of it, so everything from the first ':' to the last '@' is masked.
std::string redact_authority(std::string_view authority) {
  const std::size_t at = authority.rfind('@');
  const std::size_t colon = authority.find(':');
  if (at == std::string_view::npos || colon == std::string_view::npos || colon > at) {
    return std::string(authority);
  }
  // Behind the '@' of a parameter stand others.
  const bool parameters = authority.find_first_of("&=", at) != std::string_view::npos;
  return std::string(authority.substr(0, colon + 1))
      .append(kMask)
      .append(parameters ? "@***" : authority.substr(at));
}

// Where the parameters begin. A '?' before the '@' belongs to the password as far as libpq is
// concerned, unless a '/' stands before both: then there is no user part, and the '@' is a
// parameter's. Behind a ':' it may still be a password with a bare '/' in it, and not a port.
std::size_t parameters_of(std::string_view rest) {
  const std::size_t question = rest.find('?');
  const std::size_t at = rest.find('@');
  const std::size_t slash = rest.find('/');
  if (at == std::string_view::npos || question == std::string_view::npos || question > at)
    return rest.find('?', at == std::string_view::npos ? 0 : at);
  const std::size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  const std::size_t colon = rest.find(':', bracket == std::string_view::npos ? 0 : bracket);
  const bool port = colon < slash && slash != std::string_view::npos &&
                    std::ranges::all_of(rest.substr(colon + 1, slash - colon - 1),
                                        [](char c) { return c >= '0' && c <= '9'; });
  return slash < question && (colon > slash || port) ? question : rest.find('?', at);
}

std::string redact_uri(std::string_view scheme, std::string_view rest) {
  const std::size_t query = parameters_of(rest);
  std::string text(scheme);
  text += redact_authority(rest.substr(0, query));
  if (query != std::string_view::npos)
    text.append("?").append(redact_parameters(rest.substr(query + 1)));
  return text;
}

bool well_encoded(std::string_view text) {
  const auto digit = [&](std::size_t at) {
    return at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at])) != 0;
  };
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
    if (!digit(at + 1) || !digit(at + 2) || text.substr(at + 1, 2) == "00") return false;
  }
  return true;
}

// One of the comma-separated hosts: name, name:port, [address] or [address]:port.
bool is_host(std::string_view host) {
  std::string_view rest = host;
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos || close == 1) return false;
    rest = host.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return false;
  }
  if (rest.find_first_of("@ ") != std::string_view::npos) return false;
  const std::size_t colon = rest.find(':');
  if (colon == std::string_view::npos) return true;
  return std::ranges::all_of(rest.substr(colon + 1), [](char c) { return c >= '0' && c <= '9'; });
}

// What all of libpq's parameters are called like. It quotes another keyword in its message, which
// may be a piece of a password, or a whole URI whose scheme has a typing error.
bool is_keyword(std::string_view keyword) {
  return !keyword.empty() &&
         std::ranges::all_of(keyword, [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
}

// What libpq would refuse in a URI and quote in its message, which may be a piece of the password.
std::optional<std::string> uri_problem(std::string_view rest) {
  constexpr std::string_view kEncode =
      "; in a password, @ : / ? # % and spaces are written as %40 %3A %2F %3F %23 %25 %20";
  if (!well_encoded(rest)) {
    return std::string("has a % that is not followed by two hexadecimal digits").append(kEncode);
  }
  const std::size_t end_of_user = rest.find_first_of("@/");
  if (end_of_user != std::string_view::npos && rest[end_of_user] == '@') {
    rest.remove_prefix(end_of_user + 1);
  }
  const std::size_t query = rest.find('?');
  std::string_view hosts = rest.substr(0, std::min(rest.find('/'), query));
  while (true) {
    const std::size_t comma = hosts.find(',');
    if (!is_host(hosts.substr(0, comma))) {
      return std::string("has a part where hosts and ports are expected that is neither")
          .append(kEncode);
    }
    if (comma == std::string_view::npos) break;
    hosts.remove_prefix(comma + 1);
  }
  std::string_view parameters = query == std::string_view::npos ? "" : rest.substr(query + 1);
  while (!parameters.empty()) {
    const std::size_t end = std::min(parameters.find('&'), parameters.size());
    const std::string_view parameter = parameters.substr(0, end);
    if (std::ranges::count(parameter, '=') != 1 ||
        !is_keyword(parameter.substr(0, parameter.find('=')))) {
      return std::string("has a parameter after the ? that is not name=value").append(kEncode);
    }
    parameters.remove_prefix(std::min(end + 1, parameters.size()));
  }
  return {};
}

bool space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

// One value of the key=value form, from `at` on; false when a quote does not end.
bool read_value(std::string_view text, std::size_t& at, std::string& value) {
  const bool quoted = at < text.size() && text[at] == '\'';
  if (quoted) ++at;
  while (at < text.size() && (quoted ? text[at] != '\'' : !space(text[at]))) {
    if (text[at] == '\\' && at + 1 < text.size()) ++at;
    value += text[at++];
  }
  if (quoted && at == text.size()) return false;
  if (quoted) ++at;
  return true;
}

// The pairs of `host=db user = shop password='a b'`, by libpq's rules; nullopt when it does not
// parse.
std::optional<std::vector<std::pair<std::string, std::string>>> key_values(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::size_t at = 0;
  const auto skip_space = [&] {
    while (at < text.size() && space(text[at])) ++at;
  };
  for (skip_space(); at < text.size(); skip_space()) {
    const std::size_t start = at;
    while (at < text.size() && text[at] != '=' && !space(text[at])) ++at;
    std::string keyword(text.substr(start, at - start));
    skip_space();
    if (keyword.empty() || at == text.size() || text[at] != '=') return {};
    ++at;
    skip_space();
    std::string value;
    if (!read_value(text, at, value)) return {};
    pairs.emplace_back(std::move(keyword), std::move(value));
  }
  return pairs;
}

using Options = std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)>;

Options parsed(std::string_view conninfo) {
  char* words = nullptr;
  Options options(PQconninfoParse(std::string(conninfo).c_str(), &words), PQconninfoFree);
  // They quote what was given.
  PQfreemem(words);
  return options;
}

// The names of the parameters that are given, of a text whose shape is right.
std::vector<std::string> parameter_names(std::string_view conninfo) {
  std::vector<std::string> names;
  const std::string_view scheme = uri_scheme(conninfo);
  if (scheme.empty()) {
    const auto pairs = key_values(conninfo);
    if (!pairs) return names;
    for (const auto& [keyword, value] : *pairs) names.push_back(keyword);
    return names;
  }
  std::string_view rest = conninfo.substr(scheme.size());
  const std::size_t at = rest.find('@');
  const std::size_t query = rest.find('?', at == std::string_view::npos ? 0 : at);
  rest.remove_prefix(query == std::string_view::npos ? rest.size() : query + 1);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('&'), rest.size());
    names.emplace_back(rest.substr(0, std::min(rest.find('='), end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return names;
}

// libpq refuses the text. The name that it does not know may be a piece of a password, so only the
// one that was probably meant is told.
std::string unknown_parameter(std::string_view conninfo) {
  std::vector<std::string_view> known;
  const Options all = parsed("");
  for (const auto* option = all.get(); option != nullptr && option->keyword != nullptr; ++option) {
    known.emplace_back(option->keyword);
  }
  for (const std::string& name : parameter_names(conninfo)) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string_view meant = nearest(name, known);
    return meant.empty() ? "has a parameter that libpq does not know"
                         : fmt::format(
                               "has a parameter that libpq does not know (is it meant to "
                               "be {}?)",
                               meant);
  }
  return "is not understood by libpq";
}

struct Choices {
  std::string_view keyword;
  std::span<const std::string_view> values;
};

constexpr auto kSslModes = std::to_array<std::string_view>(
    {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"});
constexpr auto kSessions = std::to_array<std::string_view>(
    {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"});
constexpr auto kDegrees = std::to_array<std::string_view>({"disable", "prefer", "require"});
constexpr auto kChoices = std::to_array<Choices>({{"sslmode", kSslModes},
                                                  {"target_session_attrs", kSessions},
                                                  {"channel_binding", kDegrees},
                                                  {"gssencmode", kDegrees}});
constexpr auto kNumbers = std::to_array<std::string_view>({"connect_timeout", "keepalives",
                                                           "keepalives_idle", "keepalives_interval",
                                                           "keepalives_count", "tcp_user_timeout"});

std::optional<int> whole_number(std::string_view text) {
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return parse_number<int>(text);
}

// One port for all hosts or one for each; an empty one is the usual one.
bool are_ports(std::string_view ports) {
  while (true) {
    const std::size_t comma = ports.find(',');
    const std::string_view port = ports.substr(0, comma);
    const auto number = whole_number(port);
    if (!port.empty() && (!number || *number < 1 || *number > 65535)) return false;
    if (comma == std::string_view::npos) return true;
    ports.remove_prefix(comma + 1);
  }
}

// What libpq finds out only when it is to connect; it fails there at every try.
std::optional<std::string> value_problem(std::string_view keyword, std::string_view value) {
  if (value.empty()) return {};
  if (keyword == "port" && !are_ports(value)) return "has a port that is not between 1 and 65535";
  if (std::ranges::find(kNumbers, keyword) != kNumbers.end() && !whole_number(value)) {
    return fmt::format("has a {} that is not a whole number", keyword);
  }
  const auto* choices = std::ranges::find(kChoices, keyword, &Choices::keyword);
  if (choices == kChoices.end() ||
      std::ranges::find(choices->values, value) != choices->values.end()) {
    return {};
  }
  return fmt::format("has a {} that is none of {}", keyword, enumerate(choices->values));
}

// What libpq says of a text whose shape is right.
std::optional<std::string> content_problem(std::string_view conninfo) {
  const Options options = parsed(conninfo);
  if (options == nullptr) return unknown_parameter(conninfo);
  for (const auto* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    if (auto problem = value_problem(option->keyword, option->val)) return problem;
  }
  return {};
}

std::string quoted_if_needed(const std::string& value) {
  const bool plain = !value.empty() && std::ranges::none_of(value, [](char c) {
    return space(c) || c == '\'' || c == '\\';
  });
  if (plain) return value;
  std::string text = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') text += '\\';
    text += c;
  }
  return text + "'";
}

}  // namespace

std::string redact_conninfo(std::string_view conninfo) {
  if (const std::string_view scheme = uri_scheme(conninfo); !scheme.empty()) {
    return redact_uri(scheme, conninfo.substr(scheme.size()));
  }
  const auto pairs = key_values(conninfo);
  if (!pairs) return std::string(kMask);
  std::string text;
  for (const auto& [keyword, value] : *pairs) {
    if (!text.empty()) text += ' ';
    if (harmless(keyword)) {
      text += keyword + "=" + quoted_if_needed(value);
    } else {
      text += masked(keyword);
    }
  }
  return text;
}

std::optional<std::string> conninfo_problem(std::string_view conninfo) {
  if (conninfo.find('\0') != std::string_view::npos) return "holds a NUL character";
  if (const std::string_view scheme = uri_scheme(conninfo); !scheme.empty()) {
    const auto problem = uri_problem(conninfo.substr(scheme.size()));
    return problem ? problem : content_problem(conninfo);
  }
  const auto pairs = key_values(conninfo);
  if (pairs && !pairs->empty() &&
      std::ranges::all_of(*pairs, [](const auto& pair) { return is_keyword(pair.first); })) {
    return content_problem(conninfo);
  }
  return "is neither a libpq URI nor a list of key=value pairs";
}

}  // namespace outfall
