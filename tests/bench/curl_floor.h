#pragma once

#include <cstdint>
#include <string>

namespace outfall::bench {

// The least work with which libcurl can post: its multi interface over epoll, as many transfers as
// are in flight, each begun anew with the same request as soon as it has ended. The request has the
// size and the headers of the webhook emitter's.
struct CurlFloor {
  double seconds = 0;
  double cpu = 0;  // of the calling thread
  std::int64_t requests = 0;

  [[nodiscard]] double rate() const { return static_cast<double>(requests) / seconds; }
  [[nodiscard]] double cpu_us() const { return cpu / static_cast<double>(requests) * 1e6; }
};

// Blocks until so many requests were answered; throws when one was not answered with success.
[[nodiscard]] CurlFloor post_with_curl(const std::string& url, int in_flight, std::int64_t requests,
                                       int body_bytes);

}  // namespace outfall::bench
