#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace outfall::fuzz {

// A descriptor that closes itself.
class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }

  // False where the other side has gone.
  bool send(std::string_view bytes) const;
  // Up to the end of the stream, or to where it has `until` in it.
  [[nodiscard]] std::string read(std::string_view until = {}) const;

 private:
  int descriptor_;
};

// Sends `bytes` to a port of 127.0.0.1, says that no more will come, and reads to the end.
[[nodiscard]] std::string exchange(std::uint16_t port, std::string_view bytes);

// A server on 127.0.0.1 that reads a request without a body and answers it with given bytes,
// whatever they are, and then the end of the connection. Used by one thread, beside its own.
class Responder {
 public:
  Responder();
  ~Responder();
  [[nodiscard]] std::uint16_t port() const { return port_; }
  // Of the requests that come after it.
  void answer_with(std::string bytes);

 private:
  void serve();

  Socket listener_;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  std::string answer_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace outfall::fuzz
