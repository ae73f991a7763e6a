#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/outbox_store.h"
#include "store/postgres/claim_floor.h"
#include "tests/faults/simulation_world.h"

namespace outfall::test::simulation {

inline constexpr int kKeys = 6;
inline constexpr int kLanes = 2;

struct Row {
  enum class State : std::uint8_t { open, live, rolled_back, delivered, dead };
  // What the entry does to whoever delivers it.
  enum class Nature : std::uint8_t { plain, refused_at_first, stubborn, poison };
  EntryId id = 0;
  history::Index entry = history::kNone;
  int key = -1;
  int lane = 0;
  State state = State::open;
  Nature nature = Nature::plain;
  int refusals = 0;   // still to come, with refused_at_first
  bool fresh = true;  // no available_at
  MonotonicTime due{};
  MonotonicTime created{};
  MonotonicTime writable{};  // before that, what a settle says of it is refused
  int attempts = 0;
  int attempts_base = 0;
  int chargeable = 0;      // attempts that may count, as the sinks know
  bool holds_key = false;  // a dead letter
};

struct ModelLease {
  Uuid id;
  std::int64_t number = 0;
  int worker = 0;
  MonotonicTime expires{};
  std::vector<EntryId> ids;
  std::vector<int> keys;
  bool released = false;
};

// The outbox as docs/internals/claiming.md describes it, without the tables' statements: a claim is
// a few moments between which others commit, the rest are single moments. Holds and parkings are
// left out: what waits is passed over by each claim anew, which decides the same. One stream.
class ModelDatabase {
 public:
  ModelDatabase(World& world, bool pooled) : world_(world), pooled_(pooled) {}

  // Producers.
  int begin();  // of a transaction that is about to write
  EntryId insert(int transaction, Row row);
  void commit(int transaction);
  void roll_back(int transaction);
  // Not after its end, which a crash brings too.
  [[nodiscard]] bool open(int transaction) const {
    return transactions_[static_cast<std::size_t>(transaction)].open;
  }
  void replay(EntryId id);

  // Workers. What these do is done, also if nobody hears of it.
  struct Claimed {
    ClaimResult result;
    std::optional<postgres::ClaimFloor::Report> report;  // of a completed pick
    int server = 0;                                      // see starts()
  };
  // `server` is the one that the caller knows, by starts(): of another one nothing is known.
  // `done` is called when it has committed, or never when the database crashes before.
  void claim(int worker, const ClaimRequest& request, const postgres::ClaimFloor::Input& floor,
             int server, std::function<void(Claimed)> done);
  // Whether a settle changes nothing, as its lease is known to be good under another server.
  [[nodiscard]] bool restarted_since(int server) const {
    return server != starts_ && world_.flaw != Flaw::server;
  }
  SettleResult settle(int worker, const SettleRequest& request);
  // Whether it raises instead, for what the entries are.
  [[nodiscard]] bool refuses(int worker, const SettleRequest& request);
  std::vector<Uuid> renew(int worker, std::span<const Uuid> leases, Milliseconds lease);
  void release(int worker);
  [[nodiscard]] bool due(const postgres::ClaimFloor::Input& floor, int server) const;

  // Presence. Behind a pooler nobody has one, and nobody is seen absent.
  void lock(int worker) { absent_since_.erase(worker); }
  void unlock(int worker) {
    if (!pooled_) absent_since_.try_emplace(worker, world_.now());
  }
  [[nodiscard]] bool absent(int worker, MonotonicTime watched_since) const;

  // Faults.
  void crash();  // undoes the last asynchronous commits
  void restart();
  [[nodiscard]] bool up() const { return up_; }
  // What server_since() tells: which server it is.
  [[nodiscard]] int starts() const { return starts_; }
  // A pooler stands before it: sessions outlive its crashes.
  [[nodiscard]] bool pooled() const { return pooled_; }

  [[nodiscard]] std::vector<Row>& rows() { return rows_; }
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  [[nodiscard]] Row& row(EntryId id) { return rows_[static_cast<std::size_t>(id - 1)]; }
  [[nodiscard]] const std::vector<ModelLease>& leases() const { return leases_; }
  [[nodiscard]] bool drained() const;
  [[nodiscard]] static const std::string& key_name(int key);
  [[nodiscard]] static const std::string& lane_name(int lane);

 private:
  struct Transaction {
    std::string name;
    std::vector<EntryId> ids;
    bool open = true;
  };
  struct Undo {
    MonotonicTime at;
    std::function<void()> run;
  };
  // What a claim knows while it is under way.
  struct Claim {
    int worker;
    ClaimRequest request;
    postgres::ClaimFloor::Input floor;
    std::function<void(Claimed)> done;
    int start_count;
    std::vector<bool> active;        // by id
    std::array<bool, kKeys> busy{};  // by key
    std::vector<EntryId> picked;
    std::int64_t start = 0;
    std::vector<std::string> used;
    ClaimResult result;
  };
  using ClaimPtr = std::shared_ptr<Claim>;

  void take_over(Claim& claim);
  void read_leases(const ClaimPtr& claim);
  void pick(const ClaimPtr& claim);
  [[nodiscard]] std::vector<EntryId> eligible(const Claim& claim) const;
  void probe(const ClaimPtr& claim);
  void finish(const ClaimPtr& claim);
  void insert_lease(Claim& claim);
  void fill(const Claim& claim, const ModelLease& lease, LeasedBatch& batch);
  void next(const ClaimPtr& claim, void (ModelDatabase::*step)(const ClaimPtr&));
  [[nodiscard]] bool ended(const std::string& transaction) const;
  void close(std::size_t transaction, Row::State rows_become);
  ModelLease* find(const Uuid& id);
  void drop(const Uuid& id);
  void write(const SettleRequest& request, std::int64_t lease_number);
  void write_other(const SettledOther& other, const SettleRequest& request);
  // An asynchronous commit that a crash may undo; a synchronous one makes all before it durable.
  void asynchronous(std::function<void()> undo);
  void synchronous() { undo_.clear(); }

  World& world_;
  const bool pooled_;
  std::vector<Row> rows_;  // by id, from 1
  std::vector<ModelLease> leases_;
  std::vector<history::Index> lease_names_;  // by number, from 1
  std::vector<Uuid> lease_ids_;              // the same
  std::vector<Transaction> transactions_;
  std::vector<std::size_t> open_transactions_;  // ascending
  std::map<int, MonotonicTime> absent_since_;
  std::deque<Undo> undo_;
  std::int64_t last_lease_ = 0;
  bool stream_locked_ = false;
  bool up_ = true;
  int starts_ = 1;
};

}  // namespace outfall::test::simulation
