#include "daemon/admin/wrong_tokens.h"

#include <algorithm>

namespace outfall {

namespace ip = boost::asio::ip;

std::string WrongTokens::group(const ip::address& address) {
  if (address.is_v4()) return address.to_string();
  const ip::address_v6 six = address.to_v6();
  if (six.is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, six).to_string();
  ip::address_v6::bytes_type bytes = six.to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
  return ip::address_v6(bytes).to_string() + "/64";
}

std::chrono::seconds WrongTokens::wait(const std::string& address, MonotonicTime now) const {
  const auto found = counted_.find(address);
  if (found == counted_.end() || found->second.wrong < limits_.allowed) return {};
  const auto left = found->second.since + limits_.window - now;
  return std::max(std::chrono::seconds{0}, std::chrono::ceil<std::chrono::seconds>(left));
}

void WrongTokens::count(const std::string& address, MonotonicTime now) {
  auto found = counted_.find(address);
  if (found == counted_.end()) {
    make_room(now);
    found = counted_.emplace(address, Counted{.wrong = 0, .since = now}).first;
  }
  Counted& counted = found->second;
  if (now - counted.since >= limits_.window) counted = {.wrong = 0, .since = now};
  ++counted.wrong;
}

void WrongTokens::make_room(MonotonicTime now) {
  if (counted_.size() < limits_.addresses) return;
  std::erase_if(counted_,
                [&](const auto& entry) { return now - entry.second.since >= limits_.window; });
  if (counted_.size() < limits_.addresses) return;
  counted_.erase(
      std::ranges::min_element(counted_, {}, [](const auto& entry) { return entry.second.since; }));
}

}  // namespace outfall
