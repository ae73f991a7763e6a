#include "tests/support/tunnel_proxy.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <mutex>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace outfall::test {
namespace {

sockaddr_in local_address(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int new_socket() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) throw std::system_error(errno, std::generic_category(), "socket");
  return socket;
}

bool send_all(int socket, std::string_view data) {
  while (!data.empty()) {
    const ssize_t size = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL);
    if (size <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(size));
  }
  return true;
}

// The head of a request, or what came until the end.
std::string read_head(int socket) {
  std::string head;
  for (char byte = 0; !head.ends_with("\r\n\r\n") && ::recv(socket, &byte, 1, 0) == 1;) {
    head += byte;
  }
  return head;
}

// Hands on what comes from either until one of them ends.
void relay(int one, int other) {
  std::array<pollfd, 2> ends{{{one, POLLIN, 0}, {other, POLLIN, 0}}};
  std::array<char, 16 << 10> part{};
  while (::poll(ends.data(), ends.size(), -1) > 0) {
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].revents == 0) continue;
      const ssize_t size = ::recv(ends[i].fd, part.data(), part.size(), 0);
      if (size <= 0) return;
      if (!send_all(ends[1 - i].fd, {part.data(), static_cast<std::size_t>(size)})) return;
    }
  }
}

}  // namespace

class TunnelProxy::Server {
 public:
  explicit Server(int server_port) : server_port_(server_port), listener_(new_socket()) {
    sockaddr_in address = local_address(0);
    socklen_t size = sizeof address;
    auto* const plain = static_cast<sockaddr*>(static_cast<void*>(&address));
    if (::bind(listener_, plain, size) != 0 || ::listen(listener_, 64) != 0 ||
        ::getsockname(listener_, plain, &size) != 0) {
      throw std::system_error(errno, std::generic_category(), "listen");
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }

  // Sockets are closed after their threads have ended, so that no number is used twice.
  ~Server() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    for (std::thread& tunnel : tunnels_) tunnel.join();
    for (const int socket : sockets_) ::close(socket);
    ::close(listener_);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  // Both sockets of a tunnel are made here, so that this thread alone touches the lists.
  void accept_all() {
    while (true) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      const int server = new_socket();
      sockets_.insert(sockets_.end(), {client, server});
      tunnels_.emplace_back([this, client, server] { tunnel(client, server); });
    }
  }

  void tunnel(int client, int server) {
    const std::string head = read_head(client);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(head);
    }
    const sockaddr_in address = local_address(server_port_);
    const auto* const plain = static_cast<const sockaddr*>(static_cast<const void*>(&address));
    if (!head.starts_with("CONNECT ")) {
      send_all(client, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
    } else if (::connect(server, plain, sizeof address) != 0) {
      send_all(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    } else if (send_all(client, "HTTP/1.1 200 Connection established\r\n\r\n")) {
      relay(client, server);
    }
    ::shutdown(client, SHUT_RDWR);
    ::shutdown(server, SHUT_RDWR);
  }

  const int server_port_;
  const int listener_;
  int port_ = 0;
  std::vector<int> sockets_;
  std::vector<std::thread> tunnels_;
  std::thread acceptor_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;  // guarded by mutex_
};

TunnelProxy::TunnelProxy(int server_port) : server_(std::make_unique<Server>(server_port)) {
}

TunnelProxy::~TunnelProxy() = default;

int TunnelProxy::port() const noexcept {
  return server_->port();
}

std::vector<std::string> TunnelProxy::requests() const {
  return server_->requests();
}

}  // namespace outfall::test
