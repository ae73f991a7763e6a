#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "core/clock.h"
#include "emitter/emitter.h"
#include "emitters/kafka/classify.h"
#include "emitters/kafka/client.h"
#include "emitters/kafka/mapping.h"
#include "emitters/kafka/partitions.h"
#include "emitters/kafka/settings.h"
#include "emitters/kafka/statistics.h"
#include "emitters/kafka/topics.h"

namespace outfall::kafka {

// Everything between emit() and complete() but the thread: which record goes to librdkafka when,
// and what becomes of it.
//
// Order. librdkafka's idempotent producer writes the records of a partition in the order in which
// it gets them, also over its own retries and changes of leaders. It does not when it gives one
// record up and goes on with the next. So it never may: it has no time limit of its own, and as
// soon as one ordered record comes back without an acknowledgement while later ones of its topic
// are still out, everything is taken back (purge) and the producer is replaced; what has no answer
// is then sent again in the original order, or completed where its topic or key does not go on.
//
// A new producer. A broker refuses what would leave a gap in a producer's sequence, except where it
// knows nothing of the producer: there it may refuse a request and take the next. So a new producer
// sends the ordered records of a partition one by one until the first acknowledgement with an
// offset; from then on the partition's brokers know it, also after a change of its leader, and the
// epochs that librdkafka begins after an error start over at the first sequence. Not covered, since
// librdkafka does not tell: brokers that forget a producer (partitions without a record for
// producer.id.expiration.ms, an unclean election, a topic deleted and made again) and partitions
// added meanwhile. There a record that was refused is still found, having no offset, and sent
// again, but others of its key may stand before it.
//
// Where no new one can be made (a TLS file is being changed, no thread is left), the old one goes
// all the same, since it must not go on behind what it gave back. Whatever is open is completed as
// unavailable, and the next entry tries again; librdkafka's words are in its error.
//
// Poison. A broker rejects a batch as a whole. Its records are sent again apart, in groups in which
// no key occurs twice and whose size is halved by a rejection and doubled without one, until the
// guilty one stands alone. A record whose time seems to be too far ahead goes apart as well: its
// key waits for the answer, and only the broker's clock condemns it.
//
// Used by one thread. Blocks only inside replace_client(), where librdkafka ends its threads (see
// end_producer()); in recover(), until the reports of purged records are there, which is at once
// unless a thread of librdkafka hangs in a lookup; then for 0.3 s, and for 0.5 s before that where
// the brokers still answer; and where an entry names a partition that librdkafka does not know,
// until the brokers have answered (Topics::count_partitions()).
class Pipeline {
 public:
  // `context` and `settings` outlive it. Throws std::runtime_error where librdkafka cannot be set
  // up.
  Pipeline(const EmitterContext& context, const Settings& settings, int wake_descriptor);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // Asks about the topic that all entries go to, so that the first one need not wait.
  void warm_up();
  void take(EmitBatch batch) noexcept;
  // Serves what librdkafka has to say and what has become due. Call after each wake-up.
  void serve() noexcept;
  // For how long nothing becomes due by itself; negative: for ever.
  [[nodiscard]] Milliseconds patience() const noexcept;

  // From now on nothing more is sent.
  void stop() noexcept;
  [[nodiscard]] bool idle() const noexcept { return flights_.empty(); }
  // Completes everything that is left.
  void abandon() noexcept;

 private:
  enum class State : std::uint8_t { unsent, out, done };

  struct Flight;
  // No partition and not RD_KAFKA_PARTITION_UA either.
  static constexpr std::int32_t kNowhere = -2;
  struct Record : Placed {
    const EmitItem* item = nullptr;
    Flight* flight = nullptr;
    Topic* topic = nullptr;
    MonotonicTime sent_at{};
    State state = State::unsent;
    bool in_doubt = false;  // an earlier try may have been written
    bool suspect = false;   // its batch was rejected, or it may be
    Choice of_partition = Choice::producer;
    std::uint8_t tries = 0;
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;  // of the last rejection
    std::int32_t begins = kNowhere;  // out alone, at a partition without an acknowledgement
  };
  // A batch, in the order of arrival.
  struct Flight {
    EmitBatch batch;
    std::vector<Record> records;
    std::size_t open = 0;
    MonotonicTime arrived_at{};
  };
  enum class Cause : std::uint8_t { rejected, stuck, fatal, lease, stop };

  // pipeline.cc
  void begin_turn();
  void send(Flight& flight, MonotonicTime now);
  void send_all(MonotonicTime now);
  [[nodiscard]] bool may_send(Record& record, MonotonicTime now);
  [[nodiscard]] Topic* topic_of(const Envelope& envelope);
  [[nodiscard]] bool find_topic(Record& record);
  [[nodiscard]] bool is_doubtful(const Record& record) const;
  [[nodiscard]] std::optional<DeliveryError> refused_by(const Record& record);
  [[nodiscard]] bool topic_takes(Record& record, MonotonicTime now);
  void send(Record& record, MonotonicTime now);
  [[nodiscard]] std::int32_t partition_of(const Topic& topic) const;
  [[nodiscard]] bool begin(Record& record);
  void began(Record& record);
  [[nodiscard]] rd_kafka_resp_err_t produce(Record& record);
  [[nodiscard]] bool is_stale(const Record& record, rd_kafka_resp_err_t& error);
  [[nodiscard]] static Persisted doubt(const Record& record) noexcept {
    return record.in_doubt ? Persisted::possibly : Persisted::no;
  }
  void finish(Record& record, Outcome outcome);
  void finish_unsent(Record& record, OutcomeKind kind);
  void flush();
  [[nodiscard]] bool holding() const noexcept {
    return hold_ || isolating_ || isolate_ || narrow_ || full_ || fatal_ || stopping_;
  }

