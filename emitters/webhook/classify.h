#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <curl/curl.h>

#include "core/outcome.h"

namespace outfall::webhook {

// What a status means for the entry. Every name but `parked` is that of an outcome.
enum class Verdict : std::uint8_t {
  delivered,
  retryable_failure,        // the entry's turn failed
  suspect,                  // retryable_failure that may well be the endpoint's fault
  failed,                   // the entry's own permanent fault
  destination_unavailable,  // every entry would get this answer
  parked,                   // the same, until an operator resumes the destination
};

// The table of statuses (100 to 599) with an operator's changes. A value.
class StatusTable {
 public:
  StatusTable();
  // `status` is "404" or "4xx"; `verdict` a name as above. False: one of them is not known.
  [[nodiscard]] bool set(std::string_view status, std::string_view verdict);
  [[nodiscard]] Verdict of(int status) const noexcept;

 private:
  static constexpr int kFirst = 100;
  static constexpr int kEnd = 600;
  std::array<Verdict, kEnd - kFirst> verdicts_{};
};

// What went wrong with an attempt that got no status.
enum class Fault : std::uint8_t {
  none,
  dns,                 // the name does not resolve
  refused,             // no connection: refused, unreachable, reset before the request
  connect_timeout,     // no connection in time
  tls_handshake,       // the handshake failed, or the endpoint refused our certificate
  certificate,         // the endpoint's certificate is not valid
  client_certificate,  // our own certificate or key cannot be used
  blocked_address,     // the address policy refused every address
  bad_url,
  proxy,            // the proxy, or the way to it
  local_resources,  // descriptors or memory are short on this side
  connection_lost,  // after the request was on its way
  stream_reset,     // HTTP/2: the endpoint gave up this request, and the connection lives
  timeout,          // after the request was on its way
  headers_too_large,
};
inline constexpr std::size_t kFaults = 15;

// The stable error code of a fault, "webhook.refused".
[[nodiscard]] std::string_view code_of(Fault fault) noexcept;

// What one attempt has shown.
struct Attempt {
  int status = 0;  // of the final answer; 0: none came
  Fault fault = Fault::none;
  // With `timeout`: nothing at all came from the endpoint during the attempt's second half.
  bool endpoint_silent = false;
  Milliseconds retry_after{-1};
  std::string_view detail = {};   // for people: curl's words
  std::string_view excerpt = {};  // of the answer's body
};

// The table of docs/reference/emitters/webhook.md, and nothing else decides what an attempt means.
// Pure. The record id of a delivery is left to the caller.
[[nodiscard]] Outcome classify(const Attempt& attempt, const StatusTable& statuses);

// What libcurl's result means, with what was noticed beside it.
struct CurlResult {
  CURLcode code = CURLE_OK;
  bool sent = false;                // the request was on its way
  bool repeated = false;            // and then again, over another connection
  bool blocked = false;             // the address policy refused an address
  bool short_of_resources = false;  // no descriptor was left, or too many lookups hang
  bool has_proxy = false;
  std::string_view message = {};  // CURLOPT_ERRORBUFFER
};
[[nodiscard]] Fault fault_of(const CurlResult& result) noexcept;
// What to tell people: libcurl's words, but for those that mislead. Lives as long as the message.
[[nodiscard]] std::string_view words_of(const CurlResult& result) noexcept;

}  // namespace outfall::webhook
