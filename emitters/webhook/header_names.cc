#include "emitters/webhook/header_names.h"

#include <algorithm>
#include <array>

#include "core/text.h"

namespace outfall::webhook {
namespace {

constexpr auto kReserved = std::to_array<std::string_view>(
    {"connection", "content-encoding", "content-length", "content-type", "expect", "host",
     "http2-settings", "keep-alive", "te", "traceparent", "tracestate", "trailer",
     "transfer-encoding", "upgrade"});
constexpr auto kReservedStarts = std::to_array<std::string_view>({"ce-", "webhook-", "proxy-"});

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

}  // namespace

bool is_header_name(std::string_view name) noexcept {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::ranges::all_of(name, [&](char c) {
    return is_letter_or_digit(c) || kOthers.find(c) != std::string_view::npos;
  });
}

bool is_header_value(std::string_view value) noexcept {
  return std::ranges::none_of(value,
                              [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

bool is_reserved_header(std::string_view name) noexcept {
  const auto starts_with = [&](std::string_view start) {
    return name.size() >= start.size() &&
           std::ranges::equal(name.substr(0, start.size()), start, {}, lower_ascii);
  };
  return std::ranges::any_of(kReservedStarts, starts_with) ||
         std::ranges::any_of(kReserved, [&](std::string_view reserved) {
           return name.size() == reserved.size() && starts_with(reserved);
         });
}

std::string lower_header_name(std::string_view name) {
  std::string result(name);
  std::ranges::transform(result, result.begin(), lower_ascii);
  return result;
}

}  // namespace outfall::webhook
