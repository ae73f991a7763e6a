#pragma once

#include <memory>
#include <string>
#include <vector>

namespace outfall::test {

// An HTTP proxy on a free port of 127.0.0.1 that takes CONNECT and nothing else. Every tunnel leads
// to the one server on 127.0.0.1, whatever host was asked for, so that names need not exist. One
// thread a tunnel. All functions can be called from any thread; the destructor ends all tunnels.
class TunnelProxy {
 public:
  explicit TunnelProxy(int server_port);
  ~TunnelProxy();
  TunnelProxy(const TunnelProxy&) = delete;
  TunnelProxy& operator=(const TunnelProxy&) = delete;

  [[nodiscard]] int port() const noexcept;
  // The heads of the requests so far, as sent.
  [[nodiscard]] std::vector<std::string> requests() const;

 private:
  class Server;
  std::unique_ptr<Server> server_;
};

}  // namespace outfall::test
