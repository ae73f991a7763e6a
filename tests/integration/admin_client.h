#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace outfall::test {

struct AdminAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

// One well-formed request over a connection of its own, by libcurl. Throws std::runtime_error when
// there is no answer. Safe to call from any thread.
struct HttpCall {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers = {};  // "Name: value"
  std::optional<std::string> body = {};
  std::chrono::milliseconds deadline{30'000};
};
[[nodiscard]] AdminAnswer http_call(const HttpCall& call);
[[nodiscard]] AdminAnswer http_get(const std::string& url);

// A TCP connection for what no well-behaved client sends. Every wait has a deadline and throws
// std::runtime_error when it passes.
class RawConnection {
 public:
  explicit RawConnection(std::uint16_t port);
  ~RawConnection();
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  // False when the peer has closed the connection.
  bool send(std::string_view bytes);
  // Everything up to the end of the stream or a reset.
  [[nodiscard]] std::string read_to_end();
  // Up to and including `text`.
  [[nodiscard]] std::string read_until(std::string_view text);
  // Whether the stream ends within `wait`; bytes that arrive are kept for the reads above.
  [[nodiscard]] bool ends_within(std::chrono::milliseconds wait);

 private:
  // False at the end of the stream; nothing new within `wait` is nullopt.
  std::optional<bool> receive(std::chrono::milliseconds wait);

  int fd_ = -1;
  bool ended_ = false;
  std::string received_;
};

}  // namespace outfall::test
