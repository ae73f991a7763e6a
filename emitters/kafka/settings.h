#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <librdkafka/rdkafka.h>

#include "core/clock.h"
#include "core/setting.h"
#include "emitters/kafka/topic_template.h"

namespace outfall::kafka {

// What a record looks like: CloudEvents in binary or structured mode, or as Debezium's outbox
// router writes it.
enum class Format : std::uint8_t { binary, structured, debezium };

// How a key or an id is written, as Kafka Connect's converters do.
enum class Encoding : std::uint8_t { raw, json, json_schema };

// The settings of one emitter, read. A value.
struct Settings {
  explicit Settings(TopicTemplate of_topic) : topic(std::move(of_topic)) {}

  TopicTemplate topic;
  Format format = Format::binary;
  Encoding key_encoding = Encoding::raw;
  Encoding id_encoding = Encoding::raw;
  std::string type_header;       // Debezium format: the header for the type; empty: none
  std::string partition_header;  // empty: the partitioner decides
  std::string partitioner = "murmur2_random";
  std::int32_t key_window = 0;
  Milliseconds delivery_timeout{10'000};
  std::int64_t batch_bytes = 1'000'000;
  bool compresses = false;
  bool uses_scram = false;
  // For librdkafka, in the order in which they apply; without batch.size.
  std::vector<std::pair<std::string, std::string>> properties;
};

// The rows below [emitters.NAME] of this kind, and what is wrong with values by the rules that rows
// cannot say. The second reads no file and connects to nothing.
[[nodiscard]] std::span<const SettingSpec> setting_specs() noexcept;
[[nodiscard]] std::vector<SettingProblem> setting_problems(const SettingValues& values);
// Of values without problems.
[[nodiscard]] Settings read_settings(const SettingValues& values);

// What to say beside the words about a connection that failed with `error`: why this librdkafka may
// be refused whatever the password is. Mostly empty.
[[nodiscard]] std::string_view login_note(const Settings& settings,
                                          rd_kafka_resp_err_t error) noexcept;

struct ConfDeleter {
  void operator()(rd_kafka_conf_t* conf) const noexcept { rd_kafka_conf_destroy(conf); }
};
using Conf = std::unique_ptr<rd_kafka_conf_t, ConfDeleter>;

// The properties as librdkafka takes them. Throws std::runtime_error with librdkafka's words, which
// hold no secret, where it refuses one.
[[nodiscard]] Conf make_conf(const Settings& settings, std::int64_t batch_bytes);

}  // namespace outfall::kafka
