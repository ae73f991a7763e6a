#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <vector>

namespace outfall::webhook {

// An IPv4 or IPv6 address in 16 bytes; IPv4 in its mapped form (::ffff:a.b.c.d).
struct Address {
  std::array<std::uint8_t, 16> bytes{};

  // nullopt for what is neither IPv4 nor IPv6.
  [[nodiscard]] static std::optional<Address> from(const sockaddr* address) noexcept;
  [[nodiscard]] static std::optional<Address> parse(const std::string& text) noexcept;
  [[nodiscard]] bool is_v4() const noexcept;
  // The IPv4 addresses that an IPv6 one may lead to: NAT64, 6to4, Teredo and the compatible form.
  // Several where the length of NAT64's prefix is not known, else one; the first `size` count.
  struct EmbeddedV4;
  [[nodiscard]] EmbeddedV4 embedded_v4() const noexcept;
  [[nodiscard]] std::string to_string() const;
};

struct Address::EmbeddedV4 {
  std::array<Address, 4> all{};
  std::size_t size = 0;
};

// The addresses that share their first `bits` with `base`.
struct AddressRange {
  Address base;
  int bits = 128;  // of the 16 bytes

  // "10.0.0.0/8", "fd00::/8", or a single address. A range of IPv6 holds none of IPv4.
  [[nodiscard]] static std::optional<AddressRange> parse(std::string_view text) noexcept;
  [[nodiscard]] bool contains(const Address& address) const noexcept;
};

// Which addresses may be connected to. Asked for each socket that libcurl opens, after the name was
// resolved, so that a name that changes its address between a check and the use (DNS rebinding)
// gains nothing. Denied ranges go before allowed ones, and these before the mode's own list; an
// address that embeds an IPv4 address is judged by both. A value; const functions from any thread.
class AddressPolicy {
 public:
  enum class Mode : std::uint8_t {
    any_but_link_local,  // not link-local, which is where clouds serve machines' credentials
    public_only,         // only what the internet routes
  };

  explicit AddressPolicy(Mode mode = Mode::any_but_link_local) : mode_(mode) {}
  // False: not a range.
  [[nodiscard]] bool allow(std::string_view range);
  [[nodiscard]] bool deny(std::string_view range);

  // Why the address must not be connected to; empty: it may.
  [[nodiscard]] std::string_view refusal(const Address& address) const noexcept;

 private:
  Mode mode_;
  std::vector<AddressRange> allowed_;
  std::vector<AddressRange> denied_;
};

}  // namespace outfall::webhook
