#include "tests/fuzz/text_input.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <boost/json.hpp>

namespace outfall::fuzz {
namespace {

constexpr int kMostDepth = 10'000;

std::optional<unsigned char> hex_byte(std::string_view digits) {
  unsigned char value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2) return {};
  return value;
}

// The database has checked what is in a column of type json.
bool is_json(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = kMostDepth;
  boost::json::error_code failed;
  boost::json::value parsed = boost::json::parse(text, failed, {}, options);
  return !failed;
}

}  // namespace

std::string unescaped(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "\\x") {
      if (const auto byte = hex_byte(text.substr(i + 2, 2))) {
        bytes += static_cast<char>(*byte);
        i += 3;
        continue;
      }
    }
    bytes += text[i];
  }
  return bytes;
}

EntryText::EntryText(std::string_view input) {
  while (!input.empty()) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.empty()) break;
    const std::size_t colon = std::min(line.find(": "), line.size());
    lines_[std::string(line.substr(0, colon))] =
        unescaped(line.substr(std::min(colon + 2, line.size())));
  }
  if (input.ends_with('\n')) input.remove_suffix(1);
  payload_ = unescaped(input);
  fill();
}

std::string_view EntryText::option(std::string_view name) const {
  const auto found = lines_.find(name);
  return found == lines_.end() ? std::string_view{} : std::string_view(found->second);
}

void EntryText::fill() {
  envelope_.entry_id = 7;
  std::string_view id = option("id");
  envelope_.envelope_id = Uuid::parse(id).value_or(Uuid{{1, 2, 3}});
  envelope_.stream = lines_.contains("stream") ? option("stream") : "orders";
  if (lines_.contains("key")) envelope_.key = option("key");
  envelope_.type = option("type");
  envelope_.source = option("source");
  envelope_.subject = option("subject");
  envelope_.content_type = option("content_type");
  envelope_.data_schema = option("data_schema");
  envelope_.headers_json = option("headers");
  std::int64_t microseconds = 0;
  const std::string_view time = option("occurred_at");
  if (std::from_chars(time.data(), time.data() + time.size(), microseconds).ec == std::errc{}) {
    envelope_.occurred_at = WallTime(std::chrono::microseconds(microseconds));
  }
  envelope_.created_at = WallTime(std::chrono::seconds(1'700'000'000));
  if (option("payload") == "none") return;
  envelope_.payload = payload_;
  const bool json = option("payload") != "binary" && is_json(payload_);
  envelope_.payload_kind = json ? PayloadKind::json : PayloadKind::binary;
}

}  // namespace outfall::fuzz
