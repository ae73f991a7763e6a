#include "emitter/registry.h"
#include "emitters/exec/exec.h"
#include "emitters/kafka/kafka.h"
#include "emitters/noop/noop.h"
#include "emitters/stdout/stdout.h"
#include "emitters/webhook/webhook.h"

namespace outfall {

void register_emitters(EmitterRegistry& registry) {
  registry.add(exec_emitter_kind());
  registry.add(kafka_emitter_kind());
  registry.add(noop_emitter_kind());
  registry.add(stdout_emitter_kind());
  registry.add(webhook_emitter_kind());
}

}  // namespace outfall
