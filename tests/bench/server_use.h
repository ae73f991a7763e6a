#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <string>
#include <thread>

#include "tests/bench/server.h"

namespace outfall::bench {

// What a server writes, commits and reads from the constructor on. One thread at a time; each look
// is a query.
class ServerUse {
 public:
  ServerUse(Server& server, const Database& database);

  // Bytes of WAL, of the whole server and with the images of pages that were changed for the first
  // time since a checkpoint.
  [[nodiscard]] double wal_bytes();
  // Committed transactions of the database. The sessions tell of theirs when they end.
  [[nodiscard]] double commits();
  // Pages of the database that were read or found in memory. The sessions tell of theirs once a
  // second.
  [[nodiscard]] double pages();

 private:
  [[nodiscard]] double wal_position();
  [[nodiscard]] double all_commits();
  [[nodiscard]] double all_pages();

  test::PgClient admin_;
  const std::string database_;
  double first_wal_ = 0;
  double first_commits_ = 0;
  double first_pages_ = 0;
};

// Looks twenty times a second at what the sessions of a database do, in a thread of its own that
// costs about a hundredth of a core.
class Activity {
 public:
  Activity(Server& server, const Database& database);
  ~Activity();
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  struct Seen {
    double looks = 0;
    double most_sessions = 0;
    // How many sessions ran a statement, on average over the looks: "CPU" on or ready for a CPU,
    // otherwise by what they waited for, "Lock tuple", "IO WALSync" ...
    std::map<std::string, double> sessions = {};
    // Of those that ran a statement, the share that did this; by the beginning of its name.
    [[nodiscard]] double share(const std::string& beginning) const;
    // The three most frequent ones, for people.
    [[nodiscard]] std::string summary() const;
  };
  // Ends the looking. Throws when it failed.
  [[nodiscard]] Seen stop();

 private:
  void run();

  test::PgClient client_;
  const std::string database_;
  std::atomic<bool> stopping_ = false;
  Seen seen_;            // of the thread until it has ended
  std::string failure_;  // the same
  std::thread thread_;
};

}  // namespace outfall::bench
