#pragma once

#include <memory>
#include <string>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_authority.h"

namespace outfall::test {

// nginx on a free port of 127.0.0.1 with TLS, in front of another server to which it hands every
// request, with the protocol in the header `x-protocol` ("HTTP/2.0"). Stopped by the destructor.
class TempNginx {
 public:
  struct Options {
    TestAuthority::Pair certificate;
    int upstream_port = 0;
    bool http2 = true;
    std::string server = {};  // more directives of its server block
  };
  explicit TempNginx(const Options& options);

  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] std::string url(const std::string& path = "/") const {
    return "https://127.0.0.1:" + std::to_string(port_) + path;
  }

 private:
  TempFolder folder_;
  const int port_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace outfall::test
