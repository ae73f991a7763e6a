// Faults that other sessions of the database cause: transactions left open, locks, connections that
// are used up, another version of the schema.
#include "tests/faults/torture/faults.h"

namespace outfall::torture {

namespace {

using test::PgClient;
using test::PgError;

constexpr std::string_view kAttempts = "outfall_attempts_total";
constexpr std::string_view kDelivered = "outcome=\"delivered\"";

// F19: the xmin horizon stands still, and a transaction that has written is idle. Workers have met
// it when they have delivered while others' transactions ended above that horizon.
class OpenTransactionsFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;
  void strike() override {
    deliveries_.since(told(kAttempts, kDelivered));
    reader_ = std::make_unique<PgClient>(scene_.servers.dsn(scene_.database));
    reader_->exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.entries");
    writer_ = std::make_unique<PgClient>(scene_.servers.dsn(scene_.database));
    writer_->exec(
        "BEGIN; INSERT INTO outbox.entries (stream, type) VALUES ('orders', 'order.never')");
  }
  void mend() override {
    reader_.reset();
    writer_.reset();  // rolled back with its session
  }

 private:
  [[nodiscard]] bool happened() override {
    return may_look() && deliveries_.seen_in(told(kAttempts, kDelivered)) &&
           scene_.servers.connect(scene_.database)
                   .number(
                       "SELECT count(*) FROM pg_stat_activity"
                       " WHERE pid = $1 AND age(backend_xmin) > 0",
                       {reader_->value("SELECT pg_backend_pid()")}) > 0;
  }

  Growth deliveries_;
  std::unique_ptr<PgClient> reader_;
  std::unique_ptr<PgClient> writer_;
};

// F20: a prepared transaction that nobody ends, transactions in two phases beside it, and another
// database of the server that is busy. Workers have met it when they have delivered beside it.
class PreparedFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;
  void strike() override {
    deliveries_.since(told(kAttempts, kDelivered));
    PgClient client = scene_.servers.connect(scene_.database);
    client.exec(
        "BEGIN; INSERT INTO outbox.entries (stream, type) VALUES ('orders', 'order.never');"
        " PREPARE TRANSACTION 'left-behind-" +
        scene_.database + "'");
    other_ = std::make_unique<PgClient>(scene_.servers.primary().connect("postgres"));
    other_->exec("CREATE TABLE IF NOT EXISTS busy (n int)");
    scene_.load.prepared = true;
  }
  void tick() override { other_->exec("INSERT INTO busy SELECT generate_series(1, 200)"); }
  void mend() override {
    scene_.load.prepared = false;
    other_.reset();
    scene_.servers.connect(scene_.database)
        .exec("ROLLBACK PREPARED 'left-behind-" + scene_.database + "'");
  }

 private:
  [[nodiscard]] bool happened() override {
    return may_look() && deliveries_.seen_in(told(kAttempts, kDelivered)) &&
           scene_.servers.connect(scene_.database)
                   .number("SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1",
                           {"left-behind-" + scene_.database}) > 0;
  }

  Growth deliveries_;
  std::unique_ptr<PgClient> other_;
};

// F22: the workers lose their connections, and somebody else has all that the server has. They
// have met it when the server has logged that it refused them one.
class ConnectionsFault final : public WitnessedFault {
 public:
  ConnectionsFault(Scene& scene, Injection injection)
      : WitnessedFault(scene, std::move(injection)) {
    touch_database();
  }
  void strike() override {
    logged_before_ = scene_.servers.primary().log().size();
    limit("0");
    (void)scene_.servers.primary().connect().query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'torture_worker'");
  }
  void mend() override { limit("-1"); }

 private:
  [[nodiscard]] bool happened() override {
    return may_look() &&
           scene_.servers.primary()
                   .log(logged_before_)
                   .find("too many connections for role \"torture_worker\"") != std::string::npos;
  }

  std::size_t logged_before_ = 0;
  void limit(const std::string& connections) {
    scene_.servers.primary().connect().exec("ALTER ROLE torture_worker CONNECTION LIMIT " +
                                            connections);
  }
};

