#include "emitters/webhook/http1_origins.h"

namespace outfall::webhook {

bool Http1Origins::takes(std::string_view url, std::size_t body_bytes) {
  constexpr std::string_view kScheme = "https://";
  // Without TLS it is HTTP/1.1 anyway.
  if (!is_needed_ || !url.starts_with(kScheme)) return false;
  const std::string_view origin = url.substr(0, url.find_first_of("/?#", kScheme.size()));
  if (origins_.find(origin) != origins_.end()) return true;
  if (body_bytes < kLargeBodyBytes) return false;
  origins_.emplace(origin);
  return true;
}

}  // namespace outfall::webhook
