#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "tests/faults/claim_torture_history.h"
#include "tests/faults/claim_torture_schema.h"
#include "tests/support/random.h"

namespace outfall::test::torture {

// Ends threads, and the pauses of those that pause.
class Halt {
 public:
  void request();
  [[nodiscard]] bool requested() const { return requested_; }
  void pause(std::chrono::milliseconds at_most);

 private:
  std::atomic<bool> requested_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
};

// Inserts entries in transactions of every kind until it is halted: short and long ones, rolled
// back, prepared, scheduled entries, keys whose transactions follow each other (they lock a row of
// their key first, as an application does that changes one) and keys whose do not. One thread each.
class Producer {
 public:
  struct Options {
    int ordered_keys = 20;
    int shared_keys = 8;
    int lanes = 0;      // 0: no header
    int backlog = 800;  // committed and not settled; pauses above it
    std::uint64_t slow_percent =
        30;  // of the first two producers' transactions stay open for up to `slow`
    std::chrono::milliseconds slow{250};
  };
  struct Counts {
    std::int64_t transactions = 0, rolled_back = 0, prepared = 0, slow = 0, scheduled = 0;
  };

  Producer(const TortureDatabase& database, History& history, Halt& halt, Options options,
           std::uint64_t seed, int number);
  void run();
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  struct Taken {
    EntryId id;
    std::string key;
    bool scheduled;
    std::int64_t place;  // in the key's order
  };
  void transaction();
  void insert(const std::string& key, std::int64_t first_place);
  void end(const std::string& prepared_name);
  void note(bool committed);
  [[nodiscard]] std::uint64_t up_to(std::uint64_t bound) { return random_.up_to(bound); }

  History& history_;
  Halt& halt_;
  const Options options_;
  SeededRandom random_;
  const int number_;
  PgClient sql_;
  std::vector<Taken> taken_;
  Counts counts_;
};

// Replays dead letters, makes waiting entries due, dead-letters live ones, pauses the stream and
// its lanes, until it is halted; then undoes its pauses. One thread.
class Operator {
 public:
  struct Options {
    int lanes = 0;
    bool hold_key = false;
  };
  struct Counts {
    std::int64_t replayed = 0, retried = 0, dead_lettered = 0, pauses = 0;
  };

  Operator(const TortureDatabase& database, History& history, Halt& halt, Options options,
           std::uint64_t seed);
  void run();
  void replay(int at_most);
  void note_abandoned();
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  void act();
  void retry_one();
  void dead_letter_one();
  void pause_stream();
  void toggle_lane();

  History& history_;
  Halt& halt_;
  const Options options_;
  SeededRandom random_;
  PgClient sql_;
  std::vector<std::string> parked_;
  Counts counts_;
};

}  // namespace outfall::test::torture
