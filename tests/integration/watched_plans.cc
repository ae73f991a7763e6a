#include "tests/integration/watched_plans.h"

#include <regex>

#include <gtest/gtest.h>
#include <libpq-fe.h>

namespace outfall::test {

void WatchedPlans::watch(PgClient& client) {
  client.exec(
      "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; "
      "SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on; "
      "SET auto_explain.log_timing = off");
  PQsetNoticeProcessor(
      client.raw(),
      [](void* text, const char* message) { *static_cast<std::string*>(text) += message; },
      &plans_);
}

std::int64_t WatchedPlans::rows_walked(PgClient& client, const std::string& statement) {
  plans_.clear();
  client.exec("SET client_min_messages = log");
  (void)client.query(statement);
  client.exec("SET client_min_messages = notice");
  static const std::regex node(
      R"(\(actual rows=(\d+)(?:\.\d+)? loops=(\d+)\)|Removed by [A-Za-z ]+: (\d+))");
  std::int64_t rows = 0;
  std::int64_t loops = 1;
  for (std::sregex_iterator at(plans_.begin(), plans_.end(), node), end; at != end; ++at) {
    const std::smatch& found = *at;
    if (found[2].matched) loops = std::stoll(found[2].str());
    rows += loops * std::stoll(found[found[2].matched ? 1 : 3].str());
  }
  EXPECT_GT(rows, 0) << plans_;
  return rows;
}

}  // namespace outfall::test
