// The error table, row by row, as docs/reference/emitters/kafka.md has it. What becomes of a record
// that meets such an error is shown with a real broker by kafka_errors_test.cc and
// kafka_refusals_test.cc, and with librdkafka's mock cluster by kafka_mock_test.cc, which says why
// of each. A full queue of librdkafka (-184) is no answer and has no row: the record waits.
#include <algorithm>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "emitters/kafka/classify.h"
#include "tests/support/temp_folder.h"

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
      {-165, kAway, kDoubt, "kafka.unsupported_version"},
      {21, kAway, kDoubt, "kafka.request_refused"},
      {22, kAway, kDoubt, "kafka.request_refused"},
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
      {16, kAway, kDoubt, "kafka.broker_unavailable"},
      {5, kAway, kDoubt, "kafka.no_leader"},
      {6, kAway, kDoubt, "kafka.no_leader"},
      {74, kAway, kDoubt, "kafka.no_leader"},
      {75, kAway, kDoubt, "kafka.no_leader"},
      {76, kAway, kDoubt, "kafka.unsupported_compression"},
      {19, kAway, kDoubt, "kafka.not_enough_replicas"},
      {20, kAway, kDoubt, "kafka.not_enough_replicas"},
      {56, kAway, kDoubt, "kafka.storage_error"},
      {-194, kAway, kDoubt, "kafka.no_producer"},
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

// librdkafka takes it for a broker that has gone away.
TEST(KafkaClassifyTest, AClientCertificateThatABrokerRefusesIsNamed) {
  const auto words = [](int alert) {
    return "Receive failed: error:0A000412:SSL routines::sslv3 alert: SSL alert number " +
           std::to_string(alert) + " (after 3ms in state APIVERSION_QUERY)";
  };
  for (const int alert : {42, 43, 44, 45, 46, 48, 116})
    EXPECT_THAT(certificate_note(words(alert)), testing::HasSubstr("tls.certificate_file"))
        << alert;
  for (const int alert : {0, 4, 40, 47, 70, 80, 420})
    EXPECT_EQ(certificate_note(words(alert)), "") << alert;
  for (const char* text : {"", "Disconnected", "certificate verify failed", "SSL alert number "})
    EXPECT_EQ(certificate_note(text), "") << text;
}

TEST(KafkaClassifyTest, NoErrorHasAMeaningThatIsNotARowHere) {
  std::set<int> tested;
  for (const Row& row : rows()) tested.insert(row.error);
  const struct rd_kafka_err_desc* errors = nullptr;
  std::size_t count = 0;
  rd_kafka_get_err_descs(&errors, &count);
  ASSERT_GT(count, tested.size());
  for (std::size_t i = 0; i < count; ++i) {
    if (errors[i].desc == nullptr || errors[i].code == RD_KAFKA_RESP_ERR_NO_ERROR) continue;
    if (classify(errors[i].code).code == "kafka.delivery_failed") continue;
    EXPECT_TRUE(tested.contains(errors[i].code)) << errors[i].name;
  }
}

// The first column of the table of errors.
std::set<std::string> codes_of_the_reference() {
  const std::string page = test::read_file(OUTFALL_SOURCE_DIR "/docs/reference/emitters/kafka.md");
  const std::size_t begin = page.find("\n## Errors\n");
  const std::string section = page.substr(begin, page.find("\n## ", begin + 1) - begin);
  constexpr std::string_view kBegin = "`kafka.";
  std::set<std::string> codes;
  std::istringstream lines(section);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) continue;
    const std::string column = line.substr(0, line.find('|', 1));
    for (std::size_t at = 0; (at = column.find(kBegin, at)) != std::string::npos; ++at) {
      codes.insert(column.substr(at + 1, column.find('`', at + 1) - at - 1));
    }
  }
  return codes;
}

TEST(KafkaClassifyTest, TheReferenceHasEveryCodeAndNoOther) {
  std::set<std::string> codes = {
      // Found before a record is sent, or by the partition that an entry names: see
      // kafka_errors_test.cc.
      "kafka.key_missing", "kafka.topic_incomplete", "kafka.invalid_partition",
      "kafka.unknown_partition"};
  for (const Row& row : rows()) codes.insert(row.code);
  EXPECT_THAT(codes_of_the_reference(), testing::ContainerEq(codes));
}

}  // namespace
}  // namespace outfall::kafka
