#include "core/quantity.h"

#include <array>
#include <charconv>
#include <span>

namespace outfall {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t factor;
};

// From the largest to the smallest, so that formatting takes the first that divides.
constexpr auto kDurationUnits = std::to_array<Unit>(
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}});
constexpr auto kByteUnits =
    std::to_array<Unit>({{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}});

std::optional<std::int64_t> parse(std::string_view text, std::span<const Unit> units,
                                  bool unit_required) noexcept {
  // from_chars would take a minus sign.
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  const std::string_view name(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (name.empty() && !unit_required) return number;
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    std::int64_t value = 0;
    if (__builtin_mul_overflow(number, unit.factor, &value)) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

std::string format(std::int64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) {
      return std::to_string(value / unit.factor) + std::string(unit.name);
    }
  }
  return {};
}

}  // namespace

std::optional<Milliseconds> parse_duration(std::string_view text) noexcept {
  const auto value = parse(text, kDurationUnits, true);
  if (!value) return std::nullopt;
  return Milliseconds{*value};
}

std::optional<std::int64_t> parse_bytes(std::string_view text) noexcept {
  return parse(text, kByteUnits, false);
}

std::string format_duration(Milliseconds duration) {
  if (duration.count() == 0) return "0s";
  return format(duration.count(), kDurationUnits);
}

std::string format_bytes(std::int64_t bytes) {
  if (bytes == 0) return "0B";
  return format(bytes, kByteUnits);
}

}  // namespace outfall
