// The table of docs/reference/emitters/webhook.md, row by row, and Retry-After.
#include <gtest/gtest.h>

#include "emitters/webhook/classify.h"
#include "emitters/webhook/retry_after.h"
#include "tests/support/temp_folder.h"

namespace outfall::webhook {
namespace {

enum class Extra { none, suspect, parks, lost };

Extra extra_of(const Outcome& outcome) {
  EXPECT_LE(outcome.destination_suspect + outcome.parks_destination + outcome.connection_lost, 1);
  if (outcome.destination_suspect) return Extra::suspect;
  if (outcome.parks_destination) return Extra::parks;
  return outcome.connection_lost ? Extra::lost : Extra::none;
}

struct StatusRow {
  int first;
  int last;
  OutcomeKind kind;
  Extra extra = Extra::none;
};

class StatusRows : public testing::TestWithParam<StatusRow> {};

TEST_P(StatusRows, AreKept) {
  const StatusRow& row = GetParam();
  const StatusTable table;
  for (int status = row.first; status <= row.last; ++status) {
    const Outcome outcome = classify({.status = status, .excerpt = "sorry"}, table);
    EXPECT_EQ(outcome.kind, row.kind) << status;
    EXPECT_EQ(extra_of(outcome), row.extra) << status;
    if (row.kind == OutcomeKind::delivered) {
      EXPECT_FALSE(outcome.error);
      continue;
    }
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code, "webhook.status_" + std::to_string(status));
    EXPECT_EQ(outcome.error->message, "HTTP " + std::to_string(status) + ": sorry");
  }
}

using Kind = OutcomeKind;
INSTANTIATE_TEST_SUITE_P(
    All, StatusRows,
    testing::Values(StatusRow{200, 299, Kind::delivered},
                    StatusRow{300, 399, Kind::destination_unavailable, Extra::parks},
                    StatusRow{400, 400, Kind::failed},
                    StatusRow{401, 401, Kind::destination_unavailable},
                    StatusRow{402, 402, Kind::failed},
                    StatusRow{403, 403, Kind::destination_unavailable},
                    StatusRow{404, 404, Kind::retryable_failure}, StatusRow{405, 406, Kind::failed},
                    StatusRow{407, 407, Kind::destination_unavailable},
                    StatusRow{408, 408, Kind::retryable_failure, Extra::suspect},
                    StatusRow{409, 409, Kind::retryable_failure},
                    StatusRow{410, 410, Kind::destination_unavailable, Extra::parks},
                    StatusRow{411, 424, Kind::failed}, StatusRow{425, 425, Kind::retryable_failure},
                    StatusRow{426, 428, Kind::failed},
                    StatusRow{429, 429, Kind::retryable_failure, Extra::suspect},
                    StatusRow{430, 499, Kind::failed},
                    StatusRow{500, 599, Kind::retryable_failure, Extra::suspect},
                    StatusRow{600, 999, Kind::retryable_failure, Extra::suspect}));

struct FaultRow {
  Fault fault;
  OutcomeKind kind;
  Extra extra;
  const char* code;
  bool endpoint_silent = false;
};

class FaultRows : public testing::TestWithParam<FaultRow> {};

TEST_P(FaultRows, AreKept) {
  const FaultRow& row = GetParam();
  const Outcome outcome = classify(
      {.fault = row.fault, .endpoint_silent = row.endpoint_silent, .detail = "why"}, StatusTable());
  EXPECT_EQ(outcome.kind, row.kind);
  EXPECT_EQ(extra_of(outcome), row.extra);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code, row.code);
  EXPECT_EQ(outcome.error->message, "why");
}

INSTANTIATE_TEST_SUITE_P(
    All, FaultRows,
    testing::Values(
        FaultRow{Fault::dns, Kind::destination_unavailable, Extra::none, "webhook.dns"},
        FaultRow{Fault::refused, Kind::destination_unavailable, Extra::none, "webhook.refused"},
        FaultRow{Fault::connect_timeout, Kind::destination_unavailable, Extra::none,
                 "webhook.connect_timeout"},
        FaultRow{Fault::tls_handshake, Kind::destination_unavailable, Extra::none,
                 "webhook.tls_handshake"},
        FaultRow{Fault::certificate, Kind::destination_unavailable, Extra::parks,
                 "webhook.certificate"},
        FaultRow{Fault::client_certificate, Kind::destination_unavailable, Extra::none,
                 "webhook.client_certificate"},
        FaultRow{Fault::blocked_address, Kind::destination_unavailable, Extra::parks,
                 "webhook.blocked_address"},
        FaultRow{Fault::bad_url, Kind::destination_unavailable, Extra::parks, "webhook.bad_url"},
        FaultRow{Fault::proxy, Kind::destination_unavailable, Extra::none, "webhook.proxy"},
        FaultRow{Fault::local_resources, Kind::deferred, Extra::none, "webhook.local_resources"},
        FaultRow{Fault::connection_lost, Kind::possibly_delivered, Extra::lost,
                 "webhook.connection_lost"},
        FaultRow{Fault::stream_reset, Kind::possibly_delivered, Extra::none,
                 "webhook.stream_reset"},
        FaultRow{Fault::headers_too_large, Kind::failed, Extra::none, "webhook.headers_too_large"},
        FaultRow{Fault::timeout, Kind::possibly_delivered, Extra::none, "webhook.timeout"},
        FaultRow{Fault::timeout, Kind::possibly_delivered, Extra::lost, "webhook.timeout", true}));

