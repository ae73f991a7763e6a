#pragma once

#include <cstddef>
#include <vector>

#include "drain/stream_drain.h"

namespace outfall {

// The settle of a stream that is under way. Of the loop thread, except while its job runs.
struct StreamDrain::Settle {
  std::vector<SettlePart> parts;
  std::size_t next = 0;               // the first part that is not known to be written
  std::vector<HeldKey*> failed_keys;  // of parts that were taken apart
  int refusals = 0;
  std::size_t refused = 0;   // parts that are aside for what they are
  MonotonicTime taken;       // when its outcomes were taken from their leases
  MonotonicTime begun;       // the last try
  DrainHost::Amount amount;  // of all outcomes, also of those that are put aside
};

}  // namespace outfall
