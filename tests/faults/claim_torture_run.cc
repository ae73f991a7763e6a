#include "tests/faults/claim_torture_run.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

namespace outfall::test::torture {

namespace {

using Kind = Event::Kind;

constexpr milliseconds kStuckAfter{15000};

// Workers that are known to be dead. Whoever is named here never sends again.
class DeadWorkers {
 public:
  void add(const std::string& worker) {
    const std::lock_guard lock(mutex_);
    workers_.push_back(worker);
    if (workers_.size() > 20) workers_.erase(workers_.begin());
  }
  [[nodiscard]] std::vector<std::string> list() const {
    const std::lock_guard lock(mutex_);
    return workers_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> workers_;
};

// One worker's life: draws what it does next. One thread.
class Life {
 public:
  Life(const TortureDatabase& database, History& history, Halt& halt,
       const std::atomic<bool>& faults, DeadWorkers& dead, const RunOptions& options,
       std::uint64_t seed)
      : history_(history),
        halt_(halt),
        faults_(faults),
        dead_(dead),
        base_(options.worker),
        lanes_(options.producer.lanes),
        random_(seed),
        worker_(database, history, options.worker, random_) {}

  void run() {
    try {
      while (!halt_.requested()) {
        if (!turn()) halt_.pause(milliseconds(1 + random_.up_to(2)));
      }
      if (worker_.claiming()) (void)worker_.end_claim();
    } catch (const std::exception& error) {
      history_.defect(std::string("worker: ") + error.what());
    }
  }
  [[nodiscard]] const WorkerCounts& counts() const { return worker_.counts(); }

 private:
  [[nodiscard]] bool chance(std::uint64_t in_a_thousand) {
    return random_.up_to(999) < in_a_thousand;
  }
  [[nodiscard]] bool fault(std::uint64_t in_a_thousand) { return faults_ && chance(in_a_thousand); }

  // Whether anything was done.
  bool turn() {
    bool busy = false;
    if (worker_.leases() > 0 && fault(10)) die();
    if (fault(6)) sleep_over();
    if (fault(2)) worker_.release_all();
    if (worker_.claiming() && worker_.claim_answered()) {
      if (fault(20)) {
        worker_.lose_claim();
        busy = true;
      } else {
        busy = worker_.end_claim() == "batch";
      }
    }
    if (!worker_.claiming() && worker_.held() < 100 && wants_to_claim()) {
      prepare_claim();
      worker_.begin_claim();
    }
    for (std::uint64_t i = random_.up_to(12); i > 0; --i)
      busy = worker_.send_next(verdict(), true) || busy;
    if (worker_.leases() > 0) {
      if (chance(400)) worker_.settle(1 + random_.up_to(3), fault(30));
      if (chance(60)) worker_.renew();
    }
    return busy;
  }

  bool wants_to_claim() { return worker_.expects_more() || fault(10) || worker_.due(); }

  void prepare_claim() {
    WorkerOptions& options = worker_.options();
    const int limit = faults_ ? base_.limit : 50;
    options.limit = 1 + static_cast<int>(random_.up_to(static_cast<std::uint64_t>(limit - 1)));
    options.max_bytes = chance(100) ? 0 : base_.max_bytes;
    options.lease_ms = base_.lease_ms +
                       static_cast<int>(random_.up_to(static_cast<std::uint64_t>(base_.lease_ms)));
    options.dead = chance(500) ? dead_.list() : std::vector<std::string>{};
    options.lanes.clear();
    for (int lane = 0; lane < lanes_; ++lane) {
      if (fault(200))
        options.lanes["lane" + std::to_string(lane)] = static_cast<int>(random_.up_to(2));
    }
  }

  Verdict verdict() {
    if (!faults_) return {};
    const int delay = static_cast<int>(random_.up_to(200));
    const std::uint64_t drawn = random_.up_to(999);
    if (drawn < 60) return {.result = SendResult::retry, .delay_ms = drawn < 15 ? 0 : delay};
    if (drawn < 85) return {.result = SendResult::deferred, .delay_ms = delay};
    if (drawn < 105) return {.result = SendResult::dead_lettered};
    if (drawn < 140) return {.result = SendResult::not_sent};
    return {};
  }

