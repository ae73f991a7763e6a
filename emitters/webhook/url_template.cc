#include "emitters/webhook/url_template.h"

#include <algorithm>
#include <array>
#include <memory>
#include <set>

#include <curl/curl.h>

#include "core/error_text.h"
#include "core/headers.h"
#include "core/number.h"
#include "core/text.h"
#include "emitters/webhook/percent.h"

namespace outfall::webhook {
namespace {

constexpr std::string_view kHeaderPrefix = "header.";

struct CurlText {
  char* text = nullptr;
  CurlText() = default;
  CurlText(const CurlText&) = delete;
  CurlText& operator=(const CurlText&) = delete;
  ~CurlText() { curl_free(text); }
};

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  CurlText value;
  if (curl_url_get(url, part, &value.text, flags) != CURLUE_OK) return {};
  return value.text;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), lower_ascii);
  return result;
}

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
}

// The length of "http://" or "https://" at the start, or 0.
std::size_t scheme_length(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (lower(text.substr(0, scheme.size())) == scheme) return scheme.size();
  }
  return 0;
}

// The value of the header; empty where there is none.
void find_header(const Envelope& envelope, std::string_view name, std::string& out) {
  bool found = false;
  out.clear();
  for_each_header(envelope.headers_json, [&](std::string_view key, std::string_view value) {
    if (!found && key == name) out = value;
    found = found || key == name;
  });
}

}  // namespace

std::string UrlTarget::origin() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return scheme + "://" + (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::variant<UrlTarget, std::string> target_of(const std::string& url) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> parsed(curl_url(), curl_url_cleanup);
  if (!parsed) throw std::bad_alloc();
  const std::size_t scheme = scheme_length(url);
  if (scheme == 0) return "it does not begin with http:// or https://";
  // libcurl would take "https:///a" for "https://a".
  if (url.size() == scheme || url[scheme] == '/') return "it names no host";
  if (const CURLUcode code =
          curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), CURLU_DISALLOW_USER);
      code != CURLUE_OK) {
    return lower(curl_url_strerror(code));
  }
  UrlTarget target;
  target.scheme = part_of(parsed.get(), CURLUPART_SCHEME);
  target.host = lower(part_of(parsed.get(), CURLUPART_HOST));
  if (target.host.starts_with('[')) target.host = target.host.substr(1, target.host.size() - 2);
  const std::string port = part_of(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  target.port = parse_port(port).value_or(0);
  target.default_port = target.port == (target.scheme == "https" ? 443 : 80);
  if (target.host.empty() || target.port == 0) return "it names no host";
  return target;
}

std::string shown_url(std::string_view url) {
  if (scheme_length(url) > 0) return loggable_lane(url);
  const bool is_placeholder = url.starts_with('{') && url.find('}') + 1 == url.size();
  return is_placeholder ? std::string(url) : "***";
}

std::optional<std::string> HostList::parse(const std::vector<std::string>& entries) {
  for (const std::string& entry : entries) {
    Rule rule;
    std::string_view host = entry;
    const std::size_t colon = host.rfind(':');
    const std::size_t bracket = host.rfind(']');
    if (colon != std::string_view::npos &&
        (bracket == std::string_view::npos ? host.find(':') == colon : colon > bracket)) {
      const std::string_view port = host.substr(colon + 1);
      rule.any_port = port == "*";
      if (!rule.any_port) {
        const auto number = parse_port(port);
        if (!number) return "\"" + entry + "\" has no port behind its colon";
        rule.port = *number;
      }
      host = host.substr(0, colon);
    }
    if (host.starts_with("*.")) {
      rule.below = true;
      host.remove_prefix(1);
    } else if (host.starts_with('[') && host.ends_with(']')) {
      host = host.substr(1, host.size() - 2);
    }
    if (host.size() < 2 || !std::ranges::all_of(host, is_host_character)) {
      return "\"" + entry + "\" is not a host";
    }
    rule.host = lower(host);
    rules_.push_back(std::move(rule));
  }
  return std::nullopt;
}

bool HostList::allows(const UrlTarget& target, bool port_is_given) const noexcept {
  return std::ranges::any_of(rules_, [&](const Rule& rule) {
    const bool host =
        rule.below ? target.host.size() > rule.host.size() && target.host.ends_with(rule.host)
                   : target.host == rule.host;
    if (!host) return false;
    if (rule.any_port || port_is_given) return true;
    return rule.port == 0 ? target.default_port : rule.port == target.port;
  });
}

std::optional<std::string> UrlTemplate::parse_placeholder(std::string_view name, Part& part) {
  constexpr auto kNames =
      std::to_array<std::pair<std::string_view, Attribute>>({{"type", Attribute::type},
                                                             {"source", Attribute::source},
                                                             {"subject", Attribute::subject},
                                                             {"stream", Attribute::stream}});
  for (const auto& [known, attribute] : kNames) {
    if (name == known) {
      part.attribute = attribute;
      return std::nullopt;
    }
  }
  if (!name.starts_with(kHeaderPrefix) || name.size() == kHeaderPrefix.size()) {
    // Not quoted: braces may stand in a URL by mistake, around what lets one post there.
    return "its placeholder " + std::to_string(parts_.size()) +
           " is none of {type}, {source}, {subject}, {stream} and {header.NAME}";
  }
  part.attribute = Attribute::header;
  part.header = name.substr(kHeaderPrefix.size());
  return std::nullopt;
}

