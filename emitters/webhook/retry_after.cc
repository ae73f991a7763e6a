#include "emitters/webhook/retry_after.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <curl/curl.h>

#include "core/number.h"
#include "core/text.h"

namespace outfall::webhook {
namespace {

constexpr Milliseconds kNone{-1};
constexpr std::chrono::seconds kLongest{std::chrono::hours{24 * 30}};
constexpr std::size_t kLongestDate = 63;

}  // namespace

Milliseconds retry_after_from(std::string_view value, WallTime now) noexcept {
  value = trimmed(value);
  if (value.empty()) return kNone;
  if (std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; })) {
    const auto seconds = parse_number<std::int64_t>(value);
    if (!seconds) return kLongest;  // more digits than fit
    return std::min(std::chrono::seconds{*seconds}, kLongest);
  }
  // A date begins with the day of the week; curl's parser would also take "-5" or "10 apples".
  if (value.size() > kLongestDate || std::isalpha(static_cast<unsigned char>(value[0])) == 0) {
    return kNone;
  }
  std::array<char, kLongestDate + 1> text{};
  std::copy(value.begin(), value.end(), text.begin());
  const time_t date = curl_getdate(text.data(), nullptr);
  if (date == -1) return kNone;
  // Seconds, since microseconds have no room for every year that can be written.
  const std::chrono::seconds away =
      std::chrono::seconds{date} - std::chrono::floor<std::chrono::seconds>(now.time_since_epoch());
  if (away > kLongest) return kLongest;
  if (away.count() <= 0) return Milliseconds{0};
  return std::chrono::ceil<Milliseconds>(WallTime{std::chrono::seconds{date}} - now);
}

}  // namespace outfall::webhook
