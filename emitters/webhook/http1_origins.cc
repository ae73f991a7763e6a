#include "emitters/webhook/http1_origins.h"

namespace outfall::webhook {

bool Http1Origins::takes(std::string_view url, std::size_t body_bytes) {
  constexpr std::string_view kScheme = "https://";
  // Without TLS it is HTTP/1.1 anyway.
  if (!is_needed_ || !url.starts_with(kScheme)) return false;
  const std::string_view origin = url.substr(0, url.find_first_of("/?#", kScheme.size()));
  if (const auto place = places_.find(origin); place != places_.end()) {
    origins_.splice(origins_.begin(), origins_, place->second);
    return true;
  }
  if (body_bytes < kLargeBodyBytes) return false;
  std::list<std::string> added;
  added.emplace_back(origin);
  places_.emplace(added.front(), added.begin());
  origins_.splice(origins_.begin(), added);
  if (origins_.size() > kMost) {
    places_.erase(origins_.back());
    origins_.pop_back();
  }
  return true;
}

}  // namespace outfall::webhook
