#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/setting.h"
#include "emitters/webhook/address_policy.h"
#include "emitters/webhook/classify.h"
#include "emitters/webhook/signature.h"
#include "emitters/webhook/url_template.h"

namespace outfall::webhook {

// What a request carries as its body.
enum class BodyFormat : std::uint8_t {
  payload,     // the payload as it is, attributes in ce- headers (CloudEvents binary mode)
  structured,  // one CloudEvents JSON object
  batch,       // a CloudEvents JSON array of several entries
};

// The settings of one webhook emitter, parsed. Immutable but for the signer's contexts, which the
// emitter's own thread uses.
struct WebhookOptions {
  UrlTemplate url;
  HostList allow_hosts;
  Signer signer;
  BodyFormat body = BodyFormat::payload;
  std::size_t batch_entries = 100;
  std::size_t max_in_flight = 64;      // requests of one endpoint
  std::size_t max_connections = 4096;  // requests and idle connections of all endpoints
  double rate_per_second = 0;          // entries of one endpoint; 0: no limit
  Milliseconds timeout{15'000};
  Milliseconds connect_timeout{3'000};
  bool http1_only = false;
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  std::string proxy;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::string> forward_headers;  // names, or beginnings of names before an asterisk
  AddressPolicy addresses;
  StatusTable statuses;
  std::size_t excerpt_bytes = 256;
  std::string request_id_header;
};

// The rows below [emitters.NAME] of this kind.
[[nodiscard]] std::span<const SettingSpec> settings() noexcept;

// Parses the settings; everything that is wrong with them is added to `problems`. Reads no file.
// Throws std::runtime_error where OpenSSL or libcurl cannot work.
[[nodiscard]] WebhookOptions options_from(const SettingValues& values,
                                          std::vector<SettingProblem>& problems);

}  // namespace outfall::webhook
