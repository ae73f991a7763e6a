// Headers of entries: what for_each_header() takes, another parser of JSON takes too, and the other
// way round, with the same names and values.

#include "core/headers.h"

#include <map>
#include <optional>
#include <string>

#include <boost/json.hpp>

#include "core/text.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

using Pairs = std::map<std::string, std::string>;

std::optional<Pairs> expected(std::string_view text) {
  boost::json::parse_options options;
  options.allow_invalid_utf8 = true;
  boost::json::error_code failed;
  const boost::json::value value = boost::json::parse(text, failed, {}, options);
  if (failed || !value.is_object()) return {};
  Pairs pairs;
  for (const auto& [name, member] : value.get_object()) {
    if (!member.is_string()) return {};
    const std::string_view text_of_member = member.get_string();
    if (std::string_view(name).find('\0') != std::string_view::npos ||
        text_of_member.find('\0') != std::string_view::npos) {
      return {};
    }
    pairs[std::string(name)] = text_of_member;
  }
  return pairs;
}

}  // namespace

void headers(std::string_view input) {
  Pairs seen;
  const bool whole = for_each_header(input, [&](std::string_view name, std::string_view value) {
    seen[std::string(name)] = value;
  });
  if (input.empty()) return require(whole && seen.empty(), "no headers are no mistake");
  const auto pairs = expected(input);
  require(whole == pairs.has_value(), "it takes what is an object of strings, and nothing else");
  require(!pairs || seen == *pairs, "names and values are those of the text");
  if (!pairs) return;
  // Written as JSON again they are the same.
  std::string again = "{";
  for (const auto& [name, value] : seen) {
    if (again.size() > 1) again += ',';
    append_json_string(again, name);
    again += ':';
    append_json_string(again, value);
  }
  again += '}';
  Pairs second;
  const bool readable = for_each_header(again, [&](std::string_view name, std::string_view value) {
    second[std::string(name)] = value;
  });
  require(readable, "what append_json_string() writes can be read");
  if (is_valid_utf8(input)) require(second == seen, "a round trip changes nothing");
}

}  // namespace outfall::fuzz
