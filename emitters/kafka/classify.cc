#include "emitters/kafka/classify.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace outfall::kafka {
namespace {

struct Row {
  rd_kafka_resp_err_t error;
  Verdict verdict;
};

constexpr std::string_view kLimit = "raise max.message.bytes of the topic, or send less";
constexpr std::string_view kSegment = "raise segment.bytes of the topic, or send less";
constexpr std::string_view kRights = "grant the emitter's user the right to write";
constexpr std::string_view kAny = "whatever is in it, the broker does not take the request";
constexpr std::string_view kFewer = "the topic has fewer partitions than before";
constexpr std::string_view kLater = "delivery resumes by itself";

// In the order of docs/reference/emitters/kafka.md.
constexpr auto kRows = std::to_array<Row>({
    {RD_KAFKA_RESP_ERR_NO_ERROR, {}},

    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, {Fault::poison, "kafka.msg_size_too_large", kLimit}},
    {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
     {Fault::poison, "kafka.record_list_too_large", kSegment}},
    {RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
     {Fault::poison, "kafka.invalid_timestamp",
      "message.timestamp.before.max.ms and .after.max.ms of the topic bound it"}},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
     {Fault::poison, "kafka.unsupported_for_message_format",
      "the topic's message format is too old for headers"}},
    {RD_KAFKA_RESP_ERR_INVALID_RECORD,
     {Fault::poison, "kafka.invalid_record", "a compacted topic takes no record without a key"}},

    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
     {Fault::destination, "kafka.unknown_topic", "create the topic"}},
    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
     {Fault::destination, "kafka.unknown_topic", "create the topic"}},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, {Fault::destination, "kafka.invalid_topic", {}}},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
     {Fault::destination, "kafka.topic_authorization_failed", kRights}},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
     {Fault::destination, "kafka.cluster_authorization_failed", kRights}},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, {Fault::destination, "kafka.policy_violation", {}}},
    {RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, {Fault::destination, "kafka.request_refused", kAny}},
    {RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, {Fault::destination, "kafka.request_refused", kAny}},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE,
     {Fault::destination, "kafka.unsupported_compression", "set compression to another"}},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
     {Fault::destination, "kafka.unsupported_version", "the broker is too old"}},
    {RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
     {Fault::destination, "kafka.unsupported_version", "the broker is too old"}},
    {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
     {Fault::destination, "kafka.cluster_authorization_failed", kRights}},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
     {Fault::destination, "kafka.authentication_failed", "check sasl.username and its password"}},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION,
     {Fault::destination, "kafka.authentication_failed", "check sasl.* and tls.*"}},
    {RD_KAFKA_RESP_ERR__SSL, {Fault::destination, "kafka.tls_failed", "check tls.*"}},
    {RD_KAFKA_RESP_ERR__RESOLVE, {Fault::destination, "kafka.broker_not_found", "check brokers"}},
    {RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
     {Fault::destination, "kafka.quota_exceeded", kLater}},
    {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, {Fault::destination, "kafka.timed_out", kLater}},
    {RD_KAFKA_RESP_ERR__TIMED_OUT, {Fault::destination, "kafka.timed_out", kLater}},
    {RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, {Fault::destination, "kafka.timed_out", kLater}},
    {RD_KAFKA_RESP_ERR__TRANSPORT, {Fault::destination, "kafka.broker_unavailable", kLater}},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, {Fault::destination, "kafka.broker_unavailable", kLater}},
    {RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION, {Fault::destination, "kafka.broker_unavailable", kLater}},
    {RD_KAFKA_RESP_ERR_NOT_COORDINATOR, {Fault::destination, "kafka.broker_unavailable", kLater}},
    {RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, {Fault::destination, "kafka.no_leader", kLater}},
    {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, {Fault::destination, "kafka.no_leader", kLater}},
    {RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH, {Fault::destination, "kafka.no_leader", kLater}},
    {RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH, {Fault::destination, "kafka.no_leader", kLater}},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
     {Fault::destination, "kafka.not_enough_replicas", kLater}},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
     {Fault::destination, "kafka.not_enough_replicas", kLater}},
    {RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, {Fault::destination, "kafka.storage_error", kLater}},
    {RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE,
     {Fault::destination, "kafka.no_producer", "no new producer can be made"}},

    {RD_KAFKA_RESP_ERR__NO_OFFSET,
     {Fault::unconfirmed, "kafka.unconfirmed", "no broker said where it is; it is sent again"}},

    {RD_KAFKA_RESP_ERR_INVALID_MSG, {Fault::suspect, "kafka.corrupt_message", {}}},

    // A topic that was made again with fewer: what the producer knows of it is no longer so.
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, {Fault::fatal, "kafka.partition_gone", kFewer}},
    {RD_KAFKA_RESP_ERR__DESTROY, {Fault::fatal, "kafka.partition_gone", kFewer}},
    {RD_KAFKA_RESP_ERR__FATAL, {Fault::fatal, "kafka.fatal", {}}},
    {RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, {Fault::fatal, "kafka.fatal", {}}},
    {RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER, {Fault::fatal, "kafka.fatal", {}}},
    {RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, {Fault::fatal, "kafka.fatal", {}}},
    {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, {Fault::fatal, "kafka.fatal", {}}},
    {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, {Fault::fatal, "kafka.fatal", {}}},

    {RD_KAFKA_RESP_ERR__PURGE_QUEUE, {Fault::purged, "kafka.timed_out", kLater}},
    {RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, {Fault::purged, "kafka.timed_out", kLater}},
});

