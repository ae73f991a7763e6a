#include "tests/unit/event_lines.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace outfall::test {
namespace {

std::string decode_base64(std::string_view text) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text.substr(0, text.find('='))) {
    const std::size_t digit = kDigits.find(c);
    EXPECT_NE(digit, std::string_view::npos) << c;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held);
  }
  return bytes;
}

}  // namespace

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t start = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start)) {
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  EXPECT_EQ(start, text.size()) << "the last line is torn";
  return lines;
}

ConformanceSubject::Received received_from(const std::string& line) {
  const boost::json::object event = boost::json::parse(line).as_object();
  ConformanceSubject::Received one{*Uuid::parse(std::string_view(event.at("id").as_string())),
                                   std::nullopt};
  if (const auto* base64 = event.if_contains("data_base64")) {
    one.payload = decode_base64(std::string_view(base64->as_string()));
  } else if (const auto* data = event.if_contains("data")) {
    const bool is_text =
        event.at("datacontenttype").as_string().starts_with("text/") && data->is_string();
    const std::size_t start = line.find(",\"data\":") + 8;
    one.payload =
        is_text ? std::string(data->as_string()) : line.substr(start, line.size() - 1 - start);
  }
  return one;
}

std::vector<ConformanceSubject::Received> received_from_lines(const std::string& text) {
  std::vector<ConformanceSubject::Received> all;
  for (const std::string& line : lines_of(text)) all.push_back(received_from(line));
  return all;
}

}  // namespace outfall::test
