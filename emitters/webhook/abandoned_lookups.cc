#include "emitters/webhook/abandoned_lookups.h"

namespace outfall::webhook {

void AbandonedLookups::add(MonotonicTime now) noexcept try {
  since_.push_back(now);
} catch (...) {  // Out of memory: one more than should be.
}

bool AbandonedLookups::leave_room(MonotonicTime now) noexcept {
  while (!since_.empty() && now - since_.front() >= kLongest) since_.pop_front();
  return since_.size() < kMost;
}

}  // namespace outfall::webhook
