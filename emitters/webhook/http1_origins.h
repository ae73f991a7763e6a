#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

namespace outfall::webhook {

// Which origins are spoken to in HTTP/1.1 alone because libcurl cannot send them large bodies over
// HTTP/2: before 8.2 it tries again without a pause, a whole processor long, while the endpoint's
// window is full. Once an origin is in here it stays, since libcurl of that age also takes a
// connection of HTTP/1.1 that is in use for one of HTTP/2 where it knows both of one origin; only
// above kMost the one that has not been asked about for longest is forgotten, whose connections
// have long been closed. Used by one thread.
class Http1Origins {
 public:
  static constexpr std::size_t kLargeBodyBytes = 64 << 10;
  static constexpr std::size_t kMost = 10'000;

  // `libcurl` as in curl_version_info_data::version_num.
  explicit Http1Origins(unsigned libcurl) : is_needed_(libcurl < kFirstWithout) {}

  // Whether a request with such a body has to go over HTTP/1.1. Throws std::bad_alloc.
  [[nodiscard]] bool takes(std::string_view url, std::size_t body_bytes);

 private:
  static constexpr unsigned kFirstWithout = 0x080200;
  const bool is_needed_;
  std::list<std::string> origins_;  // the one asked about last comes first
  std::unordered_map<std::string_view, std::list<std::string>::iterator> places_;
};

}  // namespace outfall::webhook
