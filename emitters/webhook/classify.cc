#include "emitters/webhook/classify.h"

#include <algorithm>

namespace outfall::webhook {
namespace {

constexpr auto kCodes = std::to_array<std::string_view>(
    {"webhook.none", "webhook.dns", "webhook.refused", "webhook.connect_timeout",
     "webhook.tls_handshake", "webhook.certificate", "webhook.client_certificate",
     "webhook.blocked_address", "webhook.bad_url", "webhook.proxy", "webhook.local_resources",
     "webhook.connection_lost", "webhook.stream_reset", "webhook.timeout",
     "webhook.headers_too_large"});
static_assert(kCodes.size() == kFaults);

// An entry that finds no descriptor or no memory here is tried again soon.
constexpr Milliseconds kShortageDelay{1000};

Verdict default_verdict(int status) {
  if (status >= 200 && status < 300) return Verdict::delivered;
  // Redirects are never followed, so a moved endpoint is a matter of its configuration.
  if (status >= 300 && status < 400) return Verdict::parked;
  if (status >= 500) return Verdict::suspect;
  switch (status) {
    case 401:
    case 403:
    case 407:
      return Verdict::destination_unavailable;
    case 410:
      return Verdict::parked;
    case 408:
    case 429:
      return Verdict::suspect;
    case 404:  // as during a deployment of the endpoint
    case 409:
    case 425:
      return Verdict::retryable_failure;
    default:
      return status >= 400 ? Verdict::failed : Verdict::suspect;
  }
}

std::optional<Verdict> verdict_from(std::string_view name) {
  constexpr auto kNames = std::to_array<std::pair<std::string_view, Verdict>>(
      {{"delivered", Verdict::delivered},
       {"retryable_failure", Verdict::retryable_failure},
       {"failed", Verdict::failed},
       {"destination_unavailable", Verdict::destination_unavailable},
       {"parked", Verdict::parked}});
  const auto found = std::ranges::find(kNames, name, &std::pair<std::string_view, Verdict>::first);
  return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

Outcome outcome_of_status(const Attempt& attempt, Verdict verdict) {
  Outcome outcome;
  if (verdict == Verdict::delivered) return outcome;
  std::string message = "HTTP " + std::to_string(attempt.status);
  if (!attempt.excerpt.empty()) message.append(": ").append(attempt.excerpt);
  outcome.error = std::make_unique<DeliveryError>(
      DeliveryError{"webhook.status_" + std::to_string(attempt.status), std::move(message)});
  switch (verdict) {
    case Verdict::delivered:
      break;
    case Verdict::suspect:
      outcome.destination_suspect = true;
      [[fallthrough]];
    case Verdict::retryable_failure:
      outcome.kind = OutcomeKind::retryable_failure;
      outcome.retry_after = attempt.retry_after;
      break;
    case Verdict::failed:
      outcome.kind = OutcomeKind::failed;
      break;
    case Verdict::parked:
      outcome.parks_destination = true;
      [[fallthrough]];
    case Verdict::destination_unavailable:
      outcome.kind = OutcomeKind::destination_unavailable;
      break;
  }
  return outcome;
}

// Whether the endpoint ended the handshake because of our certificate. With TLS 1.3 it says so only
// after the request was on its way, and has not read it.
bool is_certificate_alert(std::string_view message) {
  const auto has = [&](std::string_view text) {
    return message.find(text) != std::string_view::npos;
  };
  return has("alert") && (has("certificate") || has("unknown ca") || has("access denied"));
}

}  // namespace

StatusTable::StatusTable() {
  for (int status = kFirst; status < kEnd; ++status) {
    verdicts_[static_cast<std::size_t>(status - kFirst)] = default_verdict(status);
  }
}

bool StatusTable::set(std::string_view status, std::string_view verdict) {
  const auto wanted = verdict_from(verdict);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!wanted || status.size() != 3 || status[0] < '1' || status[0] > '5') return false;
  const int hundreds = (status[0] - '0') * 100;
  if (status.substr(1) == "xx") {
    std::fill_n(verdicts_.begin() + (hundreds - kFirst), 100, *wanted);
    return true;
  }
  if (!is_digit(status[1]) || !is_digit(status[2])) return false;
  const int number = hundreds + (status[1] - '0') * 10 + (status[2] - '0');
  verdicts_[static_cast<std::size_t>(number - kFirst)] = *wanted;
  return true;
}

Verdict StatusTable::of(int status) const noexcept {
  if (status < kFirst || status >= kEnd) return Verdict::suspect;
  return verdicts_[static_cast<std::size_t>(status - kFirst)];
}

std::string_view code_of(Fault fault) noexcept {
  return kCodes[static_cast<std::size_t>(fault)];
}

Outcome classify(const Attempt& attempt, const StatusTable& statuses) {
  // The answer's head settles it, also where the rest was cut off or too slow.
  if (attempt.status != 0) return outcome_of_status(attempt, statuses.of(attempt.status));
  Outcome outcome;
  outcome.error = std::make_unique<DeliveryError>(
      DeliveryError{std::string(code_of(attempt.fault)), std::string(attempt.detail)});
  outcome.kind = OutcomeKind::destination_unavailable;
  switch (attempt.fault) {
    case Fault::certificate:
    case Fault::blocked_address:
    case Fault::bad_url:
      outcome.parks_destination = true;
      break;
    case Fault::local_resources:
      outcome.kind = OutcomeKind::deferred;
      outcome.retry_after = kShortageDelay;
      break;
    case Fault::connection_lost:
      outcome.kind = OutcomeKind::possibly_delivered;
      outcome.connection_lost = true;
      break;
    case Fault::timeout:
      // An endpoint that answers nobody is as good as a lost connection. One that answers others
      // meanwhile has trouble with this entry, which therefore counts.
      outcome.kind = OutcomeKind::possibly_delivered;
      outcome.connection_lost = attempt.endpoint_silent;
      break;
    case Fault::stream_reset:
      outcome.kind = OutcomeKind::possibly_delivered;
      break;
    case Fault::headers_too_large:
      outcome.kind = OutcomeKind::failed;
      outcome.destination_asked = false;
      break;
    case Fault::none:
    case Fault::dns:
    case Fault::refused:
    case Fault::connect_timeout:
    case Fault::tls_handshake:
    case Fault::client_certificate:
    case Fault::proxy:
      break;
  }
  return outcome;
}

namespace {

// Whether the endpoint said in a handshake until TLS 1.2 that our certificate has expired, which
// libcurl takes for its own verdict on the endpoint's. What it refuses itself has a reason there.
bool is_expired_alert(const CurlResult& result) noexcept {
  return result.code == CURLE_PEER_FAILED_VERIFICATION &&
         result.message == "SSL certificate verification failed";
}

// What answered our greeting was no TLS. Most often it is HTTP; OpenSSL takes its first letters for
// a version.
bool is_plain_answer(const CurlResult& result) noexcept {
  return result.code == CURLE_SSL_CONNECT_ERROR &&
         result.message.find("wrong version number") != std::string_view::npos;
}

// What libcurl's code says of a request that never was on its way; none: it has no say.
Fault fault_before_request(const CurlResult& result) noexcept {
  switch (result.code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return Fault::bad_url;
    case CURLE_COULDNT_RESOLVE_PROXY:
      return result.short_of_resources ? Fault::none : Fault::proxy;
    case CURLE_PROXY:
      return Fault::proxy;
    case CURLE_OUT_OF_MEMORY:
      return Fault::local_resources;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return Fault::certificate;
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_CIPHER:
      return Fault::client_certificate;
    default:
      return Fault::none;
  }
}

}  // namespace

std::string_view words_of(const CurlResult& result) noexcept {
  if (is_expired_alert(result)) {
    return "the endpoint refused our certificate, which it says has expired";
  }
  if (is_plain_answer(result)) {
    return "what answers at this port does not speak TLS: write the port that does, or "
           "http:// where plain HTTP is meant";
  }
  return result.message.empty() ? curl_easy_strerror(result.code) : result.message;
}

Fault fault_of(const CurlResult& result) noexcept {
  if (result.code == CURLE_OK) return Fault::none;
  if (result.sent) {
    // libcurl repeats a request by itself where a connection that was used before dies, so that
    // what is wrong with the next connection, or an answer that is not HTTP, comes after the
    // endpoint may have taken the request.
    if (!result.repeated && is_certificate_alert(result.message)) return Fault::tls_handshake;
    if (result.code == CURLE_OPERATION_TIMEDOUT) return Fault::timeout;
    return result.code == CURLE_HTTP2_STREAM ? Fault::stream_reset : Fault::connection_lost;
  }
  if (is_expired_alert(result)) return Fault::tls_handshake;
  if (const Fault fault = fault_before_request(result); fault != Fault::none) return fault;
  if (result.blocked) return Fault::blocked_address;
  if (result.short_of_resources) return Fault::local_resources;
  if (is_certificate_alert(result.message)) return Fault::tls_handshake;
  if (result.code == CURLE_COULDNT_RESOLVE_HOST) return Fault::dns;
  // Every connection is the proxy's, so what stands before the request is its matter too.
  if (result.has_proxy && result.code != CURLE_SSL_CONNECT_ERROR) return Fault::proxy;
  if (result.code == CURLE_OPERATION_TIMEDOUT) return Fault::connect_timeout;
  return result.code == CURLE_SSL_CONNECT_ERROR ? Fault::tls_handshake : Fault::refused;
}

}  // namespace outfall::webhook
