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
// Brokers that are there are heard of within this time; others, whenever there is something to do.
constexpr Milliseconds kFirstWords{5000};

// "topic/partition/offset".
std::string record_id(const std::string& topic, std::int32_t partition, std::int64_t offset) {
  const std::string place = std::to_string(partition);
  const std::string number = std::to_string(offset);
  std::string id;
  id.reserve(topic.size() + place.size() + number.size() + 2);
  id.append(topic).append(1, '/').append(place).append(1, '/').append(number);
  return id;
}

Persisted persisted_of(const rd_kafka_message_t& message) noexcept {
  switch (rd_kafka_message_status(&message)) {
    case RD_KAFKA_MSG_STATUS_NOT_PERSISTED:
      return Persisted::no;
    case RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED:
      return Persisted::possibly;
    case RD_KAFKA_MSG_STATUS_PERSISTED:
      return Persisted::yes;
  }
  return Persisted::possibly;
}

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
      return Outcome::of(OutcomeKind::failed, std::move(error->code), std::move(error->message));
    }
    record.of_partition =
        mapped_.partition == RD_KAFKA_PARTITION_UA ? Choice::producer : Choice::entry;
    Topic& topic = *record.topic;
    if (topic.limits_known) {
      if (auto error = refused_by(record)) {
        if (now - topic.answered_at <= kCertainLimits) {
          return Outcome::of(OutcomeKind::failed, std::move(error->code),
                             std::move(error->message));
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
    const rd_kafka_resp_err_t error = produce(record);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
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
      complete
          ? Outcome::of(OutcomeKind::failed, "kafka.invalid_topic",
                        "what the entry makes of the setting `topic` is not "
                        "the name of a topic")
          : Outcome::of(OutcomeKind::failed, "kafka.topic_incomplete",
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

void Pipeline::serve() noexcept {
  try {
    const MonotonicTime now = clock_.monotonic();
    begin_turn();
    while (const Event event = client_->poll(Milliseconds{0})) handle(event.get(), now);
    decide(now);
    flush();
    ask_cluster();
    if (flights_.empty()) topics_.forget_unused(now);
  } catch (...) {
    // Memory is short, or librdkafka cannot be set up again. Nothing is lost but time.
    const Outcome outcome = outcome_of_current_exception();
    reporter_.log(ReportLevel::error, "producer", "the producer does not work",
                  outcome.error ? outcome.error->message : std::string_view{});
    flush();
  }
}

void Pipeline::handle(rd_kafka_event_t* event, MonotonicTime now) {
  switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
      while (const rd_kafka_message_t* message = rd_kafka_event_message_next(event)) {
        reported(*message, now);
      }
      break;
    case RD_KAFKA_EVENT_ERROR:
      connection_error(event, now);
      break;
    case RD_KAFKA_EVENT_STATS:
      statistics_.take(rd_kafka_event_stats(event));
      break;
    case RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT:
      described(event, now);
      break;
    case RD_KAFKA_EVENT_LOG: {
      const char* facility = nullptr;
      const char* text = nullptr;
      int level = 0;
      if (rd_kafka_event_log(event, &facility, &text, &level) == 0) {
        reporter_.log(ReportLevel::debug, facility, "librdkafka", text);
      }
      break;
    }
    default:
      break;
  }
}

void Pipeline::reported(const rd_kafka_message_t& message, MonotonicTime now) {
  Record& record = *static_cast<Record*>(static_cast<Placed*>(message._private));
  Topic& topic = *record.topic;
  OUTFALL_CRASH_POINT("kafka", "reported");
  --out_;
  --topic.out;
  if (record.begins != kNowhere) {
    topic.known.end(std::exchange(record.begins, kNowhere));
    if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR && message.offset >= 0) {
      topic.known.acknowledged(message.partition);
    }
    came_ready_ = true;
  }
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return not_delivered(record, message.err, persisted_of(message));
  }
  // librdkafka reports a record that was refused as written when a later one of its partition is,
  // since no broker lets a gap into a producer's sequence; but one that has not yet seen the
  // producer does (confluent-kafka-go issue 921). No answer named such a record, so it has no
  // offset.
  if (message.offset < 0) {
    return not_delivered(record, RD_KAFKA_RESP_ERR__NO_OFFSET, Persisted::possibly);
  }
  topic.progressed_at = now;
  delivered_at_ = now;
  fruitless_ = 0;
  record.state = State::done;
  Completion& completion = completions_.emplace_back();
  completion.token = record.item->token;
  completion.duration = std::chrono::duration_cast<std::chrono::microseconds>(now - record.sent_at);
  completion.outcome = guarded(
      [&] { return Outcome::delivered(record_id(topic.name, message.partition, message.offset)); });
  // It is delivered, even where there is no memory to say where.
  completion.outcome.kind = OutcomeKind::delivered;
  --record.flight->open;
  --open_;
}

void Pipeline::not_delivered(Record& record, rd_kafka_resp_err_t error, Persisted persisted) {
  const Fault fault = classify(error, record.of_partition).fault;
  record.state = State::unsent;
  record.error = error;
  if (persisted != Persisted::no) record.in_doubt = true;
  if (fault == Fault::purged) return;
  if (fault == Fault::fatal) {
    fatal_ = true;
    return;
  }
  if (record.item->run != nullptr) record.topic->rejected = true;
  if (fault == Fault::poison && persisted == Persisted::no) {
    group_rejected_ = true;
    if (!isolating_ || group_size_ > 1) {
      record.suspect = true;
      isolate_ = true;
      return;
    }
  }
  if (fault == Fault::destination) record.topic->refused = error;
  finish(record, outcome_of(error, doubt(record), {}, record.of_partition));
}

void Pipeline::connection_error(rd_kafka_event_t* event, MonotonicTime now) {
  const rd_kafka_resp_err_t error = rd_kafka_event_error(event);
  const char* const text = rd_kafka_event_error_string(event);
  if (error == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_event_error_is_fatal(event) != 0) {
    std::array<char, 512> reason{};
    rd_kafka_fatal_error(client_->handle(), reason.data(), reason.size());
    reporter_.log(ReportLevel::warning, "fatal", "the producer must be replaced", reason.data());
    fatal_ = true;
    return;
  }
  // It only sums up what was said of each of them.
  if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) return;
  connection_error_ = error;
  connection_text_ = text;
  connection_error_at_ = now;
  reporter_.log(ReportLevel::warning, "connection", "trouble with a broker", text);
}

