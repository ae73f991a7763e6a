// Goal: each fault of the gate is seen by a real client and a real server as the network fault that
// it stands for.

#include "tests/support/tcp_gate.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <functional>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/temp_postgres.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A blocking socket with a deadline on everything.
class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {
    const timeval limit{30, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  static Socket connect_to(int port) {
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    socket.error_ =
        ::connect(socket.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0
            ? 0
            : errno;
    return socket;
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)), error_(other.error_) {}
  ~Socket() { ::close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  Socket& operator=(Socket&&) = delete;

  [[nodiscard]] int error() const { return error_; }

  void send(const std::string& text) {
    EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  // What comes until `size` bytes are there; less when the connection ends, which error() explains.
  std::string receive(std::size_t size) {
    std::string text;
    std::array<char, 4096> buffer{};
    while (text.size() < size) {
      const ssize_t got =
          ::recv(fd_, buffer.data(), std::min(buffer.size(), size - text.size()), 0);
      if (got <= 0) {
        error_ = got == 0 ? 0 : errno;
        break;
      }
      text.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return text;
  }

  [[nodiscard]] bool readable_within(milliseconds deadline) const {
    pollfd watched{fd_, POLLIN, 0};
    return ::poll(&watched, 1, static_cast<int>(deadline.count())) == 1;
  }

  void finish_sending() { ::shutdown(fd_, SHUT_WR); }

  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
  }

 private:
  int fd_;
  int error_ = 0;
};

// A listening socket whose accepted ends the test holds itself.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in address = Socket::loopback(port_);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::listen(fd_, 16);
  }
  ~Listener() { ::close(fd_); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] Socket accept() const {
    return Socket(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  int port_ = free_port();
  int fd_;
};

class Gate : public ::testing::Test {
 protected:
  Listener listener_;
  TcpGate gate_{listener_.port()};
};

TEST_F(Gate, PassesBothWaysAndCounts) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  client.send("question");
  EXPECT_EQ(server.receive(8), "question");
  server.send("answer");
  EXPECT_EQ(client.receive(6), "answer");
  EXPECT_EQ(gate_.bytes(Direction::to_server), 8U);
  EXPECT_EQ(gate_.bytes(Direction::to_client), 6U);
  EXPECT_EQ(gate_.accepted(), 1U);
  client.finish_sending();
  EXPECT_EQ(server.receive(1), "");
  server.send("late");  // half-closed, not closed
  EXPECT_EQ(client.receive(4), "late");
}

TEST_F(Gate, WhatOnlyPassesIsNotDisturbed) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  gate_.delay(Direction::to_client, milliseconds(20));
  client.send("question");
  EXPECT_EQ(server.receive(8), "question");
  EXPECT_EQ(gate_.disturbed(), 0U);  // the fault is in the other direction
  server.send("answer");
  EXPECT_EQ(client.receive(6), "answer");
  EXPECT_EQ(gate_.disturbed(), 6U);
}

// A fault that nobody meets leaves it where it was.
TEST_F(Gate, CountsWhatItsFaultsMeet) {
  const std::vector<std::function<void()>> faults = {
      [&] { gate_.traffic(Direction::to_server, Traffic::drop); },
      [&] { gate_.traffic(Direction::to_server, Traffic::stall); },
      [&] { gate_.delay(Direction::to_server, milliseconds(20)); },
      [&] { gate_.throttle(Direction::to_server, 10); },
      [&] { gate_.cut_after(Direction::to_server, 1); },
  };
  for (const auto& fault : faults) {
    const std::uint64_t before = gate_.disturbed();
    Socket client = Socket::connect_to(gate_.port());
    const Socket server = listener_.accept();
    fault();
    EXPECT_EQ(gate_.disturbed(), before);
    client.send("four and more bytes");
    wait_until([&] { return gate_.disturbed() > before; }, "the fault to meet the bytes");
    gate_.traffic(Traffic::pass);
    gate_.delay(Direction::to_server, milliseconds(0));
    gate_.throttle(Direction::to_server, 0);
    gate_.cut_after(Direction::to_server, std::nullopt);
    gate_.end_connections(Ending::reset);
  }
}

TEST_F(Gate, CountsTheConnectionsThatItEndsOrLetsHang) {
  gate_.end_connections(Ending::reset);
  gate_.half_close(Direction::to_server);
  EXPECT_EQ(gate_.disturbed(), 0U);
  const Socket ended = Socket::connect_to(gate_.port());
  const Socket server = listener_.accept();
  gate_.half_close(Direction::to_server);
  EXPECT_EQ(gate_.disturbed(), 1U);
  gate_.end_connections(Ending::close);
  EXPECT_EQ(gate_.disturbed(), 2U);
  gate_.admit(Admission::hang);
  EXPECT_EQ(gate_.disturbed(), 2U);
  const Socket hung = Socket::connect_to(gate_.port());
  wait_until([&] { return gate_.disturbed() == 3U; }, "the connection to hang");
}

TEST_F(Gate, PassesMoreThanItsBuffers) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  const std::string much(8 << 20, 'x');
  std::thread sender([&] { client.send(much); });
  EXPECT_EQ(server.receive(much.size()).size(), much.size());
  sender.join();
}

TEST_F(Gate, DropsSilentlyInOneDirection) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  gate_.traffic(Direction::to_client, Traffic::drop);
  client.send("request");
  EXPECT_EQ(server.receive(7), "request");
  server.send("lost");
  EXPECT_FALSE(client.readable_within(milliseconds(50)));
  gate_.traffic(Traffic::pass);
  server.send("seen");
  EXPECT_EQ(client.receive(4), "seen");
}

