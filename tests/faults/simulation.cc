#include "tests/faults/simulation.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "telemetry/metrics.h"
#include "tests/faults/simulation_worker.h"

namespace outfall::test::simulation {

namespace {

using history::Commit;
using history::Fault;
using std::chrono::microseconds;
using std::chrono::seconds;

constexpr Milliseconds kLease{3000};
constexpr std::uint64_t kRefusing = 4;  // one run of so many has entries that cannot be written
constexpr std::uint64_t kPooled = 5;    // one run of so many is behind a pooler
constexpr int kProducers = 3;
constexpr std::array<std::string_view, kFlaws> kFlawNames = {
    "none",         "fencing", "renewal", "key-order", "answer", "outage",
    "late-commits", "restart", "server",  "refusal",   "gate"};

// The series are of no interest, and take longer to make than a run. Those of a thread are its own,
// so that none waits for what another counts.
StreamMetrics& metrics() {
  static thread_local Metrics all({"", "", ""}, system_clock());
  return all.stream("orders");
}

class Run {
 public:
  Run(std::uint64_t seed, Flaw flaw, bool trace)
      : world_(seed, flaw, trace),
        database_(world_, seed % kPooled == 0),
        sink_(world_, database_) {
    if (seed % kRefusing == 2) refusals_.emplace(seed);
    choose();
    world_.history.send_timeout =
        std::chrono::duration_cast<microseconds>(kAttemptTimeout).count() + 200'000;
    stream_index_ = world_.history.streams.of("orders");
    world_.history.stream_rules[stream_index_] = {.ordered = true, .hold_key = hold_key_};
    for (int key = 0; key < kKeys; ++key)
      static_cast<void>(world_.history.keys.of(ModelDatabase::key_name(key)));
  }