TEST(WebhookClassify, EveryCodeIsInTheReference) {
  const std::string page =
      test::read_file(OUTFALL_SOURCE_FOLDER "/docs/reference/emitters/webhook.md");
  for (std::size_t fault = 1; fault < kFaults; ++fault) {
    const std::string code(code_of(static_cast<Fault>(fault)));
    EXPECT_NE(page.find("| `" + code + "` |"), std::string::npos) << code;
  }
}

TEST(WebhookClassify, TheStatusLineSettlesItWhateverHappensToTheBody) {
  EXPECT_EQ(classify({.status = 202, .fault = Fault::timeout}, {}).kind, Kind::delivered);
  EXPECT_EQ(classify({.status = 400, .fault = Fault::connection_lost}, {}).kind, Kind::failed);
}

TEST(WebhookClassify, RetryAfterGoesWithRetriesOnly) {
  const auto wait = [](int status) {
    return classify({.status = status, .retry_after = Milliseconds{7000}}, {}).retry_after.count();
  };
  EXPECT_EQ(wait(429), 7000);
  EXPECT_EQ(wait(503), 7000);
  EXPECT_EQ(wait(404), 7000);
  EXPECT_LT(wait(400), 0);
  EXPECT_LT(wait(401), 0);
}

TEST(WebhookClassify, OperatorsChangeWhatAStatusMeans) {
  StatusTable table;
  EXPECT_TRUE(table.set("4xx", "retryable_failure"));
  EXPECT_TRUE(table.set("404", "failed"));
  EXPECT_TRUE(table.set("409", "delivered"));
  EXPECT_TRUE(table.set("500", "parked"));
  EXPECT_TRUE(table.set("400", "destination_unavailable"));
  EXPECT_EQ(classify({.status = 404}, table).kind, Kind::failed);
  EXPECT_EQ(classify({.status = 409}, table).kind, Kind::delivered);
  EXPECT_EQ(classify({.status = 422}, table).kind, Kind::retryable_failure);
  EXPECT_TRUE(classify({.status = 500}, table).parks_destination);
  EXPECT_EQ(classify({.status = 400}, table).kind, Kind::destination_unavailable);
  EXPECT_EQ(classify({.status = 503}, table).kind, Kind::retryable_failure);
  for (const auto& [status, verdict] :
       std::vector<std::pair<const char*, const char*>>{{"404", "dropped"},
                                                        {"600", "failed"},
                                                        {"40", "failed"},
                                                        {"40x", "failed"},
                                                        {"4040", "failed"},
                                                        {"", "failed"},
                                                        {"404", "suspect"}}) {
    EXPECT_FALSE(table.set(status, verdict)) << status << " " << verdict;
  }
}

