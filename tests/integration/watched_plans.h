#pragma once

#include <string>

#include "tests/support/pg_client.h"

namespace outfall::test {

// Counts the rows that the plans of a session's statements walk, those of the statements inside
// functions too: a wrong plan shows in them at once, on any machine. The client must not outlive
// it.
class WatchedPlans {
 public:
  // From here on the client's plans are told to this object; needs a superuser.
  void watch(PgClient& client);

  // All rows that the plans of a statement and of what it calls have passed on or thrown away.
  std::int64_t rows_walked(PgClient& client, const std::string& statement);

  // The plans of the last statement, for a failed expectation.
  [[nodiscard]] const std::string& text() const { return plans_; }

 private:
  std::string plans_;
};

}  // namespace outfall::test
