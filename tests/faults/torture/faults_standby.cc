// Faults that need a standby which lives on: nobody fences the old primary of a failover (F8, F9),
// a reader on a replica (F19).
#include "tests/faults/torture/faults.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace {

using test::TempPostgres;

// A standby takes its place, and then one worker finds the old primary again, which takes writes
// as ever and comes first in the worker's list. No server tells outfall that another one has been
// promoted, so that the worker goes on there until the old primary is stopped, as whoever moves a
// database has to do first.
class SplitBrainFault final : public ForgetfulFault {
 public:
  SplitBrainFault(Scene& scene, Injection injection) : ForgetfulFault(scene, std::move(injection)) {
    undo_commits();
    // What both servers have is delivered from both, and the old one is behind.
    more_["copies"] = 4;
    more_["late"] = true;
  }

  bool inject() override {
    if (asynchronous()) fall_behind();
    return Fault::inject();
  }

  void heal() override {
    return_of_the_old();
    old_->stop(test::StopMode::immediate);
    ended();
  }

 private:
  [[nodiscard]] bool asynchronous() const { return injection_.kind == "F9-split-brain"; }

  bool ready() override {
    constexpr std::int64_t kForgetsUs = 500'000;
    return !asynchronous() || is_behind_for(kForgetsUs);
  }

  void strike() override {
    old_ = &scene_.servers.primary();
    pile_up();
    settled_before_ = settled_by_old();
    scene_.servers.hide_first();
    for (const auto& each : scene_.workers) {
      each->gates().front()->admit(test::Admission::refuse);
      each->gates().front()->end_connections(test::Ending::reset);
      each->resume();
    }
    scene_.servers.promote(!asynchronous());
  }

  // So that the old primary has something to deliver, and both have the same.
  void pile_up() {
    constexpr std::int64_t kPiled = 40;
    for (const auto& each : scene_.workers) each->pause();
    test::wait_until(
        [&] {
          return old_->connect(scene_.database).number("SELECT count(*) FROM outbox.entries") >=
                 kPiled;
        },
        "entries to wait on the primary");
  }

  void return_of_the_old() {
    constexpr std::chrono::seconds kWorksThereWithin{20};
    const std::size_t told = worker().log_length();
    worker().gates().front()->admit(test::Admission::accept);
    // Whoever connects anew finds the old one first.
    (void)scene_.servers.primary().connect().query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
        {"outfall " + worker().instance()});
    const bool works_there = test::holds_within(
        [this] { return settled_by_old() > settled_before_; }, kWorksThereWithin);
    more_["settled_by_the_old_primary"] = settled_by_old() - settled_before_;
    // The release of leases that are in doubt waits for the standby, which has left.
    const bool waits_there =
        !asynchronous() && worker().logged_since(told, "the database has restarted");
    if (!works_there && !waits_there) scene_.complain("nobody worked on the old primary");
  }

  [[nodiscard]] std::int64_t settled_by_old() const {
    return old_->connect(scene_.database)
        .number("SELECT coalesce(sum(entries), 0) FROM outbox.receipts");
  }

  TempPostgres* old_ = nullptr;
  std::int64_t settled_before_ = 0;
};

// F19: the snapshot of a reader on a standby, which the primary hears of, holds back what may be
// cleaned up as one of its own does.
class ReplicaSnapshotFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;

 private:
  void strike() override {
    TempPostgres& standby = scene_.servers.synchronous();
    standby.set("hot_standby_feedback", "on");
    standby.set("wal_receiver_status_interval", "1s");
    standby.reload();
    reader_ = std::make_unique<test::PgClient>(standby.dsn(scene_.database));
    reader_->exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.entries");
  }
  [[nodiscard]] bool happened() override {
    return scene_.servers.primary().connect().number(
               "SELECT count(*) FROM pg_stat_replication"
               " WHERE application_name = 'near' AND backend_xmin IS NOT NULL") > 0;
  }
  void mend() override { reader_.reset(); }

  std::unique_ptr<test::PgClient> reader_;
};

}  // namespace

std::unique_ptr<Fault> make_standby_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F8-split-brain" || kind == "F9-split-brain")
    return std::make_unique<SplitBrainFault>(scene, injection);
  if (kind == "F19-replica") return std::make_unique<ReplicaSnapshotFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
