#include "tests/support/http_recorder.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "tests/support/temp_folder.h"

namespace outfall::test {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string_view reason_of(int status) {
  static const std::map<int, std::string_view> reasons{{200, "OK"},
                                                       {201, "Created"},
                                                       {202, "Accepted"},
                                                       {204, "No Content"},
                                                       {301, "Moved Permanently"},
                                                       {302, "Found"},
                                                       {400, "Bad Request"},
                                                       {404, "Not Found"},
                                                       {409, "Conflict"},
                                                       {410, "Gone"},
                                                       {413, "Content Too Large"},
                                                       {429, "Too Many Requests"},
                                                       {500, "Internal Server Error"},
                                                       {502, "Bad Gateway"},
                                                       {503, "Service Unavailable"}};
  const auto found = reasons.find(status);
  return found == reasons.end() ? "Status" : found->second;
}

std::string head_of(const HttpAnswer& answer) {
  std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " " +
                     std::string(reason_of(answer.status)) + "\r\n";
  for (const auto& [name, value] : answer.headers) {
    head += name + ": " + value + "\r\n";
  }
  if (answer.status != 204) {
    head += "Content-Length: " + std::to_string(answer.body.size()) + "\r\n";
  }
  if (answer.close_after) {
    head += "Connection: close\r\n";
  }
  return head + "\r\n";
}

// One connection as a stream of bytes that ends early instead of throwing: what a client does to
// its connection is no error of the recorder.
class Wire {
 public:
  explicit Wire(int fd) : fd_(fd) {}

  // A line without its end; nullopt when the connection ends.
  std::optional<std::string> line() {
    while (true) {
      const std::size_t end = buffer_.find(kLineEnd);
      if (end != std::string::npos) {
        std::string result = buffer_.substr(0, end);
        buffer_.erase(0, end + kLineEnd.size());
        return result;
      }
      if (!fill()) {
        return std::nullopt;
      }
    }
  }

  std::optional<std::string> bytes(std::size_t size) {
    while (buffer_.size() < size) {
      if (!fill()) {
        return std::nullopt;
      }
    }
    std::string result = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return result;
  }

  bool send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EINTR) {
        return false;
      }
      text.remove_prefix(sent > 0 ? static_cast<std::size_t>(sent) : 0);
    }
    return true;
  }

  // Until the client hangs up or the recorder shuts the socket down.
  void wait_for_end() {
    while (fill()) {
      buffer_.clear();
    }
  }

 private:
  bool fill() {
    std::array<char, 64 * 1024> chunk{};
    ssize_t got = 0;
    do {
      got = ::recv(fd_, chunk.data(), chunk.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
      return false;
    }
    buffer_.append(chunk.data(), static_cast<std::size_t>(got));
    return true;
  }

  int fd_;
  std::string buffer_;
};

std::optional<std::string> read_chunked(Wire& wire) {
  std::string body;
  while (true) {
    const auto size_line = wire.line();
    if (!size_line) {
      return std::nullopt;
    }
    const std::size_t size = std::strtoul(size_line->c_str(), nullptr, 16);
    const auto chunk = wire.bytes(size);
    if (!chunk || !wire.line()) {
      return std::nullopt;
    }
    if (size == 0) {
      return body;
    }
    body += *chunk;
  }
}

std::optional<std::string> read_body(Wire& wire, const HttpRequest& request) {
  if (request.header("Expect") == "100-continue") {
    wire.send("HTTP/1.1 100 Continue\r\n\r\n");
  }
  if (request.header("Transfer-Encoding") == "chunked") {
    return read_chunked(wire);
  }
  const auto length = request.header("Content-Length");
  return wire.bytes(length ? std::strtoul(length->c_str(), nullptr, 10) : 0);
}

std::optional<HttpRequest> read_request(Wire& wire) {
  const auto first = wire.line();
  if (!first) {
    return std::nullopt;
  }
  HttpRequest request;
  const std::size_t method_end = first->find(' ');
  const std::size_t target_end = first->rfind(' ');
  if (method_end == std::string::npos || target_end <= method_end) {
    return std::nullopt;
  }
  request.method = first->substr(0, method_end);
  request.target = first->substr(method_end + 1, target_end - method_end - 1);
  while (true) {
    const auto line = wire.line();
    if (!line) {
      return std::nullopt;
    }
    if (line->empty()) {
      break;
    }
    const std::size_t colon = line->find(':');
    const std::string_view value =
        colon == std::string::npos ? "" : trimmed(std::string_view(*line).substr(colon + 1));
    request.headers.emplace_back(line->substr(0, colon), std::string(value));
  }
  auto body = read_body(wire, request);
  if (!body) {
    return std::nullopt;
  }
  request.body = std::move(*body);
  request.arrived = std::chrono::steady_clock::now();
  return request;
}

int listen_on(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd, 256) != 0) {
    throw std::system_error(errno, std::generic_category(), "listen for the HTTP recorder");
  }
  return fd;
}

void reset_on_close(int fd) {
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace

std::optional<std::string> HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key.size() == name.size() && ::strncasecmp(key.data(), name.data(), name.size()) == 0) {
      return value;
    }
  }
  return std::nullopt;
}

class HttpRecorder::Server {
 public:
  Server() : port_(free_port()), listener_(listen_on(port_)), acceptor_([this] { accept_all(); }) {}

