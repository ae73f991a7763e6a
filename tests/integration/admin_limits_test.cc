// What the admin server does with clients that are broken, slow, greedy or hostile. After each, it
// still answers everybody else.

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/admin/server.h"
#include "tests/integration/admin_client.h"
#include "tests/support/wait_until.h"

namespace outfall {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using test::http_call;
using test::http_get;
using test::RawConnection;
using testing::HasSubstr;
using testing::StartsWith;

class AdminLimitsTest : public testing::Test {
 protected:
  void start(AdminLimits limits = {}) {
    std::vector<Route> routes;
    routes.push_back({.method = "GET",
                      .pattern = "/hello",
                      .may_block = false,
                      .summary = "Says hello.",
                      .handler = [](const Request&) { return Response{.body = "hello"}; }});
    routes.push_back({.method = "PUT",
                      .pattern = "/length",
                      .summary = "Measures the body.",
                      .handler = [](const Request& request) {
                        return Response{.body = std::to_string(request.body.size())};
                      }});
    routes.push_back(
        {.method = "GET",
         .pattern = "/large",
         .may_block = false,
         .summary = "More than the sockets' buffers hold.",
         .handler = [](const Request&) { return Response{.body = std::string(64u << 20, 'x')}; }});
    routes.push_back({.method = "GET",
                      .pattern = "/wait",
                      .summary = "Waits for the test.",
                      .handler = [this](const Request&) {
                        ++waiting_;
                        gate_future_.wait();
                        return Response{.body = "waited"};
                      }});
    server_.emplace(AdminOptions{.listen = "127.0.0.1:0", .limits = limits}, std::move(routes),
                    Logger::null());
    server_->start();
    url_ = "http://" + server_->address();
  }

  void TearDown() override {
    EXPECT_EQ(http_get(url_ + "/hello").body, "hello");
    EXPECT_TRUE(server_->stop(Milliseconds(5000)));
  }

  // What the server says to these bytes before it closes the connection.
  std::string answer_to(std::string_view bytes) {
    RawConnection connection(server_->port());
    connection.send(bytes);
    return connection.read_to_end();
  }