TEST(WebhookClassify, CurlsCodesWithWhatWasNoticedBesideThem) {
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_RESOLVE_HOST}), Fault::dns);
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_CONNECT}), Fault::refused);
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_CONNECT, .blocked = true}), Fault::blocked_address);
  for (const CURLcode code :
       {CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY}) {
    EXPECT_EQ(fault_of({.code = code, .short_of_resources = true}), Fault::local_resources);
  }
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_CONNECT, .has_proxy = true}), Fault::proxy);
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_RESOLVE_PROXY, .has_proxy = true}), Fault::proxy);
  EXPECT_EQ(fault_of({.code = CURLE_RECV_ERROR, .has_proxy = true}), Fault::proxy);
  // libcurl repeats a request by itself on a new connection, so a refusal may come after it.
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_CONNECT, .sent = true}), Fault::connection_lost);
  EXPECT_EQ(fault_of({.code = CURLE_COULDNT_CONNECT, .sent = true, .blocked = true}),
            Fault::connection_lost);
  EXPECT_EQ(fault_of({.code = CURLE_OPERATION_TIMEDOUT}), Fault::connect_timeout);
  EXPECT_EQ(fault_of({.code = CURLE_OPERATION_TIMEDOUT, .sent = true}), Fault::timeout);
  EXPECT_EQ(fault_of({.code = CURLE_OPERATION_TIMEDOUT, .sent = true, .has_proxy = true}),
            Fault::timeout);
  EXPECT_EQ(fault_of({.code = CURLE_SSL_CONNECT_ERROR}), Fault::tls_handshake);
  EXPECT_EQ(fault_of({.code = CURLE_PEER_FAILED_VERIFICATION}), Fault::certificate);
  EXPECT_EQ(fault_of({.code = CURLE_SSL_CERTPROBLEM}), Fault::client_certificate);
  EXPECT_EQ(fault_of({.code = CURLE_SSL_CACERT_BADFILE}), Fault::client_certificate);
  EXPECT_EQ(fault_of({.code = CURLE_RECV_ERROR, .sent = true}), Fault::connection_lost);
  EXPECT_EQ(fault_of({.code = CURLE_GOT_NOTHING, .sent = true}), Fault::connection_lost);
  EXPECT_EQ(fault_of({.code = CURLE_HTTP2, .sent = true}), Fault::connection_lost);
  EXPECT_EQ(fault_of({.code = CURLE_HTTP2_STREAM, .sent = true}), Fault::stream_reset);
  // An answer that is not HTTP, or that there is no memory for.
  EXPECT_EQ(fault_of({.code = CURLE_UNSUPPORTED_PROTOCOL, .sent = true}), Fault::connection_lost);
  EXPECT_EQ(fault_of({.code = CURLE_OUT_OF_MEMORY, .sent = true}), Fault::connection_lost);
  // TLS 1.3: the refusal of our certificate comes after the request was on its way.
  EXPECT_EQ(fault_of({.code = CURLE_RECV_ERROR,
                      .sent = true,
                      .message = "SSL_read: tlsv13 alert certificate required, errno 0"}),
            Fault::tls_handshake);
  EXPECT_EQ(fault_of({.code = CURLE_RECV_ERROR,
                      .sent = true,
                      .message = "SSL_read: tlsv1 alert access denied, errno 0"}),
            Fault::tls_handshake);
  // TLS 1.2: libcurl takes it for its own verdict, which would have a reason.
  EXPECT_EQ(fault_of({.code = CURLE_PEER_FAILED_VERIFICATION,
                      .message = "SSL certificate verification failed"}),
            Fault::tls_handshake);
  EXPECT_EQ(fault_of({.code = CURLE_PEER_FAILED_VERIFICATION,
                      .message = "SSL certificate problem: certificate has expired"}),
            Fault::certificate);
  // Of another connection than the one that the endpoint may have read it from.
  EXPECT_EQ(fault_of({.code = CURLE_RECV_ERROR,
                      .sent = true,
                      .repeated = true,
                      .message = "SSL_read: tlsv13 alert certificate required, errno 0"}),
            Fault::connection_lost);
  for (const CURLcode code :
       {CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CACERT_BADFILE,
        CURLE_SSL_CONNECT_ERROR, CURLE_PROXY, CURLE_COULDNT_RESOLVE_PROXY, CURLE_URL_MALFORMAT}) {
    EXPECT_EQ(fault_of({.code = code, .sent = true, .has_proxy = true}), Fault::connection_lost)
        << code;
  }
  EXPECT_EQ(fault_of({.code = CURLE_PROXY, .has_proxy = true}), Fault::proxy);
  EXPECT_EQ(fault_of({.code = CURLE_URL_MALFORMAT}), Fault::bad_url);
  EXPECT_EQ(fault_of({.code = CURLE_UNSUPPORTED_PROTOCOL}), Fault::bad_url);
  EXPECT_EQ(fault_of({.code = CURLE_OUT_OF_MEMORY}), Fault::local_resources);
  EXPECT_EQ(fault_of({.code = CURLE_OK}), Fault::none);
}

TEST(WebhookRetryAfter, ReadsSecondsAndDates) {
  // 2026-03-01T12:00:00Z
  const WallTime now{std::chrono::seconds{1'772'366'400}};
  const auto wait = [&](std::string_view value) { return retry_after_from(value, now).count(); };
  constexpr std::int64_t kMonth = 30LL * 24 * 3600 * 1000;
  EXPECT_EQ(wait("120"), 120'000);
  EXPECT_EQ(wait(" 0 "), 0);
  EXPECT_EQ(wait("Sun, 01 Mar 2026 12:00:30 GMT"), 30'000);
  EXPECT_EQ(wait("Sunday, 01-Mar-26 12:01:00 GMT"), 60'000);
  EXPECT_EQ(wait("Sun Mar  1 12:00:10 2026"), 10'000);
  EXPECT_EQ(wait("Sun, 01 Mar 2026 11:00:00 GMT"), 0) << "in the past";
  EXPECT_EQ(wait("Thu, 31 Dec 2099 23:59:59 GMT"), kMonth);
  EXPECT_EQ(wait("999999999"), kMonth);
  EXPECT_EQ(wait("99999999999999999999999999"), kMonth);
  for (const char* nonsense : {"", "soon", "-5", "1.5", "10 apples", "Blursday, 99 Foo 2026"}) {
    EXPECT_LT(wait(nonsense), 0) << nonsense;
  }
  EXPECT_LT(wait(std::string(5000, 'S')), 0);
}

// In microseconds there is no room for it, so that it was in the past.
TEST(WebhookRetryAfter, ADateThousandsOfYearsAwayIsNotNoWaitAtAll) {
  const WallTime now{std::chrono::seconds{1'772'366'400}};
  constexpr Milliseconds kMonth = std::chrono::hours{24 * 30};
  for (const char* year : {"9999", "30000", "294247", "294248", "300000", "999999", "2147483647"}) {
    const std::string date = std::string("Wed, 01 Mar ") + year + " 00:00:00 GMT";
    EXPECT_EQ(retry_after_from(date, now), kMonth) << year;
  }
}

}  // namespace
}  // namespace outfall::webhook
