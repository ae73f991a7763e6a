#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace outfall::test {

enum class Direction { to_server, to_client };

// What the gate does with the bytes of one direction.
enum class Traffic {
  pass,   // hands them on
  drop,   // reads them and throws them away: the sender believes that they were sent
  stall,  // does not read: the sender's buffers fill up
};

// How a connection ends.
enum class Ending {
  close,  // both sides see an orderly end (FIN)
  reset,  // both sides see "connection reset" (RST)
};

// What happens to new connections.
enum class Admission {
  accept,
  refuse,  // nobody listens: "connection refused"
  hang,    // accepted, and then silence: the server is never asked
};

// A TCP proxy on a free port of 127.0.0.1 in front of a server on 127.0.0.1, with a thread of its
// own, that can break what goes through it in the ways of a network. Faults hold for the
// connections that exist and for those to come, until changed. All functions can be called from any
// thread, take effect before they return and do not block on the network. The destructor resets
// what is open.
class TcpGate {
 public:
  explicit TcpGate(int server_port);
  ~TcpGate();
  TcpGate(const TcpGate&) = delete;
  TcpGate& operator=(const TcpGate&) = delete;

  [[nodiscard]] int port() const noexcept;

  void admit(Admission admission);
  void traffic(Direction direction, Traffic traffic);
  // Both directions at once: a cable that is pulled (drop) and plugged in again (pass).
  void traffic(Traffic traffic);
  void delay(Direction direction, std::chrono::milliseconds delay);
  // Bytes a second over each connection; 0 is no limit.
  void throttle(Direction direction, std::uint64_t bytes_per_second);
  // Ends every connection as soon as `bytes` more have gone in this direction (counted per
  // connection, from now on or from its start); nullopt takes it back.
  void cut_after(Direction direction, std::optional<std::uint64_t> bytes,
                 Ending ending = Ending::reset);

  // Ends every open connection now.
  void end_connections(Ending ending);
  // Whatever is open stays so and hears nothing any more, for good: a path that is gone.
  // Connections to come are not concerned.
  void freeze_connections();
  // Tells the receiver of this direction that no more will come (half-close); the other direction
  // lives on.
  void half_close(Direction direction);

  [[nodiscard]] std::uint64_t accepted() const;                  // connections so far
  [[nodiscard]] std::uint64_t unserved() const;                  // of these: nobody listened behind
  [[nodiscard]] std::size_t open_connections() const;            // now
  [[nodiscard]] std::uint64_t bytes(Direction direction) const;  // handed on so far
  // How often a fault has met somebody so far: connections that it ended, halved, froze or let
  // hang, and bytes that it dropped or delayed, or holds back now. What it refuses nobody sees.
  [[nodiscard]] std::uint64_t disturbed() const;

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace outfall::test
