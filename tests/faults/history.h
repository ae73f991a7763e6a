#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

// What producers committed, what sinks saw, what workers did, which faults were injected and what
// was left in the database: all that the judge (history_judge.h) decides by. Filled from files by
// history_reader.h, or directly by a simulation. README.md in this folder defines every record.

namespace outfall::test::history {

using Index = std::uint32_t;  // of a name, an entry or a lease
using Micros = std::int64_t;  // one monotonic clock for all who write the history

inline constexpr Index kNone = std::numeric_limits<Index>::max();
inline constexpr Micros kNever = std::numeric_limits<Micros>::max();

// Gives each text a number, in the order of their first use. Millions of them are usual.
class Names {
 public:
  Names();
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;
  Index of(std::string_view text);
  [[nodiscard]] std::string_view text(Index index) const;
  [[nodiscard]] std::size_t size() const { return places_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    const Names* names;
    std::size_t operator()(Index index) const { return (*this)(names->text(index)); }
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  struct Equal {
    using is_transparent = void;
    const Names* names;
    bool operator()(Index a, Index b) const { return a == b; }
    bool operator()(Index a, std::string_view b) const { return names->text(a) == b; }
    bool operator()(std::string_view a, Index b) const { return a == names->text(b); }
  };
  struct Place {
    std::size_t offset;
    std::uint32_t length;
  };
  std::vector<char> characters_;
  std::vector<Place> places_;
  std::unordered_set<Index, Hash, Equal> indexes_;
};

enum class Commit : std::uint8_t {
  unseen,       // no producer ever wrote of it
  begun,        // its producer never said how it ended
  unknown,      // the connection was lost in COMMIT
  committed,    //
  rolled_back,  //
};

struct Entry {
  Index stream = kNone;
  Index key = kNone;  // kNone: unordered
  std::int64_t place = 0;
  Micros begun_at = kNever;      // before COMMIT was sent
  Micros committed_at = kNever;  // after it had returned
  Micros replayed_at = kNever;   // the last time
  Micros discarded_at = kNever;
  Commit commit = Commit::unseen;
  bool scheduled = false;
  bool replayed = false;
  bool left = false;              // in the table at the end
  bool held = false;              // the same, as held
  std::uint8_t receipts = 0;      // at the end
  std::uint8_t dead_letters = 0;  // at the end
  bool poison = false;            // it may become a dead letter
  std::uint16_t attempts = 0;     // counted by its receipt; 0: nobody said
  std::uint16_t refusals = 0;     // that a sink saw and put down to it
  bool unattempted = false;       // its receipt says that there was no attempt
  Micros outcome_at = 0;          // of its last outcome in the workers' logs; 0: none
};

struct Arrival {
  Index entry;
  Index sink;
  std::int64_t seq;
  Micros at;
  // As the sink read it from the message; kNone and 0 where it did not say.
  Index stream = kNone;
  Index key = kNone;
  std::int64_t place = 0;
};

enum class Settled : std::uint8_t { delivered, dead_lettered, other };

// That a lease held an entry, and that it wrote an outcome of it.
struct Holding {
  Index entry;
  Index lease;
  Micros at;
};
struct Settle {
  Index entry;
  Index lease;
  Micros at;
  Settled as;
};
// How many attempts an entry had counted when a lease took or tried it.
struct CountedAttempts {
  Index entry;
  Micros at;
  std::int64_t attempts;
};
// An outcome in a worker's log.
struct LoggedOutcome {
  Index entry;
  Index lease;
  Micros at;
  bool sent;  // or it may have been
};
// A settle that names no entries: of the lease's deliveries the next `delivered` ones, and `others`
// that were not.
struct CountedSettle {
  Index lease;
  Micros at;
  std::int64_t delivered;
  std::int64_t others = 0;
  Micros begun_at = kNever;  // nothing of it happened before; kNever: nobody said
};

struct Fault {
  Micros from = 0;
  Micros until = 0;
  std::string kind;
  bool all_workers = false;
  bool all_sinks = false;
  bool database = false;
  std::vector<Index> workers;
  std::vector<Index> sinks;
  std::optional<bool> late;            // a send that began before may arrive after its repetition
  std::optional<std::int32_t> copies;  // of one entry that it can explain
  // What the database had confirmed without waiting for its disk, as it does to workers, may be
  // undone: it crashed, or another server took over.
  bool undoes_commits = false;
  std::int32_t attempts = 0;     // of one entry that it may cost, beside those that sinks refused
  Micros forgets_from = kNever;  // producers' commits since then, and before its end, may be undone
  Micros recover_within = kNever;
  Micros isolate_within = kNever;  // for what goes to sinks that it does not touch

