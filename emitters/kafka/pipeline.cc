#include "emitters/kafka/pipeline.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/crash_point.h"
#include "emitter/guard.h"

namespace outfall::kafka {
namespace {

constexpr Milliseconds kTick{50};
// For an answer about a topic; without it, brokers that are there are taken at their word.
constexpr Milliseconds kAnswerTime{5000};
// Limits of a topic are asked for again in the background after this time, and at once before a
// record is given up because of them.
constexpr Milliseconds kFreshLimits{60'000};
constexpr Milliseconds kCertainLimits{1000};
constexpr Milliseconds kAskAwayTopic{500};

}  // namespace

Pipeline::Pipeline(const EmitterContext& context, const Settings& settings, int wake_descriptor)
    : sink_(context.sink),
      clock_(context.clock),
      reporter_(context.reporter),
      max_payload_bytes_(context.max_payload_bytes),
      settings_(settings),
      wake_descriptor_(wake_descriptor),
      mapping_(settings_),
      partitioner_(settings_.partitioner),
      statistics_(reporter_),
      topics_(std::min(settings_.delivery_timeout, kAnswerTime)),
      batch_bytes_(settings_.batch_bytes),
      made_at_(clock_.monotonic()) {
  client_ = std::make_unique<Client>(settings_, batch_bytes_, wake_descriptor_);
  reporter_.add(kProducersTotal, 1);
  reporter_.add(kIsolatedTotal, 0);
}

Pipeline::~Pipeline() {
  // Its handles belong to the client.
  topics_.detach();
}

void Pipeline::warm_up() {
  if (!settings_.topic.constant()) return;
  topics_.ask(topics_.at(settings_.topic.text()), *client_, clock_.monotonic());
}

void Pipeline::take(EmitBatch batch) noexcept {
  if (batch.items.empty()) return;
  const MonotonicTime now = clock_.monotonic();
  try {
    // Room for what each item may become, so that nothing throws once it is taken in.
    completions_.reserve(open_ + batch.items.size());
    Flight flight;
    flight.records.resize(batch.items.size());
    flights_.push_back(std::move(flight));
  } catch (...) {
    return complete_with_current_exception(batch, sink_);
  }
  Flight& flight = flights_.back();
  flight.batch = std::move(batch);
  flight.arrived_at = now;
  flight.open = flight.records.size();
  open_ += flight.open;
  for (std::size_t i = 0; i < flight.records.size(); ++i) {
    flight.records[i].item = &flight.batch.items[i];
    flight.records[i].flight = &flight;
  }
  begin_turn();
  send(flight, now);
  flush();
}

void Pipeline::begin_turn() {
  wall_ms_ = std::chrono::floor<Milliseconds>(clock_.wall()).time_since_epoch().count();
}

// Its unsent records, or only the completion of those that will never be sent.
void Pipeline::send(Flight& flight, MonotonicTime now) {
  for (Record& record : flight.records) {
    if (record.state != State::unsent || !may_send(record, now) || holding()) continue;
    const KeyRun* const run = record.item->run;
    if (run != nullptr && !waiting_runs_.empty() && waiting_runs_.contains(run)) continue;
    send(record, now);
    if (run != nullptr && record.state == State::unsent) waiting_runs_.insert(run);
  }
}

void Pipeline::send_all(MonotonicTime now) {
  waiting_runs_.clear();
  for (Flight& flight : flights_) {
    if (flight.open > 0) send(flight, now);
  }
}

// Takes a record as far as it goes now; what stays unsent waits for resume() or a topic's answer.
void Pipeline::send(Record& record, MonotonicTime now) {
  Outcome problem = guarded([&] {
    if (!find_topic(record) || !topic_takes(record, now)) return Outcome{};
    if (auto error = mapping_.map(*record.item->envelope, mapped_)) {
      return Outcome::refused_unsent(std::move(error->code), std::move(error->message));
    }
    record.of_partition =
        mapped_.partition == RD_KAFKA_PARTITION_UA ? Choice::producer : Choice::entry;
    Topic& topic = *record.topic;
    if (topic.limits_known) {
      if (auto error = refused_by(record)) {
        if (now - topic.answered_at <= kCertainLimits) {
          return Outcome::refused_unsent(std::move(error->code), std::move(error->message));
        }
        topic.state = Topic::State::unknown;
        topics_.ask(topic, *client_, now);
        return Outcome{};
      }
      if (!isolating_ && is_doubtful(record)) {
        record.suspect = true;
        isolate_ = true;
        return Outcome{};
      }
    }
    if (!begin(record)) return Outcome{};
    rd_kafka_resp_err_t error = produce(record);
    if (is_stale(record, error)) {
      came_ready_ = true;
    } else if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
      record.state = State::out;
      record.sent_at = now;
      record.error = error;
      if (topic.out++ == 0) topic.progressed_at = now;
      ++out_;
      OUTFALL_CRASH_POINT("kafka", "produced");
    } else if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
      full_ = true;
    } else if (classify(error, record.of_partition).fault == Fault::fatal) {
      record.error = error;
      fatal_ = true;
    } else {
      return outcome_of(error, doubt(record), {}, record.of_partition);
    }
    return Outcome{};
  });
  began(record);
  if (problem.kind != OutcomeKind::delivered) finish(record, std::move(problem));
}

