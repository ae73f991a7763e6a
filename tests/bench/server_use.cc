#include "tests/bench/server_use.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/clock.h"

namespace outfall::bench {

namespace {

constexpr std::chrono::milliseconds kLookEvery{50};
constexpr auto kIdle = "idle";

}  // namespace

ServerUse::ServerUse(Server& server, const Database& database)
    : admin_(server.postgres().connect()), database_(database.name()) {
  first_wal_ = wal_position();
  first_commits_ = all_commits();
  first_pages_ = all_pages();
}

double ServerUse::wal_bytes() {
  return wal_position() - first_wal_;
}

double ServerUse::commits() {
  return all_commits() - first_commits_;
}

double ServerUse::pages() {
  return all_pages() - first_pages_;
}

double ServerUse::wal_position() {
  return std::stod(admin_.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"));
}

double ServerUse::all_commits() {
  return static_cast<double>(
      admin_.number("SELECT xact_commit FROM pg_stat_database WHERE datname = $1", {database_}));
}

double ServerUse::all_pages() {
  return static_cast<double>(admin_.number(
      "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = $1", {database_}));
}

double Activity::Seen::share(const std::string& beginning) const {
  double all = 0;
  double of_it = 0;
  for (const auto& [what, count] : sessions) {
    all += count;
    if (what.starts_with(beginning)) of_it += count;
  }
  return all == 0 ? 0 : of_it / all;
}

std::string Activity::Seen::summary() const {
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [what, count] : sessions) order.emplace_back(count, what);
  std::sort(order.rbegin(), order.rend());
  if (order.size() > 3) order.resize(3);
  std::string text;
  for (const auto& [count, what] : order) {
    text += fmt::format("{}{:.2f} {}", text.empty() ? "" : ", ", count, what);
  }
  return text;
}

Activity::Activity(Server& server, const Database& database)
    : client_(server.postgres().connect()), database_(database.name()), thread_([this] { run(); }) {
}

Activity::~Activity() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

Activity::Seen Activity::stop() {
  stopping_ = true;
  thread_.join();
  if (!failure_.empty()) throw std::runtime_error("pg_stat_activity: " + failure_);
  for (auto& [what, count] : seen_.sessions) count /= seen_.looks;
  return seen_;
}

void Activity::run() {
  try {
    while (!stopping_) {
      const test::PgRows rows = client_.query(
          "SELECT CASE WHEN state <> 'active' THEN 'idle' WHEN wait_event_type IS NULL THEN 'CPU' "
          "            ELSE wait_event_type || ' ' || wait_event END, count(*) "
          "  FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' "
          " GROUP BY 1",
          {database_});
      double all = 0;
      for (const test::PgRow& row : rows) {
        const double count = std::stod(*row[1]);
        all += count;
        if (*row[0] != kIdle) seen_.sessions[*row[0]] += count;
      }
      seen_.most_sessions = std::max(seen_.most_sessions, all);
      ++seen_.looks;
      wait_until_time(std::chrono::steady_clock::now() + kLookEvery);
    }
  } catch (const std::exception& error) {
    failure_ = error.what();
  }
}

}  // namespace outfall::bench