constexpr Verdict kNoSuchPartition{Fault::record, "kafka.unknown_partition",
                                   "the topic has no such partition"};
constexpr Verdict kUnknown{Fault::suspect, "kafka.delivery_failed", {}};

}  // namespace

Verdict classify(rd_kafka_resp_err_t error, Choice of_partition) noexcept {
  if (error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION && of_partition == Choice::entry) {
    return kNoSuchPartition;
  }
  for (const Row& row : kRows) {
    if (row.error == error) return row.verdict;
  }
  return kUnknown;
}

std::string_view certificate_note(std::string_view text) noexcept {
  // As OpenSSL ends its words: "sslv3 alert bad certificate: SSL alert number 42".
  constexpr std::string_view kAlert = "SSL alert number ";
  // bad_certificate, unsupported_certificate, certificate_revoked, certificate_expired,
  // certificate_unknown, unknown_ca, certificate_required
  constexpr std::array kOfCertificates = {42, 43, 44, 45, 46, 48, 116};
  const std::size_t at = text.find(kAlert);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + kAlert.size());
  int alert = 0;
  std::from_chars(text.data(), text.data() + text.size(), alert);
  if (std::find(kOfCertificates.begin(), kOfCertificates.end(), alert) == kOfCertificates.end())
    return {};
  return "; the broker wants a client certificate that it trusts: look at tls.certificate_file";
}

Outcome outcome_of(rd_kafka_resp_err_t error, Persisted persisted, std::string_view detail,
                   Choice of_partition) {
  const Verdict verdict = classify(error, of_partition);
  std::string message = rd_kafka_err2str(error);
  if (!verdict.hint.empty()) message.append(": ").append(verdict.hint);
  if (!detail.empty()) message.append(" (").append(detail).append(")");
  OutcomeKind kind = OutcomeKind::retryable_failure;
  switch (verdict.fault) {
    case Fault::none:
      return Outcome::delivered();
    case Fault::poison:
    case Fault::record:
      kind = OutcomeKind::failed;
      break;
    case Fault::destination:
    case Fault::unconfirmed:
    case Fault::fatal:
    case Fault::purged:
      kind = OutcomeKind::destination_unavailable;
      break;
    case Fault::suspect:
      break;
  }
  if (kind != OutcomeKind::failed && persisted != Persisted::no) {
    kind = OutcomeKind::possibly_delivered;
  }
  Outcome outcome = Outcome::of(kind, std::string(verdict.code), std::move(message));
  // Only what librdkafka reports of itself is a defect of the turn; the rest lost its connection or
  // its broker.
  outcome.connection_lost =
      kind == OutcomeKind::possibly_delivered && verdict.fault != Fault::suspect;
  outcome.destination_suspect = kind == OutcomeKind::retryable_failure;
  return outcome;
}

}  // namespace outfall::kafka
