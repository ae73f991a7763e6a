#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>

#include <boost/asio/ip/tcp.hpp>

#include "daemon/admin/bearer_token.h"
#include "daemon/admin/route.h"
#include "daemon/admin/wrong_tokens.h"
#include "telemetry/log.h"

namespace outfall {

// Bounds on what clients can make the server do.
struct AdminLimits {
  std::uint32_t max_header_bytes = 8u << 10;
  std::size_t max_body_bytes = 1u << 20;
  std::size_t max_connections = 64;
  std::size_t handler_threads = 2;
  std::size_t database_queue = 16;       // requests that wait for the thread that asks the database
  Milliseconds idle_timeout{60'000};     // between two requests of a connection
  Milliseconds request_timeout{10'000};  // from a request's first byte to its last
  Milliseconds handler_timeout{30'000};  // from then to the handler's answer
  Milliseconds write_timeout{30'000};    // for the client to take the response
  Milliseconds linger_timeout{1'000};    // for it to read a refusal while it still sends
  WrongTokens::Limits wrong_tokens = {};
};

class Session;

// What the sessions of a server share. Used on the I/O thread only, except for run_blocking's task.
struct SessionContext {
  const AdminLimits& limits;
  const RouteTable& routes;
  const BearerToken& token;
  WrongTokens& wrong_tokens;
  Logger& log;
  std::stop_token stop;
  // Queues a task for a thread that may run the route's handler; false where too many wait.
  std::function<bool(const Route&, std::function<void()>)> run_blocking;
  std::function<void()> on_end;  // a session has ended
  std::set<Session*> sessions;   // those that have not
};

// One connection: reads a request, has it handled, writes the response, and again while the client
// keeps the connection. Owned by its own pending operations; lives on the I/O thread. `context`
// outlives it.
class Session {
 public:
  [[nodiscard]] static std::shared_ptr<Session> create(boost::asio::ip::tcp::socket socket,
                                                       SessionContext& context);
  virtual ~Session() = default;

  virtual void start() = 0;
  // Ends now if no request is being worked on, else after the response.
  virtual void finish() = 0;
  // Closes the connection at once.
  virtual void abort() = 0;
  // Since when the connection waits for a request; nullopt while there is one.
  [[nodiscard]] virtual std::optional<std::chrono::steady_clock::time_point> idle_since() const = 0;
};

}  // namespace outfall
