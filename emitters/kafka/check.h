#pragma once

#include <cstdint>

#include "emitter/emitter.h"
#include "emitters/kafka/settings.h"

namespace outfall::kafka {

// Whether brokers answer, the topic exists and takes what the stream lets in, by a client of its
// own. May be called from any thread; blocks for `timeout` and a little. `max_payload_bytes` as in
// EmitterContext.
[[nodiscard]] Emitter::Health check_cluster(const Settings& settings,
                                            std::int64_t max_payload_bytes,
                                            Milliseconds timeout) noexcept;

}  // namespace outfall::kafka