std::optional<std::string> UrlTemplate::parse(std::string_view text) {
  parts_.clear();
  while (true) {
    const std::size_t open = text.find_first_of("{}");
    Part& part = parts_.emplace_back();
    part.literal = text.substr(0, open);
    if (open == std::string_view::npos) break;
    const std::size_t close = text.find('}', open);
    if (text[open] == '}' || close == std::string_view::npos) return "its braces do not match";
    if (auto problem = parse_placeholder(text.substr(open + 1, close - open - 1), part)) {
      return problem;
    }
    text.remove_prefix(close + 1);
  }
  return place_parts();
}

// Tells each placeholder's place, and checks what is fixed by filling in values that fit anywhere.
std::optional<std::string> UrlTemplate::place_parts() {
  if (parts_.size() == 2 && parts_[0].literal.empty() && parts_[1].literal.empty()) {
    parts_[0].place = Place::whole;
    return std::nullopt;
  }
  const std::size_t scheme = scheme_length(parts_[0].literal);
  if (scheme == 0) return "it does not begin with http:// or https://";
  bool in_authority = true;
  std::string sample;
  for (Part& part : parts_) {
    const std::size_t from = &part == &parts_[0] ? scheme : 0;
    if (part.literal.find_first_of("/?#", from) != std::string::npos) in_authority = false;
    part.place = in_authority ? Place::authority : Place::path;
    sample += part.literal;
    if (part.attribute != Attribute::none) sample += 'x';
  }
  if (sample.find('#') != std::string::npos) return "a fragment is never sent";
  const auto target = target_of(sample);
  if (const auto* problem = std::get_if<std::string>(&target)) return *problem;
  // A colon with a number that no placeholder can reach: "https://{header.host}:8443/".
  const std::string authority = sample.substr(scheme, sample.find_first_of("/?", scheme) - scheme);
  const std::size_t colon = authority.rfind(':');
  port_is_fixed_ = host_is_fixed() ||
                   (colon != std::string::npos && authority.find(']', colon) == std::string::npos &&
                    authority.find('x', colon) == std::string::npos);
  return std::nullopt;
}

bool UrlTemplate::is_fixed() const noexcept {
  return parts_.size() == 1;
}

bool UrlTemplate::host_is_fixed() const noexcept {
  return std::ranges::none_of(parts_, [](const Part& part) {
    return part.attribute != Attribute::none && part.place != Place::path;
  });
}

std::string UrlTemplate::host_url() const {
  const std::string& start = parts_.front().literal;
  return start.substr(0, start.find_first_of("/?", scheme_length(start))) + "/";
}

std::string UrlTemplate::lane() const {
  std::set<std::string> names;
  for (const Part& part : parts_) {
    if (part.attribute == Attribute::type) names.insert("type");
    if (part.attribute == Attribute::source) names.insert("source");
    if (part.attribute == Attribute::subject) names.insert("subject");
    if (part.attribute == Attribute::header) names.insert("header." + part.header);
  }
  return names.size() == 1 ? *names.begin() : std::string{};
}

std::string_view UrlTemplate::value_of(const Part& part, const Envelope& envelope,
                                       std::string& buffer) {
  switch (part.attribute) {
    case Attribute::type:
      return envelope.type;
    case Attribute::source:
      buffer = effective_source(envelope);
      return buffer;
    case Attribute::subject:
      return envelope.subject;
    case Attribute::stream:
      return envelope.stream;
    case Attribute::header:
      find_header(envelope, part.header, buffer);
      return buffer;
    case Attribute::none:
      break;
  }
  return {};
}

std::string UrlTemplate::name_of(const Part& part) {
  switch (part.attribute) {
    case Attribute::type:
      return "type";
    case Attribute::source:
      return "source";
    case Attribute::subject:
      return "subject";
    case Attribute::stream:
      return "stream";
    case Attribute::header:
      return "header \"" + part.header + "\"";
    case Attribute::none:
      break;
  }
  return {};
}

std::optional<UrlProblem> UrlTemplate::expand(const Envelope& envelope, std::string& out) const {
  std::string buffer;
  for (const Part& part : parts_) {
    out += part.literal;
    if (part.attribute == Attribute::none) continue;
    const std::string_view value = value_of(part, envelope, buffer);
    const bool in_host = part.place != Place::path;
    if (value.empty()) {
      return UrlProblem{"the entry has no " + name_of(part) + " to make the URL of", {}, in_host};
    }
    const bool fits = part.place == Place::path ? value != "." && value != ".."
                      : part.place == Place::authority
                          ? std::ranges::all_of(value, is_host_character)
                          : true;
    if (!fits) {
      return UrlProblem{"the " + name_of(part) + " of the entry does not fit into the URL",
                        std::string(value), in_host};
    }
    if (part.place == Place::path) {
      append_percent_encoded(out, value, is_unreserved);
    } else {
      out += value;
    }
  }
  return std::nullopt;
}

}  // namespace outfall::webhook
