#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/envelope.h"

namespace outfall::webhook {

// Where a URL leads, as libcurl understands it, so that what is checked is what is connected to.
struct UrlTarget {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case; an IPv6 address without its brackets
  int port = 0;
  bool default_port = false;  // of its scheme

  [[nodiscard]] std::string origin() const;  // "https://host:port"
};

// The target, or why the URL is not fit to be sent to: another scheme, a user, no host. Pure.
[[nodiscard]] std::variant<UrlTarget, std::string> target_of(const std::string& url);

// The hosts that a URL made of entries may name: "api.example", "*.partner.example" (any depth
// below it, not itself), each with ":8443" or ":*" for other ports than the scheme's own. A value.
class HostList {
 public:
  // What is wrong with the first bad entry, or nullopt.
  [[nodiscard]] std::optional<std::string> parse(const std::vector<std::string>& entries);
  [[nodiscard]] bool empty() const noexcept { return rules_.empty(); }
  // `port_is_given`: the operator wrote the port into the URL.
  [[nodiscard]] bool allows(const UrlTarget& target, bool port_is_given) const noexcept;

 private:
  struct Rule {
    std::string host;    // of a wildcard what follows the asterisk, with its dot
    bool below = false;  // a wildcard
    int port = 0;        // 0: the scheme's own
    bool any_port = false;
  };
  std::vector<Rule> rules_;
};

// A template as it may be shown. Its path and query may be what lets one post there, so that only
// its origin is, with "/…" for what follows; a template that is one placeholder is no secret. Pure.
[[nodiscard]] std::string shown_url(std::string_view url);

// Why an entry has no URL.
struct UrlProblem {
  std::string text;      // names the attribute
  std::string value;     // that does not fit; empty where the entry has none
  bool in_host = false;  // it is what the host is made of
};

// A URL with placeholders for attributes of the entry: {type}, {source}, {subject}, {stream} and
// {header.NAME}. In the path and the query a value is percent-encoded and must not be "." or "..";
// in the host it may hold only what hosts and ports are made of. A template may also be a single
// placeholder whose value is the whole URL. A value; const functions from any thread.
class UrlTemplate {
 public:
  // What is wrong with it, or nullopt.
  [[nodiscard]] std::optional<std::string> parse(std::string_view text);

  [[nodiscard]] bool is_fixed() const noexcept;
  [[nodiscard]] bool host_is_fixed() const noexcept;
  [[nodiscard]] bool port_is_fixed() const noexcept { return port_is_fixed_; }
  // The text of a fixed template, else its parts before the first placeholder.
  [[nodiscard]] const std::string& literal_start() const noexcept { return parts_.front().literal; }
  // The URL of the host alone, of a template whose host is fixed: for connecting to it.
  [[nodiscard]] std::string host_url() const;
  // The one attribute that names the destination, as a stream's setting `lane` says it; empty where
  // there is none or more than one. {stream} does not count: a lane lives inside a stream.
  [[nodiscard]] std::string lane() const;

  // Appends the URL of an entry. What is missing or not fit, or nullopt.
  [[nodiscard]] std::optional<UrlProblem> expand(const Envelope& envelope, std::string& out) const;

 private:
  enum class Attribute : std::uint8_t { none, type, source, subject, stream, header };
  enum class Place : std::uint8_t { whole, authority, path };
  struct Part {
    std::string literal;  // before the placeholder
    Attribute attribute = Attribute::none;
    std::string header = {};
    Place place = Place::path;
  };

  [[nodiscard]] std::optional<std::string> parse_placeholder(std::string_view name, Part& part);
  [[nodiscard]] std::optional<std::string> place_parts();
  // The value that the entry has for the part, in `buffer` where it is none of the envelope's own;
  // empty where it has none.
  [[nodiscard]] static std::string_view value_of(const Part& part, const Envelope& envelope,
                                                 std::string& buffer);
  [[nodiscard]] static std::string name_of(const Part& part);

  std::vector<Part> parts_;  // the last one without a placeholder
  bool port_is_fixed_ = false;
};

}  // namespace outfall::webhook
