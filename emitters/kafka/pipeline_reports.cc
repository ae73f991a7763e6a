// What librdkafka says, and what follows for the records: reports, errors, answers about topics.
#include <array>
#include <utility>

#include "core/crash_point.h"
#include "emitter/guard.h"
#include "emitters/kafka/pipeline.h"

namespace outfall::kafka {
namespace {

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
  if (fault == Fault::poison) {
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
    reporter_.log(ReportLevel::warning, "fatal", "the producer must be replaced", text);
    fatal_ = true;
    return;
  }
  // It only sums up what was said of each of them.
  if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) return;
  know_trouble(error, text, now);
  reporter_.log(ReportLevel::warning, "connection", "trouble with a broker", connection_text_);
}

// Why no producer can send anything, such as a right that the user does not have.
rd_kafka_resp_err_t Pipeline::refusal_of_all(MonotonicTime now) {
  if (client_ == nullptr) return RD_KAFKA_RESP_ERR_NO_ERROR;
  std::array<char, 512> reason{};
  const auto cause = rd_kafka_fatal_error(client_->handle(), reason.data(), reason.size());
  if (classify(cause).fault != Fault::destination) return RD_KAFKA_RESP_ERR_NO_ERROR;
  know_trouble(cause, reason.data(), now);
  return cause;
}

// Why the brokers take nothing: what is given up meanwhile says it.
void Pipeline::know_trouble(rd_kafka_resp_err_t error, std::string_view text, MonotonicTime now) {
  const std::string_view of_certificate = certificate_note(text);
  connection_error_ = of_certificate.empty() ? error : RD_KAFKA_RESP_ERR__SSL;
  connection_text_ = text;
  connection_text_ += login_note(settings_, error);
  connection_text_ += of_certificate;
  connection_error_at_ = now;
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
  if (client_ == nullptr) return;
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

}  // namespace outfall::kafka
