// Goal: what a soak looks at in the database sees what its bounds are about. Method: a real server
// and a real schema, one session that misbehaves.

#include "tests/faults/torture/soak_look.h"

#include <algorithm>
#include <stdexcept>

#include <gtest/gtest.h>

#include "tests/faults/torture/soak_bounds.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_postgres.h"

namespace outfall::torture {
namespace {

class TortureSoakLook : public testing::Test {
 protected:
  TortureSoakLook() {
    const test::Finished migrated = test::run(
        {OUTFALL_BINARY, "migrate"}, {.environment = {{"OUTFALL_DATABASE__URL", database_.dsn()}}});
    if (migrated.status.code != 0) throw std::runtime_error(migrated.error_output);
  }
  double seen(const std::string& gauge) {
    test::PgClient client = database_.connect();
    const std::vector<double> values = look_at_database(client);
    EXPECT_EQ(values.size(), kSoakOfDatabase.size());
    const auto* const found = std::find(kSoakOfDatabase.begin(), kSoakOfDatabase.end(), gauge);
    return values.at(static_cast<std::size_t>(found - kSoakOfDatabase.begin()));
  }

  test::TestDatabase database_;
};

// It has neither a snapshot nor an id, by which the oldest transaction was looked for.
TEST_F(TortureSoakLook, ASessionThatIsIdleInATransactionIsSeenAlsoWithoutASnapshot) {
  const std::string idle = "idle in a transaction, longest";
  test::PgClient session = database_.connect();
  EXPECT_EQ(seen(idle), 0);
  session.exec("BEGIN; SELECT 1");
  EXPECT_GT(seen(idle), 0);
  EXPECT_EQ(seen("oldest snapshot, time"), 0);
  EXPECT_THROW(session.exec("SELECT 1 / 0"), test::PgError);
  EXPECT_GT(seen(idle), 0) << "of a transaction that has failed";
  session.exec("ROLLBACK");
  EXPECT_EQ(seen(idle), 0);
}

}  // namespace
}  // namespace outfall::torture
