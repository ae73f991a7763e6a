#include "core/ids.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/random.h>

#include "core/text.h"

namespace outfall {
namespace {

// Where the text of a UUID has its hyphens.
constexpr bool is_hyphen_at(std::size_t i) {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class SystemRandom final : public Random {
 public:
  // Asks the kernel each time: ids and jitter are drawn per batch and not per entry, and a
  // generator of our own would repeat itself in a forked child.
  std::uint64_t next() override {
    std::uint64_t value = 0;
    while (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
      if (errno != EINTR) std::abort();  // A kernel without getrandom cannot give unique leases.
    }
    return value;
  }
};

}  // namespace

std::string Uuid::to_string() const {
  std::string text(36, '-');
  std::size_t at = 0;
  for (const std::uint8_t byte : bytes) {
    if (is_hyphen_at(at)) ++at;
    text[at++] = kHexDigits[byte >> 4];
    text[at++] = kHexDigits[byte & 15];
  }
  return text;
}

std::optional<Uuid> Uuid::parse(std::string_view text) noexcept {
  if (text.size() != 36) return std::nullopt;
  Uuid id;
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_hyphen_at(i)) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int value = hex_value(text[i]);
    if (value < 0) return std::nullopt;
    std::uint8_t& byte = id.bytes[nibble / 2];
    byte = static_cast<std::uint8_t>(byte << 4 | value);
    ++nibble;
  }
  return id;
}

std::uint64_t Random::up_to(std::uint64_t bound) {
  if (bound == UINT64_MAX) return next();
  const std::uint64_t values = bound + 1;
  // Draws below 2^64 mod `values` are thrown away; what is left falls evenly on the values.
  const std::uint64_t threshold = (0 - values) % values;
  std::uint64_t drawn = next();
  while (drawn < threshold) drawn = next();
  return drawn % values;
}

Uuid Random::uuid() {
  const std::uint64_t draws[2] = {next(), next()};
  Uuid id;
  std::memcpy(id.bytes.data(), draws, sizeof draws);
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x40);
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

Random& system_random() {
  static SystemRandom random;
  return random;
}

}  // namespace outfall

std::size_t std::hash<outfall::Uuid>::operator()(const outfall::Uuid& id) const noexcept {
  std::uint64_t halves[2];
  std::memcpy(halves, id.bytes.data(), sizeof halves);
  // Time-ordered ids share their first bytes, so both halves have to reach every bit of the result.
  std::uint64_t mixed = halves[0] ^ (halves[1] * 0x9e3779b97f4a7c15U);
  mixed = (mixed ^ (mixed >> 32)) * 0xd6e8feb86659fd93U;
  return mixed ^ (mixed >> 32);
}