  ~Server() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      ::shutdown(listener_, SHUT_RDWR);
      for (const Session& session : sessions_) {
        if (session.fd >= 0) {
          ::shutdown(session.fd, SHUT_RDWR);
        }
      }
      wake_.notify_all();
    }
    acceptor_.join();
    for (Session& session : sessions_) {
      session.thread.join();
    }
    ::close(listener_);
  }

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] int port() const noexcept { return port_; }

  template <typename Action>
  auto locked(Action&& action) const {
    const std::lock_guard lock(mutex_);
    return action();
  }

  // Guarded by locked().
  std::deque<HttpAnswer> next;
  HttpAnswer always;
  Handler handler;
  std::vector<HttpRequest> requests;
  std::size_t most_at_once = 0;
  std::uint64_t connections = 0;

 private:
  struct Session {
    int fd = -1;  // -1 once its thread has closed it
    std::thread thread;
  };

  void accept_all() {
    while (true) {
      // accept4() wants a descriptor before it waits, and a test may have left none for the moment.
      pollfd connection{listener_, POLLIN, 0};
      ::poll(&connection, 1, -1);
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const std::lock_guard lock(mutex_);
      if (fd < 0 || stopping_) {
        ::close(fd);
        return;
      }
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      Session& session = sessions_.emplace_back();
      session.fd = fd;
      session.thread = std::thread([this, &session, number = ++connections] {
        serve(session.fd, number);
        const std::lock_guard end(mutex_);
        ::close(std::exchange(session.fd, -1));
      });
    }
  }

  void serve(int fd, std::uint64_t number) {
    Wire wire(fd);
    while (auto request = read_request(wire)) {
      request->connection = number;
      const HttpAnswer answer = answer_to(*request);
      const bool goes_on = give(wire, fd, answer);
      const std::lock_guard lock(mutex_);
      --at_once_;
      if (!goes_on) {
        return;
      }
    }
  }

  HttpAnswer answer_to(const HttpRequest& request) {
    std::unique_lock lock(mutex_);
    requests.push_back(request);
    most_at_once = std::max(most_at_once, ++at_once_);
    HttpAnswer answer = always;
    if (!next.empty()) {
      answer = std::move(next.front());
      next.pop_front();
    } else if (handler) {
      const Handler current = handler;
      lock.unlock();
      return current(request);
    }
    return answer;
  }

  // False when the destructor came first.
  bool pause(std::chrono::milliseconds duration) {
    std::unique_lock lock(mutex_);
    return !wake_.wait_for(lock, duration, [this] { return stopping_; });
  }

  // Whether the connection serves another request.
  bool give(Wire& wire, int fd, const HttpAnswer& answer) {
    if (answer.delay.count() > 0 && !pause(answer.delay)) {
      return false;
    }
    const std::string head = head_of(answer);
    switch (answer.fault) {
      case HttpFault::none:
        return wire.send(head + answer.body) && !answer.close_after;
      case HttpFault::hang:
        wire.wait_for_end();
        return false;
      case HttpFault::reset:
        reset_on_close(fd);
        return false;
      case HttpFault::close:
        return false;
      case HttpFault::cut_body:
        wire.send(head + answer.body.substr(0, answer.body.size() / 2));
        ::shutdown(fd, SHUT_WR);
        return false;
      case HttpFault::trickle:
        for (const char byte : head + answer.body) {
          if (!wire.send({&byte, 1}) || !pause(answer.pace)) {
            return false;
          }
        }
        return !answer.close_after;
      case HttpFault::no_head:
        wire.send(answer.body);
        return false;
    }
    return false;
  }

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::size_t at_once_ = 0;
  std::list<Session> sessions_;  // a list: the threads hold references
  const int port_;
  const int listener_;
  std::thread acceptor_;  // last, so that it finds the rest built
};

HttpRecorder::HttpRecorder() : server_(std::make_unique<Server>()) {
}

HttpRecorder::~HttpRecorder() = default;

int HttpRecorder::port() const noexcept {
  return server_->port();
}

std::string HttpRecorder::url(std::string_view path) const {
  return "http://127.0.0.1:" + std::to_string(port()) + std::string(path);
}

void HttpRecorder::answer_next(HttpAnswer answer) {
  server_->locked([&] { server_->next.push_back(std::move(answer)); });
}

void HttpRecorder::answer_always(HttpAnswer answer) {
  server_->locked([&] { server_->always = std::move(answer); });
}

void HttpRecorder::answer_by(Handler handler) {
  server_->locked([&] { server_->handler = std::move(handler); });
}

std::vector<HttpRequest> HttpRecorder::requests() const {
  return server_->locked([&] { return server_->requests; });
}

std::size_t HttpRecorder::count() const {
  return server_->locked([&] { return server_->requests.size(); });
}

std::vector<HttpRequest> HttpRecorder::wait_for(std::size_t requests,
                                                std::chrono::milliseconds deadline) const {
  wait_until([&] { return count() >= requests; },
             std::to_string(requests) + " requests at the HTTP recorder", deadline);
  return this->requests();
}

std::size_t HttpRecorder::most_at_once() const {
  return server_->locked([&] { return server_->most_at_once; });
}

std::uint64_t HttpRecorder::connections() const {
  return server_->locked([&] { return server_->connections; });
}

}  // namespace outfall::test