  std::atomic<int> waiting_{0};
  std::promise<void> gate_;
  std::shared_future<void> gate_future_{gate_.get_future().share()};
  std::optional<AdminServer> server_;
  std::string url_;
};

TEST_F(AdminLimitsTest, MalformedRequestsAreRefused) {
  start();
  for (const std::string request : {
           "hello\r\n\r\n",
           "GET /hello\r\n\r\n",
           "GET /hello HTTP/9.9\r\nHost: a\r\n\r\n",
           "GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
           "GET /hello HTTP/1.1\r\nHost : a\r\n\r\n",
           "GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n",
           "PUT /length HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
           "PUT /length HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
           "PUT /length HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
           "PUT /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n",
           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
       }) {
    const std::string answer = answer_to(request);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << request;
    EXPECT_THAT(answer, HasSubstr("\"error\":\"malformed_request\"")) << request;
    EXPECT_THAT(answer, HasSubstr("Connection: close\r\n")) << request;
  }
}

TEST_F(AdminLimitsTest, LargeHeaderIsRefused) {
  start();
  const std::string fits = "GET /hello HTTP/1.1\r\nConnection: close\r\nX-Long: ";
  EXPECT_THAT(answer_to(fits + std::string(8000, 'x') + "\r\n\r\n"), StartsWith("HTTP/1.1 200 "));
  const std::string answer = answer_to(fits + std::string(8192, 'x') + "\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(answer, HasSubstr("send at most 8192 bytes"));
  EXPECT_THAT(answer_to("GET /" + std::string(9000, 'x') + " HTTP/1.1\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
}

TEST_F(AdminLimitsTest, LargeBodyIsRefusedBeforeItIsSent) {
  start();
  const std::string answer =
      answer_to("PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(answer, HasSubstr("send at most 1048576 bytes"));
}

TEST_F(AdminLimitsTest, LargeBodyInChunksIsRefusedAndTheRefusalArrives) {
  start();
  const auto answer = http_call({.method = "PUT",
                                 .url = url_ + "/length",
                                 .headers = {"Transfer-Encoding: chunked", "Expect:"},
                                 .body = std::string((1u << 20) + 1, 'x')});
  EXPECT_EQ(answer.status, 413);
  const auto fits = http_call({.method = "PUT",
                               .url = url_ + "/length",
                               .headers = {"Transfer-Encoding: chunked", "Expect:"},
                               .body = std::string(1u << 20, 'x')});
  EXPECT_EQ(fits.body, "1048576");
}

TEST_F(AdminLimitsTest, BodyOfARefusedRequestIsNotAwaited) {
  start();
  EXPECT_THAT(answer_to("PUT /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf"),
              StartsWith("HTTP/1.1 404 "));
}

TEST_F(AdminLimitsTest, DrippingRequestIsCutOffWhileOthersAreServed) {
  start({.request_timeout = Milliseconds(300)});
  for (const std::string head : {"GET /hello HTTP/1.1\r\nX-Slow: ",
                                 "PUT /length HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"}) {
    RawConnection slow(server_->port());
    ASSERT_TRUE(slow.send(head));
    const auto begin = steady_clock::now();
    while (!slow.ends_within(milliseconds(20))) {
      slow.send("x");
      ASSERT_EQ(http_get(url_ + "/hello").body, "hello");
      ASSERT_LT(steady_clock::now() - begin, milliseconds(20'000)) << "never cut off";
    }
    EXPECT_GE(steady_clock::now() - begin, milliseconds(250));
  }
}

TEST_F(AdminLimitsTest, IdleConnectionIsClosed) {
  start({.idle_timeout = Milliseconds(100)});
  RawConnection silent(server_->port());
  EXPECT_EQ(silent.read_to_end(), "");
  RawConnection kept(server_->port());
  kept.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(kept.read_to_end().ends_with("hello"));
}

TEST_F(AdminLimitsTest, ClientThatDoesNotReadIsCutOff) {
  start({.write_timeout = Milliseconds(200)});
  RawConnection lazy(server_->port());
  lazy.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
  // Another client's whole exchange on the same thread, after the write timeout of the first.
  RawConnection clock(server_->port());
  EXPECT_FALSE(clock.ends_within(milliseconds(500)));
  EXPECT_LT(lazy.read_to_end().size(), std::size_t{64} << 20);
}

TEST_F(AdminLimitsTest, OneConnectionTooManyIsTurnedAway) {
  start({.max_connections = 3, .handler_threads = 3});
  std::vector<std::unique_ptr<RawConnection>> busy;
  for (int i = 0; i < 3; ++i) {
    busy.push_back(std::make_unique<RawConnection>(server_->port()));
    busy.back()->send("GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  }
  test::wait_until([this] { return waiting_ == 3; }, "all connections to be busy");
  for (int i = 0; i < 2; ++i) {
    RawConnection turned_away(server_->port());
    const std::string answer = turned_away.read_to_end();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(answer, HasSubstr("\"error\":\"too_many_connections\""));
  }
  gate_.set_value();
  for (auto& connection : busy) EXPECT_TRUE(connection->read_to_end().ends_with("waited"));
}

TEST_F(AdminLimitsTest, IdleConnectionsGiveWayToNewOnes) {
  start({.max_connections = 3});
  std::vector<std::unique_ptr<RawConnection>> idle;
  for (int i = 0; i < 3; ++i) {
    idle.push_back(std::make_unique<RawConnection>(server_->port()));
    idle.back()->send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_THAT(idle.back()->read_until("hello"), StartsWith("HTTP/1.1 200 "));
  }
  EXPECT_EQ(http_get(url_ + "/hello").status, 200);
  EXPECT_EQ(idle[0]->read_to_end(), "");  // the longest idle one
  EXPECT_FALSE(idle[2]->ends_within(milliseconds(50)));
}

TEST_F(AdminLimitsTest, ManyConnectionsThatComeAndGoLeaveNothingBehind) {
  start({.max_connections = 8});
  for (int i = 0; i < 200; ++i) {
    RawConnection connection(server_->port());
    if (i % 3 == 0) connection.send("GET /hello HTTP/1.1\r\n\r\n");
    if (i % 3 == 1) connection.send("GET /he");
  }
  test::wait_until(
      [this] {
        return answer_to("GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 200 ");
      },
      "room for a connection");
}

}  // namespace
}  // namespace outfall
