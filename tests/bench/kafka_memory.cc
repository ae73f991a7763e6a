// The worker's peak memory while its broker is dead and entries wait.
#include "tests/bench/benchmark.h"
#include "tests/bench/kafka_stream.h"
#include "tests/bench/server.h"
#include "tests/bench/sink_away.h"
#include "tests/support/temp_kafka.h"

namespace outfall::bench {

void run_kafka_memory(const Options& options, Report& report) {
  Server server(options);
  const std::int64_t idle = idle_peak(options, server);
  const auto mebibytes = static_cast<double>(idle) / (1 << 20);
  report.add({.benchmark = "kafka-memory",
              .name = "idle",
              .value = mebibytes,
              .unit = "MiB",
              .rss_bytes = idle});
  test::TempKafka kafka(broker_options());
  kafka.create_topic("shop");
  Measurement away = measure_sink_away(options, server,
                                       {.name = "broker",
                                        .settings = kafka_stream(kafka.brokers(), "shop"),
                                        .go_away = [&] { kafka.kill(); },
                                        .come_back = [&] { kafka.start(); }});
  away.benchmark = "kafka-memory";
  away.floor = mebibytes;
  report.add(std::move(away));
}

}  // namespace outfall::bench
