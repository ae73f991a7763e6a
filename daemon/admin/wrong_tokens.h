#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>

#include <boost/asio/ip/address.hpp>

#include "core/clock.h"

namespace outfall {

// Counts wrong bearer tokens by the address that sent them: after `allowed` within `window` the
// others of an address are answered by 429 until the window ends. A right one always passes.
// Memory is bounded: where `addresses` are counted, the one whose window began first is forgotten.
// One thread.
class WrongTokens {
 public:
  struct Limits {
    int allowed = 5;
    Milliseconds window{60'000};
    std::size_t addresses = 256;
  };
  explicit WrongTokens(const Limits& limits) : limits_(limits) {}

  // How long an address has to wait before a wrong token counts as the first; zero: it need not.
  [[nodiscard]] std::chrono::seconds wait(const std::string& address, MonotonicTime now) const;
  void count(const std::string& address, MonotonicTime now);
  [[nodiscard]] std::size_t addresses() const noexcept { return counted_.size(); }

  // What is counted as one: an IPv4 address, or the /64 of an IPv6 address, since whoever has one
  // of its addresses has them all.
  [[nodiscard]] static std::string group(const boost::asio::ip::address& address);

 private:
  struct Counted {
    int wrong = 0;
    MonotonicTime since;
  };
  void make_room(MonotonicTime now);

  const Limits limits_;
  std::map<std::string, Counted> counted_;
};

}  // namespace outfall
