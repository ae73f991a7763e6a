// Stopping the admin server: within its bound, without cutting off what can still be answered, and
// with the port free afterwards.

#include <atomic>
#include <future>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/admin/server.h"
#include "tests/integration/admin_client.h"
#include "tests/support/wait_until.h"

namespace outfall {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using test::http_get;
using test::RawConnection;
using test::wait_until;
using testing::HasSubstr;
using testing::StartsWith;

class AdminStopTest : public testing::Test {
 protected:
  void start(const std::string& listen = "127.0.0.1:0") {
    Route wait{.method = "GET",
               .pattern = "/wait",
               .summary = "Waits for the test.",
               .handler = [this](const Request& request) { return wait_for_test(request); }};
    server_.emplace(AdminOptions{.listen = listen}, std::vector<Route>{wait}, Logger::null());
    server_->start();
  }

  Response wait_for_test(const Request& request) {
    ++running_;
    gate_future_.wait();
    return {.body = request.stop.stop_requested() ? "stopping" : "running"};
  }

  std::future<std::string> request_in_background() {
    auto connection = std::make_shared<RawConnection>(server_->port());
    connection->send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    return std::async(std::launch::async, [connection] { return connection->read_to_end(); });
  }

  std::atomic<int> running_{0};
  std::promise<void> gate_;
  std::shared_future<void> gate_future_{gate_.get_future().share()};
  std::optional<AdminServer> server_;
};

TEST_F(AdminStopTest, IdleServerStopsAtOnceAndFreesItsPort) {
  start();
  const std::string address = server_->address();
  RawConnection idle(server_->port());
  idle.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(idle.read_until("}\n"), StartsWith("HTTP/1.1 404 "));
  const auto begin = steady_clock::now();
  EXPECT_TRUE(server_->stop(Milliseconds(20'000)));
  EXPECT_LT(steady_clock::now() - begin, milliseconds(10'000));
  EXPECT_EQ(idle.read_to_end(), "");
  EXPECT_THROW(static_cast<void>(http_get("http://" + address + "/nothing")), std::runtime_error);
  EXPECT_TRUE(server_->stop(Milliseconds(0))) << "stopping twice is harmless";

  start(address);
  EXPECT_EQ(http_get("http://" + address + "/nothing").status, 404);
}

TEST_F(AdminStopTest, RequestBeingHandledIsAnswered) {
  start();
  auto answer = request_in_background();
  wait_until([this] { return running_ == 1; }, "the handler to run");
  auto stopped =
      std::async(std::launch::async, [this] { return server_->stop(Milliseconds(20'000)); });
  // The stop has begun once nobody can connect any more.
  const std::uint16_t port = server_->port();
  wait_until(
      [port] {
        try {
          RawConnection probe(port);
          return false;
        } catch (const std::runtime_error&) {
          return true;
        }
      },
      "the port to close");
  gate_.set_value();
  const std::string text = answer.get();
  EXPECT_THAT(text, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(text, HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(text.ends_with("stopping"));
  EXPECT_TRUE(stopped.get());
}

TEST_F(AdminStopTest, StuckHandlersDoNotHoldTheStopBeyondItsBound) {
  start();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 6; ++i) answers.push_back(request_in_background());  // two run, four queue
  wait_until([this] { return running_ == 2; }, "both handler threads to be stuck");
  const auto begin = steady_clock::now();
  EXPECT_FALSE(server_->stop(Milliseconds(200)));
  EXPECT_LT(steady_clock::now() - begin, milliseconds(10'000));
  for (auto& answer : answers) EXPECT_EQ(answer.get(), "") << "closed without an answer";
  gate_.set_value();
  wait_until([this] { return server_->stop(Milliseconds(0)); }, "the stuck handlers to end");
  EXPECT_EQ(running_, 2) << "what had not begun never does";
}

TEST_F(AdminStopTest, DestructorWaitsForStuckHandlers) {
  start();
  auto answer = request_in_background();
  wait_until([this] { return running_ == 1; }, "the handler to run");
  EXPECT_FALSE(server_->stop(Milliseconds(10)));
  auto gone = std::async(std::launch::async, [this] { server_.reset(); });
  EXPECT_EQ(gone.wait_for(milliseconds(200)), std::future_status::timeout);
  gate_.set_value();
  gone.get();
  EXPECT_EQ(answer.get(), "");
}

TEST_F(AdminStopTest, ServerThatNeverStartedStops) {
  AdminServer server({.listen = "127.0.0.1:0"}, {}, Logger::null());
  EXPECT_GT(server.port(), 0);
  EXPECT_TRUE(server.stop(Milliseconds(0)));
}

TEST_F(AdminStopTest, StopsUnderLoad) {
  for (int round = 0; round < 20; ++round) {
    start();
    const std::uint16_t port = server_->port();
    std::atomic<bool> done{false};
    std::vector<std::future<void>> clients;
    for (int c = 0; c < 3; ++c) {
      clients.push_back(std::async(std::launch::async, [&done, port] {
        while (!done) {
          try {
            RawConnection connection(port);
            connection.send("GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            static_cast<void>(connection.read_to_end());
          } catch (const std::runtime_error&) {
            return;  // the port is closed
          }
        }
      }));
    }
    static_cast<void>(http_get("http://" + server_->address() + "/nothing"));
    EXPECT_TRUE(server_->stop(Milliseconds(20'000)));
    server_.reset();
    done = true;
    for (auto& client : clients) client.get();
  }
}

}  // namespace
}  // namespace outfall
