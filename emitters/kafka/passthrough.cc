#include "emitters/kafka/passthrough.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/number.h"

namespace outfall::kafka {
namespace {

struct Refused {
  std::string_view name;
  std::string_view reason;
};

constexpr std::string_view kAcks =
    "an entry counts as delivered only when all in-sync replicas have it, so acks stays at all";
constexpr std::string_view kRetries =
    "librdkafka's own retries are what keeps the order of a key when a broker changes";
constexpr std::string_view kTimeout =
    "outfall's delivery_timeout takes back everything at once, which keeps the order of a key";
constexpr std::string_view kTransactions =
    "outfall does not write in transactions: an entry is settled in the database and not in Kafka";
constexpr std::string_view kReports = "outfall needs the report of every record";

constexpr auto kRefused = std::to_array<Refused>({
    {"acks", kAcks},
    {"request.required.acks", kAcks},
    {"enable.idempotence", "without it a retry may double or reorder records"},
    {"enable.gapless.guarantee",
     "one record that the broker rejects would end the producer; outfall isolates it instead"},
    {"retries", kRetries},
    {"message.send.max.retries", kRetries},
    {"message.timeout.ms", kTimeout},
    {"delivery.timeout.ms", kTimeout},
    {"queuing.strategy", "lifo turns the order of a key around"},
    {"transactional.id", kTransactions},
    {"transaction.timeout.ms", kTransactions},
    {"delivery.report.only.error", kReports},
    {"dr_cb", kReports},
    {"dr_msg_cb", kReports},
    {"produce.offset.report", "the record id of a receipt holds the offset"},
    {"enabled_events", kReports},
});

// Properties that are settings of outfall's own, and those.
constexpr auto kOwn = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"bootstrap.servers", "brokers"},
    {"metadata.broker.list", "brokers"},
    {"linger.ms", "linger"},
    {"queue.buffering.max.ms", "linger"},
    {"batch.size", "batch_bytes"},
    {"compression.codec", "compression"},
    {"compression.type", "compression"},
    {"security.protocol", "tls.enabled and sasl.mechanism"},
    {"ssl.ca.location", "tls.ca_file"},
    {"ssl.certificate.location", "tls.certificate_file"},
    {"ssl.key.location", "tls.key_file"},
    {"ssl.key.password", "tls.key_password"},
    {"ssl.key.pem", "tls.key_file"},
    {"ssl.keystore.password", "tls.key_password"},
    {"sasl.mechanism", "sasl.mechanism"},
    {"sasl.mechanisms", "sasl.mechanism"},
    {"sasl.username", "sasl.username"},
    {"sasl.password", "sasl.password"},
});

// librdkafka takes properties of topics with this prefix, too; these have it as part of their
// names.
constexpr std::string_view kTopicPrefix = "topic.";
constexpr auto kGlobalOfTopics =
    std::to_array<std::string_view>({"topic.metadata.", "topic.blacklist"});

bool has_topic_prefix(std::string_view name) {
  return name.starts_with(kTopicPrefix) &&
         std::ranges::none_of(kGlobalOfTopics,
                              [&](std::string_view start) { return name.starts_with(start); });
}

}  // namespace

PassthroughProblem passthrough_problem(std::string_view name, std::string_view value) {
  if (has_topic_prefix(name)) {
    return {"properties of topics are written without the prefix",
            "write " + std::string(name.substr(kTopicPrefix.size()))};
  }
  for (const Refused& refused : kRefused) {
    if (refused.name == name) return {std::string(refused.reason), "leave it out"};
  }
  if (name.starts_with("test.")) {
    return {"librdkafka would take the place of the brokers, and what it takes is nowhere",
            "leave it out"};
  }
  for (const auto& [property, setting] : kOwn) {
    if (property == name) {
      return {"outfall has a setting for it", "set " + std::string(setting) + " instead"};
    }
  }
  if (name == "max.in.flight" || name == "max.in.flight.requests.per.connection") {
    const int requests = parse_number<int>(value).value_or(0);
    if (requests < 1 || requests > 5) {
      return {
          "a broker remembers the last 5 requests of a producer, so with more a retry may "
          "reorder records",
          "write a number from 1 to 5"};
    }
  }
  if (name == "partitioner" && value == "random") {
    return {"records of one key would go to different partitions, which have no common order",
            "take murmur2_random, consistent_random or fnv1a_random"};
  }
  if (name == "enable.ssl.certificate.verification" && value != "true") {
    return {"without verification anybody may pose as the broker",
            "name the authority by tls.ca_file"};
  }
  if (name == "ssl.endpoint.identification.algorithm" && value != "https") {
    return {
        "without the name in its certificate, whoever has one of the same authority may pose as "
        "the broker",
        "leave it out, and write brokers by the names in their certificates"};
  }
  return {};
}

}  // namespace outfall::kafka
