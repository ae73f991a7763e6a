#include "daemon/service_manager.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/number.h"

namespace outfall {
namespace {

std::string take_from_environment(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

// A line break would begin another assignment.
std::string one_line(std::string_view text) {
  std::string line(text);
  std::ranges::replace(line, '\n', ' ');
  return line;
}

}  // namespace

ServiceManager::ServiceManager(std::string_view socket, std::optional<Milliseconds> watchdog)
    : address_(socket), watchdog_(watchdog) {
  const bool known = socket.starts_with('/') || socket.starts_with('@');
  if (!known || socket.size() >= sizeof(sockaddr_un::sun_path)) return;
  if (address_.front() == '@') address_.front() = '\0';
  socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

ServiceManager::~ServiceManager() {
  if (socket_ >= 0) close(socket_);
}

ServiceManager ServiceManager::from_environment() {
  const std::string socket = take_from_environment("NOTIFY_SOCKET");
  const auto usec = parse_number<std::int64_t>(take_from_environment("WATCHDOG_USEC"));
  const auto pid = parse_number<std::int64_t>(take_from_environment("WATCHDOG_PID"));
  std::optional<Milliseconds> watchdog;
  if (usec.value_or(0) > 0 && pid.value_or(getpid()) == getpid())
    watchdog = std::max(Milliseconds{1}, Milliseconds{*usec / 1000});
  return ServiceManager(socket, watchdog);
}

void ServiceManager::ready(std::string_view status) {
  if (ready_) return;
  ready_ = true;
  status_ = one_line(status);
  send(fmt::format("READY=1\nSTATUS={}", status_));
}

void ServiceManager::status(std::string_view status) {
  std::string line = one_line(status);
  if (line == status_) return;
  status_ = std::move(line);
  send(fmt::format("STATUS={}", status_));
}

void ServiceManager::reloading() {
  // systemd from 253 on compares the time with that of its own request to reload.
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reading the configuration again",
                   static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000));
}

void ServiceManager::reloaded(std::string_view status) {
  status_ = one_line(status);
  // A worker that is asked to reload before it is ready has not become so by it.
  send(fmt::format("{}STATUS={}", ready_ ? "READY=1\n" : "", status_));
}

void ServiceManager::stopping(Milliseconds within) {
  status_ = "stopping: waiting for deliveries that are under way";
  send(
      fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={}", within.count() * 1000, status_));
}

void ServiceManager::beat() {
  send("WATCHDOG=1");
}

void ServiceManager::send(std::string_view message) noexcept {
  if (socket_ < 0) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, address_.data(), address_.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  [[maybe_unused]] const auto sent = sendto(socket_, message.data(), message.size(), MSG_NOSIGNAL,
                                            reinterpret_cast<const sockaddr*>(&address), length);
}

}  // namespace outfall
