#include "emitters/kafka/topics.h"

#include <algorithm>
#include <array>
#include <new>

#include "core/number.h"
#include "emitters/kafka/classify.h"

namespace outfall::kafka {
namespace {

// A topic that somebody, or the broker itself, is creating right now gets this long to appear.
constexpr Milliseconds kCreationTime{3000};
constexpr Milliseconds kAskAgain{100};
constexpr std::size_t kManyTopics = 1000;
constexpr Milliseconds kUnusedTime{60'000};
constexpr Milliseconds kCountTime{500};
constexpr Milliseconds kSilence{2000};
// Clocks differ; what is closer to a bound than this is for the broker to judge.
constexpr std::int64_t kClockSkewMs = 300'000;
// More than key, headers and the frame of a batch mostly have.
constexpr std::int64_t kBesidePayload = 1024;

// Whether the error is about the way to the brokers and not about the topic.
bool is_outage(rd_kafka_resp_err_t error) noexcept {
  return error == RD_KAFKA_RESP_ERR__TIMED_OUT || error == RD_KAFKA_RESP_ERR__TRANSPORT ||
         error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || error == RD_KAFKA_RESP_ERR__DESTROY ||
         error == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT;
}

bool is_of_destination(rd_kafka_resp_err_t error) noexcept {
  return classify(error).fault == Fault::destination;
}

}  // namespace

std::optional<DeliveryError> record_problem(const Mapped& mapped, const TopicLimits& limits,
                                            bool compresses, std::int64_t earliest_now_ms) {
  if (!compresses && mapped.wire_bytes > limits.max_message_bytes) {
    return DeliveryError{"kafka.msg_size_too_large",
                         "the record has " + std::to_string(mapped.wire_bytes) +
                             " bytes; max.message.bytes of the topic is " +
                             std::to_string(limits.max_message_bytes)};
  }
  if (limits.compacted && !mapped.key) {
    return DeliveryError{"kafka.key_missing",
                         "the topic is compacted and takes no record without "
                         "a key"};
  }
  if (!limits.create_time) return std::nullopt;
  const std::int64_t age = earliest_now_ms - mapped.timestamp_ms;
  if (age <= kClockSkewMs || age - kClockSkewMs <= limits.before_max_ms) return std::nullopt;
  return DeliveryError{"kafka.invalid_timestamp",
                       "its time is beyond message.timestamp.before.max.ms of the topic"};
}

bool seems_too_new(std::int64_t timestamp_ms, const TopicLimits& limits,
                   std::int64_t latest_now_ms) noexcept {
  const std::int64_t ahead = timestamp_ms - latest_now_ms;
  return limits.create_time && ahead > kClockSkewMs && ahead - kClockSkewMs > limits.after_max_ms;
}

bool may_be_too_large(std::int64_t max_message_bytes, std::int64_t max_payload_bytes) noexcept {
  return max_payload_bytes == 0 || max_payload_bytes > max_message_bytes - kBesidePayload;
}

std::string size_text(std::int64_t max_message_bytes, std::int64_t max_payload_bytes) {
  std::string text = " takes records up to " + std::to_string(max_message_bytes) + " bytes";
  if (!may_be_too_large(max_message_bytes, max_payload_bytes)) return text;
  return text + "; the stream lets in payloads " +
         (max_payload_bytes == 0 ? std::string("of any size")
                                 : "up to " + std::to_string(max_payload_bytes) + " bytes") +
         ", larger records become dead letters (key and headers count)";
}

TopicLimits read_limits(const rd_kafka_ConfigResource_t& resource) {
  TopicLimits limits;
  std::size_t count = 0;
  const auto* const* entries = rd_kafka_ConfigResource_configs(&resource, &count);
  for (std::size_t i = 0; i < count; ++i) {
    const char* const raw = rd_kafka_ConfigEntry_value(entries[i]);
    if (raw == nullptr) continue;
    const std::string_view name = rd_kafka_ConfigEntry_name(entries[i]);
    const std::string_view value = raw;
    if (name == "max.message.bytes" || name == "message.max.bytes") {
      limits.max_message_bytes = parse_number<std::int64_t>(value).value_or(INT64_MAX);
    } else if (name == "cleanup.policy") {
      limits.compacted = value.find("compact") != std::string_view::npos;
    } else if (name == "message.timestamp.type") {
      limits.create_time = value == "CreateTime";
    } else if (name == "message.timestamp.before.max.ms") {
      limits.before_max_ms = parse_number<std::int64_t>(value).value_or(INT64_MAX);
    } else if (name == "message.timestamp.after.max.ms") {
      limits.after_max_ms = parse_number<std::int64_t>(value).value_or(INT64_MAX);
    }
  }
  return limits;
}

std::optional<TopicLimits> limits_in(rd_kafka_event_t* event) {
  if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) return std::nullopt;
  std::size_t count = 0;
  const auto* const* resources = rd_kafka_DescribeConfigs_result_resources(
      rd_kafka_event_DescribeConfigs_result(event), &count);
  if (count != 1 || rd_kafka_ConfigResource_error(resources[0]) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return std::nullopt;
  }
  return read_limits(*resources[0]);
}

void describe(rd_kafka_t* handle, rd_kafka_ResourceType_t type, const std::string& name,
              Milliseconds timeout, rd_kafka_queue_t* queue, void* opaque) {
  std::array<char, 256> error{};
  rd_kafka_AdminOptions_t* options =
      rd_kafka_AdminOptions_new(handle, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
  rd_kafka_AdminOptions_set_request_timeout(options, static_cast<int>(timeout.count()),
                                            error.data(), error.size());
  rd_kafka_AdminOptions_set_opaque(options, opaque);
  rd_kafka_ConfigResource_t* resource = rd_kafka_ConfigResource_new(type, name.c_str());
  rd_kafka_DescribeConfigs(handle, &resource, 1, options, queue);
  rd_kafka_ConfigResource_destroy(resource);
  rd_kafka_AdminOptions_destroy(options);
}

Topic& Topics::at(std::string_view name) {
  const auto found = topics_.find(name);
  if (found != topics_.end()) return *found->second;
  auto topic = std::make_unique<Topic>();
  topic->name = name;
  return *topics_.emplace(topic->name, std::move(topic)).first->second;
}

rd_kafka_topic_t* Topics::handle(Topic& topic, Client& client) {
  if (!topic.handle) {
    // Makes librdkafka look for the leaders, and the broker create the topic where it does that.
    topic.handle.reset(rd_kafka_topic_new(client.handle(), topic.name.c_str(), nullptr));
    if (!topic.handle) throw std::bad_alloc();
  }
  return topic.handle.get();
}

void Topics::ask(Topic& topic, Client& client, MonotonicTime now) {
  static_cast<void>(handle(topic, client));
  if (topic.asked) return;
  if (topic.state != Topic::State::ready && topic.state != Topic::State::asking) {
    topic.state = Topic::State::asking;
    topic.asked_since = now;
  }
  topic.asked = true;
  topic.ask_again = MonotonicTime::max();
  ++asking_;
  describe(client.handle(), RD_KAFKA_RESOURCE_TOPIC, topic.name, answer_timeout_, client.queue(),
           &topic);
}

Topic& Topics::answered(rd_kafka_event_t* event, const Client& client, MonotonicTime now) {
  Topic& topic = *static_cast<Topic*>(rd_kafka_event_opaque(event));
  topic.asked = false;
  --asking_;
  judge(topic, event, client, now);
  return topic;
}

void Topics::judge(Topic& topic, rd_kafka_event_t* event, const Client& client, MonotonicTime now) {
  const rd_kafka_resp_err_t error = rd_kafka_event_error(event);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    if (topic.state == Topic::State::ready) return;
    topic.answered_at = now;
    topic.error = error;
    // Brokers that are there and do not tell (they look for a controller) may well take records.
    topic.state =
        is_outage(error) && !client.connected() ? Topic::State::away : Topic::State::ready;
    return;
  }
  std::size_t count = 0;
  const auto* const* resources = rd_kafka_DescribeConfigs_result_resources(
      rd_kafka_event_DescribeConfigs_result(event), &count);
  for (std::size_t i = 0; i < count; ++i) read(topic, *resources[i], now);
}

void Topics::read(Topic& topic, const rd_kafka_ConfigResource_t& resource, MonotonicTime now) {
  topic.answered_at = now;
  topic.error = rd_kafka_ConfigResource_error(&resource);
  if (topic.error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
    topic.limits_known = false;
    if (topic.state == Topic::State::ready) {
      topic.state = Topic::State::unknown;  // It was deleted.
    } else if (now - topic.asked_since < kCreationTime) {
      topic.ask_again = now + kAskAgain;
      ++asking_;  // A question is as good as out.
    } else {
      topic.state = Topic::State::away;
    }
    return;
  }
  topic.state = Topic::State::ready;
  topic.limits_known = topic.error == RD_KAFKA_RESP_ERR_NO_ERROR;
  topic.limits = topic.limits_known ? read_limits(resource) : TopicLimits{};
}

void Topics::count_partitions(Topic& topic, const Client& client, MonotonicTime now) {
  topic.counted_at = now;
  topic.count_error = RD_KAFKA_RESP_ERR__TIMED_OUT;
  if (now < silent_until_) return;
  const struct rd_kafka_metadata* answer = nullptr;
  const auto error = rd_kafka_metadata(client.handle(), 0, topic.handle.get(), &answer,
                                       static_cast<int>(kCountTime.count()));
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    silent_until_ = now + kCountTime + kSilence;
    if (is_of_destination(error)) topic.count_error = error;
    return;
  }
  if (answer->topic_cnt == 1) {
    const rd_kafka_metadata_topic_t& counted = answer->topics[0];
    const bool told = counted.err == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (told) topic.partitions = counted.partition_cnt;
    if (told || is_of_destination(counted.err)) topic.count_error = counted.err;
  }
  rd_kafka_metadata_destroy(answer);
}

void Topics::ask_again(Client& client, MonotonicTime now) {
  for (auto& [name, topic] : topics_) {
    if (now < topic->ask_again) continue;
    --asking_;
    ask(*topic, client, now);
  }
}

void Topics::detach() noexcept {
  for (auto& [name, topic] : topics_) {
    topic->handle.reset();
    topic->asked = false;
    topic->ask_again = MonotonicTime::max();
    topic->out = 0;
    topic->partitions = 0;
    topic->known.clear();
  }
  asking_ = 0;
}

void Topics::attach(Client& client, MonotonicTime now) {
  for (auto& [name, topic] : topics_) {
    if (topic->state == Topic::State::asking) ask(*topic, client, now);
  }
}

void Topics::forget_unused(MonotonicTime now) {
  if (topics_.size() < kManyTopics) return;
  std::erase_if(topics_, [&](const auto& item) {
    const Topic& topic = *item.second;
    return !topic.asked && topic.ask_again == MonotonicTime::max() && topic.out == 0 &&
           now - std::max(topic.answered_at, topic.progressed_at) > kUnusedTime;
  });
}

}  // namespace outfall::kafka
