#include "emitters/webhook/request.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include <openssl/evp.h>

#include "core/cloudevents.h"
#include "core/headers.h"
#include "core/text.h"
#include "emitters/webhook/header_names.h"
#include "emitters/webhook/percent.h"

namespace outfall::webhook {
namespace {

constexpr std::string_view kUserAgent = "outfall/" OUTFALL_VERSION;
constexpr std::string_view kStructured = "application/cloudevents+json; charset=UTF-8";
constexpr std::string_view kBatch = "application/cloudevents-batch+json; charset=UTF-8";
// A body that was larger is not kept for the next request.
constexpr std::size_t kKeptBytes = 256 << 10;

}  // namespace

std::vector<std::string> Request::lines() const {
  std::vector<std::string> all;
  all.reserve(starts_.size());
  for (const std::size_t start : starts_) all.emplace_back(head_.c_str() + start);
  return all;
}

void Request::clear() {
  head_.clear();
  starts_.clear();
  if (text_.capacity() > kKeptBytes) std::string().swap(text_);
  text_.clear();
  body_ = {};
}

void Request::link() {
  nodes_.resize(starts_.size());
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    nodes_[i].data = head_.data() + starts_[i];
    nodes_[i].next = i + 1 < nodes_.size() ? &nodes_[i + 1] : nullptr;
  }
}

RequestBuilder::RequestBuilder(WebhookOptions& options) : options_(options) {
}

void RequestBuilder::build(Request& request, std::span<const Envelope* const> envelopes,
                           WallTime now) {
  request.clear();
  const Envelope& first = *envelopes.front();
  std::string id = first.envelope_id.to_string();
  switch (options_.body) {
    case BodyFormat::payload:
      add_attributes(request, first);
      request.body_ = first.payload;
      break;
    case BodyFormat::structured:
      add(request, "content-type", kStructured);
      append_cloudevent_json(request.text_, first);
      request.body_ = request.text_;
      break;
    case BodyFormat::batch:
      add(request, "content-type", kBatch);
      for (const Envelope* envelope : envelopes) {
        request.text_ += request.text_.empty() ? '[' : ',';
        append_cloudevent_json(request.text_, *envelope);
      }
      request.text_ += ']';
      request.body_ = request.text_;
      if (envelopes.size() > 1) id = batch_id(envelopes);
      break;
  }
  // The headers of an entry are its own; those of a batch would be one entry's among many.
  if (envelopes.size() == 1) add_entry_headers(request, first);
  add_signature(request, id, now);
  bool has_agent = false;
  for (const auto& [name, value] : options_.headers) {
    add(request, name, value);
    has_agent = has_agent || lower_header_name(name) == "user-agent";
  }
  if (!has_agent) add(request, "user-agent", kUserAgent);
  // libcurl would ask for permission before a large body, and wait a second where none answers.
  request.starts_.push_back(request.head_.size());
  request.head_.append("Expect:").push_back('\0');
  request.link();
}

// A header without a value has to end in a semicolon for libcurl to send it.
void RequestBuilder::add(Request& request, std::string_view name, std::string_view value) {
  request.starts_.push_back(request.head_.size());
  request.head_ += name;
  if (value.empty()) {
    request.head_ += ';';
  } else {
    request.head_.append(": ").append(value);
  }
  request.head_ += '\0';
}

void RequestBuilder::add_encoded(Request& request, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  request.starts_.push_back(request.head_.size());
  request.head_.append(name).append(": ");
  append_percent_encoded(request.head_, value, is_plain_in_header);
  request.head_ += '\0';
}

// Under the producer's own name a value is sent as it is wherever HTTP can carry it.
void RequestBuilder::add_as_is(Request& request, std::string_view name, std::string_view value) {
  const bool plain =
      std::ranges::all_of(value, [](char c) { return (c >= ' ' && c < '\x7f') || c == '\t'; });
  if (plain && !value.empty()) {
    add(request, name, value);
  } else {
    add_encoded(request, name, value);
  }
}

void RequestBuilder::add_attributes(Request& request, const Envelope& envelope) {
  const std::string_view content_type = effective_content_type(envelope);
  // A tombstone has none, and libcurl would call it a form.
  if (!content_type.empty() && is_header_value(content_type)) {
    add(request, "content-type", content_type);
  } else {
    request.starts_.push_back(request.head_.size());
    request.head_.append("content-type:").push_back('\0');
  }
  add(request, "ce-specversion", "1.0");
  add(request, "ce-id", envelope.envelope_id.to_string());
  add_encoded(request, "ce-source", effective_source(envelope));
  add_encoded(request, "ce-type", envelope.type);
  buffer_.clear();
  if (append_rfc3339(buffer_, effective_time(envelope))) add(request, "ce-time", buffer_);
  add_encoded(request, "ce-subject", envelope.subject);
  add_encoded(request, "ce-dataschema", envelope.data_schema);
  add_encoded(request, "ce-partitionkey", envelope.key.value_or(std::string_view{}));
}

void RequestBuilder::add_entry_headers(Request& request, const Envelope& envelope) {
  if (envelope.headers_json.empty()) return;
  const bool binary = options_.body == BodyFormat::payload;
  for_each_header(envelope.headers_json, [&](std::string_view name, std::string_view value) {
    if (binary && is_extension_name(name)) {
      buffer_ = "ce-";
      buffer_ += name;
      add_encoded(request, buffer_, value);
    }
    if (is_forwarded(name)) add_as_is(request, name, value);
  });
}

bool RequestBuilder::is_forwarded(std::string_view name) const {
  if (name == "traceparent" || name == "tracestate") return true;
  if (options_.forward_headers.empty() || !is_header_name(name) || is_reserved_header(name)) {
    return false;
  }
  const std::string lower = lower_header_name(name);
  const auto is_set = [&](const auto& header) { return lower_header_name(header.first) == lower; };
  if (std::ranges::any_of(options_.headers, is_set)) return false;
  return std::ranges::any_of(options_.forward_headers, [&](std::string_view pattern) {
    return pattern.ends_with('*') ? lower.starts_with(pattern.substr(0, pattern.size() - 1))
                                  : lower == pattern;
  });
}

void RequestBuilder::add_signature(Request& request, std::string_view id, WallTime now) {
  const std::int64_t seconds =
      std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
  add(request, "webhook-id", id);
  add(request, "webhook-timestamp", std::to_string(seconds));
  if (options_.signer.empty()) return;
  request.starts_.push_back(request.head_.size());
  request.head_ += "webhook-signature: ";
  options_.signer.append_signatures(request.head_, id, seconds, request.body_);
  request.head_ += '\0';
}

std::string batch_id(std::span<const Envelope* const> envelopes) {
  std::string ids;
  for (const Envelope* envelope : envelopes) {
    const auto& bytes = envelope->envelope_id.bytes;
    ids.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(ids.data(), ids.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot hash");
  }
  constexpr std::size_t kIdBytes = 16;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string id = "batch_";
  for (std::size_t i = 0; i < kIdBytes; ++i) {
    id += kDigits[digest[i] >> 4];
    id += kDigits[digest[i] & 15];
  }
  return id;
}

}  // namespace outfall::webhook