void Pipeline::described(rd_kafka_event_t* event, MonotonicTime now) {
  if (rd_kafka_event_opaque(event) == nullptr) return cluster_described(event);
  Topic& topic = topics_.answered(event, *client_, now);
  came_ready_ = true;
  if (topic.state == Topic::State::away) {
    reporter_.log(ReportLevel::warning, "topic", "a topic cannot be written to",
                  topic.name + ": " + rd_kafka_err2str(topic.error));
    return;
  }
  const bool first = settings_.topic.constant() && announced_ != Announced::yes;
  if (!topic.limits_known) {
    if (first && topic.state == Topic::State::ready) announce("topic " + topic.name);
    return;
  }
  const std::int64_t limit = topic.limits.max_message_bytes;
  if (limit < batch_bytes_) narrow_ = true;
  const bool news = std::exchange(topic.told_bytes, limit) != limit;
  if (!first && (!news || !may_be_too_large(limit, max_payload_bytes_))) return;
  const std::string text = "topic " + topic.name + size_text(limit, max_payload_bytes_);
  if (first) return announce(text);
  reporter_.log(ReportLevel::info, "limit", "large entries become dead letters", text);
}

// With a template there is no topic to ask about, but what topics have that say nothing of their
// own.
void Pipeline::ask_cluster() {
  if (announced_ != Announced::no || settings_.topic.constant() || stopping_) return;
  const std::int32_t broker = rd_kafka_controllerid(client_->handle(), 0);
  if (broker < 0) return;
  announced_ = Announced::asked;
  describe(client_->handle(), RD_KAFKA_RESOURCE_BROKER, std::to_string(broker), kFirstWords,
           client_->queue(), nullptr);
}

void Pipeline::cluster_described(rd_kafka_event_t* event) {
  const auto limits = limits_in(event);
  announce("topics are " + settings_.topic.text() +
           (limits ? "; one without a limit of its own" +
                         size_text(limits->max_message_bytes, max_payload_bytes_)
                   : std::string()));
}

void Pipeline::announce(const std::string& topics) {
  announced_ = Announced::yes;
  reporter_.log(ReportLevel::info, "brokers", "brokers answer", topics);
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
