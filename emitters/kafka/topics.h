#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <librdkafka/rdkafka.h>

#include "core/clock.h"
#include "core/outcome.h"
#include "emitters/kafka/client.h"
#include "emitters/kafka/mapping.h"
#include "emitters/kafka/partitions.h"

namespace outfall::kafka {

// The topic's own settings that decide whether it takes a record.
struct TopicLimits {
  std::int64_t max_message_bytes = INT64_MAX;
  bool compacted = false;
  bool create_time = true;  // the record's timestamp counts, and is bounded by these
  std::int64_t before_max_ms = INT64_MAX;
  std::int64_t after_max_ms = INT64_MAX;
};

// Why the topic will not take the record, whatever else happens; nullopt where that is not certain.
// `compresses`: only the broker knows the size. It is not before `earliest_now_ms`. Pure.
[[nodiscard]] std::optional<DeliveryError> record_problem(const Mapped& mapped,
                                                          const TopicLimits& limits,
                                                          bool compresses,
                                                          std::int64_t earliest_now_ms);

// Whether a record's time is too far ahead for the topic, where it is `latest_now_ms`. Only the
// broker knows that for certain, since our clock may be behind. Pure.
[[nodiscard]] bool seems_too_new(std::int64_t timestamp_ms, const TopicLimits& limits,
                                 std::int64_t latest_now_ms) noexcept;

// Whether a payload of `max_payload_bytes` (0: of any size) may make a record that is larger than
// that, with its key and headers.
[[nodiscard]] bool may_be_too_large(std::int64_t max_message_bytes,
                                    std::int64_t max_payload_bytes) noexcept;
// " takes records up to … bytes", and what that means for the stream where payloads may be too
// large.
[[nodiscard]] std::string size_text(std::int64_t max_message_bytes, std::int64_t max_payload_bytes);

struct TopicDeleter {
  void operator()(rd_kafka_topic_t* topic) const noexcept { rd_kafka_topic_destroy(topic); }
};

// A topic that entries go to, and what is known about it.
struct Topic {
  enum class State : std::uint8_t {
    unknown,  // nobody has asked
    asking,   // records wait for the answer
    ready,    // it exists, or the brokers do not tell
    away,     // it does not exist, or no broker answers; `error` says which
  };

  std::string name;
  std::unique_ptr<rd_kafka_topic_t, TopicDeleter> handle;  // of the present client
  State state = State::unknown;
  bool asked = false;  // a question is out, also while ready
  MonotonicTime asked_since{};
  MonotonicTime ask_again = MonotonicTime::max();  // it did not exist, and may be in the making
  MonotonicTime answered_at{};
  rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
  TopicLimits limits;
  bool limits_known = false;
  std::int64_t told_bytes = 0;  // its max_message_bytes, as an operator has read it last

  std::size_t out = 0;  // records at librdkafka
  MonotonicTime progressed_at{};
  bool rejected = false;  // an ordered record was, since the last look
  // What its broker said when it refused them, where that will be the answer to all.
  rd_kafka_resp_err_t refused = RD_KAFKA_RESP_ERR_NO_ERROR;
  bool stuck = false;

  // How many there are, as librdkafka said last; 0: not yet. Written by its threads, too.
  std::atomic<std::int32_t> partitions{0};
  KnownPartitions known;
  // When the brokers were asked for it last (count_partitions()), and why they did not tell.
  MonotonicTime counted_at{};
  rd_kafka_resp_err_t count_error = RD_KAFKA_RESP_ERR_NO_ERROR;
};

// The topics of one emitter, with what their cluster says about them. One thread at a time. ask()
// and answered() do not block: answers are events of the client.
class Topics {
 public:
  explicit Topics(Milliseconds answer_timeout) : answer_timeout_(answer_timeout) {}

  // A reference stays valid until forget_unused().
  [[nodiscard]] Topic& at(std::string_view name);
  // Its handle at this client, which is made when there is none.
  [[nodiscard]] rd_kafka_topic_t* handle(Topic& topic, Client& client);
  // Asks the brokers for the topic's settings.
  void ask(Topic& topic, Client& client, MonotonicTime now);
  // The event of an answer; the topic, whose state has changed.
  Topic& answered(rd_kafka_event_t* event, const Client& client, MonotonicTime now);
  // Has librdkafka learn how many partitions the topic has now, which it does by itself every five
  // minutes; the result is in counted_at and count_error, which is the destination's fault. Blocks
  // for a round trip. Brokers that do not answer keep it for half a second, and then it asks none
  // for two.
  void count_partitions(Topic& topic, const Client& client, MonotonicTime now);
  // Asks about those whose time has come, for topics that are in the making.
  void ask_again(Client& client, MonotonicTime now);
  [[nodiscard]] bool asking() const noexcept { return asking_ > 0; }
  // The client is about to be replaced: handles and questions go with it.
  void detach() noexcept;
  // Asks anew what was being asked.
  void attach(Client& client, MonotonicTime now);
  // Topics come from entries, so their number is ours to bound. Call with no record under way.
  void forget_unused(MonotonicTime now);

  [[nodiscard]] auto begin() { return topics_.begin(); }
  [[nodiscard]] auto end() { return topics_.end(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };

  void judge(Topic& topic, rd_kafka_event_t* event, const Client& client, MonotonicTime now);
  void read(Topic& topic, const rd_kafka_ConfigResource_t& resource, MonotonicTime now);

  const Milliseconds answer_timeout_;
  std::unordered_map<std::string, std::unique_ptr<Topic>, Hash, std::equal_to<>> topics_;
  std::size_t asking_ = 0;
  MonotonicTime silent_until_{};  // no brokers answer count_partitions()
};

// The limits that an answer about a topic holds, or one about a broker: those of topics that have
// none of their own.
[[nodiscard]] TopicLimits read_limits(const rd_kafka_ConfigResource_t& resource);

// Asks for the settings of a topic, or of a broker by its number; the answer comes to `queue` with
// `opaque`.
void describe(rd_kafka_t* handle, rd_kafka_ResourceType_t type, const std::string& name,
              Milliseconds timeout, rd_kafka_queue_t* queue, void* opaque);
// The limits in such an answer about one topic or broker; nullopt where it holds none.
[[nodiscard]] std::optional<TopicLimits> limits_in(rd_kafka_event_t* event);

}  // namespace outfall::kafka
