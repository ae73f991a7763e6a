#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <curl/curl.h>

#include "core/envelope.h"
#include "emitters/webhook/options.h"

namespace outfall::webhook {

// The headers and the body of one request, in memory that is used again for the next one. The body
// points into `text` or into the entry's payload, which must outlive the transfer.
class Request {
 public:
  [[nodiscard]] curl_slist* headers() noexcept { return nodes_.data(); }
  [[nodiscard]] std::string_view body() const noexcept { return body_; }
  // What the headers take at most.
  [[nodiscard]] std::size_t head_bytes() const noexcept { return head_.size() + starts_.size(); }
  // "name: value" of each header, in order.
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  friend class RequestBuilder;
  void clear();
  void link();

  std::string head_;                 // header lines, each ended by a zero
  std::vector<std::size_t> starts_;  // of lines in head_
  std::vector<curl_slist> nodes_;    // libcurl's list over them
  std::string text_;                 // a body that was made here
  std::string_view body_;
};

// Makes requests of entries: CloudEvents in the mode of `body`, the headers of Standard Webhooks,
// those of the settings and those of the entry that are forwarded. Used by one thread.
class RequestBuilder {
 public:
  explicit RequestBuilder(WebhookOptions& options);

  // `envelopes` are one, but with BodyFormat::batch. `now` is the time of the attempt.
  void build(Request& request, std::span<const Envelope* const> envelopes, WallTime now);

 private:
  void add(Request& request, std::string_view name, std::string_view value);
  void add_encoded(Request& request, std::string_view name, std::string_view value);
  void add_as_is(Request& request, std::string_view name, std::string_view value);
  void add_attributes(Request& request, const Envelope& envelope);
  void add_entry_headers(Request& request, const Envelope& envelope);
  void add_signature(Request& request, std::string_view id, WallTime now);
  [[nodiscard]] bool is_forwarded(std::string_view name) const;

  WebhookOptions& options_;
  std::string buffer_;
};

// The id of a batch: the same entries in the same order always have the same one.
[[nodiscard]] std::string batch_id(std::span<const Envelope* const> envelopes);

}  // namespace outfall::webhook
