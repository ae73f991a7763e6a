// Retry-After: never outside of its bounds, seconds as they are, dates as far away as they are.

#include "emitters/webhook/retry_after.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <string>

#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

using webhook::retry_after_from;

constexpr Milliseconds kLongest{std::chrono::hours{24 * 30}};
const WallTime kNow = WallTime(std::chrono::seconds(1'700'000'000));

void check_date(std::int64_t seconds_from_now) {
  const std::time_t at = 1'700'000'000 + seconds_from_now;
  std::tm parts{};
  gmtime_r(&at, &parts);
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  const Milliseconds wanted =
      std::clamp<Milliseconds>(std::chrono::seconds(seconds_from_now), Milliseconds{0}, kLongest);
  require(retry_after_from(text.data(), kNow) == wanted, "a date is as far away as it is");
}

}  // namespace

void retry_after(std::string_view input) {
  const Milliseconds wait = retry_after_from(input, kNow);
  require(wait == Milliseconds{-1} || (wait >= Milliseconds{0} && wait <= kLongest),
          "a wait is within its bounds");
  require(retry_after_from(std::string(" \t").append(input).append(" "), kNow) == wait,
          "space around a value means nothing");
  const bool digits =
      !input.empty() && std::ranges::all_of(input, [](char c) { return c >= '0' && c <= '9'; });
  if (!digits) return;
  const double seconds = std::strtod(std::string(input).c_str(), nullptr);
  const double longest = static_cast<double>(kLongest.count()) / 1000;
  require(static_cast<double>(wait.count()) == std::min(seconds, longest) * 1000,
          "seconds are what they say");
  // Any date of the years that a clock of four digits can show.
  if (input.size() <= 11) check_date(static_cast<std::int64_t>(seconds) - 10'000'000'000);
  if (input.size() <= 8) check_date(static_cast<std::int64_t>(seconds) - 1'000'000);
}

}  // namespace outfall::fuzz
