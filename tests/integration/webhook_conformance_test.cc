// The conformance suite against a real server, with each form of the body.
#include <algorithm>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "emitters/webhook/webhook.h"
#include "tests/support/emitter_conformance.h"
#include "tests/support/http_recorder.h"
#include "tests/unit/event_lines.h"

namespace outfall {
namespace {

using test::ConformanceCase;
using test::HttpAnswer;
using test::HttpFault;
using test::HttpRecorder;
using test::HttpRequest;
using test::TestSettings;
using Received = test::ConformanceSubject::Received;

class WebhookSubject final : public test::ConformanceSubject {
 public:
  explicit WebhookSubject(std::string body) : body_(std::move(body)) {
    settings_.text("url", server_.url("/hooks"))
        .text("body", body_)
        .list("secret", {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    server_.answer_by([](const HttpRequest& request) {
      const bool rejected = request.header("ce-type") == "test.rejected" ||
                            request.body.find("test.rejected") != std::string::npos;
      return HttpAnswer{.status = rejected ? 422 : 200};
    });
  }

  std::unique_ptr<Emitter> create(CompletionSink& sink) override {
    return test::make_emitter(kind_, settings_, sink);
  }

  std::optional<std::vector<Received>> received() override {
    std::vector<Received> all;
    for (const HttpRequest& request : server_.requests()) {
      const std::vector<Received> some = received_from_request(request);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  bool stall() override {
    server_.answer_by([](const HttpRequest&) { return HttpAnswer{.fault = HttpFault::hang}; });
    return true;
  }
  // Hung answers stay so: a client that waits for one gives up by its time-out.
  void release() override { server_.answer_by(nullptr); }

  std::string rejected_type() override { return "test.rejected"; }

 private:
  std::vector<Received> received_from_request(const HttpRequest& request) const {
    // What was refused was not received.
    if (request.body.find("test.rejected") != std::string::npos) return {};
    if (body_ == "structured") return {test::received_from(request.body)};
    if (body_ == "batch") {
      std::vector<Received> all;
      for (const std::string& event : split(request.body))
        all.push_back(test::received_from(event));
      return all;
    }
    if (request.header("ce-type") == "test.rejected") return {};
    Received one{*Uuid::parse(request.header("ce-id").value_or("")), std::nullopt};
    if (request.header("content-type")) one.payload = request.body;
    return {one};
  }

  // The objects of a JSON array as they are written in it.
  static std::vector<std::string> split(const std::string& array) {
    std::vector<std::string> all;
    std::size_t start = 0;
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 1; i + 1 < array.size(); ++i) {
      const char c = array[i];
      if (in_string) {
        if (c == '\\') ++i;
        if (c == '"') in_string = false;
        continue;
      }
      if (c == '"') in_string = true;
      if ((c == '{' || c == '[') && depth++ == 0) start = i;
      if ((c == '}' || c == ']') && --depth == 0) all.push_back(array.substr(start, i + 1 - start));
    }
    return all;
  }

  const std::string body_;
  HttpRecorder server_;
  const EmitterKind kind_ = webhook_emitter_kind();
  // What hangs is waited for as long as the suite waits for everything else.
  TestSettings settings_ = TestSettings(kind_).number("timeout", 3'000);
};

ConformanceCase with_body(const std::string& body) {
  return {body, [body] { return std::make_unique<WebhookSubject>(body); }};
}

OUTFALL_EMITTER_CONFORMANCE(Webhook, with_body("payload"), with_body("structured"),
                            with_body("batch"));

}  // namespace
}  // namespace outfall