  void die() {
    if (chance(500)) dead_.add(worker_.id());
    worker_.die(chance(300));
  }

  // Stops for longer than its leases. A worker that was said to be dead comes back as another.
  void sleep_over() {
    if (worker_.leases() == 0) return;
    const bool said_dead = chance(400);
    if (said_dead) dead_.add(worker_.id());
    worker_.sleep_over_leases(milliseconds(4 * base_.lease_ms));
    worker_.settle();
    if (said_dead) worker_.die();
  }

  History& history_;
  Halt& halt_;
  const std::atomic<bool>& faults_;
  DeadWorkers& dead_;
  const WorkerOptions base_;
  const int lanes_;
  SeededRandom random_;
  TortureWorker worker_;
};

class Run {
 public:
  explicit Run(const RunOptions& options)
      : options_(options), database_(options.patches), sql_(database_.connect()) {
    sql_.exec("CREATE TABLE business (key text PRIMARY KEY, n bigint NOT NULL)");
    (void)sql_.query("SELECT register_streams('{s}')");
    SeededRandom seeds(options.seed);
    for (int i = 0; i < options.producers; ++i)
      producers_.push_back(std::make_unique<Producer>(database_, history_, no_more_input_,
                                                      options.producer, seeds.next(), i));
    for (int i = 0; i < options.workers; ++i)
      lives_.push_back(
          std::make_unique<Life>(database_, history_, end_, faults_, dead_, options, seeds.next()));
    operator_ = std::make_unique<Operator>(database_, history_, no_more_input_,
                                           Operator::Options{.lanes = options.producer.lanes},
                                           seeds.next());
  }

  RunResult run() {
    std::vector<std::thread> input, work;
    for (auto& life : lives_) work.emplace_back([&life] { life->run(); });
    for (auto& producer : producers_) input.emplace_back([&producer] { producer->run(); });
    input.emplace_back([this] { operator_->run(); });
    no_more_input_.pause(options_.duration);
    no_more_input_.request();
    for (std::thread& thread : input) thread.join();
    faults_ = false;
    if (options_.drain) drain();
    end_.request();
    for (std::thread& thread : work) thread.join();
    return judge();
  }

 private:
  [[nodiscard]] std::int64_t left() {
    return sql_.number(
        "SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM dead_letters)"
        " + (SELECT count(*) FROM leases) + (SELECT count(*) FROM holds)");
  }

  // As slowly as the machine is; what does not get on at all is stuck.
  void drain() {
    std::size_t settled = 0;
    const auto gets_on = [&] {
      operator_->replay(1000);
      return history_.count(Kind::settled) > settled || left() == 0;
    };
    while (left() > 0 && holds_within(gets_on, kStuckAfter))
      settled = history_.count(Kind::settled);
  }

  RunResult judge() {
    RunResult result;
    operator_->note_abandoned();
    const std::vector<Event> events = history_.events();
    result.anomalies =
        check(events, options_.drain ? std::optional(read_final_state(sql_)) : std::nullopt);
    if (!result.anomalies.empty()) result.trace = trace(events, result.anomalies.front().entries);
    for (const auto& life : lives_) result.workers += life->counts();
    for (const auto& producer : producers_) {
      result.producers.transactions += producer->counts().transactions;
      result.producers.rolled_back += producer->counts().rolled_back;
      result.producers.prepared += producer->counts().prepared;
      result.producers.slow += producer->counts().slow;
      result.producers.scheduled += producer->counts().scheduled;
    }
    result.operators = operator_->counts();
    result.committed = history_.count(Kind::committed);
    result.dead_lettered = history_.count(Kind::dead_lettered);
    result.abandoned = history_.count(Kind::abandoned);
    return result;
  }

