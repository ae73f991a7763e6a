#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/faults/torture/history.h"
#include "tests/support/pg_client.h"

namespace outfall::torture {

// Applications that write to the outbox: several producers, each with keys of its own, that commit,
// roll back, and now and then leave a transaction open while the others go on. They ride out
// whatever happens to the database and write down what they know of each commit. The switches can
// be turned from any thread; the rest is for one.
class Load {
 public:
  struct Options {
    std::string dsn;
    std::string stream;
    int producers = 4;
    int keys = 10;  // of each producer
    std::chrono::milliseconds pause{12};
    double rate = 0;        // committed entries a second of all producers, in place of the pause
    int payload_bytes = 0;  // of padding in each entry
    bool unkeyed = true;    // some entries have no key
    bool tenants = false;   // each key has one of three in the header "tenant"
    int seldom = 1;         // how many times as seldom a transaction stays open or has two phases
    std::uint64_t seed = 1;
    // By type: the one reason for which its entries may be given up; nothing else may be.
    std::map<std::string, std::string> poison_reasons = {};
  };
  Load(Options options, History& history);
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  void stop();  // returns when every producer has ended its transaction

  // Entries of this type are among the others while it is not empty, with a payload of so many
  // bytes; once: exactly one, in a transaction that is not rolled back.
  void poison(const std::string& type, int payload_bytes = 0, bool once = false);
  std::atomic<bool> duplicates{false};  // inserts an id twice, which must be refused
  std::atomic<bool> late{false};        // every fourth transaction stays open for up to a second
  std::atomic<bool> prepared{false};    // every fourth one in two phases
  std::atomic<bool> hurry{false};       // nobody rests between transactions
  [[nodiscard]] int refused_duplicates() const { return refused_duplicates_; }
  [[nodiscard]] int accepted_duplicates() const { return accepted_duplicates_; }

 private:
  enum class End { commit, roll_back, late, two_phase };
  struct Producer {
    int number = 0;
    std::mt19937_64 engine;
    std::vector<std::int64_t> places;  // of each key: the last one given out
    std::unique_ptr<test::PgClient> client;
    std::chrono::steady_clock::time_point next = std::chrono::steady_clock::now();
  };
  void run(int number);
  void connect(Producer& producer);
  void transaction(Producer& producer);
  Place insert(Producer& producer, int key, bool commits);
  void insert_again(Producer& producer, const Place& place);
  void commit(Producer& producer, End end, const std::vector<Place>& places);
  bool pause(std::chrono::steady_clock::duration duration);  // false when the load ends
  bool next_turn(Producer& producer);                        // the same
  std::string type_now(bool commits, std::string& padding);

  const Options options_;
  History& history_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;     // guarded by mutex_
  std::string poison_;        // guarded by mutex_
  int poison_bytes_ = 0;      // guarded by mutex_
  bool poison_once_ = false;  // guarded by mutex_
  std::atomic<int> refused_duplicates_{0};
  std::atomic<int> accepted_duplicates_{0};
  std::atomic<int> transactions_{0};
  std::vector<std::thread> threads_;
};

}  // namespace outfall::torture