  // pipeline_reports.cc
  void handle(rd_kafka_event_t* event, MonotonicTime now);
  void reported(const rd_kafka_message_t& message, MonotonicTime now);
  void not_delivered(Record& record, rd_kafka_resp_err_t error, Persisted persisted);
  void connection_error(rd_kafka_event_t* event, MonotonicTime now);
  [[nodiscard]] rd_kafka_resp_err_t refusal_of_all(MonotonicTime now);
  void know_trouble(rd_kafka_resp_err_t error, std::string_view text, MonotonicTime now);
  void described(rd_kafka_event_t* event, MonotonicTime now);
  void ask_cluster();
  void cluster_described(rd_kafka_event_t* event);
  void announce(const std::string& topics);

  // pipeline_recovery.cc
  void decide(MonotonicTime now);
  void look_for_stuck(MonotonicTime now);
  [[nodiscard]] bool is_stuck(const Record& record, MonotonicTime now) const;
  void recover(Cause cause, MonotonicTime now);
  bool take_back(Cause cause, MonotonicTime now);
  void settle_all(rd_kafka_resp_err_t refusal);
  void settle_after(Cause cause, bool took_back, MonotonicTime now);
  void settle_refused();
  [[nodiscard]] static rd_kafka_resp_err_t reason_of(const Record& record) noexcept;
  [[nodiscard]] Outcome unavailable(const Record& record, rd_kafka_resp_err_t error,
                                    MonotonicTime now) const;
  // False where no new one can be made; then nothing is open any more.
  bool replace_client(MonotonicTime now);
  void make_client(MonotonicTime now);
  void go_without_client(std::string_view why);
  void isolate(MonotonicTime now);
  void begin_isolation();
  void next_group(MonotonicTime now);
  void resume(MonotonicTime now);
  template <typename Visit>
  void for_each_open(Visit&& visit);

  CompletionSink& sink_;
  const Clock& clock_;
  EmitterReporter& reporter_;
  const std::int64_t max_payload_bytes_;
  const Settings& settings_;
  const int wake_descriptor_;
  Mapping mapping_;
  const Partitioner partitioner_;
  Statistics statistics_;
  Topics topics_;
  std::int64_t batch_bytes_;
  std::unique_ptr<Client> client_;  // null, and then fatal_, while no new one can be made

  std::list<Flight> flights_;
  std::size_t open_ = 0;  // records that are not done
  std::size_t out_ = 0;   // records at librdkafka
  std::vector<Completion> completions_;
  // Runs with a record that waits for its topic's answer, or for the first acknowledgement of its
  // partition: later ones wait as well, and are not judged before it either.
  std::unordered_set<const KeyRun*> waiting_runs_;
  std::string topic_name_;
  Mapped mapped_;
  // What our clock says in this turn, and the last time that the database has set: either may be
  // wrong, so an entry fails only where it would by both.
  std::int64_t wall_ms_ = 0;
  std::int64_t created_ms_ = 0;
  // Brokers that are there are heard of within this time; of others, whenever something is to do.
  static constexpr Milliseconds kFirstWords{5000};
  // Once, the log says that brokers answer and what they take.
  enum class Announced : std::uint8_t { no, asked, yes };
  Announced announced_ = Announced::no;
  const MonotonicTime made_at_;
  MonotonicTime looked_at_{};
  MonotonicTime delivered_at_{};

  // Why nothing new is sent.
  bool stopping_ = false;
  bool full_ = false;     // librdkafka's queue
  bool hold_ = false;     // a topic is stuck; the others get a moment to finish
  bool narrow_ = false;   // a topic takes only smaller batches than the producer makes
  bool isolate_ = false;  // a batch was rejected; what is out comes first
  bool isolating_ = false;
  bool fatal_ = false;      // the producer has ended for good
  bool died_idle_ = false;  // with nothing to send
  MonotonicTime held_since_{};
  std::size_t group_limit_ = 1;
  std::size_t group_size_ = 0;
  bool group_rejected_ = false;
  bool came_ready_ = false;  // a topic's answer or a partition's acknowledgement has come
  int fruitless_ = 0;        // producers in a row that delivered nothing

  // librdkafka's last words about a connection.
  rd_kafka_resp_err_t connection_error_ = RD_KAFKA_RESP_ERR_NO_ERROR;
  std::string connection_text_;
  MonotonicTime connection_error_at_{};
};

}  // namespace outfall::kafka