std::optional<DeliveryError> Pipeline::refused_by(const Record& record) {
  const WallTime created_at = record.item->envelope->created_at;
  created_ms_ = std::max<std::int64_t>(
      created_ms_, std::chrono::floor<Milliseconds>(created_at.time_since_epoch()).count());
  return record_problem(mapped_, record.topic->limits, settings_.compresses,
                        std::min(wall_ms_, created_ms_));
}

// Whether the record is to be sent at all; completes it where not.
bool Pipeline::may_send(Record& record, MonotonicTime now) {
  if (record.item->blocked()) {
    finish_unsent(record, OutcomeKind::blocked);
    return false;
  }
  if (stopping_ || now >= record.flight->batch.send_until()) {
    finish_unsent(record, OutcomeKind::shutdown);
    return false;
  }
  return true;
}

// Whether the topic takes the record only if our clock is wrong.
bool Pipeline::is_doubtful(const Record& record) const {
  return record.topic != nullptr && record.topic->limits_known &&
         seems_too_new(timestamp_ms_of(*record.item->envelope), record.topic->limits,
                       std::max(wall_ms_, created_ms_));
}

// The one that the envelope names; null where it names none.
Topic* Pipeline::topic_of(const Envelope& envelope) {
  const bool complete = settings_.topic.expand(envelope, topic_name_);
  const bool named = complete && (settings_.topic.constant() || is_topic_name(topic_name_));
  return named ? &topics_.at(topic_name_) : nullptr;
}

// Completes the record where its envelope names no topic.
bool Pipeline::find_topic(Record& record) {
  if (record.topic == nullptr) record.topic = topic_of(*record.item->envelope);
  if (record.topic != nullptr) return true;
  const bool complete = settings_.topic.expand(*record.item->envelope, topic_name_);
  Outcome outcome =
      complete ? Outcome::refused_unsent("kafka.invalid_topic",
                                         "what the entry makes of the setting `topic` is not "
                                         "the name of a topic")
               : Outcome::refused_unsent(
                     "kafka.topic_incomplete",
                     "the entry has no " + topic_name_ + ", which the setting `topic` needs");
  finish(record, std::move(outcome));
  return false;
}

// Whether the topic is there; completes the record where it is not.
bool Pipeline::topic_takes(Record& record, MonotonicTime now) {
  Topic& topic = *record.topic;
  switch (topic.state) {
    case Topic::State::ready:
      if (now - topic.answered_at > kFreshLimits) topics_.ask(topic, *client_, now);
      return true;
    case Topic::State::asking:
      return false;
    case Topic::State::away:
      if (now - topic.answered_at < kAskAwayTopic) {
        finish(record, unavailable(record, topic.error, now));
        return false;
      }
      break;
    case Topic::State::unknown:
      break;
  }
  topics_.ask(topic, *client_, now);
  return false;
}

// Where the mapped record will go; RD_KAFKA_PARTITION_UA while that is not known.
std::int32_t Pipeline::partition_of(const Topic& topic) const {
  if (mapped_.partition != RD_KAFKA_PARTITION_UA || !mapped_.key) return mapped_.partition;
  const std::int32_t count = topic.partitions.load(std::memory_order_relaxed);
  return count == 0 ? RD_KAFKA_PARTITION_UA : partitioner_.of_key(*mapped_.key, count);
}

// Whether the record may go to its partition; where it is the only one that may, it takes that
// place. Those of an isolated batch need none: no two of a key are out at the same time.
bool Pipeline::begin(Record& record) {
  Topic& topic = *record.topic;
  if (record.item->run == nullptr || isolating_) return true;
  if (topic.known.complete(topic.partitions.load(std::memory_order_relaxed))) return true;
  const std::int32_t partition = partition_of(topic);
  if (topic.known.knows(partition)) return true;
  if (!topic.known.begin(partition)) return false;
  record.begins = partition;
  return true;
}

// After librdkafka has taken the record, or has not.
void Pipeline::began(Record& record) {
  if (record.begins == kNowhere) return;
  Topic& topic = *record.topic;
  if (record.state != State::out) {
    topic.known.end(std::exchange(record.begins, kNowhere));
  } else if (record.begins == RD_KAFKA_PARTITION_UA) {
    // Mostly librdkafka has chosen by now.
    record.begins = partition_of(topic);
    topic.known.place(record.begins);
  }
}

