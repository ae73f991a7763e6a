#pragma once

#include "emitter/emitter.h"

namespace outfall {

// The kind "kafka": records to a Kafka cluster by librdkafka's idempotent producer; see README.md
// of this folder. Runs one thread, beside those of librdkafka.
[[nodiscard]] EmitterKind kafka_emitter_kind();

}  // namespace outfall
