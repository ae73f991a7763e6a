#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <memory>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <system_error>
#include <unistd.h>
#include <variant>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/listen_address.h"
#include "config/print.h"
#include "core/text.h"
#include "daemon/commands.h"

namespace outfall {
namespace {

constexpr timeval kPatience{.tv_sec = 3, .tv_usec = 0};
constexpr std::size_t kMaxAnswerBytes = 64 * 1024;

class Socket {
 public:
  explicit Socket(int family) : fd_(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
      setsockopt(fd_, SOL_SOCKET, option, &kPatience, sizeof kPatience);
  }
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// A server that listens on every address is reached on the loopback.
bool connect_to(const Socket& socket, const ListenAddress& address, int family) {
  if (family == AF_INET6) {
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(address.port);
    inet_pton(AF_INET6, address.host.c_str(), &to.sin6_addr);
    if (IN6_IS_ADDR_UNSPECIFIED(&to.sin6_addr)) to.sin6_addr = in6addr_loopback;
    return connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(address.port);
  inet_pton(AF_INET, address.host.c_str(), &to.sin_addr);
  if (to.sin_addr.s_addr == htonl(INADDR_ANY)) to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
}

CommandError no_answer(const std::string& listen) {
  if (errno == EAGAIN || errno == EINPROGRESS) errno = ETIMEDOUT;
  return {ExitCode::unavailable,
          fmt::format("no worker answers at {}: {}", listen,
                      std::generic_category().message(errno == 0 ? ECONNRESET : errno)),
          "look whether `outfall run` runs, and at admin.listen of its configuration"};
}

std::string ask(const std::string& listen, std::string_view path) {
  const ListenAddress address = *parse_listen_address(listen);
  const int family = address.host.find(':') == std::string::npos ? AF_INET : AF_INET6;
  const Socket socket(family);
  errno = 0;
  if (!connect_to(socket, address, family)) throw no_answer(listen);
  const std::string request =
      fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
  if (send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    throw no_answer(listen);
  }
  std::string answer;
  std::array<char, 4096> buffer{};
  while (answer.size() < kMaxAnswerBytes) {
    const ssize_t count = recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (count < 0) throw no_answer(listen);
    if (count == 0) break;
    answer.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return answer;
}

// The value of the header `Server`; nullopt where there is none.
std::optional<std::string> server_of(std::string_view head) {
  constexpr std::string_view kName = "server:";
  for (std::size_t at = head.find("\r\n"); at != std::string_view::npos;
       at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    const auto same = [](char a, char b) { return lower_ascii(a) == b; };
    if (line.size() < kName.size() ||
        !std::ranges::equal(line.substr(0, kName.size()), kName, same)) {
      continue;
    }
    return std::string(trimmed(line.substr(kName.size())));
  }
  return {};
}

// A worker names itself in every answer. Anything else that listens there may well answer 200.
void require_worker(const std::string& listen, std::string_view answer) {
  std::string found = "it does not speak HTTP";
  if (answer.starts_with("HTTP/1.")) {
    const auto server = server_of(answer.substr(0, answer.find("\r\n\r\n")));
    if (server == "outfall") return;
    found = server ? fmt::format("it calls itself {}", toml_quote(server->substr(0, 60)))
                   : "it does not call itself outfall, as a worker does";
  }
  throw CommandError(ExitCode::unavailable,
                     fmt::format("what answers at {} is no worker: {}", listen, found),
                     "look at admin.listen: another process has this port");
}

// Where the worker listens. All else in the configuration may be wrong, or not there at all: the
// worker runs with what it has read, and a reload that it has refused must not make it look ill.
std::string admin_address(const Context& context) {
  auto loaded = config_loader(context).load_admin();
  if (auto* problems = std::get_if<ConfigProblems>(&loaded))
    throw invalid_configuration(std::move(*problems));
  const auto& admin = std::get<SettingValues>(loaded);
  if (!admin.flag("enabled")) {
    throw CommandError(ExitCode::unavailable, "the admin server is switched off",
                       "set admin.enabled = true: it answers what this command asks");
  }
  return admin.text("listen");
}

ExitCode check_health(const Context& context, bool live) {
  const std::string listen = admin_address(context);
  const std::string answer = ask(listen, live ? "/livez" : "/readyz");
  require_worker(listen, answer);
  const std::size_t end = answer.find("\r\n\r\n");
  std::string body = end == std::string::npos ? "" : answer.substr(end + 4);
  while (body.ends_with('\n')) body.pop_back();
  if (!answer.starts_with("HTTP/1.1 200 ")) {
    throw CommandError(
        ExitCode::unavailable,
        fmt::format("the worker at {} is not {}: {}", listen, live ? "alive" : "ready", body),
        "its log and `outfall status` say more");
  }
  context.out << (context.json ? body : std::string(live ? "alive" : "ready")) << '\n';
  return ExitCode::ok;
}

}  // namespace

void add_health(CLI::App& app, Context& context) {
  const auto live = std::make_shared<bool>(false);
  CLI::App& command = add_command(
      app, context, "health", "Ask the worker with this configuration whether it is ready to work",
      [&context, live] { return check_health(context, *live); });
  command.add_flag("--live", *live, "Ask only whether its main loop turns");
}

}  // namespace outfall
