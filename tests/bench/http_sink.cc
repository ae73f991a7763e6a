#include "tests/bench/http_sink.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <queue>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace outfall::bench {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::string_view kAnswer = "HTTP/1.1 204 No Content\r\n\r\n";
constexpr std::string_view kFailure =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kEventsPerTurn = 256;
constexpr int kBacklog = 4096;

enum Command : int { kServe, kRefuse, kStop };

int checked(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return number_; }
  void reset(int number = -1) {
    if (number_ >= 0) ::close(number_);
    number_ = number;
  }

 private:
  int number_ = -1;
};

// Bound, but deaf until it listens: until then connections are refused, and nobody takes the port.
int bound_socket(int port) {
  const int socket =
      checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(socket);
    throw std::system_error(error, std::generic_category(), "bind");
  }
  return socket;
}

int port_of(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  checked(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return ntohs(address.sin_port);
}

}  // namespace

std::string_view SinkRequest::header(std::string_view name) const {
  std::string_view left = header_lines;
  while (!left.empty()) {
    const std::string_view line = left.substr(0, left.find("\r\n"));
    left.remove_prefix(std::min(left.size(), line.size() + 2));
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    if (::strncasecmp(line.data(), name.data(), name.size()) != 0) continue;
    const std::size_t value = line.find_first_not_of(' ', name.size() + 1);
    return value == std::string_view::npos ? std::string_view{} : line.substr(value);
  }
  return {};
}

// Everything that the sink's thread does.
class HttpSink::Loop {
 public:
  Loop(Options options, std::atomic<std::uint64_t>& answered)
      : options_(std::move(options)),
        answered_(answered),
        epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        wake_(checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")),
        listener_(bound_socket(0)),
        port_(port_of(listener_.get())),
        read_buffer_(kReadBytes) {
    watch(wake_.get());
    listen();
  }
  ~Loop() { close_connections(); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] int port() const { return port_; }

  // From another thread; returns when it is done.
  void command(int wanted) {
    wanted_ = wanted;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
    for (int state = state_; state != wanted; state = state_) state_.wait(state);
  }

  void fail(bool failing) { failing_ = failing; }

  std::vector<Receipt> take_receipts() {
    const std::lock_guard lock(mutex_);
    return std::move(receipts_);
  }

  void run() {
    std::array<epoll_event, kEventsPerTurn> events{};
    while (state_ != kStop) {
      const auto pause = until_next_answer();
      const timespec wait{pause.count() / 1'000'000'000, pause.count() % 1'000'000'000};
      const int ready = ::epoll_pwait2(epoll_.get(), events.data(), kEventsPerTurn, &wait, nullptr);
      for (int i = 0; i < ready; ++i) {
        const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
        if (descriptor == wake_.get()) {
          obey();
        } else if (descriptor == listener_.get()) {
          accept();
        } else {
          read(descriptor);
        }
      }
      answer_due();
    }
  }

 private:
  struct Connection {
    bool open = false;
    std::uint64_t serial = 0;  // tells it from a later one with the same descriptor
    std::string received = {};
  };
  struct Due {
    steady_clock::time_point at;
    int descriptor = -1;
    std::uint64_t serial = 0;
    bool operator>(const Due& other) const { return at > other.at; }
  };

  void watch(int descriptor) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
    checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
  }

  void listen() {
    checked(::listen(listener_.get(), kBacklog), "listen");
    watch(listener_.get());
  }

