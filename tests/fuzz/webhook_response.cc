// Answers of webhooks, from their bytes over libcurl to the outcome: whatever an endpoint says, the
// attempt ends, and what is kept of the answer is bounded, printable text.

#include <algorithm>
#include <string>

#include "core/text.h"
#include "emitters/webhook/request.h"
#include "emitters/webhook/transfer.h"
#include "tests/fuzz/loopback.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

using namespace webhook;

constexpr Milliseconds kLongestWait{std::chrono::hours{24 * 30}};
constexpr Milliseconds kTimeout{5'000};

void check_text(std::string_view text, std::size_t most) {
  require(text.size() <= most && is_valid_utf8(text), "what is kept of an answer is bounded text");
  require(std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }),
          "what is kept of an answer is printable");
}

// A transfer and what it needs, made once.
class Client {
 public:
  Client() {
    options_.http1_only = true;
    options_.request_id_header = "x-request-id";
    envelope_.type = "t";
    envelope_.stream = "s";
    url_ = "http://127.0.0.1:" + std::to_string(server_.port()) + "/";
  }

  void run(std::string_view answer) {
    server_.answer_with(std::string(answer));
    RequestBuilder builder(options_);
    const Envelope* const envelopes[] = {&envelope_};
    const WallTime now{std::chrono::seconds(1'700'000'000)};
    builder.build(transfer_.request(), envelopes, now);
    require(transfer_.start(url_, kTimeout), "libcurl has memory");
    const auto begun = std::chrono::steady_clock::now();
    CURLcode code = CURL_LAST;
    while (code == CURL_LAST) {
      loop_.turn(Milliseconds{1000}, [&](CURL*, CURLcode result) { code = result; });
      require(std::chrono::steady_clock::now() - begun < 2 * kTimeout, "an attempt ends");
    }
    check(transfer_.attempt(code, now));
  }

 private:
  void check(const Attempt& attempt) {
    require(attempt.status == 0 || (attempt.status >= 200 && attempt.status <= 999),
            "a status is one, and final");
    require(attempt.retry_after == Milliseconds{-1} ||
                (attempt.retry_after >= Milliseconds{0} && attempt.retry_after <= kLongestWait),
            "a wait is within its bounds");
    check_text(attempt.excerpt, options_.excerpt_bytes);
    check_text(transfer_.request_id(), 128);
    const Outcome outcome = classify(attempt, options_.statuses);
    const bool is_success = attempt.status >= 200 && attempt.status < 300;
    require((outcome.kind == OutcomeKind::delivered) == is_success,
            "only a status of success delivers");
    require((outcome.error == nullptr) == is_success, "what did not deliver says why");
    require(attempt.status != 0 || attempt.fault != Fault::none, "no status has a reason");
  }

  Responder server_;
  WebhookOptions options_;
  Envelope envelope_;
  std::string url_;
  MultiLoop loop_{{.idle_connections = 1}};
  Transfer transfer_{options_, loop_};
};

}  // namespace

void webhook_response(std::string_view input) {
  static Client client;
  client.run(input);
}

}  // namespace outfall::fuzz
