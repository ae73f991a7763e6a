#include "tests/integration/admin_operate_fixture.h"

#include <fmt/format.h>

#include "tests/support/wait_until.h"

namespace outfall::test {

AdminOperateTest::AdminOperateTest() {
  configure_token(database_.dsn());
}

void AdminOperateTest::configure_token(const std::string& url, const std::string& more) {
  folder_.write("token", kToken);
  folder_.write("outfall.toml",
                fmt::format("[database]\nurl = \"{}\"\nconnect_timeout = \"1s\"\n[admin]\nlisten = "
                            "\"127.0.0.1:0\"\ntoken_file = \"token\"\n{}\n{}",
                            url, one_stream(), more));
}

ChildProcess& AdminOperateTest::worker() {
  workers_.push_back(run_worker());
  url_ = admin_url(*workers_.back());
  return *workers_.back();
}

void AdminOperateTest::stop_worker() {
  workers_.back()->signal(SIGTERM);
  EXPECT_EQ(workers_.back()->wait().code, 0) << workers_.back()->error_output();
}

AdminAnswer AdminOperateTest::call_with(const std::string& method, const std::string& path,
                                        std::vector<std::string> headers,
                                        std::optional<std::string> body) {
  return http_call({.method = method,
                    .url = url_ + path,
                    .headers = std::move(headers),
                    .body = std::move(body)});
}

AdminAnswer AdminOperateTest::call(const std::string& method, const std::string& path,
                                   const boost::json::value& body) {
  std::vector<std::string> headers = {std::string("Authorization: Bearer ") + kToken};
  if (body.is_null()) return call_with(method, path, headers);
  headers.emplace_back("Content-Type: application/json");
  return call_with(method, path, headers, boost::json::serialize(body));
}

boost::json::object AdminOperateTest::done_at(const std::string& path, boost::json::object body) {
  body["actor"] = "anna";
  body["reason"] = "mended";
  const AdminAnswer answer = call("POST", path, body);
  EXPECT_THAT(answer.status, testing::AnyOf(200, 201)) << path << " " << answer.body;
  return boost::json::parse(answer.body).as_object();
}

boost::json::object AdminOperateTest::read_at(const std::string& path) {
  const AdminAnswer answer = get(path);
  EXPECT_EQ(answer.status, 200) << path << " " << answer.body;
  return boost::json::parse(answer.body).as_object();
}

void AdminOperateTest::dead_letters(int count, const std::string& code) {
  sql_.query(
      "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 't', 'k' || n % 3, '{}' "
      "FROM generate_series(1, $1) n",
      {std::to_string(count)});
  Worker claimer(database_.dsn());
  while (sql_.number("SELECT count(*) FROM entries WHERE status = 'pending'") > 0) {
    claimer.settle_all(claimer.claim("orders", 5000), EntryStatus::dead_lettered, Milliseconds{0},
                       code);
  }
}

void AdminOperateTest::wait_for_state(int job, const std::string& state) {
  wait_until(
      [&] {
        return sql_.value("SELECT state FROM jobs WHERE job_id = $1", {std::to_string(job)}) ==
               state;
      },
      fmt::format("job {} is {}", job, state));
}

namespace {

std::string part_of(const AdminAnswer& answer, const std::string& name) {
  return text_of(boost::json::parse(answer.body), name);
}

}  // namespace

std::string code_of(const AdminAnswer& answer) {
  return part_of(answer, "error");
}

std::string message_of(const AdminAnswer& answer) {
  return part_of(answer, "message");
}

std::string hint_of(const AdminAnswer& answer) {
  return part_of(answer, "hint");
}

}  // namespace outfall::test
