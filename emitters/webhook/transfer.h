#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <curl/curl.h>

#include "core/clock.h"
#include "emitters/webhook/multi_loop.h"
#include "emitters/webhook/options.h"
#include "emitters/webhook/request.h"

namespace outfall::webhook {

// One HTTP request at a time over libcurl, used again and again: the easy handle with all settings
// that never change, the request's memory, and what was noticed while it ran. Used by the thread of
// the loop; both must outlive it. Throws std::bad_alloc where libcurl has no memory.
class Transfer {
 public:
  Transfer(const WebhookOptions& options, MultiLoop& loop);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  [[nodiscard]] static Transfer& of(CURL* handle) noexcept;

  // Starts what was built into request(). False: libcurl is out of memory.
  [[nodiscard]] bool start(const std::string& url, Milliseconds timeout);
  // Ends it without a result.
  void abort() noexcept;

  [[nodiscard]] Request& request() noexcept { return request_; }
  // Whether the request was on its way, at any time since the start.
  [[nodiscard]] bool sent() const noexcept { return sent_; }

  // What it has shown, after it ended with `code`. The views live until the next start.
  [[nodiscard]] Attempt attempt(CURLcode code, WallTime now);
  // The address that the policy refused and why; empty: none was.
  [[nodiscard]] const std::string& refused_address() const noexcept { return refused_address_; }
  // The endpoint's id of the request where its answer has one; cut and without control characters.
  [[nodiscard]] std::string request_id() const;
  [[nodiscard]] int status() const noexcept;
  // That it was started with last.
  [[nodiscard]] const std::string& url() const noexcept { return url_; }

 private:
  // How much of an answer's head has come.
  struct Head {
    bool is_open = true;
    bool is_line_open = false;
    bool has_status_line = false;
    bool has_header = false;  // which libcurl has stored
  };

  void set_up();
  template <typename Value>
  void set(CURLoption option, Value value);
  [[nodiscard]] std::string header(const char* name) const;

  static int on_lookup(void*, void*, void* self) noexcept;
  // The transfer has ended; a lookup that has not is left to itself.
  void leave_lookup() noexcept;
  static curl_socket_t on_open(void* self, curlsocktype, curl_sockaddr* address) noexcept;
  static int on_close(void* loop, curl_socket_t socket) noexcept;
  static int on_ready(void* self, char* remote, char* local, int remote_port,
                      int local_port) noexcept;
  static std::size_t on_answer(char* data, std::size_t, std::size_t size, void* self) noexcept;
  [[nodiscard]] bool take_head(std::string_view part) noexcept;

  const WebhookOptions& options_;
  MultiLoop& loop_;
  CURL* handle_ = nullptr;
  Request request_;
  std::string url_;
  std::string excerpt_;
  std::string detail_;
  std::string refused_address_;
  std::array<char, CURL_ERROR_SIZE> error_{};
  std::size_t received_ = 0;  // bytes of the answer, its head included
  Head head_;
  std::vector<curl_socket_t> opened_;  // for this request
  MultiLoop::Connection connection_;   // that it goes over
  std::string ends_;
  bool sent_ = false;
  bool repeated_ = false;
  bool short_of_sockets_ = false;
  bool short_of_lookups_ = false;
  bool looking_up_ = false;
  bool running_ = false;
};

// Opens a socket as libcurl would, where the policy allows the address. Returns CURL_SOCKET_BAD and
// says why in `refusal` otherwise, which stays empty where the system refused.
[[nodiscard]] curl_socket_t open_checked(const AddressPolicy& policy, const curl_sockaddr& address,
                                         std::string& refusal) noexcept;

// The settings of a connection, the same for deliveries and for check().
void set_up_connection(CURL* handle, const WebhookOptions& options);

}  // namespace outfall::webhook
