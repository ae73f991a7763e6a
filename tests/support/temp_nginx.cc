#include "tests/support/temp_nginx.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

bool answers(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  const bool connected =
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return connected;
}

}  // namespace

TempNginx::TempNginx(const Options& options) : port_(free_port()) {
  const std::string folder = folder_.path().string();
  std::string temporary;
  for (const char* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
    temporary += std::string(kind) + "_temp_path " + folder + "/" + kind + ";\n";
  }
  const auto config = folder_.write(
      "nginx.conf",
      "daemon off;\nworker_processes 1;\npid " + folder +
          "/pid;\nerror_log stderr warn;\n"
          "events { worker_connections 512; }\nhttp {\naccess_log off;\n" +
          temporary + "client_max_body_size 0;\nserver {\nlisten 127.0.0.1:" +
          std::to_string(port_) + " ssl" + (options.http2 ? " http2" : "") + ";\nssl_certificate " +
          options.certificate.certificate.string() + ";\nssl_certificate_key " +
          options.certificate.key.string() + ";\n" + options.server +
          "\nlocation / {\nproxy_pass http://127.0.0.1:" + std::to_string(options.upstream_port) +
          ";\nproxy_http_version 1.1;\nproxy_set_header x-protocol $server_protocol;\n"
          "proxy_set_header x-client $ssl_client_s_dn;\n}\n}\n}\n");
  process_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{"nginx", "-e", "stderr", "-c", config.string()});
  wait_until(
      [this] {
        if (!process_->running()) throw std::runtime_error("nginx: " + process_->error_output());
        return answers(port_);
      },
      "nginx to listen");
}

}  // namespace outfall::test
