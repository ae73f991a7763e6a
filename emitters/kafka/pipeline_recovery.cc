// What happens when a record comes back without an acknowledgement; the reasoning is in pipeline.h.
#include <algorithm>
#include <exception>
#include <set>
#include <utility>

#include "emitter/guard.h"
#include "emitters/kafka/pipeline.h"

namespace outfall::kafka {
namespace {

constexpr Milliseconds kLookEvery{50};
// While other topics still make progress, a stuck one may wait a little before all is taken back.
constexpr Milliseconds kQuiet{200};
constexpr Milliseconds kHoldAtMost{1000};
constexpr Milliseconds kReportTime{500};
constexpr Milliseconds kPurgeTime{300};
constexpr Milliseconds kPollTime{5};
constexpr std::uint8_t kMaxTries = 4;
constexpr int kMaxFruitless = 3;
constexpr std::size_t kLargestGroup = 1024;
constexpr int kSlowFactor =
    4;  // of a topic that makes progress, a record may take this much longer

}  // namespace

template <typename Visit>
void Pipeline::for_each_open(Visit&& visit) {
  for (Flight& flight : flights_) {
    if (flight.open == 0) continue;
    for (Record& record : flight.records) {
      if (record.state != State::done) visit(record);
    }
  }
}

void Pipeline::decide(MonotonicTime now) {
  if (stopping_) return stop();
  if (client_ != nullptr) topics_.ask_again(*client_, now);
  bool overtaken = false;
  bool refused = false;
  for (auto& [name, topic] : topics_) {
    // Group by group no key occurs twice, so nothing can be overtaken.
    overtaken = overtaken || (topic->rejected && topic->out > 0 && !isolating_);
    refused = refused || topic->refused != RD_KAFKA_RESP_ERR_NO_ERROR;
    topic->rejected = false;
  }
  if (refused && !overtaken) settle_refused();
  look_for_stuck(now);
  if (fatal_ && open_ > 0 && !died_idle_) return recover(Cause::fatal, now);
  if (fatal_ && open_ > 0) {
    // What it died of may be long over.
    replace_client(now);
    return resume(now);
  }
  // With nothing to send, the next producer could end like this one, and the one after it.
  died_idle_ = fatal_;
  if (overtaken) return recover(Cause::rejected, now);
  if (hold_) {
    const bool quiet = now - std::max(delivered_at_, held_since_) >= kQuiet;
    if (out_ > 0 && !quiet && now - held_since_ < kHoldAtMost) return;
    return recover(Cause::stuck, now);
  }
  if (narrow_ && out_ == 0) {
    replace_client(now);
    return resume(now);
  }
  if (isolating_ || isolate_) {
    if (out_ == 0) isolate(now);
    return;
  }
  if (came_ready_ || full_) resume(now);
}

bool Pipeline::is_stuck(const Record& record, MonotonicTime now) const {
  const auto timeout = settings_.delivery_timeout;
  if (record.state != State::out || now - record.sent_at < timeout) return false;
  return now - record.topic->progressed_at >= timeout ||
         now - record.sent_at >= kSlowFactor * timeout;
}

void Pipeline::look_for_stuck(MonotonicTime now) {
  if (hold_ || out_ == 0 || now - looked_at_ < kLookEvery) return;
  looked_at_ = now;
  bool lease_over = false;
  for (const Flight& flight : flights_) {
    const bool old = now - flight.arrived_at >= settings_.delivery_timeout;
    const bool late = now >= flight.batch.send_until();
    if (flight.open == 0 || (!old && !late)) continue;
    for (const Record& record : flight.records) {
      lease_over = lease_over || (late && record.state == State::out);
      // It waits for another one, whose lease may last.
      came_ready_ = came_ready_ || (late && record.state == State::unsent);
      if (!old || !is_stuck(record, now)) continue;
      record.topic->stuck = true;
      hold_ = true;
    }
  }
  if (hold_) {
    held_since_ = now;
  } else if (lease_over) {
    // Others may send these; what librdkafka still holds must not leave any more.
    recover(Cause::lease, now);
  }
}

void Pipeline::recover(Cause cause, MonotonicTime now) {
  const bool took_back = out_ > 0 || cause != Cause::stuck;
  if (took_back) {
    fatal_ = true;  // Until it is done nothing is sent; should it throw, the next turn does it.
    died_idle_ = false;
    const auto refusal = cause == Cause::fatal ? refusal_of_all(now) : RD_KAFKA_RESP_ERR_NO_ERROR;
    take_back(cause, now);
    if (replace_client(now)) ++fruitless_;
    if (refusal != RD_KAFKA_RESP_ERR_NO_ERROR) settle_all(refusal);
  }
  hold_ = false;
  settle_after(cause, took_back, now);
  for (auto& [name, topic] : topics_) {
    topic->stuck = false;
    topic->rejected = false;
    topic->refused = RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  resume(now);
}

// Afterwards nothing is at librdkafka. After a rejection the brokers still answer, so what they
// have got is waited for and not doubled. What librdkafka wants to send again meanwhile it queues
// for a while before (retry.backoff.ms), so it is taken back each time.
// False: not all reports came; a thread of librdkafka may still be at one of the records.
bool Pipeline::take_back(Cause cause, MonotonicTime now) {
  const MonotonicTime begun = clock_.monotonic();
  const bool answers = cause == Cause::rejected || cause == Cause::fatal;
  MonotonicTime until = begun + (answers ? kReportTime : Milliseconds{0});
  while (out_ > 0 && clock_.monotonic() < until) {
    client_->purge(RD_KAFKA_PURGE_F_QUEUE);
    if (const Event event = client_->poll(kPollTime)) handle(event.get(), now);
  }
  if (out_ > 0) client_->purge(RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  until = clock_.monotonic() + kPurgeTime;
  while (out_ > 0 && clock_.monotonic() < until) {
    if (const Event event = client_->poll(kPollTime)) handle(event.get(), now);
  }
  for_each_open([&](Record& record) {
    if (record.state != State::out) return;
    record.state = State::unsent;
    record.in_doubt = true;
    record.error = RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
    record.begins = kNowhere;
  });
  return std::exchange(out_, 0) == 0;
}

// The next producer will not be spared it.
void Pipeline::settle_all(rd_kafka_resp_err_t refusal) {
  for_each_open([&](Record& record) {
    finish(record, guarded([&] { return outcome_of(refusal, doubt(record), connection_text_); }));
  });
}

// Completes what is not to be sent again.
void Pipeline::settle_after(Cause cause, bool took_back, MonotonicTime now) {
  const bool hopeless = fruitless_ > kMaxFruitless;
  std::set<const Topic*> given_up;
  for_each_open([&](Record& record) {
    const bool was_out = record.error != RD_KAFKA_RESP_ERR_NO_ERROR;
    if (was_out && record.tries < kMaxTries) ++record.tries;
    const Topic* const topic = record.topic;
    if (topic != nullptr && topic->refused != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return finish(record, outcome_of(topic->refused, doubt(record)));
    }
    const bool stuck = took_back && cause == Cause::stuck && topic != nullptr && topic->stuck;
    const bool futile = was_out && (hopeless || record.tries >= kMaxTries);
    if (futile) given_up.insert(topic);
    // What waits behind a partition's first record would take as long, one by one.
    if (stuck || futile || (!was_out && given_up.contains(topic))) {
      finish(record, unavailable(record, reason_of(record), now));
    }
  });
}

// What waits behind the record that a broker refused gets the same answer and need not ask.
void Pipeline::settle_refused() {
  for_each_open([&](Record& record) {
    const Topic* const topic = record.topic;
    if (topic == nullptr || record.state != State::unsent) return;
    if (topic->refused == RD_KAFKA_RESP_ERR_NO_ERROR) return;
    finish(record, guarded([&] { return outcome_of(topic->refused, doubt(record)); }));
  });
  for (auto& [name, topic] : topics_) topic->refused = RD_KAFKA_RESP_ERR_NO_ERROR;
}

// Why it is given up with its topic: of an answer that no producer changed, that one.
rd_kafka_resp_err_t Pipeline::reason_of(const Record& record) noexcept {
  const bool gone = record.error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
                    record.error == RD_KAFKA_RESP_ERR__DESTROY;
  return gone ? record.error : RD_KAFKA_RESP_ERR__MSG_TIMED_OUT;
}

// `error`, or what is known better: why the brokers cannot be reached.
Outcome Pipeline::unavailable(const Record& record, rd_kafka_resp_err_t error,
                              MonotonicTime now) const {
  return guarded([&] {
    const bool silent = error == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT ||
                        error == RD_KAFKA_RESP_ERR__TIMED_OUT ||
                        error == RD_KAFKA_RESP_ERR__TRANSPORT;
    const bool known = silent && connection_error_ != RD_KAFKA_RESP_ERR_NO_ERROR &&
                       now - connection_error_at_ < 2 * settings_.delivery_timeout;
    const bool better = known && classify(connection_error_).fault == Fault::destination;
    return outcome_of(better ? connection_error_ : error, doubt(record),
                      known ? std::string_view(connection_text_) : std::string_view{});
  });
}

bool Pipeline::replace_client(MonotonicTime now) {
  // Nothing may pass what the present one gave back.
  fatal_ = true;
  died_idle_ = false;
  try {
    make_client(now);
    return true;
  } catch (const std::exception& error) {
    reporter_.log(ReportLevel::error, "producer", "no new producer can be made", error.what());
    go_without_client(error.what());
    return false;
  }
}

void Pipeline::make_client(MonotonicTime now) {
  for (const auto& [name, topic] : topics_) {
    if (topic->limits_known) batch_bytes_ = std::min(batch_bytes_, topic->limits.max_message_bytes);
  }
  auto next = std::make_unique<Client>(settings_, batch_bytes_, wake_descriptor_);
  topics_.detach();  // Their handles belong to the present one.
  client_ = std::move(next);
  if (announced_ == Announced::asked) announced_ = Announced::no;
  reporter_.add(kProducersTotal, 1);
  topics_.attach(*client_, now);
  narrow_ = false;
  full_ = false;
  fatal_ = false;
}

// Everything is completed at once, as what the destination takes from nobody: how long this lasts
// nobody knows, and a lease may end. The next entries, or a probe, try again.
void Pipeline::go_without_client(std::string_view why) {
  // What could not be taken back must not leave any more, nor be reported once it is completed.
  topics_.detach();
  client_.reset();
  isolating_ = false;
  isolate_ = false;
  for_each_open([&](Record& record) {
    finish(record, guarded([&] {
             return outcome_of(RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE, doubt(record), why);
           }));
  });
}

// What is to be sent before a suspect of its topic is under suspicion as well, so that it still
// goes first.
void Pipeline::begin_isolation() {
  isolate_ = false;
  std::set<const Topic*> topics;
  std::size_t suspects = 0;
  const auto look_at = [&](Record& record) {
    if (record.state != State::unsent) return;
    if (record.topic == nullptr) record.topic = topic_of(*record.item->envelope);
    if (record.suspect || is_doubtful(record)) topics.insert(record.topic);
    record.suspect = topics.contains(record.topic);
    if (record.suspect) ++suspects;
  };
  std::for_each(flights_.rbegin(), flights_.rend(), [&](Flight& flight) {
    std::for_each(flight.records.rbegin(), flight.records.rend(), look_at);
  });
  isolating_ = suspects > 0;
  group_limit_ = std::max<std::size_t>(1, suspects / 2);
  group_size_ = 0;
  group_rejected_ = false;
  reporter_.add(kIsolatedTotal, static_cast<double>(suspects));
}

// The next step of it, with nothing at librdkafka.
void Pipeline::isolate(MonotonicTime now) {
  if (!isolating_) begin_isolation();
  if (isolating_) {
    next_group(now);
  } else {
    resume(now);
  }
}

void Pipeline::next_group(MonotonicTime now) {
  if (group_size_ > 0) {
    group_limit_ = group_rejected_ ? std::max<std::size_t>(1, group_size_ / 2)
                                   : std::min(group_limit_ * 2, kLargestGroup);
  }
  isolate_ = false;
  group_rejected_ = false;
  group_size_ = 0;
  bool waiting = false;
  std::set<const KeyRun*> runs;
  for_each_open([&](Record& record) {
    if (!record.suspect || record.state != State::unsent || group_size_ >= group_limit_) return;
    if (record.item->run != nullptr && !runs.insert(record.item->run).second) return;
    if (!may_send(record, now)) return;
    send(record, now);
    if (record.state == State::out) ++group_size_;
    if (record.state == State::unsent) waiting = true;  // for its topic's answer
  });
  if (group_size_ > 0 || waiting || fatal_) return;
  isolating_ = false;
  resume(now);
}

void Pipeline::resume(MonotonicTime now) {
  came_ready_ = false;
  full_ = false;
  if (isolating_ || isolate_) return isolate(now);
  if (!holding()) send_all(now);
}

void Pipeline::stop() noexcept {
  stopping_ = true;
  isolating_ = false;
  isolate_ = false;
  hold_ = false;
  for_each_open([&](Record& record) {
    if (record.state == State::unsent) finish_unsent(record, OutcomeKind::shutdown);
  });
  flush();
}

void Pipeline::abandon() noexcept {
  stopping_ = true;
  if (!take_back(Cause::stop, clock_.monotonic())) {
    topics_.detach();
    client_.reset();
  }
  for_each_open([&](Record& record) { finish_unsent(record, OutcomeKind::shutdown); });
  flush();
}

}  // namespace outfall::kafka
