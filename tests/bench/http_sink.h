#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace outfall::bench {

// A request as far as a benchmark looks at it. The views hold for the call only.
struct SinkRequest {
  std::string_view target;
  std::string_view header_lines;

  // The value of the first header of this name (in lower case), or nothing.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

// When a request that is answered with 204 had arrived as a whole, by the machine's clock.
struct Receipt {
  std::string envelope_id;
  std::chrono::system_clock::time_point at;
};

// An endpoint that is much faster than what it measures: an HTTP/1.1 server on a free port of
// 127.0.0.1 with one thread, which reads bodies of a Content-Length and answers 204, at once or
// later. It knows nothing else of HTTP: whoever speaks in another way loses the connection.
//
// `delay_of` is called by the sink's thread, everything else by one other thread.
class HttpSink {
 public:
  struct Options {
    bool records = false;  // a Receipt of every request
    // How long the answer takes; without it none takes any time.
    std::function<std::chrono::milliseconds(const SinkRequest&)> delay_of = {};
  };
  HttpSink();
  explicit HttpSink(Options options);
  ~HttpSink();
  HttpSink(const HttpSink&) = delete;
  HttpSink& operator=(const HttpSink&) = delete;

  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] std::string authority() const;  // 127.0.0.1:PORT
  [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }
  [[nodiscard]] double cpu_seconds() const;
  [[nodiscard]] std::vector<Receipt> take_receipts();

  // Resets every connection and refuses new ones, until the sink comes back at the same port. Both
  // take effect before they return.
  void go_away();
  void come_back();
  // Answers 503 to what arrives from now on, or 204 again.
  void fail(bool failing);

 private:
  class Loop;

  std::atomic<std::uint64_t> answered_ = 0;
  std::unique_ptr<Loop> loop_;
  int port_ = 0;
  mutable std::thread thread_;  // whose clock is asked by a handle that is not const
};

}  // namespace outfall::bench
