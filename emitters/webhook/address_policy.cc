#include "emitters/webhook/address_policy.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <span>

#include "core/number.h"

namespace outfall::webhook {
namespace {

constexpr std::size_t kV4At = 12;  // where the IPv4 bytes of a mapped address begin
constexpr int kMappedBits = 96;
// Where the IPv4 bytes are after a NAT64 prefix of 48, 56, 64 and 96 bits; byte 8 is none of them.
constexpr std::array<std::array<std::size_t, 4>, 4> kNat64Places{
    {{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}, {12, 13, 14, 15}}};

Address mapped(const std::uint8_t* v4) noexcept {
  Address address;
  address.bytes[10] = 0xff;
  address.bytes[11] = 0xff;
  std::copy_n(v4, 4, address.bytes.begin() + kV4At);
  return address;
}

std::vector<AddressRange> ranges(std::initializer_list<std::string_view> texts) {
  std::vector<AddressRange> result;
  for (const std::string_view text : texts) result.push_back(*AddressRange::parse(text));
  return result;
}

// Link-local addresses, and what clouds answer for machines' identities outside of them.
const std::vector<AddressRange>& link_local() {
  static const auto all = ranges({"169.254.0.0/16", "fe80::/10", "fd00:ec2::/32",
                                  "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32"});
  return all;
}

// What the internet does not route, or routes to many.
const std::vector<AddressRange>& not_public() {
  static const auto all = ranges(
      {"0.0.0.0/8",     "10.0.0.0/8",      "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16",
       "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16",
       "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",
       "::/96",         "64:ff9b:1::/48",  "100::/64",       "2001::/23",      "2001:db8::/32",
       "3fff::/20",     "5f00::/16",       "fc00::/7",       "fe80::/10",      "fec0::/10",
       "ff00::/8"});
  return all;
}

bool within(std::span<const AddressRange> all, const Address& address) noexcept {
  return std::ranges::any_of(all,
                             [&](const AddressRange& range) { return range.contains(address); });
}

}  // namespace

std::optional<Address> Address::from(const sockaddr* address) noexcept {
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
    return mapped(bytes.data());
  }
  if (address->sa_family != AF_INET6) return std::nullopt;
  sockaddr_in6 v6{};
  std::memcpy(&v6, address, sizeof v6);
  Address result;
  std::memcpy(result.bytes.data(), &v6.sin6_addr, result.bytes.size());
  return result;
}

std::optional<Address> Address::parse(const std::string& text) noexcept {
  std::array<std::uint8_t, 4> v4{};
  if (::inet_pton(AF_INET, text.c_str(), v4.data()) == 1) return mapped(v4.data());
  Address result;
  if (::inet_pton(AF_INET6, text.c_str(), result.bytes.data()) == 1) return result;
  return std::nullopt;
}

bool Address::is_v4() const noexcept {
  constexpr std::array<std::uint8_t, kV4At> kPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kPrefix.begin(), kPrefix.end(), bytes.begin());
}

Address::EmbeddedV4 Address::embedded_v4() const noexcept {
  const auto one = [](const std::uint8_t* v4) { return EmbeddedV4{{mapped(v4)}, 1}; };
  if (is_v4()) return {};
  const auto starts = [this](std::initializer_list<std::uint8_t> prefix) {
    return std::equal(prefix.begin(), prefix.end(), bytes.begin());
  };
  if (starts({0x20, 0x02})) return one(bytes.data() + 2);  // 6to4
  if (starts({0x20, 0x01, 0, 0})) {                        // Teredo: the client's, inverted
    std::array<std::uint8_t, 4> v4{};
    std::transform(bytes.begin() + kV4At, bytes.end(), v4.begin(),
                   [](std::uint8_t byte) { return static_cast<std::uint8_t>(~byte); });
    return one(v4.data());
  }
  // Networks take prefixes of any length out of this range, and the length says where the address
  // is (RFC 6052, 2.2).
  if (starts({0, 0x64, 0xff, 0x9b, 0, 1})) {
    EmbeddedV4 embedded;
    for (const auto& places : kNat64Places) {
      std::array<std::uint8_t, 4> v4{};
      std::ranges::transform(places, v4.begin(), [this](std::size_t at) { return bytes[at]; });
      embedded.all[embedded.size++] = mapped(v4.data());
    }
    return embedded;
  }
  const bool nat64 = starts({0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0});
  const bool compatible = starts({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  if (nat64 || compatible) return one(bytes.data() + kV4At);
  return {};
}

std::string Address::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool v4 = is_v4();
  ::inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data() + (v4 ? kV4At : 0), text.data(), text.size());
  return text.data();
}

std::optional<AddressRange> AddressRange::parse(std::string_view text) noexcept {
  const std::size_t slash = text.find('/');
  const auto base = Address::parse(std::string(text.substr(0, slash)));
  if (!base) return std::nullopt;
  const int most = base->is_v4() ? 32 : 128;
  int bits = most;
  if (slash != std::string_view::npos) {
    bits = parse_number<int>(text.substr(slash + 1)).value_or(-1);
    if (bits < 0 || bits > most) return std::nullopt;
  }
  return AddressRange{*base, base->is_v4() ? bits + kMappedBits : bits};
}

bool AddressRange::contains(const Address& address) const noexcept {
  // "::/0" means the addresses of IPv6, not also each of IPv4 for the form that it has here.
  if (bits < kMappedBits && address.is_v4()) return false;
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (!std::equal(base.bytes.begin(), base.bytes.begin() + static_cast<std::ptrdiff_t>(whole),
                  address.bytes.begin())) {
    return false;
  }
  const int rest = bits % 8;
  if (rest == 0) return true;
  const auto mask = static_cast<std::uint8_t>(0xff << (8 - rest));
  return ((base.bytes[whole] ^ address.bytes[whole]) & mask) == 0;
}

bool AddressPolicy::allow(std::string_view range) {
  const auto parsed = AddressRange::parse(range);
  if (parsed) allowed_.push_back(*parsed);
  return parsed.has_value();
}

bool AddressPolicy::deny(std::string_view range) {
  const auto parsed = AddressRange::parse(range);
  if (parsed) denied_.push_back(*parsed);
  return parsed.has_value();
}

std::string_view AddressPolicy::refusal(const Address& address) const noexcept {
  const Address::EmbeddedV4 embedded = address.embedded_v4();
  const auto is_in = [&](std::span<const AddressRange> all) {
    return within(all, address) ||
           std::any_of(embedded.all.begin(), embedded.all.begin() + embedded.size,
                       [&](const Address& v4) { return within(all, v4); });
  };
  if (is_in(denied_)) return "it is in deny_cidrs";
  if (within(allowed_, address)) return {};
  if (is_in(link_local())) return "it is link-local or a cloud's metadata service";
  if (mode_ == Mode::public_only && is_in(not_public())) return "it is not a public address";
  return {};
}

}  // namespace outfall::webhook