  Result play() {
    for (int i = 0; i < workers_at_first_; ++i) add_worker();
    for (int producer = 0; producer < kProducers; ++producer) {
      ++producing_;
      world_.after(world_.between(0, 100'000), [this, producer] { produce(producer, budget_); });
    }
    for (std::uint64_t faults = world_.up_to(3); faults > 0; --faults) {
      ++pending_;
      world_.after(world_.between(50'000, 4'000'000), [this] { inject(); });
    }
    operate();
    const bool ended = world_.run(world_.now() + seconds{120}, [this] { return done(); });
    if (!ended) world_.trace("      the time is over");
    note_end();
    return judged();
  }

 private:
  void choose() {
    workers_at_first_ = 1 + static_cast<int>(world_.up_to(2));
    hold_key_ = world_.chance(0.25);
    budget_ = 6 + static_cast<int>(world_.up_to(14));
    key_window_ = std::array{1, 1, 0, 3}[world_.up_to(3)];
    natures_ = world_.chance(0.5) ? 0.1 : 0.0;
    long_transactions_ = world_.chance(0.5) ? 0.3 : 0.02;
    sink_.slow(std::array<std::int64_t, 4>{3000, 3000, 30'000, 600'000}[world_.up_to(3)]);
    options_.lease = kLease;
    options_.batch_entries = std::array{3, 10, 100}[world_.up_to(2)];
    options_.max_in_flight = std::array{8, 1000}[world_.up_to(1)];
    stream_.name = "orders";
    stream_.emitter = "model";
    stream_.provider = "model";
    if (world_.chance(0.5)) stream_.lane = "type";
    stream_.key_in_flight = std::array{2, 10, 1000}[world_.up_to(2)];
    stream_.lane_in_flight = std::array{4, 2000}[world_.up_to(1)];
    stream_.policy.on_dead_letter = hold_key_ ? OnDeadLetter::hold_key : OnDeadLetter::continue_key;
    stream_.policy.retry = {
        .initial = Milliseconds{20}, .max = Milliseconds{400}, .max_attempts = 12};
    stream_.breaker = {
        .failures = 5, .probe_initial = Milliseconds{50}, .probe_max = Milliseconds{400}};
    if (world_.flaw == Flaw::key_order) stream_.policy.ordering = Ordering::none;
  }

  void add_worker() {
    workers_.push_back(std::make_unique<ModelWorker>(world_, database_, sink_,
                                                     static_cast<int>(workers_.size()) + 1,
                                                     options_, stream_, key_window_, metrics()));
    workers_.back()->start();
  }

  // Producers: each writes its own keys, one transaction after the other.

  void produce(int producer, int left) {
    if (left == 0) {
      --producing_;
      return;
    }
    if (!database_.up()) {
      world_.after(world_.between(10'000, 50'000),
                   [this, producer, left] { produce(producer, left); });
      return;
    }
    const int transaction = database_.begin();
    auto ids = std::make_shared<std::vector<EntryId>>();
    write(producer, transaction, ids, 1 + static_cast<int>(world_.up_to(2)), left);
  }

  microseconds pause() {
    return world_.chance(long_transactions_) ? world_.between(50'000, 1'500'000)
                                             : world_.between(100, 20'000);
  }

  void write(int producer, int transaction, const std::shared_ptr<std::vector<EntryId>>& ids,
             int entries, int left) {
    world_.after(pause(), [this, producer, transaction, ids = ids, entries, left] {
      if (!database_.open(transaction)) return produce(producer, left);  // it ended in a crash
      if (entries > 0 && left > 0) {
        ids->push_back(database_.insert(transaction, draw(producer)));
        return write(producer, transaction, ids, entries - 1, left - 1);
      }
      end(transaction, *ids);
      world_.after(world_.between(100, 50'000),
                   [this, producer, left] { produce(producer, left); });
    });
  }

  Row draw(int producer) {
    Row row;
    row.key = world_.chance(0.1) ? -1 : producer + kProducers * static_cast<int>(world_.up_to(1));
    row.lane = static_cast<int>(world_.up_to(1));
    if (world_.chance(natures_)) {
      row.nature = std::array{Row::Nature::refused_at_first, Row::Nature::refused_at_first,
                              Row::Nature::poison, Row::Nature::stubborn}[world_.up_to(3)];
      row.refusals = 1 + static_cast<int>(world_.up_to(2));
    }
    // By a chance of its own, so that the other runs stay what they are.
    if (refusals_ && refusals_->up_to(9) == 0)
      row.writable = world_.now() + Milliseconds{static_cast<std::int64_t>(refusals_->up_to(9000))};
    row.entry = world_.history.entry_index("e" + std::to_string(database_.rows().size() + 1));
    world_.history.entries[row.entry].poison =
        row.nature == Row::Nature::poison || row.nature == Row::Nature::stubborn;
    return row;
  }

  void end(int transaction, const std::vector<EntryId>& ids) {
    const bool commits = !world_.chance(0.08);
    const bool unknown = world_.chance(0.05);
    for (const EntryId id : ids) {
      const Row& row = database_.row(id);
      history::Entry& entry = world_.history.entries[row.entry];
      entry.begun_at = world_.micros();
      entry.stream = stream_index_;
      if (row.key >= 0) {
        entry.key = world_.history.keys.of(ModelDatabase::key_name(row.key));
        entry.place = ++places_[static_cast<std::size_t>(row.key)];
      }
      entry.commit = unknown ? Commit::unknown : commits ? Commit::committed : Commit::rolled_back;
      if (entry.commit == Commit::committed) entry.committed_at = world_.micros();
    }
    world_.trace("      {} {}", commits ? "committed" : "rolled back", fmt::join(ids, " "));
    if (commits) {
      database_.commit(transaction);
    } else {
      database_.roll_back(transaction);
    }
  }

  // An operator replays dead letters, all of those that hold their key.

  void operate() {
    world_.after(Milliseconds{700}, [this] {
      for (Row& row : database_.rows()) {
        if (row.state != Row::State::dead || !database_.up()) continue;
        if (!row.holds_key && world_.chance(0.8)) continue;
        row.nature = Row::Nature::plain;
        database_.replay(row.id);
        history::Entry& entry = world_.history.entries[row.entry];
        entry.replayed = true;
        entry.replayed_at = world_.micros();
        world_.trace("      {} replayed", row.id);
      }
      if (!done()) operate();
    });
  }

  // Faults.

  Fault& note(std::string kind, microseconds lasts) {
    Fault fault;
    fault.from = world_.micros();
    fault.until = fault.from + lasts.count();
    fault.kind = std::move(kind);
    world_.trace("FAULT {} for {} ms", fault.kind, lasts.count() / 1000);
    world_.history.faults.push_back(std::move(fault));
    ++pending_;
    world_.after(lasts, [this] { --pending_; });
    return world_.history.faults.back();
  }

  void inject() {
    --pending_;
    if (world_.chance(0.5)) {
      hit_worker();
    } else if (world_.chance(0.5)) {
      hit_sink();
    } else {
      hit_database();
    }
  }

  void hit_worker() {
    ModelWorker& worker = *workers_[world_.up_to(workers_.size() - 1)];
    if (!worker.alive()) return;
    const auto name = world_.history.workers.of("w" + std::to_string(worker.number()));
    switch (world_.up_to(3)) {
      case 0:
        note("F1-sigkill", microseconds{0}).workers = {name};
        worker.kill();
        return restart();
      case 1:
        note("F2-sigterm", seconds{3}).workers = {name};
        worker.terminate();
        return restart();
      case 2: {
        const auto lasts = world_.between(100'000, 6'000'000);
        note("F3-sigstop", lasts).workers = {name};
        return worker.freeze(world_.now() + lasts);
      }
      default: {
        const auto lasts = world_.between(50'000, 4'000'000);
        Fault& fault = note("F11-partition", lasts + seconds{2});
        fault.workers = {name};
        fault.late = true;
        worker.cut_off(world_.now() + lasts);
      }
    }
  }

  void restart() {
    ++pending_;
    world_.after(world_.between(200'000, 2'000'000), [this] {
      --pending_;
      add_worker();
    });
  }

  void hit_sink() {
    const auto lane = static_cast<int>(world_.up_to(kLanes - 1));
    const auto lasts = world_.between(100'000, 4'000'000);
    static constexpr std::array<std::pair<ModelSink::Trouble, std::string_view>, 3> kTroubles = {
        {{ModelSink::Trouble::refuses, "F14-refuses"},
         {ModelSink::Trouble::loses_answers, "F12-ack-lost"},
         {ModelSink::Trouble::hangs, "F12-hangs"}}};
    const auto& [trouble, kind] = kTroubles[world_.up_to(2)];
    Fault& fault = note(std::string(kind), lasts);
    fault.sinks = {world_.history.sinks.of(ModelDatabase::lane_name(lane))};
    // What is refused has not been taken, so that there is nothing to repeat.
    if (trouble == ModelSink::Trouble::refuses) {
      fault.copies = 0;
      fault.late = false;
    }
    sink_.trouble(lane, trouble, world_.now() + lasts);
  }

  void hit_database() {
    const auto lasts = world_.between(100'000, 2'000'000);
    if (world_.chance(0.5)) {
      note("F6-connections", lasts).database = true;
      for (const auto& worker : workers_) worker->flaky(world_.now() + lasts);
      return;
    }
    if (!database_.up()) return;
    // Behind a pooler nobody is told: a worker learns of it by its next claim or settle, which
    // comes before a lease has run out, and what was sent under a lease that is then given up comes
    // again.
    const microseconds effects = database_.pooled() ? microseconds{kLease} : seconds{1};
    const char* kind = database_.pooled() ? "F22-pooler-restart" : "F7-crash";
    Fault& fault = note(kind, lasts + effects);
    fault.database = fault.undoes_commits = true;
    database_.crash();
    for (const auto& worker : workers_) {
      if (worker->alive()) worker->database_crashed();
    }
    world_.after(lasts, [this] { database_.restart(); });
  }

  // The end.

  [[nodiscard]] bool done() const {
    if (producing_ > 0 || pending_ > 0 || !database_.up() || !database_.drained()) return false;
    const std::vector<Row>& rows = database_.rows();
    return std::none_of(rows.begin(), rows.end(), [](const Row& row) {
      return row.state == Row::State::dead && row.holds_key;
    });
  }

  void note_end() {
    history::Final& final = world_.history.final;
    final.seen = final.receipts_listed = true;
    final.leases = static_cast<std::int64_t>(database_.leases().size());
    for (const Row& row : database_.rows()) {
      history::Entry& entry = world_.history.entries[row.entry];
      entry.receipts = row.state == Row::State::delivered ? 1 : 0;
      entry.dead_letters = row.state == Row::State::dead ? 1 : 0;
      entry.left = row.state == Row::State::live || row.state == Row::State::open;
      if (row.attempts > row.chargeable)
        world_.defect(fmt::format("entry {} has {} attempts, of which {} were its own", row.id,
                                  row.attempts, row.chargeable));
    }
  }

  Result judged() {
    Result result;
    try {
      result.verdict = history::judge(world_.history);
    } catch (const history::BadHistory& error) {
      world_.defect(error.what());
    }
    result.defects = std::move(world_.defects);
    result.events = world_.events();
    result.digest = digest_of(world_.history, result);
    return result;
  }

  World world_;
  ModelDatabase database_;
  ModelSink sink_;
  DrainOptions options_;
  StreamOptions stream_;
  std::int32_t key_window_ = 1;
  int workers_at_first_ = 1;
  int budget_ = 0;
  std::optional<SeededRandom> refusals_;  // where the run has entries that cannot be written
  double natures_ = 0;
  double long_transactions_ = 0;
  bool hold_key_ = false;
  history::Index stream_index_ = 0;
  std::array<std::int64_t, kKeys> places_{};
  std::vector<std::unique_ptr<ModelWorker>> workers_;
  int producing_ = 0;
  int pending_ = 0;  // faults to come, and those that are not over
};

}  // namespace

std::string_view to_string(Flaw flaw) noexcept {
  return kFlawNames[static_cast<std::size_t>(flaw)];
}

std::optional<Flaw> flaw_from(std::string_view name) noexcept {
  const auto found = std::find(kFlawNames.begin(), kFlawNames.end(), name);
  if (found == kFlawNames.end()) return std::nullopt;
  return static_cast<Flaw>(found - kFlawNames.begin());
}

std::string Result::text() const {
  std::string text;
  for (const auto& sample : verdict.samples)
    text += std::string(to_string(sample.anomaly)) + ": " + sample.text + "\n";
  for (const std::string& defect : defects) text += "defect: " + defect + "\n";
  return text;
}

Result simulate(std::uint64_t seed, Flaw flaw, bool trace) {
  return Run(seed, flaw, trace).play();
}

}  // namespace outfall::test::simulation