  const RunOptions options_;
  TortureDatabase database_;
  PgClient sql_;
  History history_;
  Halt no_more_input_;
  Halt end_;
  std::atomic<bool> faults_{true};
  DeadWorkers dead_;
  std::vector<std::unique_ptr<Producer>> producers_;
  std::vector<std::unique_ptr<Life>> lives_;
  std::unique_ptr<Operator> operator_;
};

}  // namespace

FinalState read_final_state(PgClient& sql) {
  FinalState state;
  for (const PgRow& row : sql.query("SELECT id FROM outbox.entries ORDER BY id"))
    state.entries.push_back(std::stoll(*row[0]));
  for (const PgRow& row : sql.query("SELECT id FROM outbox.dead_letters"))
    state.dead_letters.insert(std::stoll(*row[0]));
  state.leases = sql.number("SELECT count(*) FROM outbox.leases");
  state.holds = sql.number("SELECT count(*) FROM outbox.holds") +
                sql.number("SELECT count(*) FROM outbox.parkings");
  return state;
}

RunResult run(const RunOptions& options) {
  return Run(options).run();
}

// Parkings are for tens of thousands of entries; here ten are many.
std::vector<Patch> small_parkings() {
  return {
      {"0002_claim", "c_sample     CONSTANT int := 100;", "c_sample     CONSTANT int := 6;"},
      {"0002_claim", "c_many       CONSTANT int := 90;", "c_many       CONSTANT int := 4;"},
      {"0002_claim", "c_pass_chunk CONSTANT int := 100000;", "c_pass_chunk CONSTANT int := 12;"},
      {"0002_claim", "c_move_chunk CONSTANT int := 100;", "c_move_chunk CONSTANT int := 3;"},
      {"0002_claim", "c_move_many  CONSTANT int := 500;", "c_move_many  CONSTANT int := 3;"},
      {"0002_claim", "c_walk CONSTANT int := 4000;", "c_walk CONSTANT int := 5;"},
      {"0002_claim", "interval := '250 milliseconds'", "interval := '20 milliseconds'"}};
}

RunOptions options_from(std::uint64_t seed) {
  SeededRandom random(seed);
  const auto number = [&](std::uint64_t from, std::uint64_t to) {
    return static_cast<int>(from + random.up_to(to - from));
  };
  RunOptions options;
  options.seed = seed;
  options.workers = number(3, 5);
  options.worker.lease_ms = number(300, 600);
  options.worker.limit = number(1, 3) == 1 ? number(1, 5) : number(10, 50);
  options.worker.margin = milliseconds(30);
  options.worker.hold_key = number(0, 2) == 0;
  options.worker.max_abandoned = number(3, 8);
  options.worker.key_room = number(0, 1) == 0 ? number(1, 8) : 1000;
  options.producer.ordered_keys = number(10, 60);
  if (number(0, 2) == 0) {
    options.producer.lanes = number(2, 4);
    options.worker.lane = "header.lane";
    options.worker.lane_room = number(0, 1) == 0 ? number(2, 20) : 1000;
  }
  if (number(0, 2) > 0) options.patches = small_parkings();
  return options;
}

std::string to_string(const RunOptions& options) {
  std::ostringstream text;
  text << "seed " << options.seed << ": " << options.workers << " workers, leases of "
       << options.worker.lease_ms << " ms, limit " << options.worker.limit << ", "
       << options.producer.ordered_keys << " keys, key room " << options.worker.key_room << ", "
       << options.producer.lanes << " lanes, lane room " << options.worker.lane_room
       << ", max abandoned " << options.worker.max_abandoned
       << (options.worker.hold_key ? ", hold-key" : "")
       << (options.patches.empty() ? "" : ", small parkings");
  return text.str();
}

std::string to_string(const RunResult& result) {
  std::ostringstream text;
  const WorkerCounts& w = result.workers;
  text << result.committed << " committed, " << w.deliveries << " deliveries, " << w.leases
       << " leases, " << w.taken_over << " taken over, " << w.stale << " stale settles, "
       << w.repicks << " repicks, " << w.parked << " parked, " << w.suspects << " suspects, "
       << w.repeated << " repeated claims, " << w.repeated_settles << " repeated settles, "
       << w.deaths << " deaths, " << w.zombies << " zombies, " << w.stops << " stops, " << w.busy
       << " busy, " << w.given_back << " given back; " << result.producers.rolled_back
       << " rolled back, " << result.producers.prepared << " prepared, " << result.producers.slow
       << " slow, " << result.producers.scheduled << " scheduled; " << result.dead_lettered
       << " dead-lettered, " << result.abandoned << " seen abandoned, " << result.operators.replayed
       << " replayed, " << result.operators.retried << " retried, " << result.operators.pauses
       << " pauses";
  return text.str();
}

}  // namespace outfall::test::torture
