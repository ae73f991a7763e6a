// Goal: libcurl, a client that nobody here wrote, sees from the recorder what the script says.

#include "tests/support/http_recorder.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <curl/curl.h>
#include <gtest/gtest.h>

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Response {
  CURLcode code = CURLE_OK;
  long status = 0;
  std::string body;
  std::string headers;
};

std::size_t append(char* data, std::size_t size, std::size_t count, void* text) {
  static_cast<std::string*>(text)->append(data, size * count);
  return size * count;
}

// A client that keeps its connection.
class Client {
 public:
  Response post(const std::string& url, const std::string& body,
                const std::vector<std::string>& headers = {},
                milliseconds timeout = milliseconds(30'000)) {
    Response response;
    CURL* curl = curl_.get();
    curl_easy_reset(curl);
    std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> list(nullptr, &curl_slist_free_all);
    for (const std::string& header : headers) {
      list.reset(curl_slist_append(list.release(), header.c_str()));
    }
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list.get());
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &response.body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &response.headers);
    response.code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
    return response;
  }

 private:
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl_{curl_easy_init(), &curl_easy_cleanup};
};

TEST(HttpRecorder, RecordsRequestsInOrderOnOneConnection) {
  HttpRecorder recorder;
  Client client;
  EXPECT_EQ(client.post(recorder.url("/hook?a=1"), "first", {"X-Test: One"}).status, 200);
  EXPECT_EQ(client.post(recorder.url("/hook"), "").status, 200);
  const std::vector<HttpRequest> requests = recorder.wait_for(2);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].target, "/hook?a=1");
  EXPECT_EQ(requests[0].body, "first");
  EXPECT_EQ(requests[0].header("x-test"), "One");
  EXPECT_EQ(requests[0].header("absent"), std::nullopt);
  EXPECT_EQ(requests[1].body, "");
  EXPECT_LE(requests[0].arrived, requests[1].arrived);
  EXPECT_EQ(recorder.connections(), 1U);
}

TEST(HttpRecorder, AnswersByScriptThenHandlerThenDefault) {
  HttpRecorder recorder;
  Client client;
  recorder.answer_next({.status = 503, .headers = {{"Retry-After", "7"}}, .body = "busy"});
  recorder.answer_next({.status = 204});
  const Response busy = client.post(recorder.url(), "a");
  EXPECT_EQ(busy.status, 503);
  EXPECT_EQ(busy.body, "busy");
  EXPECT_NE(busy.headers.find("Retry-After: 7"), std::string::npos);
  EXPECT_EQ(client.post(recorder.url(), "b").status, 204);
  recorder.answer_always({.status = 202});
  EXPECT_EQ(client.post(recorder.url(), "c").status, 202);
  recorder.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.status = request.body == "bad" ? 400 : 201};
  });
  EXPECT_EQ(client.post(recorder.url(), "bad").status, 400);
  EXPECT_EQ(client.post(recorder.url(), "good").status, 201);
}

TEST(HttpRecorder, ReadsChunkedAndExpectedBodies) {
  HttpRecorder recorder;
  Client client;
  const std::string large(3 << 20, 'x');  // libcurl asks first above 1 MB
  EXPECT_EQ(client.post(recorder.url(), large, {"Expect: 100-continue"}).status, 200);
  EXPECT_EQ(client.post(recorder.url(), large, {"Transfer-Encoding: chunked"}).status, 200);
  for (const HttpRequest& request : recorder.wait_for(2)) {
    EXPECT_EQ(request.body, large);
  }
}

TEST(HttpRecorder, DelaysAndTrickles) {
  HttpRecorder recorder;
  Client client;
  recorder.answer_next({.delay = milliseconds(60)});
  auto start = steady_clock::now();
  EXPECT_EQ(client.post(recorder.url(), "").status, 200);
  EXPECT_GE(steady_clock::now() - start, milliseconds(60));

  recorder.answer_next(
      {.body = "drop by drop", .fault = HttpFault::trickle, .pace = milliseconds(2)});
  start = steady_clock::now();
  EXPECT_EQ(client.post(recorder.url(), "").body, "drop by drop");
  EXPECT_GE(steady_clock::now() - start, milliseconds(80));
}

TEST(HttpRecorder, BreaksConnectionsInEachWay) {
  HttpRecorder recorder;
  Client client;
  recorder.answer_next({.fault = HttpFault::reset});
  EXPECT_EQ(client.post(recorder.url(), "").code, CURLE_RECV_ERROR);
  recorder.answer_next({.fault = HttpFault::close});
  EXPECT_EQ(client.post(recorder.url(), "").code, CURLE_GOT_NOTHING);
  recorder.answer_next({.body = "0123456789", .fault = HttpFault::cut_body});
  const Response cut = client.post(recorder.url(), "");
  EXPECT_EQ(cut.code, CURLE_PARTIAL_FILE);
  EXPECT_EQ(cut.body, "01234");
  recorder.answer_next({.fault = HttpFault::hang});
  EXPECT_EQ(client.post(recorder.url(), "", {}, milliseconds(50)).code, CURLE_OPERATION_TIMEDOUT);
  const std::uint64_t before = recorder.connections();
  recorder.answer_next({.close_after = true});
  EXPECT_EQ(client.post(recorder.url(), "").status, 200);
  EXPECT_EQ(client.post(recorder.url(), "").status, 200);
  EXPECT_EQ(recorder.connections(), before + 2);
}

TEST(HttpRecorder, CountsWhatIsAnsweredAtTheSameTime) {
  HttpRecorder recorder;
  recorder.answer_by([&](const HttpRequest&) {
    wait_until([&] { return recorder.count() == 3; }, "three requests");
    return HttpAnswer{};
  });
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] { EXPECT_EQ(Client().post(recorder.url(), "").status, 200); });
  }
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(recorder.most_at_once(), 3U);
}

TEST(HttpRecorder, EndsHungConnectionsWithItself) {
  auto recorder = std::make_unique<HttpRecorder>();
  recorder->answer_next({.fault = HttpFault::hang});
  Response response;
  std::thread client([&, url = recorder->url()] { response = Client().post(url, ""); });
  recorder->wait_for(1);
  recorder.reset();
  client.join();
  EXPECT_EQ(response.code, CURLE_GOT_NOTHING);
}

}  // namespace
}  // namespace outfall::test
