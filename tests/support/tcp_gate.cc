#include "tests/support/tcp_gate.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "tests/support/temp_folder.h"

namespace outfall::test {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kBufferLimit = 256 * 1024;
constexpr std::size_t kReadSize = 16 * 1024;

// What the test asked for in one direction.
struct Faults {
  Traffic traffic = Traffic::pass;
  milliseconds delay{0};
  std::uint64_t bytes_per_second = 0;
  std::optional<std::uint64_t> cut_after;
  Ending cut_ending = Ending::reset;
};

struct Chunk {
  std::string bytes;
  steady_clock::time_point due;
};

// One direction of one connection.
struct Flow {
  std::deque<Chunk> chunks;
  std::size_t buffered = 0;
  bool read_end = false;   // the sender has finished
  bool write_end = false;  // the receiver has been told, or cannot be told any more
  std::uint64_t until_cut = 0;
  double allowance = 0;  // bytes that the throttle lets through now
  steady_clock::time_point refilled = steady_clock::now();
};

struct Connection {
  int client = -1;
  int server = -1;  // -1: admitted to hang
  std::array<Flow, 2> flows;
  bool over = false;
  bool frozen = false;
};

constexpr std::array kDirections{Direction::to_server, Direction::to_client};

std::size_t index(Direction direction) {
  return static_cast<std::size_t>(direction);
}

int source(const Connection& connection, Direction direction) {
  return direction == Direction::to_server ? connection.client : connection.server;
}

int target(const Connection& connection, Direction direction) {
  return direction == Direction::to_server ? connection.server : connection.client;
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

int listen_for_gate(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = loopback(port);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd, 128) != 0) {
    throw std::system_error(errno, std::generic_category(), "listen for the gate");
  }
  return fd;
}

