#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/faults/claim_torture_floor.h"
#include "tests/faults/claim_torture_history.h"
#include "tests/faults/claim_torture_schema.h"
#include "tests/support/pg_client.h"
#include "tests/support/random.h"

namespace outfall::test::torture {

using SteadyTime = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

// What a worker of the torture may do wrong.
enum class WorkerFlaw : std::uint8_t {
  none,
  keeps_later_entries,      // sends later entries of a key although an earlier one failed
  trusts_claims_under_way,  // gives them back, but not what a claim brings that began before
  settles_out_of_order,     // writes the outcomes of its youngest lease first
  ignores_lost_leases,      // goes on with a lease after a stale settle
  forgets_lost_claims,      // does not ask again for the lease of a claim whose answer was lost
  trusts_repeated_claims,   // asks again, and takes that for a claim that began only then
};

struct WorkerOptions {
  std::string stream = "s";
  int lease_ms = 60000;
  int limit = 10;
  std::int64_t max_bytes = 1 << 20;
  bool by_key = true;
  bool hold_key = false;
  std::optional<std::string> lane = {};
  int max_abandoned = 5;
  int lane_room = 1000;
  int key_room = 1000;
  std::map<std::string, int> lanes = {};  // exceptions
  std::vector<std::string> dead = {};     // workers that are known to be dead
  milliseconds full_look{1000};           // how long a due floor holds
  milliseconds margin{0};                 // of the lease that must be left for a delivery
  WorkerFlaw flaw = WorkerFlaw::none;
  FloorFlaw floor_flaw = FloorFlaw::none;
};

enum class SendResult : std::uint8_t { delivered, retry, deferred, dead_lettered, not_sent };
struct Verdict {
  SendResult result = SendResult::delivered;
  int delay_ms = 0;
};

struct WorkerCounts {
  std::int64_t leases = 0, busy = 0, taken_over = 0, repicks = 0, parked = 0, suspects = 0,
               repeated = 0, deliveries = 0, settles = 0, stale = 0, repeated_settles = 0,
               deaths = 0, zombies = 0, stops = 0, given_back = 0;
  WorkerCounts& operator+=(const WorkerCounts& other);
};

// A worker that keeps the rules of a worker (docs/internals/claiming.md) and calls the SQL
// functions directly: claims on one connection, everything else on a second one, so that they
// overlap. Sends at once and one entry at a time: to send is to write into the history. One thread.
class TortureWorker {
 public:
  TortureWorker(const TortureDatabase& database, History& history, WorkerOptions options,
                Random& random);

  [[nodiscard]] WorkerOptions& options() { return options_; }
  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] const WorkerCounts& counts() const { return counts_; }

  // A claim in two halves, or at once. The status is that of claim(), or "failed".
  void begin_claim();
  [[nodiscard]] bool claiming() const { return claiming_; }
  [[nodiscard]] bool claim_answered() { return !claims_.busy(); }
  std::string end_claim();
  std::string claim();
  // Stops the coming claims at this place of claim(), for which the test holds a Stop.
  void stop_claims_at(const std::string& place);
  [[nodiscard]] int settling_backend() const { return settles_.backend_pid(); }
  // The answer is lost on its way: the next claim asks again with the same lease.
  void lose_claim();
  [[nodiscard]] bool expects_more() const { return expects_more_; }
  [[nodiscard]] bool due();  // the idle poll

  // Sends the first entry that may go, of the oldest lease or of any; false when there is none.
  bool send_next(Verdict verdict, bool of_any_lease = false);
  void send_all(Verdict verdict = {});
  [[nodiscard]] std::size_t held() const { return held_; }
  [[nodiscard]] std::vector<EntryId> unsent() const;

  // Writes the outcomes of the oldest `leases` leases that have some, in order; `lost_answer`: each
  // call's answer is lost and the call repeated. The second form writes one lease's, or answers "".
  void settle(std::size_t leases = 1000, bool lost_answer = false);
  std::string settle_lease(std::size_t index, bool lost_answer = false);
  [[nodiscard]] std::size_t leases() const { return leases_.size(); }
  void drain_once() {
    (void)claim();
    send_all();
    settle();
  }

  void renew();
  void release_all();  // a clean stop: gives back, settles, releases
  // Forgets everything and comes back as another worker; what it had under way is lost.
  void die(bool reconnect = false);
  // Waits until its leases are taken over, or until the deadline.
  void sleep_over_leases(milliseconds deadline);

 private:
  struct Lease;
  struct Key;
  struct Item {
    EntryId id = 0;
    std::optional<std::string> name;
    Key* key = nullptr;
    std::int32_t hash = 0;
    Lease* lease = nullptr;
    bool done = false;
  };
  struct Other {
    EntryId id;
    std::string status;
    bool counted;
    int delay_ms;
  };
  struct Lease {
    std::string id;
    SteadyTime valid_until;
    std::vector<Item> items;
    std::size_t open = 0;
    bool lost = false;
    std::vector<EntryId> delivered, returned;
    std::vector<Other> others;
    std::vector<Key*> failed_keys;
    [[nodiscard]] bool unsettled() const {
      return !delivered.empty() || !returned.empty() || !others.empty();
    }
  };
  struct Key {
    std::string name;
    std::deque<Item*> waiting;
    bool blocked = false;
    int unsettled = 0;
    std::uint64_t clear_after = 0;
  };

  void be_born();
  void arrive(const std::string& lease, std::int64_t number, const PgRows& rows,
              SteadyTime valid_until);
  [[nodiscard]] std::vector<PgValue> claim_parameters() const;
  [[nodiscard]] PgValue due_floor() const;
  void report_to_floor(const PgRow& row);
  Item* next_item(bool of_any_lease);
  void close(Item& item);
  void give_back(Item& item);
  void block(Key& key, bool unsettled);
  void decide(Item& item, const Verdict& verdict);
  void clear_keys();
  void lose(Lease& lease);
  void forget_done_leases();
  [[nodiscard]] std::vector<PgValue> settle_parameters(const Lease& lease, bool in_doubt) const;
  std::string settle(Lease& lease, bool lost_answer);

  const TortureDatabase& database_;
  History& history_;
  WorkerOptions options_;
  Random& random_;
  PgClient claims_;
  PgClient settles_;
  std::string id_;
  postgres::ClaimFloor floor_;
  PgValue due_floor_;
  SteadyTime due_floor_until_;
  FlawedFloor flawed_floor_;
  std::list<Lease> leases_;
  std::map<std::int32_t, Key> keys_;
  std::size_t held_ = 0;
  bool claiming_ = false;
  bool expects_more_ = true;
  std::optional<std::string> lost_lease_;  // of a claim whose answer was lost
  std::string claimed_lease_;
  SteadyTime asked_at_;
  std::uint64_t claims_begun_ = 0;
  std::uint64_t claims_ended_ = 0;
  WorkerCounts counts_;
};

}  // namespace outfall::test::torture