rd_kafka_resp_err_t Pipeline::produce(Record& record) {
  std::array<rd_kafka_vu_t, 9> fields{};
  std::size_t count = 0;
  const auto add = [&](rd_kafka_vtype_t type) -> rd_kafka_vu_t& {
    fields[count].vtype = type;
    return fields[count++];
  };
  const auto add_bytes = [&](rd_kafka_vtype_t type, std::string_view bytes) {
    // librdkafka reads them only, and takes null for "none".
    auto& memory = add(type).u.mem;
    memory.ptr = const_cast<char*>(bytes.data() != nullptr ? bytes.data() : "");
    memory.size = bytes.size();
  };
  rd_kafka_topic_t* const topic = topics_.handle(*record.topic, *client_);
  add(RD_KAFKA_VTYPE_RKT).u.rkt = topic;
  add(RD_KAFKA_VTYPE_PARTITION).u.i32 = mapped_.partition;
  add(RD_KAFKA_VTYPE_MSGFLAGS).u.i = mapped_.value_is_ours ? RD_KAFKA_MSG_F_COPY : 0;
  add(RD_KAFKA_VTYPE_TIMESTAMP).u.i64 = mapped_.timestamp_ms;
  record.partitions = &record.topic->partitions;
  add(RD_KAFKA_VTYPE_OPAQUE).u.ptr = static_cast<Placed*>(&record);
  add(RD_KAFKA_VTYPE_HEADERS).u.headers = mapped_.headers.get();
  if (mapped_.key) add_bytes(RD_KAFKA_VTYPE_KEY, *mapped_.key);
  if (mapped_.value) add_bytes(RD_KAFKA_VTYPE_VALUE, *mapped_.value);
  rd_kafka_error_t* const error = rd_kafka_produceva(client_->handle(), fields.data(), count);
  if (error == nullptr) {
    static_cast<void>(mapped_.headers.release());  // They went with the record.
    return RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  const rd_kafka_resp_err_t code = rd_kafka_error_code(error);
  rd_kafka_error_destroy(error);
  return code;
}

// Whether the partition that the entry names was missing only in what librdkafka knew of the topic
// before the entry came, so that the record is to be sent once more. Where the brokers do not tell,
// `error` becomes what they say instead.
bool Pipeline::is_stale(const Record& record, rd_kafka_resp_err_t& error) {
  if (error != RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) return false;
  if (record.of_partition != Choice::entry) return false;
  Topic& topic = *record.topic;
  const bool counted = topic.counted_at >= record.flight->arrived_at;
  if (!counted) topics_.count_partitions(topic, *client_, clock_.monotonic());
  if (topic.count_error == RD_KAFKA_RESP_ERR_NO_ERROR) return !counted;
  error = topic.count_error;
  return false;
}

void Pipeline::serve() noexcept {
  try {
    const MonotonicTime now = clock_.monotonic();
    begin_turn();
    if (client_ != nullptr) {
      while (const Event event = client_->poll(Milliseconds{0})) handle(event.get(), now);
    }
    decide(now);
    flush();
    ask_cluster();
    if (flights_.empty()) topics_.forget_unused(now);
  } catch (...) {
    // Memory is short. Nothing is lost but time.
    const Outcome outcome = outcome_of_current_exception();
    reporter_.log(ReportLevel::error, "producer", "the producer does not work",
                  outcome.error ? outcome.error->message : std::string_view{});
    flush();
  }
}

void Pipeline::finish(Record& record, Outcome outcome) {
  record.state = State::done;
  record.item->break_run();
  Completion& completion = completions_.emplace_back();
  completion.token = record.item->token;
  completion.outcome = std::move(outcome);
  --record.flight->open;
  --open_;
}

// A record that will not be sent, or not again; an earlier try of it may have got through.
void Pipeline::finish_unsent(Record& record, OutcomeKind kind) {
  if (record.in_doubt) {
    finish(record, guarded([&] {
             return outcome_of(RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, Persisted::possibly);
           }));
    return;
  }
  Outcome outcome;
  outcome.kind = kind;
  finish(record, std::move(outcome));
}

void Pipeline::flush() {
  if (completions_.empty()) return;
  sink_.complete(completions_);
  completions_.clear();
  flights_.remove_if([](const Flight& flight) { return flight.open == 0; });
}

Milliseconds Pipeline::patience() const noexcept {
  const bool listening = announced_ == Announced::no && !settings_.topic.constant() &&
                         clock_.monotonic() - made_at_ < kFirstWords;
  return open_ == 0 && !topics_.asking() && !listening ? Milliseconds{-1} : kTick;
}

}  // namespace outfall::kafka
