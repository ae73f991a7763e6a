// The shared vocabulary: names and codes of outcomes and statuses in both directions, and which
// statuses lead where.
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "core/outcome.h"
#include "core/status.h"

namespace outfall {
namespace {

TEST(OutcomeKindTest, NamesRoundTripAndDiffer) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kOutcomeKinds; ++i) {
    const auto kind = static_cast<OutcomeKind>(i);
    names.insert(to_string(kind));
    EXPECT_EQ(outcome_kind_from(to_string(kind)), kind);
  }
  EXPECT_EQ(names.size(), kOutcomeKinds);
  EXPECT_EQ(to_string(OutcomeKind::destination_unavailable), "destination_unavailable");
  EXPECT_FALSE(outcome_kind_from("Delivered"));
  EXPECT_FALSE(outcome_kind_from(""));
}

TEST(OutcomeTest, CarriesRecordIdOrError) {
  EXPECT_EQ(Outcome::delivered("orders/3/1042").record_id, "orders/3/1042");
  const Outcome outcome =
      Outcome::of(OutcomeKind::deferred, "webhook.limit", "later", Milliseconds{5});
  EXPECT_EQ(outcome.kind, OutcomeKind::deferred);
  EXPECT_EQ(outcome.retry_after, Milliseconds{5});
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code, "webhook.limit");
  EXPECT_EQ(outcome.error->message, "later");
}

struct StatusRow {
  EntryStatus status;
  int number;
  const char* name;
  bool terminal;
};

constexpr StatusRow kStatuses[] = {
    {EntryStatus::pending, 100, "pending", false},
    {EntryStatus::held, 110, "held", false},
    {EntryStatus::delivered, 200, "delivered", true},
    {EntryStatus::deferred, 300, "deferred", false},
    {EntryStatus::failed, 400, "failed", true},
    {EntryStatus::retryable_failure, 410, "retryable_failure", false},
    {EntryStatus::dead_lettered, 500, "dead_lettered", true},
};

TEST(EntryStatusTest, NamesAndCodesAreStable) {
  for (const StatusRow& row : kStatuses) {
    EXPECT_EQ(to_string(row.status), row.name);
    EXPECT_EQ(code(row.status), row.number);
    EXPECT_EQ(entry_status_from(row.name), row.status);
    EXPECT_EQ(entry_status_from_code(row.number), row.status);
    EXPECT_EQ(is_terminal(row.status), row.terminal) << row.name;
  }
  EXPECT_FALSE(entry_status_from("PENDING"));
  EXPECT_FALSE(entry_status_from_code(0));
  EXPECT_FALSE(entry_status_from_code(65'636));  // 100 + 2^16
}

TEST(EntryStatusTest, TerminalStatusesAbsorb) {
  for (const StatusRow& from : kStatuses) {
    for (const StatusRow& to : kStatuses) {
      const bool expected =
          from.status == to.status || (!from.terminal && to.status != EntryStatus::failed);
      EXPECT_EQ(is_legal(from.status, to.status), expected) << from.name << " -> " << to.name;
    }
  }
}

}  // namespace
}  // namespace outfall
