#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "core/clock.h"

namespace outfall {

// What the service manager is told about this process, by the protocol of sd_notify(3): a datagram
// to the socket that $NOTIFY_SOCKET names. Without one (a terminal, a container) everything here
// does nothing.
//
// One thread at a time. A message waits for nothing: where the manager does not read, it is
// dropped, and the next beat or status follows soon.
class ServiceManager {
 public:
  // `socket` as in $NOTIFY_SOCKET: a path, or a name in the abstract namespace behind an @; empty:
  // nobody listens. `watchdog` is how long the manager waits between two beats before it kills.
  explicit ServiceManager(std::string_view socket, std::optional<Milliseconds> watchdog = {});
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // From $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, which it takes out of the environment,
  // so that no program that an emitter starts speaks for this process. Before there are other
  // threads.
  [[nodiscard]] static ServiceManager from_environment();

  [[nodiscard]] bool listens() const noexcept { return socket_ >= 0; }
  [[nodiscard]] bool said_ready() const noexcept { return ready_; }
  [[nodiscard]] std::optional<Milliseconds> watchdog() const noexcept { return watchdog_; }

  // READY=1, once; further calls do nothing.
  void ready(std::string_view status);
  // One line for people, as `systemctl status` shows it; sent when it differs from the last one.
  void status(std::string_view status);
  // RELOADING=1, which reloaded() ends.
  void reloading();
  void reloaded(std::string_view status);
  // STOPPING=1; the manager waits `within` longer before it kills.
  void stopping(Milliseconds within);
  // WATCHDOG=1
  void beat();

 private:
  void send(std::string_view message) noexcept;

  int socket_ = -1;
  std::string address_;
  std::optional<Milliseconds> watchdog_;
  std::string status_;
  bool ready_ = false;
};

}  // namespace outfall