// F23: locks what workers lock, in the opposite order, so that one of both has to give way. Where
// the step is exact, the first lock is taken while the worker stands there, and the second when it
// waits.
class DeadlockFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;
  void strike() override {
    client_ = std::make_unique<PgClient>(scene_.servers.dsn(scene_.database));
    client_->exec(
        "SET search_path = outbox; SET lock_timeout = '500ms'; SET statement_timeout = '2s';"
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
        "SET jit = off");
    before_ = counted();
    tried_us_ = 0;
    if (at_step()) {
      attempt([this] { lock_first(); });
      struck_now();
    }
  }
  void tick() override {
    if (tried_us_ != 0) {
      // One is enough there. It is counted a moment later, where there was one.
      constexpr std::int64_t kCountedWithinUs = 2'000'000;
      if (!seen_ && now_us() > tried_us_ + kCountedWithinUs) strike_again();
      return;
    }
    attempt([this] {
      if (holds_until_us_ == 0) {
        lock_first();
      } else if (somebody_waits()) {
        lock_second();
      } else if (now_us() > holds_until_us_) {
        let_go();
      }
    });
  }
  void mend() override {
    more_["deadlocks"] = deadlocks_;
    more_["deadlocks_counted"] = counted() - before_;
    client_.reset();
  }
  // The server ends one session of both, and counts that a moment later.
  [[nodiscard]] bool happened() override {
    if (seen_ || deadlocks_ > 0) return seen_ = true;
    if (now_us() < next_look_us_) return false;
    next_look_us_ = now_us() + 100'000;
    return seen_ = counted() > before_;
  }

 private:
  [[nodiscard]] bool at_step() const { return !injection_.point.empty(); }

  [[nodiscard]] std::string first_lock() const {
    // By their ids: a join over all entries took twelve minutes of a soak, whose dead rows it read
    // for each lease and kept from being removed meanwhile.
    return "SELECT e.id FROM entries e WHERE e.id IN (SELECT generate_series(lower(span), "
           "upper(span) - 1) FROM leases l, unnest(l.ids) span" +
           (at_step() ? " WHERE l.instance = '" + worker().instance() + "'" : " LIMIT 50") +
           ") FOR UPDATE";
  }
  void lock_first() {
    constexpr std::int64_t kHoldsUs = 500'000;
    constexpr std::int64_t kHoldsAtStepUs = 1'500'000;  // it has to be thawed first
    client_->exec("BEGIN; " + first_lock());
    holds_until_us_ = now_us() + (at_step() ? kHoldsAtStepUs : kHoldsUs);
  }
  void lock_second() {
    client_->exec("SELECT lease_id FROM leases FOR UPDATE");
    let_go();
  }
  template <typename Work>
  void attempt(const Work& work) {
    try {
      work();
    } catch (const PgError& error) {
      if (error.sqlstate() == "40P01") ++deadlocks_;
      let_go();
    }
  }
  void let_go() {
    client_->exec("ROLLBACK");
    holds_until_us_ = 0;
    if (at_step()) tried_us_ = now_us();
  }
  // At a step it must be the worker that stood there, with what it stood before.
  bool somebody_waits() {
    return client_->number(
               "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
               " WHERE NOT l.granted AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid))" +
               (at_step() ? " AND a.application_name = 'outfall " + worker().instance() +
                                "' AND a.query LIKE '%.settle(%'"
                          : std::string())) > 0;
  }
  std::int64_t counted() {
    return scene_.servers.connect(scene_.database)
        .number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
  }

  std::unique_ptr<PgClient> client_;
  std::int64_t holds_until_us_ = 0;  // 0: nothing is locked
  std::int64_t tried_us_ = 0;        // at the step, when that was over; 0: not yet
  int deadlocks_ = 0;                // that cost this session its locks
  bool seen_ = false;
  std::int64_t before_ = 0;
  std::int64_t next_look_us_ = 0;
};

// F24: the schema becomes one that bears these workers no more, and they must connect anew.
class SchemaFault final : public RefusedFault {
 public:
  SchemaFault(Scene& scene, Injection injection)
      : RefusedFault(scene, std::move(injection), "schema", "bears workers of protocol") {}

 private:
  void refuse() override {
    PgClient client = scene_.servers.connect(scene_.database);
    client.exec(
        "INSERT INTO outbox.schema_version (version, name, min_worker)"
        " VALUES (999, '0999_future', 999)");
    (void)client.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = $1 AND usename = 'torture_worker'",
        {scene_.database});
  }
  void mend() override {
    scene_.servers.connect(scene_.database)
        .exec("DELETE FROM outbox.schema_version WHERE version = 999");
  }
};

}  // namespace

std::unique_ptr<Fault> make_session_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F19-xmin") return std::make_unique<OpenTransactionsFault>(scene, injection);
  if (kind == "F20-prepared") return std::make_unique<PreparedFault>(scene, injection);
  if (kind == "F22-connections") return std::make_unique<ConnectionsFault>(scene, injection);
  if (kind == "F23-deadlock") return std::make_unique<DeadlockFault>(scene, injection);
  if (kind == "F24-schema") return std::make_unique<SchemaFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
