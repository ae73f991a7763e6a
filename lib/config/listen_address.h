#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace outfall {

// Where a server listens: "127.0.0.1:9464", "[::1]:9464", "localhost:0".
struct ListenAddress {
  std::string host;  // an IPv4 or IPv6 literal, without brackets; "localhost" becomes 127.0.0.1
  std::uint16_t port = 0;
};

// nullopt unless the text is an IP literal (IPv6 in brackets) or "localhost", a colon and a port.
// Pure.
[[nodiscard]] std::optional<ListenAddress> parse_listen_address(std::string_view text);

}  // namespace outfall
