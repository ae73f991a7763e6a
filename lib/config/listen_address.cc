#include "config/listen_address.h"

#include <arpa/inet.h>
#include <charconv>

namespace outfall {
namespace {

bool is_literal(int family, const std::string& host) {
  in6_addr unused{};  // large enough for either family
  return inet_pton(family, host.c_str(), &unused) == 1;
}

}  // namespace

std::optional<ListenAddress> parse_listen_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || text.find('\0') != std::string_view::npos) return {};
  const std::string_view port = text.substr(colon + 1);
  ListenAddress address{.host = std::string(text.substr(0, colon))};
  const auto [end, error] =
      std::from_chars(port.data(), port.data() + port.size(), address.port, 10);
  if (error != std::errc{} || end != port.data() + port.size()) return {};

  if (address.host == "localhost") address.host = "127.0.0.1";
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
    return is_literal(AF_INET6, address.host) ? std::optional(address) : std::nullopt;
  }
  return is_literal(AF_INET, address.host) ? std::optional(address) : std::nullopt;
}

}  // namespace outfall
