#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <curl/curl.h>

#include "core/clock.h"
#include "emitters/webhook/abandoned_lookups.h"
#include "emitters/webhook/http1_origins.h"

namespace outfall::webhook {

// libcurl's multi handle driven by epoll: work per event, never per transfer or connection. A
// thread owns the loop and calls everything but wake(), which is for any thread and for signals
// from within callbacks. Throws std::runtime_error only while it is made.
class MultiLoop {
 public:
  struct Limits {
    long idle_connections = 256;
  };
  explicit MultiLoop(Limits limits);
  ~MultiLoop();
  MultiLoop(const MultiLoop&) = delete;
  MultiLoop& operator=(const MultiLoop&) = delete;

  // False: libcurl is out of memory. A transfer starts with the next turn.
  [[nodiscard]] bool add(CURL* transfer) noexcept;
  void remove(CURL* transfer) noexcept;

  // Waits for a socket, a timer of libcurl's, wake() or `at_most`; lets libcurl work; and calls
  // `done` for what has ended, which is removed by then and may be added again.
  using Done = std::function<void(CURL*, CURLcode)>;
  void turn(Milliseconds at_most, const Done& done);

  void wake() noexcept;

  // To be told of each socket that is opened and closed for a transfer, by the callbacks that
  // libcurl has for it: it has to forget a descriptor before the number is used again.
  void socket_opened(curl_socket_t socket) noexcept;
  void socket_closed(curl_socket_t socket) noexcept;

  // A connection that a request goes over, as it is when the request begins.
  struct Connection {
    curl_socket_t socket = CURL_SOCKET_BAD;
    std::uint64_t number = 0;   // of the sockets that were opened; descriptors are used again
    std::uint64_t answers = 0;  // that had come over it
  };
  // The one with these two ends, whatever is written in `ends`. `opened` are the sockets that were
  // opened for the request, one of which it is where no request went over it before. Throws
  // std::bad_alloc.
  [[nodiscard]] Connection connection(const std::string& ends, int local_port,
                                      const std::vector<curl_socket_t>& opened);
  // To be told of each answer that came over it.
  void answered(const Connection& connection) noexcept;
  // No answer came in time. Ends the connection for all of its requests where none at all has come
  // over it since then: libcurl would go on to use one of HTTP/2 that has died silently.
  void unanswered(const Connection& connection) noexcept;

  // What is known of origins, for all transfers.
  [[nodiscard]] Http1Origins& http1_origins() noexcept { return http1_origins_; }
  [[nodiscard]] AbandonedLookups& abandoned_lookups() noexcept { return abandoned_lookups_; }

  [[nodiscard]] std::size_t open_sockets() const noexcept { return open_sockets_; }
  [[nodiscard]] std::uint64_t opened_sockets() const noexcept { return opened_sockets_; }

 private:
  static int on_socket(CURL*, curl_socket_t socket, int what, void* loop, void*) noexcept;
  static int on_timer(CURLM*, long timeout_ms, void* loop) noexcept;
  void watch(curl_socket_t socket, int what) noexcept;
  void forget(curl_socket_t socket) noexcept;
  void collect(const Done& done);

  // What epoll was told about a descriptor, and what libcurl wants now. Between two transfers of a
  // connection libcurl wants nothing for a moment, for which two calls to the kernel are not worth
  // it: interest is taken back only when an event comes that nobody wants.
  struct Watched {
    std::uint32_t registered = 0;
    std::uint32_t wanted = 0;
    std::uint64_t number = 0;  // of an open connection, from 1 on; 0: it is libcurl's own
    std::uint64_t answers = 0;
    std::string ends = {};  // in connections_; empty: no request went over it yet
  };
  [[nodiscard]] Watched& at(curl_socket_t socket);
  [[nodiscard]] Watched* find(const Connection& connection) noexcept;

  CURLM* multi_ = nullptr;
  int epoll_ = -1;
  int wake_ = -1;
  MonotonicTime timer_at_ = MonotonicTime::max();
  std::vector<Watched> watched_;  // by descriptor
  AbandonedLookups abandoned_lookups_;
  Http1Origins http1_origins_{curl_version_info(CURLVERSION_NOW)->version_num};
  std::unordered_map<std::string, curl_socket_t> connections_;  // by their ends
  std::size_t open_sockets_ = 0;
  std::uint64_t opened_sockets_ = 0;
};

}  // namespace outfall::webhook