// Loopback connects at once or not at all, as long as the server's backlog is not full.
int connect_to(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

void close_socket(int fd, Ending ending) {
  if (fd < 0) {
    return;
  }
  if (ending == Ending::reset) {
    const linger now{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  ::close(fd);
}

}  // namespace

// The gate's state and thread. Only the thread touches sockets. One mutex guards everything else:
// the thread holds it while it moves bytes, which never blocks, and lets go of it in poll().
class TcpGate::Loop {
 public:
  explicit Loop(int server_port)
      : server_port_(server_port),
        port_(free_port()),
        listener_(listen_for_gate(port_)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this] { run(); }) {}

  ~Loop() {
    change([this] { stopping_ = true; });
    thread_.join();
    for (Connection& connection : connections_) {
      end(connection, Ending::reset);
    }
    close_socket(listener_, Ending::close);
    ::close(wake_);
  }

  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] int port() const noexcept { return port_; }

  // Runs `change` in the loop's thread, so that nobody else touches a socket, and waits for it.
  void change(const std::function<void()>& change) {
    std::unique_lock lock(mutex_);
    bool done = false;
    changes_.emplace_back([&] {
      change();
      done = true;
    });
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
    changed_.wait(lock, [&] { return done; });
  }

  template <typename Read>
  auto read(Read&& read) const {
    const std::lock_guard lock(mutex_);
    return read();
  }

  void admit(Admission admission) {
    admission_ = admission;
    if (admission == Admission::refuse) {
      close_socket(listener_, Ending::close);
      listener_ = -1;
    } else if (listener_ < 0) {
      listener_ = listen_for_gate(port_);
    }
  }

  Faults& faults(Direction direction) { return faults_[index(direction)]; }

  void cut_after(Direction direction, std::optional<std::uint64_t> bytes, Ending ending) {
    faults(direction).cut_after = bytes;
    faults(direction).cut_ending = ending;
    for (Connection& connection : connections_) {
      connection.flows[index(direction)].until_cut = bytes.value_or(0);
    }
  }

  void throttle(Direction direction, std::uint64_t bytes_per_second) {
    faults(direction).bytes_per_second = bytes_per_second;
    for (Connection& connection : connections_) {
      Flow& flow = connection.flows[index(direction)];
      flow.allowance = 0;
      flow.refilled = steady_clock::now();
    }
  }

  void end_connections(Ending ending) {
    for (Connection& connection : connections_) {
      disturbed_ += connection.over ? 0 : 1;
      end(connection, ending);
    }
  }

  void freeze_connections() {
    for (Connection& connection : connections_) {
      ++disturbed_;
      connection.frozen = true;
    }
  }

  void half_close(Direction direction) {
    for (Connection& connection : connections_) {
      Flow& flow = connection.flows[index(direction)];
      ++disturbed_;
      ::shutdown(target(connection, direction), SHUT_WR);
      flow.write_end = true;
      flow.chunks.clear();
      flow.buffered = 0;
    }
  }

  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
  [[nodiscard]] std::uint64_t unserved() const { return unserved_; }
  [[nodiscard]] std::size_t open_connections() const {
    return static_cast<std::size_t>(std::count_if(connections_.begin(), connections_.end(),
                                                  [](const auto& c) { return !c.over; }));
  }
  [[nodiscard]] std::uint64_t bytes(Direction direction) const { return bytes_[index(direction)]; }
  [[nodiscard]] std::uint64_t disturbed() const {
    std::uint64_t held_back = 0;
    for (const Connection& connection : connections_) {
      for (const Direction direction : kDirections) held_back += unread(connection, direction);
    }
    return disturbed_ + held_back;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      std::vector<pollfd> watched;
      const int timeout = watch(watched);
      lock.unlock();
      ::poll(watched.data(), watched.size(), timeout);
      lock.lock();
      std::uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_, &ignored, sizeof ignored);
      for (const auto& change : std::exchange(changes_, {})) {
        change();
      }
      changed_.notify_all();
      accept_all();
      for (Connection& connection : connections_) {
        if (!connection.frozen) {
          move(connection);
        }
      }
      connections_.remove_if([](const Connection& connection) { return connection.over; });
    }
  }

  // What to wait for, and for how long at most (-1: until something happens).
  int watch(std::vector<pollfd>& watched) {
    watched.push_back({wake_, POLLIN, 0});
    if (listener_ >= 0) {
      watched.push_back({listener_, POLLIN, 0});
    }
    auto next = steady_clock::time_point::max();
    for (const Connection& connection : connections_) {
      if (connection.frozen) {
        continue;
      }
      for (const Direction direction : kDirections) {
        const Flow& flow = connection.flows[index(direction)];
        const Faults& faults = this->faults(direction);
        if (may_read(connection, direction)) {
          watched.push_back({source(connection, direction), POLLIN, 0});
        }
        if (flow.chunks.empty() || flow.write_end) {
          continue;
        }
        if (flow.chunks.front().due > steady_clock::now()) {
          next = std::min(next, flow.chunks.front().due);
        } else if (faults.bytes_per_second > 0) {
          next = std::min(next, steady_clock::now() + milliseconds(5));
        } else {
          watched.push_back({target(connection, direction), POLLOUT, 0});
        }
      }
    }
    if (next == steady_clock::time_point::max()) {
      return -1;
    }
    const auto wait = std::chrono::ceil<milliseconds>(next - steady_clock::now());
    return static_cast<int>(std::max(wait, milliseconds(0)).count());
  }

  [[nodiscard]] bool may_read(const Connection& connection, Direction direction) const {
    const Flow& flow = connection.flows[index(direction)];
    return source(connection, direction) >= 0 && !flow.read_end &&
           faults_[index(direction)].traffic != Traffic::stall && flow.buffered < kBufferLimit;
  }

  // What has come and is not read, since it is to be stalled.
  [[nodiscard]] std::uint64_t unread(const Connection& connection, Direction direction) const {
    const int from = source(connection, direction);
    int bytes = 0;
    const bool stalled = faults_[index(direction)].traffic == Traffic::stall;
    if (!stalled || connection.over || from < 0 || ::ioctl(from, FIONREAD, &bytes) != 0) return 0;
    return static_cast<std::uint64_t>(std::max(bytes, 0));
  }

  void accept_all() {
    while (listener_ >= 0) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (client < 0) {
        return;
      }
      ++accepted_;
      Connection connection;
      connection.client = client;
      for (const Direction direction : kDirections) {
        connection.flows[index(direction)].until_cut = faults(direction).cut_after.value_or(0);
      }
      if (admission_ == Admission::accept) {
        connection.server = connect_to(server_port_);
        if (connection.server < 0) {
          ++unserved_;
          close_socket(client, Ending::reset);
          continue;
        }
      } else {
        ++disturbed_;
      }
      const int on = 1;
      for (const int fd : {connection.client, connection.server}) {
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      }
      connections_.push_back(std::move(connection));
    }
  }

  void move(Connection& connection) {
    for (const Direction direction : kDirections) {
      if (!connection.over) {
        take(connection, direction);
      }
      if (!connection.over) {
        give(connection, direction);
      }
    }
    const bool finished = connection.flows[0].write_end && connection.flows[1].write_end;
    const bool hung_up = connection.server < 0 && connection.flows[0].read_end;
    if (!connection.over && (finished || hung_up)) {
      end(connection, Ending::close);
    }
  }

  void take(Connection& connection, Direction direction) {
    Flow& flow = connection.flows[index(direction)];
    const Faults& faults = this->faults(direction);
    std::array<char, kReadSize> buffer{};
    while (may_read(connection, direction)) {
      const ssize_t got =
          ::recv(source(connection, direction), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
      }
      if (got < 0 && faults.traffic == Traffic::pass) {
        end(connection, Ending::reset);
        return;
      }
      if (got <= 0) {
        flow.read_end = true;
        return;
      }
      if (faults.traffic == Traffic::drop || faults.delay.count() > 0)
        disturbed_ += static_cast<std::uint64_t>(got);
      if (faults.traffic == Traffic::pass && connection.server >= 0 && !flow.write_end) {
        flow.chunks.push_back({std::string(buffer.data(), static_cast<std::size_t>(got)),
                               steady_clock::now() + faults.delay});
        flow.buffered += static_cast<std::size_t>(got);
      }
    }
  }

  // How many of the bytes at hand may go now, after throttle and cut.
  std::size_t permitted(Flow& flow, const Faults& faults, std::size_t size) {
    std::size_t result = size;
    if (faults.bytes_per_second > 0) {
      const auto now = steady_clock::now();
      const auto rate = static_cast<double>(faults.bytes_per_second);
      const double seconds = std::chrono::duration<double>(now - flow.refilled).count();
      flow.refilled = now;
      flow.allowance = std::min(flow.allowance + rate * seconds, std::max(rate / 20, 1.0));
      result = std::min(result, static_cast<std::size_t>(flow.allowance));
      disturbed_ += size - result;
    }
    if (faults.cut_after) {
      result = std::min<std::size_t>(result, flow.until_cut);
    }
    return result;
  }

  void give(Connection& connection, Direction direction) {
    Flow& flow = connection.flows[index(direction)];
    const Faults& faults = this->faults(direction);
    while (!flow.chunks.empty() && !flow.write_end &&
           flow.chunks.front().due <= steady_clock::now()) {
      std::string& bytes = flow.chunks.front().bytes;
      const std::size_t size = permitted(flow, faults, bytes.size());
      const ssize_t sent = size == 0 ? 0
                                     : ::send(target(connection, direction), bytes.data(), size,
                                              MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        end(connection, Ending::reset);
        return;
      }
      account(flow, direction, sent);
      if (faults.cut_after && flow.until_cut == 0) {
        ++disturbed_;
        end(connection, faults.cut_ending);
        return;
      }
      if (sent <= 0) {
        return;
      }
    }
    // Through a pulled cable goes no end either.
    if (flow.read_end && flow.chunks.empty() && !flow.write_end && connection.server >= 0 &&
        faults.traffic == Traffic::pass) {
      ::shutdown(target(connection, direction), SHUT_WR);
      flow.write_end = true;
    }
  }

  void account(Flow& flow, Direction direction, ssize_t sent) {
    if (sent <= 0) {
      return;
    }
    const auto size = static_cast<std::size_t>(sent);
    bytes_[index(direction)] += size;
    flow.buffered -= size;
    flow.until_cut -= std::min<std::uint64_t>(flow.until_cut, size);
    // What went before the throttle is no debt.
    if (faults(direction).bytes_per_second > 0) flow.allowance -= static_cast<double>(size);
    Chunk& chunk = flow.chunks.front();
    chunk.bytes.erase(0, size);
    if (chunk.bytes.empty()) {
      flow.chunks.pop_front();
    }
  }

  static void end(Connection& connection, Ending ending) {
    if (!connection.over) {
      close_socket(connection.client, ending);
      close_socket(connection.server, ending);
      connection.over = true;
    }
  }

  mutable std::mutex mutex_;
  const int server_port_;
  const int port_;
  int listener_;
  const int wake_;
  Admission admission_ = Admission::accept;
  std::array<Faults, 2> faults_;
  std::list<Connection> connections_;
  std::uint64_t accepted_ = 0;
  std::uint64_t unserved_ = 0;
  std::array<std::uint64_t, 2> bytes_{};
  std::uint64_t disturbed_ = 0;
  bool stopping_ = false;
  std::vector<std::function<void()>> changes_;
  std::condition_variable changed_;
  std::thread thread_;  // last, so that it finds the rest built
};

