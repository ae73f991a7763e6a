#include "config/listen_address.h"

#include <arpa/inet.h>

#include "core/number.h"

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
  const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
  ListenAddress address{.host = std::string(text.substr(0, colon))};
  if (!port) return {};
  address.port = *port;

  if (address.host == "localhost") address.host = "127.0.0.1";
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
    return is_literal(AF_INET6, address.host) ? std::optional(address) : std::nullopt;
  }
  return is_literal(AF_INET, address.host) ? std::optional(address) : std::nullopt;
}

}  // namespace outfall
