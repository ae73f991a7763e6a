#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/admin/route.h"
#include "daemon/admin/session.h"
#include "telemetry/log.h"

namespace outfall {

struct AdminOptions {
  std::string listen = "127.0.0.1:9464";  // port 0: any free one
  std::string token = {};                 // empty: requests that need one are refused
  AdminLimits limits = {};
};

// The address of admin.listen cannot be used; what() names the setting and the reason.
class AdminListenError : public std::runtime_error {
 public:
  AdminListenError(const std::string& what, bool in_use) : runtime_error(what), in_use_(in_use) {}
  // Another process has the port, and may be about to end.
  [[nodiscard]] bool in_use() const noexcept { return in_use_; }

 private:
  bool in_use_;
};

// Serves a table of routes over plain HTTP/1.1: one thread for all connections, on which routes
// that never block answer at any time, a few handler threads, and one for those that ask the
// database, behind a queue that has a bound.
//
// The constructor binds and listens, so that a port in use shows before anything else starts;
// answers come from start() on. The members below are called by one thread, its owner's; the
// handlers run on the server's threads and must outlive it with all they refer to. All signals are
// blocked on those.
class AdminServer {
 public:
  // Throws AdminListenError, and std::logic_error for a wrong table.
  AdminServer(const AdminOptions& options, std::vector<Route> routes, Logger& log);
  // As stop(), and then waits for handlers that still run.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  void start();
  // Another token from the next request on; empty: none.
  void set_token(const std::string& token);

  // Accepts nothing more, ends idle connections, lets requests that are being worked on finish for
  // up to `timeout` and closes what is left. Returns within a little more than that; false if a
  // handler is still running then. Idempotent.
  bool stop(Milliseconds timeout);

  [[nodiscard]] std::uint16_t port() const noexcept;
  // With the port that was taken: "127.0.0.1:9464", "[::1]:9464".
  [[nodiscard]] std::string address() const;
  [[nodiscard]] std::span<const Route> routes() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outfall