TcpGate::TcpGate(int server_port) : loop_(std::make_unique<Loop>(server_port)) {
}

TcpGate::~TcpGate() = default;

int TcpGate::port() const noexcept {
  return loop_->port();
}

void TcpGate::admit(Admission admission) {
  loop_->change([&] { loop_->admit(admission); });
}

void TcpGate::traffic(Direction direction, Traffic traffic) {
  loop_->change([&] { loop_->faults(direction).traffic = traffic; });
}

void TcpGate::traffic(Traffic traffic) {
  loop_->change([&] {
    for (const Direction direction : kDirections) {
      loop_->faults(direction).traffic = traffic;
    }
  });
}

void TcpGate::delay(Direction direction, std::chrono::milliseconds delay) {
  loop_->change([&] { loop_->faults(direction).delay = delay; });
}

void TcpGate::throttle(Direction direction, std::uint64_t bytes_per_second) {
  loop_->change([&] { loop_->throttle(direction, bytes_per_second); });
}

void TcpGate::cut_after(Direction direction, std::optional<std::uint64_t> bytes, Ending ending) {
  loop_->change([&] { loop_->cut_after(direction, bytes, ending); });
}

void TcpGate::end_connections(Ending ending) {
  loop_->change([&] { loop_->end_connections(ending); });
}

void TcpGate::freeze_connections() {
  loop_->change([&] { loop_->freeze_connections(); });
}

void TcpGate::half_close(Direction direction) {
  loop_->change([&] { loop_->half_close(direction); });
}

std::uint64_t TcpGate::accepted() const {
  return loop_->read([&] { return loop_->accepted(); });
}

std::uint64_t TcpGate::unserved() const {
  return loop_->read([&] { return loop_->unserved(); });
}

std::size_t TcpGate::open_connections() const {
  return loop_->read([&] { return loop_->open_connections(); });
}

// In the loop's thread, since it looks at sockets.
std::uint64_t TcpGate::disturbed() const {
  std::uint64_t result = 0;
  loop_->change([&] { result = loop_->disturbed(); });
  return result;
}

std::uint64_t TcpGate::bytes(Direction direction) const {
  return loop_->read([&] { return loop_->bytes(direction); });
}

}  // namespace outfall::test
