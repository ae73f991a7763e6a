#include "core/envelope.h"

namespace outfall {

std::string effective_source(const Envelope& envelope) {
  if (!envelope.source.empty()) return std::string(envelope.source);
  return "/outfall/" + std::string(envelope.stream);
}

std::string_view effective_content_type(const Envelope& envelope) noexcept {
  if (!envelope.content_type.empty()) return envelope.content_type;
  switch (envelope.payload_kind) {
    case PayloadKind::none:
      return {};
    case PayloadKind::json:
      return "application/json";
    case PayloadKind::binary:
      return "application/octet-stream";
  }
  return {};
}

WallTime effective_time(const Envelope& envelope) noexcept {
  return envelope.occurred_at.value_or(envelope.created_at);
}

}  // namespace outfall
