#include "emitters/kafka/check.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "emitters/kafka/classify.h"
#include "emitters/kafka/topics.h"

namespace outfall::kafka {
namespace {

using Handle = std::unique_ptr<rd_kafka_t, void (*)(rd_kafka_t*)>;
using Queue = std::unique_ptr<rd_kafka_queue_t, void (*)(rd_kafka_queue_t*)>;
using Metadata =
    std::unique_ptr<const struct rd_kafka_metadata, void (*)(const struct rd_kafka_metadata*)>;

class Check {
 public:
  Check(const Settings& settings, std::int64_t max_payload_bytes, Milliseconds timeout)
      : settings_(settings),
        max_payload_bytes_(max_payload_bytes),
        until_(std::chrono::steady_clock::now() + timeout) {}

  Emitter::Health run() {
    std::array<char, 512> error{};
    Conf conf = make_conf(settings_, settings_.batch_bytes);
    rd_kafka_conf_set(conf.get(), "log.queue", "true", error.data(), error.size());
    // A look must not make the topic, whatever the settings say.
    rd_kafka_conf_set(conf.get(), "allow.auto.create.topics", "false", error.data(), error.size());
    rd_kafka_conf_set_events(conf.get(), RD_KAFKA_EVENT_ERROR);
    handle_ = Handle(rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), error.data(), error.size()),
                     end_producer);
    if (!handle_) return {false, error.data()};
    static_cast<void>(conf.release());
    queue_ = Queue(rd_kafka_queue_get_main(handle_.get()), rd_kafka_queue_destroy);
    return settings_.topic.constant() ? with_topic() : without_topic();
  }

 private:
  [[nodiscard]] int left() const {
    const auto rest = std::chrono::ceil<Milliseconds>(until_ - std::chrono::steady_clock::now());
    return static_cast<int>(std::max<std::int64_t>(rest.count(), 1));
  }

  // Why nobody answered: what librdkafka said about the connections.
  [[nodiscard]] Emitter::Health nobody(rd_kafka_resp_err_t code) {
    std::string text = rd_kafka_err2str(code);
    while (const Event event{rd_kafka_queue_poll(queue_.get(), 0)}) {
      const auto type = rd_kafka_event_type(event.get());
      const auto said = rd_kafka_event_error(event.get());
      if (type == RD_KAFKA_EVENT_ERROR && said != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        text = rd_kafka_event_error_string(event.get());
        text += login_note(settings_, said);
        text += certificate_note(rd_kafka_event_error_string(event.get()));
      }
    }
    return {false, "no broker answers: " + text};
  }

  [[nodiscard]] Metadata ask(rd_kafka_topic_t* topic, rd_kafka_resp_err_t& code) {
    const struct rd_kafka_metadata* metadata = nullptr;
    code = rd_kafka_metadata(handle_.get(), 0, topic, &metadata, left());
    return {metadata, [](const struct rd_kafka_metadata* each) {
              if (each != nullptr) rd_kafka_metadata_destroy(each);
            }};
  }

  [[nodiscard]] static std::string brokers_of(const struct rd_kafka_metadata& metadata) {
    return std::to_string(metadata.broker_cnt) +
           (metadata.broker_cnt == 1 ? " broker" : " brokers");
  }

  Emitter::Health without_topic() {
    rd_kafka_resp_err_t code{};
    const Metadata metadata = ask(nullptr, code);
    if (!metadata) return nobody(code);
    std::string detail = brokers_of(*metadata) + "; topics are " + settings_.topic.text();
    if (metadata->broker_cnt > 0) {
      const std::string number = std::to_string(metadata->brokers[0].id);
      const auto limits = ask_limits(RD_KAFKA_RESOURCE_BROKER, number);
      if (limits) {
        detail += "; one without a limit of its own" +
                  size_text(limits->max_message_bytes, max_payload_bytes_);
      }
    }
    return {true, detail};
  }

  Emitter::Health with_topic() {
    const std::string& name = settings_.topic.text();
    const std::unique_ptr<rd_kafka_topic_t, TopicDeleter> topic(
        rd_kafka_topic_new(handle_.get(), name.c_str(), nullptr));
    rd_kafka_resp_err_t code{};
    const Metadata metadata = ask(topic.get(), code);
    if (!metadata) return nobody(code);
    const std::string start = brokers_of(*metadata) + "; topic " + name + " ";
    if (metadata->topic_cnt != 1) return {false, start + "is unknown"};
    const auto& found = metadata->topics[0];
    if (found.err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
      return {false, start + "does not exist"};
    }
    if (found.err != RD_KAFKA_RESP_ERR_NO_ERROR &&
        found.err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) {
      return {false, start + "cannot be used: " + rd_kafka_err2str(found.err)};
    }
    const auto limits = ask_limits(RD_KAFKA_RESOURCE_TOPIC, name);
    return {true, start + "has " + std::to_string(found.partition_cnt) + " partitions" +
                      (limits ? " and" + size_text(limits->max_message_bytes, max_payload_bytes_)
                              : std::string())};
  }

  // What it takes; nullopt where the brokers do not tell.
  [[nodiscard]] std::optional<TopicLimits> ask_limits(rd_kafka_ResourceType_t type,
                                                      const std::string& name) {
    describe(handle_.get(), type, name, Milliseconds{left()}, queue_.get(), nullptr);
    while (const Event event{rd_kafka_queue_poll(queue_.get(), left())}) {
      if (rd_kafka_event_type(event.get()) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT) {
        return limits_in(event.get());
      }
    }
    return std::nullopt;
  }

  const Settings& settings_;
  const std::int64_t max_payload_bytes_;
  const std::chrono::steady_clock::time_point until_;
  Handle handle_{nullptr, end_producer};
  Queue queue_{nullptr, rd_kafka_queue_destroy};
};

}  // namespace

Emitter::Health check_cluster(const Settings& settings, std::int64_t max_payload_bytes,
                              Milliseconds timeout) noexcept {
  try {
    return Check(settings, max_payload_bytes, timeout).run();
  } catch (const std::exception& error) {
    try {
      return {false, error.what()};
    } catch (...) {
      return {false, {}};
    }
  }
}

}  // namespace outfall::kafka
