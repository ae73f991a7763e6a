// The error table, row by row, as docs/reference/emitters/kafka.md has it.
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "emitters/kafka/classify.h"

namespace outfall::kafka {
namespace {

struct Row {
  int error;
  OutcomeKind not_persisted;
  OutcomeKind possibly;
  std::string code;
};

constexpr auto kFailed = OutcomeKind::failed;
constexpr auto kAway = OutcomeKind::destination_unavailable;
constexpr auto kDoubt = OutcomeKind::possibly_delivered;
constexpr auto kRetry = OutcomeKind::retryable_failure;

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = {
      {10, kFailed, kFailed, "kafka.msg_size_too_large"},
      {18, kFailed, kFailed, "kafka.record_list_too_large"},
      {32, kFailed, kFailed, "kafka.invalid_timestamp"},
      {43, kFailed, kFailed, "kafka.unsupported_for_message_format"},
      {87, kFailed, kFailed, "kafka.invalid_record"},
      {-190, kAway, kDoubt, "kafka.partition_gone"},
      {-197, kAway, kDoubt, "kafka.partition_gone"},
      {3, kAway, kDoubt, "kafka.unknown_topic"},
      {-188, kAway, kDoubt, "kafka.unknown_topic"},
      {17, kAway, kDoubt, "kafka.invalid_topic"},
      {29, kAway, kDoubt, "kafka.topic_authorization_failed"},
      {31, kAway, kDoubt, "kafka.cluster_authorization_failed"},
      {44, kAway, kDoubt, "kafka.policy_violation"},
      {35, kAway, kDoubt, "kafka.unsupported_version"},
      {53, kAway, kDoubt, "kafka.cluster_authorization_failed"},
      {58, kAway, kDoubt, "kafka.authentication_failed"},
      {-169, kAway, kDoubt, "kafka.authentication_failed"},
      {-181, kAway, kDoubt, "kafka.tls_failed"},
      {-193, kAway, kDoubt, "kafka.broker_not_found"},
      {89, kAway, kDoubt, "kafka.quota_exceeded"},
      {-192, kAway, kDoubt, "kafka.timed_out"},
      {-185, kAway, kDoubt, "kafka.timed_out"},
      {7, kAway, kDoubt, "kafka.timed_out"},
      {-195, kAway, kDoubt, "kafka.broker_unavailable"},
      {-187, kAway, kDoubt, "kafka.broker_unavailable"},
      {13, kAway, kDoubt, "kafka.broker_unavailable"},
      {5, kAway, kDoubt, "kafka.no_leader"},
      {6, kAway, kDoubt, "kafka.no_leader"},
      {74, kAway, kDoubt, "kafka.no_leader"},
      {75, kAway, kDoubt, "kafka.no_leader"},
      {76, kAway, kDoubt, "kafka.unsupported_compression"},
      {19, kAway, kDoubt, "kafka.not_enough_replicas"},
      {20, kAway, kDoubt, "kafka.not_enough_replicas"},
      {56, kAway, kDoubt, "kafka.storage_error"},
      {-168, kAway, kDoubt, "kafka.unconfirmed"},
      {-150, kAway, kDoubt, "kafka.fatal"},
      {45, kAway, kDoubt, "kafka.fatal"},
      {46, kAway, kDoubt, "kafka.fatal"},
      {47, kAway, kDoubt, "kafka.fatal"},
      {49, kAway, kDoubt, "kafka.fatal"},
      {59, kAway, kDoubt, "kafka.fatal"},
      {-152, kAway, kDoubt, "kafka.timed_out"},
      {-151, kAway, kDoubt, "kafka.timed_out"},
      {2, kRetry, kDoubt, "kafka.corrupt_message"},
      {-1, kRetry, kDoubt, "kafka.delivery_failed"},
      {42, kRetry, kDoubt, "kafka.delivery_failed"},
  };
  return kRows;
}

TEST(KafkaClassifyTest, EveryRowOfTheTable) {
  for (const Row& row : rows()) {
    const auto error = static_cast<rd_kafka_resp_err_t>(row.error);
    const Outcome none = outcome_of(error, Persisted::no, "detail");
    EXPECT_EQ(none.kind, row.not_persisted) << row.error;
    ASSERT_TRUE(none.error);
    EXPECT_EQ(none.error->code, row.code) << row.error;
    EXPECT_NE(none.error->message.find("(detail)"), std::string::npos);
    EXPECT_EQ(none.destination_suspect, row.not_persisted == kRetry);
    EXPECT_FALSE(none.connection_lost);
    EXPECT_FALSE(none.parks_destination);
    const Outcome possibly = outcome_of(error, Persisted::possibly);
    EXPECT_EQ(possibly.kind, row.possibly) << row.error;
    // What counts no attempt when it surely was not written counts none when it may have been.
    EXPECT_EQ(possibly.connection_lost, row.possibly == kDoubt && row.not_persisted == kAway);
  }
  EXPECT_EQ(outcome_of(RD_KAFKA_RESP_ERR_NO_ERROR, Persisted::yes).kind, OutcomeKind::delivered);
}

TEST(KafkaClassifyTest, AMissingPartitionIsTheEntrysFaultOnlyWhereTheEntryNamedIt) {
  constexpr auto kError = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
  EXPECT_EQ(classify(kError, Choice::entry).fault, Fault::record);
  const Outcome named = outcome_of(kError, Persisted::no, {}, Choice::entry);
  EXPECT_EQ(named.kind, OutcomeKind::failed);
  EXPECT_EQ(named.error->code, "kafka.unknown_partition");
  EXPECT_EQ(classify(kError, Choice::producer).fault, Fault::fatal);
}

TEST(KafkaClassifyTest, EveryCodeIsInTheReference) {
  std::ifstream file(std::string(OUTFALL_SOURCE_DIR) + "/docs/reference/emitters/kafka.md");
  std::stringstream page;
  page << file.rdbuf();
  for (const Row& row : rows()) {
    EXPECT_NE(page.str().find("`" + row.code + "`"), std::string::npos) << row.code;
  }
}

}  // namespace
}  // namespace outfall::kafka
