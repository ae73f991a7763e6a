#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/breaker.h"
#include "core/clock.h"
#include "core/transition.h"

namespace outfall {

// One stream's policies; a value, replaced as a whole by a reload.
struct StreamOptions {
  std::string name;
  std::string emitter;   // name of the emitter that it is bound to
  std::string provider;  // the emitter's kind, for receipts
  StreamPolicy policy;
  std::string lane;  // selector; empty: the whole stream is one lane
  bool receipts = true;
  std::int32_t max_abandoned = 5;
  std::int32_t key_in_flight = 1000;   // entries of one key that this worker holds
  std::int32_t lane_in_flight = 2000;  // entries of one lane that this worker holds
  BreakerPolicy breaker;
  std::int64_t max_payload_bytes = 0;  // 0: no limit

  // A key gets no more than half of its lane, or one slow key would close the lane for the others.
  [[nodiscard]] std::int32_t key_limit() const {
    return std::max(1, std::min(key_in_flight, lane_in_flight / 2));
  }
};

// What holds for all streams of the worker.
struct DrainOptions {
  Milliseconds lease{30000};
  Milliseconds shutdown_timeout{25000};
  Milliseconds poll_idle{250};
  Milliseconds poll_active{3};
  std::int32_t max_in_flight = 8000;
  std::int64_t max_in_flight_bytes = 16 << 20;
  std::int32_t batch_entries = 1000;
  std::int64_t batch_bytes = 1 << 20;
  std::int32_t connections = 4;
  Milliseconds reconnect_max{5000};
};

}  // namespace outfall
