#include "tests/bench/kafka_stream.h"

#include <fmt/format.h>

namespace outfall::bench {

test::KafkaOptions broker_options() {
  return {.settings = {{"log.segment.delete.delay.ms", "0"}}};
}

std::string kafka_stream(const std::string& brokers, std::string_view topic,
                         std::string_view emitter_settings) {
  return fmt::format(
      "[streams.orders]\nemitter = \"bus\"\nordering = \"key\"\n"
      "[emitters.bus]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{}\"\n{}\n",
      brokers, topic, emitter_settings);
}

}  // namespace outfall::bench
