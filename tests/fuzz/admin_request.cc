// The bytes of a connection to the admin server: each request that is one gets an answer, and
// nothing changes without the token.

#include <atomic>
#include <string>

#include "daemon/admin/server.h"
#include "tests/fuzz/loopback.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

constexpr const char* kToken = "let-me-in";

// The server and what its routes have seen.
class Server {
 public:
  Server() { server_.start(); }

  std::string exchange(std::string_view bytes) {
    changes_ = 0;
    return fuzz::exchange(server_.port(), bytes);
  }
  [[nodiscard]] int changes() const { return changes_; }

 private:
  std::vector<Route> routes() {
    std::vector<Route> all;
    all.push_back({.method = "GET",
                   .pattern = "/status/{name}",
                   .may_block = false,
                   .summary = "Shows.",
                   .handler = [](const Request& request) {
                     return Response{.body = request.params.find("name")->second};
                   }});
    all.push_back({.method = "PUT",
                   .pattern = "/length",
                   .may_block = false,
                   .summary = "Measures.",
                   .handler = [](const Request& request) {
                     return Response{.body = std::to_string(request.body.size())};
                   }});
    all.push_back({.method = "POST",
                   .pattern = "/streams/{stream}/pause",
                   .needs_token = true,
                   .summary = "Changes.",
                   .handler = [this](const Request&) {
                     ++changes_;
                     return Response{};
                   }});
    return all;
  }

  std::atomic<int> changes_{0};
  AdminServer server_{AdminOptions{.listen = "127.0.0.1:0",
                                   .token = kToken,
                                   .limits = {.max_header_bytes = 2048, .max_body_bytes = 4096}},
                      routes(), Logger::null()};
};

// 429 is for an address that has sent many wrong tokens, as this one does before long.
bool is_status(std::string_view digits) {
  for (const char* known : {"200", "400", "401", "404", "405", "413", "429", "431", "100"}) {
    if (digits == known) return true;
  }
  return false;
}

}  // namespace

void admin_request(std::string_view input) {
  static Server server;
  const std::string answer = server.exchange(input);
  require(server.changes() == 0 || input.find(kToken) != std::string_view::npos,
          "nothing changes without the token");
  if (answer.empty()) return;  // the client went away before its request was whole
  constexpr std::string_view kVersion = "HTTP/1.";
  require(answer.starts_with(kVersion) && answer.size() > 12, "an answer is HTTP");
  require(is_status(std::string_view(answer).substr(9, 3)), "an answer has a status that is meant");
  require(answer.find("\r\n\r\n") != std::string::npos, "an answer has a whole header");
}

}  // namespace outfall::fuzz