TEST_F(Gate, DropsTheEndOfAConnectionToo) {
  Socket client = Socket::connect_to(gate_.port());
  gate_.traffic(Traffic::drop);
  { const Socket server = listener_.accept(); }
  EXPECT_FALSE(client.readable_within(milliseconds(50)));
}

TEST_F(Gate, StallsWithoutLosingAnything) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  gate_.traffic(Direction::to_server, Traffic::stall);
  client.send("patience");
  EXPECT_FALSE(server.readable_within(milliseconds(50)));
  gate_.traffic(Direction::to_server, Traffic::pass);
  EXPECT_EQ(server.receive(8), "patience");
}

TEST_F(Gate, ResetsAndCloses) {
  Socket reset = Socket::connect_to(gate_.port());
  const Socket server = listener_.accept();
  gate_.end_connections(Ending::reset);
  EXPECT_EQ(reset.receive(1), "");
  EXPECT_EQ(reset.error(), ECONNRESET);

  Socket closed = Socket::connect_to(gate_.port());
  const Socket other = listener_.accept();
  gate_.end_connections(Ending::close);
  EXPECT_EQ(closed.receive(1), "");
  EXPECT_EQ(closed.error(), 0);
  EXPECT_EQ(gate_.open_connections(), 0U);
}

TEST_F(Gate, HalfClosesOneDirection) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  gate_.half_close(Direction::to_client);
  EXPECT_EQ(client.receive(1), "");
  EXPECT_EQ(client.error(), 0);
  client.send("still here");
  EXPECT_EQ(server.receive(10), "still here");
}

TEST_F(Gate, DelaysEveryByte) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  gate_.delay(Direction::to_server, milliseconds(60));
  const auto start = steady_clock::now();
  client.send("slow");
  EXPECT_EQ(server.receive(4), "slow");
  EXPECT_GE(steady_clock::now() - start, milliseconds(60));
}

TEST_F(Gate, ThrottlesBytesPerSecond) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  gate_.throttle(Direction::to_server, 100'000);
  const auto start = steady_clock::now();
  client.send(std::string(20'000, 'x'));
  EXPECT_EQ(server.receive(20'000).size(), 20'000U);
  // 20,000 bytes at 100,000 a second, less one burst of a twentieth of a second.
  EXPECT_GE(steady_clock::now() - start, milliseconds(140));
}

// A worker busy at its database was not throttled at all: of what it had sent before so much was a
// debt, and a negative allowance let everything pass.
TEST_F(Gate, ThrottlesAConnectionThatHasSentMuchBefore) {
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  const std::string much(1 << 20, 'x');
  std::thread sender([&] { client.send(much); });
  EXPECT_EQ(server.receive(much.size()).size(), much.size());
  sender.join();
  gate_.throttle(Direction::to_server, 10);
  client.send("four and more bytes");
  wait_until([&] { return gate_.disturbed() > 0; }, "the throttle to hold bytes back");
}

TEST_F(Gate, CutsAfterSoManyBytes) {
  gate_.cut_after(Direction::to_client, 10, Ending::close);
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  server.send("0123456789abcdef");
  EXPECT_EQ(client.receive(16), "0123456789");

  gate_.cut_after(Direction::to_client, std::nullopt);
  Socket next = Socket::connect_to(gate_.port());
  Socket next_server = listener_.accept();
  next_server.send("0123456789abcdef");
  EXPECT_EQ(next.receive(16), "0123456789abcdef");

  // For a connection that is open already the count starts now.
  gate_.cut_after(Direction::to_client, 3);
  next_server.send("0123");
  const std::string seen = next.receive(4);
  EXPECT_LE(seen.size(), 3U);  // a reset may overtake the bytes before it
  EXPECT_EQ(next.error(), ECONNRESET);
}

TEST_F(Gate, RefusesHangsAndAcceptsAgain) {
  gate_.admit(Admission::refuse);
  EXPECT_EQ(Socket::connect_to(gate_.port()).error(), ECONNREFUSED);
  gate_.admit(Admission::hang);
  {
    Socket hung = Socket::connect_to(gate_.port());
    EXPECT_EQ(hung.error(), 0);
    hung.send("anybody?");
    EXPECT_FALSE(hung.readable_within(milliseconds(50)));
    EXPECT_EQ(gate_.open_connections(), 1U);
  }
  wait_until([&] { return gate_.open_connections() == 0; }, "the hung connection to end");
  gate_.admit(Admission::accept);
  Socket client = Socket::connect_to(gate_.port());
  Socket server = listener_.accept();
  server.send("welcome");
  EXPECT_EQ(client.receive(7), "welcome");
}

TEST(GateToNobody, ResetsTheClient) {
  TcpGate gate(free_port());
  Socket client = Socket::connect_to(gate.port());
  EXPECT_EQ(client.receive(1), "");
  EXPECT_EQ(client.error(), ECONNRESET);
  EXPECT_EQ(gate.unserved(), 1U);
  EXPECT_EQ(gate.disturbed(), 0U);  // the gate did nothing
}

TEST(GateToPostgres, CarriesARealProtocolUntilItIsCut) {
  TempPostgres& server = shared_postgres();
  TcpGate gate(server.port());
  PgClient client(server.dsn_at(gate.port()));
  EXPECT_EQ(client.value("SELECT repeat('x', 1000000)").size(), 1'000'000U);
  gate.end_connections(Ending::reset);
  EXPECT_THROW(client.number("SELECT 1"), PgError);
}

}  // namespace
}  // namespace outfall::test
