#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace outfall {

// The bigint identity of an entry: its order within a stream. Positive.
using EntryId = std::int64_t;

// A 128-bit identifier in RFC 9562 layout, kept as its 16 bytes in network order. A value type,
// safe to copy between threads. Envelope ids, lease ids and worker ids are Uuids.
struct Uuid {
  std::array<std::uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  [[nodiscard]] bool is_nil() const noexcept { return *this == Uuid{}; }

  // The canonical lower-case text of 36 characters.
  [[nodiscard]] std::string to_string() const;

  // Accepts the canonical form in either case; anything else is nullopt.
  [[nodiscard]] static std::optional<Uuid> parse(std::string_view text) noexcept;
};

// The source of every random decision (ids, jitter), so that tests can replay it. An
// implementation must be safe to call from any thread.
class Random {
 public:
  virtual ~Random() = default;
  [[nodiscard]] virtual std::uint64_t next() = 0;

  // Uniform in [0, bound]; bound 0 gives 0.
  [[nodiscard]] std::uint64_t up_to(std::uint64_t bound);
  // A version 4 UUID made from two draws.
  [[nodiscard]] Uuid uuid();
};

// Random numbers of the operating system's entropy, for production; there for as long as the
// process is.
[[nodiscard]] Random& system_random();

}  // namespace outfall

template <>
struct std::hash<outfall::Uuid> {
  std::size_t operator()(const outfall::Uuid& id) const noexcept;
};