  [[nodiscard]] bool touches_sinks() const { return all_sinks || !sinks.empty(); }
  [[nodiscard]] bool touches_workers() const { return all_workers || !workers.empty(); }
  [[nodiscard]] bool touches_sink(Index sink) const;
  [[nodiscard]] bool touches_worker(Index worker) const;
  // Anything that touches a sink, and a worker that is frozen.
  [[nodiscard]] bool may_be_late() const;
};

struct StreamRules {
  bool ordered = true;
  bool hold_key = false;
  bool receipts = true;
};

struct Final {
  bool seen = false;
  bool receipts_listed = false;
  std::int64_t leases = 0;
  std::int64_t holds = 0;
  std::int64_t expired_leases = 0;
};

// Adding is cheap and in any order; nothing is judged here. Used by one thread at a time.
class History {
 public:
  Names ids, streams, keys, sinks, workers, leases;

  std::vector<Entry> entries;  // by index of `ids`
  std::vector<Arrival> arrivals;
  std::vector<Holding> holdings;
  std::vector<Holding> delivered_outcomes;
  std::vector<LoggedOutcome> outcomes;
  std::vector<CountedAttempts> counted_attempts;
  std::vector<Settle> settles;
  std::vector<CountedSettle> counted_settles;
  std::vector<Fault> faults;
  struct Lease {
    Index worker = kNone;
    Micros claimed_at = kNever;
    std::int64_t number = 0;  // of its stream, rising; 0: nobody said
  };
  std::vector<Lease> lease_facts;             // by index of `leases`
  std::map<Index, StreamRules> stream_rules;  // those that differ
  // By entry: for which reasons it may become a dead letter, where not for any; and for which one
  // it is a dead letter at the end, where that is told.
  std::map<Index, std::vector<std::string>> poison_reasons;
  std::map<Index, std::string> dead_letter_reasons;
  Final final;
  std::optional<Micros> send_timeout;
  std::size_t stale = 0;
  std::size_t released = 0;
  std::size_t refused = 0;
  std::size_t answered = 0;
  std::size_t worker_deaths = 0;
  std::size_t records = 0;

  // Greatest values by worker and quantity, and their bounds; both as the history names them.
  std::map<std::pair<std::string, std::string>, double> gauges;
  std::map<std::pair<std::string, std::string>, double> bounds;  // worker "": every one
  struct Counter {
    double value = 0;   // since the worker's process began
    double before = 0;  // of processes of the same name before
  };
  // By worker, name of the metric with its outcome, and stream.
  std::map<std::tuple<std::string, std::string, Index>, Counter> counters;
  std::map<Index, Micros> counted_at;                      // by worker: when it told them last
  std::vector<std::pair<Index, Micros>> ends;              // of workers' processes
  std::map<std::string, std::size_t, std::less<>> logged;  // outcomes in the workers' logs
  Micros last_logged = 0;                                  // the last of these

  Entry& entry(std::string_view id);
  Index entry_index(std::string_view id);
  Index lease(std::string_view id, std::string_view worker);
  void count(const std::string& worker, const std::string& name, Index stream, double value,
             Micros at);
  void gauge(const std::string& worker, const std::string& name, double value);
  [[nodiscard]] StreamRules rules(Index stream) const;
};

}  // namespace outfall::test::history
