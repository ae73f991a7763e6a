#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>

#include <boost/json.hpp>

#include "tests/integration/admin_client.h"
#include "tests/integration/operate_fixture.h"

namespace outfall::test {

// Operating over HTTP: the real binary as a worker with a bearer token, and a database.
class AdminOperateTest : public OperateTest {
 protected:
  static constexpr const char* kToken = "let-me-in-4711-please";

  AdminOperateTest();
  // outfall.toml with the token in the file `token`, and the stream orders. A connect_timeout of a
  // second.
  void configure_token(const std::string& url, const std::string& more = {});
  // `outfall run` with it; the requests below go to the one that was started last.
  ChildProcess& worker();
  void stop_worker();

  // With the right token, and a body as JSON where there is one.
  AdminAnswer call(const std::string& method, const std::string& path,
                   const boost::json::value& body = nullptr);
  AdminAnswer get(const std::string& path) { return call("GET", path); }
  // With actor and reason added; expected to be done.
  boost::json::object done_at(const std::string& path, boost::json::object body = {});
  boost::json::object read_at(const std::string& path);
  // Whatever headers there are.
  AdminAnswer call_with(const std::string& method, const std::string& path,
                        std::vector<std::string> headers, std::optional<std::string> body = {});

  // So many entries of orders become dead letters, with keys k0 to k2.
  void dead_letters(int count, const std::string& code = "http.422");
  [[nodiscard]] std::int64_t replayed() { return sql_.number("SELECT count(*) FROM replays"); }
  void wait_for_state(int job, const std::string& state);

  std::string url_;  // http://127.0.0.1:PORT
  std::vector<std::unique_ptr<ChildProcess>> workers_;
};

// The parts of an answer that is a refusal.
[[nodiscard]] std::string code_of(const AdminAnswer& answer);
[[nodiscard]] std::string message_of(const AdminAnswer& answer);
[[nodiscard]] std::string hint_of(const AdminAnswer& answer);

}  // namespace outfall::test