  void obey() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t consumed = ::read(wake_.get(), &count, sizeof count);
    const int wanted = wanted_;
    if (wanted == state_) return;
    if (wanted == kRefuse) {
      listener_.reset();
      listener_.reset(bound_socket(port_));
      close_connections();
    } else if (wanted == kServe) {
      listen();
    }
    state_ = wanted;
    state_.notify_all();
  }

  void close_connections() {
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      if (connections_[i].open) close(static_cast<int>(i));
    }
  }

  void accept() {
    while (true) {
      const int socket = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (socket < 0) return;
      const int on = 1;
      ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      // The end is a reset, so that thousands of ends leave nothing behind.
      const linger at_once{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      const auto place = static_cast<std::size_t>(socket);
      if (place >= connections_.size()) connections_.resize(place + 64);
      connections_[place] = {.open = true, .serial = ++serial_};
      watch(socket);
    }
  }

  void close(int descriptor) {
    connections_[static_cast<std::size_t>(descriptor)] = {};
    ::close(descriptor);
  }

  void read(int descriptor) {
    Connection& connection = connections_[static_cast<std::size_t>(descriptor)];
    if (!connection.open) return;
    const ssize_t size = ::recv(descriptor, read_buffer_.data(), read_buffer_.size(), 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return close(descriptor);
    const std::string_view bytes(read_buffer_.data(), static_cast<std::size_t>(size));
    if (connection.received.empty()) {
      // Most requests come in one piece, and need no copy.
      const std::size_t used = take_request(descriptor, bytes);
      if (connection.open) connection.received.assign(bytes.substr(used));
      return;
    }
    connection.received += bytes;
    const std::size_t used = take_request(descriptor, connection.received);
    if (connection.open) connection.received.erase(0, used);
  }

  // How many bytes of a whole request were used; 0 as long as there is none.
  std::size_t take_request(int descriptor, std::string_view bytes) {
    const std::size_t head = bytes.find("\r\n\r\n");
    if (head == std::string_view::npos) return 0;
    const std::size_t first_line = bytes.find("\r\n");
    const std::size_t target = bytes.find(' ');
    const std::size_t target_end = bytes.find(' ', target + 1);
    if (target_end == std::string_view::npos || target_end > first_line) {
      close(descriptor);
      return 0;
    }
    const SinkRequest request{
        .target = bytes.substr(target + 1, target_end - target - 1),
        .header_lines = bytes.substr(first_line + 2, head - std::min(head, first_line + 2))};
    const std::string_view length = request.header("content-length");
    std::size_t body = 0;
    const auto parsed = std::from_chars(length.data(), length.data() + length.size(), body);
    if (parsed.ec != std::errc{}) {
      close(descriptor);
      return 0;
    }
    const std::size_t whole = head + 4 + body;
    if (bytes.size() < whole) return 0;
    receive(descriptor, request);
    return whole;
  }

  void receive(int descriptor, const SinkRequest& request) {
    if (failing_) return send(descriptor, kFailure);
    if (options_.records) {
      const auto now = std::chrono::system_clock::now();
      const std::lock_guard lock(mutex_);
      receipts_.push_back({std::string(request.header("webhook-id")), now});
    }
    const milliseconds delay = options_.delay_of ? options_.delay_of(request) : milliseconds{0};
    if (delay.count() <= 0) return answer(descriptor);
    due_.push({steady_clock::now() + delay, descriptor,
               connections_[static_cast<std::size_t>(descriptor)].serial});
  }

  void answer(int descriptor) { send(descriptor, kAnswer); }

  void send(int descriptor, std::string_view answer) {
    const ssize_t sent = ::send(descriptor, answer.data(), answer.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(answer.size())) return close(descriptor);
    answered_.fetch_add(1, std::memory_order_relaxed);
  }

  [[nodiscard]] std::chrono::nanoseconds until_next_answer() const {
    if (due_.empty()) return std::chrono::hours{1};
    return std::max<std::chrono::nanoseconds>(due_.top().at - steady_clock::now(),
                                              std::chrono::nanoseconds{0});
  }

  void answer_due() {
    if (due_.empty()) return;
    const auto now = steady_clock::now();
    while (!due_.empty() && due_.top().at <= now) {
      const Due next = due_.top();
      due_.pop();
      const Connection& connection = connections_[static_cast<std::size_t>(next.descriptor)];
      if (connection.open && connection.serial == next.serial) answer(next.descriptor);
    }
  }

  const Options options_;
  std::atomic<std::uint64_t>& answered_;
  Descriptor epoll_;
  Descriptor wake_;
  Descriptor listener_;
  const int port_;
  std::vector<char> read_buffer_;
  std::vector<Connection> connections_;  // by descriptor
  std::uint64_t serial_ = 0;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::atomic<bool> failing_ = false;
  std::atomic<int> wanted_ = kServe;
  std::atomic<int> state_ = kServe;
  std::mutex mutex_;
  std::vector<Receipt> receipts_;  // guarded by mutex_
};

HttpSink::HttpSink() : HttpSink(Options{}) {
}

HttpSink::HttpSink(Options options)
    : loop_(std::make_unique<Loop>(std::move(options), answered_)), port_(loop_->port()) {
  thread_ = std::thread([this] { loop_->run(); });
}

HttpSink::~HttpSink() {
  loop_->command(kStop);
  thread_.join();
}

std::string HttpSink::authority() const {
  return fmt::format("127.0.0.1:{}", port_);
}

double HttpSink::cpu_seconds() const {
  clockid_t clock{};
  timespec used{};
  if (pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 ||
      clock_gettime(clock, &used) != 0)
    return 0;
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

std::vector<Receipt> HttpSink::take_receipts() {
  return loop_->take_receipts();
}

void HttpSink::go_away() {
  loop_->command(kRefuse);
}

void HttpSink::come_back() {
  loop_->command(kServe);
}

void HttpSink::fail(bool failing) {
  loop_->fail(failing);
}

}  // namespace outfall::bench
