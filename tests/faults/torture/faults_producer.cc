// Faults that producers cause, or that only the plan of the run sets up.
#include "tests/faults/torture/faults.h"

namespace outfall::torture {

namespace {

// F16: entries that the sink refuses for good. One has been refused when it is a dead letter.
class PoisonFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;
  void strike() override { scene_.load.poison(Sink::kPoison, Sink::kPoisonBytes); }
  void mend() override { scene_.load.poison(""); }
  [[nodiscard]] bool happened() override {
    if (!may_look()) return false;
    try {
      return scene_.servers.connect(scene_.database)
                 .number("SELECT count(*) FROM outbox.dead_letters WHERE type = $1",
                         {Sink::kPoison}) > 0;
    } catch (const test::PgError&) {
      return false;  // another fault of the run has taken the server
    }
  }
};

// F17: some ids are inserted twice, which the database must refuse.
class DuplicateFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;
  void strike() override {
    refused_before_ = scene_.load.refused_duplicates();
    scene_.load.duplicates = true;
  }
  void mend() override { scene_.load.duplicates = false; }
  [[nodiscard]] bool happened() override {
    return scene_.load.refused_duplicates() > refused_before_;
  }

 private:
  int refused_before_ = 0;
};

// F18: some transactions commit long after later ones have. One that does is looked for; where the
// step is exact the worker stands there until it has been seen open, and then committed.
class LateFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    scene_.load.late = true;
    return Fault::inject();
  }
  void give_up() override {
    mend();
    Fault::give_up();
  }

 private:
  void mend() override { scene_.load.late = false; }
  bool ready() override {
    if (now_us() < next_look_us_) return false;
    next_look_us_ = now_us() + 20'000;
    try {
      return look();
    } catch (const test::PgError&) {
      return false;  // another fault of the run has taken the server
    }
  }

  // Longer than any other transaction of the load stays open.
  static constexpr const char* kOvertaken =
      "SELECT min(a.backend_xid::text) FROM pg_stat_activity a WHERE a.datname = current_database()"
      " AND a.usename <> 'torture_worker' AND a.xact_start < clock_timestamp() - interval '350 ms'"
      " AND EXISTS (SELECT FROM generate_series(a.backend_xid::text::bigint + 1,"
      "   pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1) later"
      "   WHERE pg_xact_status(later::text::xid8) = 'committed')";

  // Whether the one that later ones have overtaken has committed.
  bool look() {
    test::PgClient client = scene_.servers.connect(scene_.database);
    if (!overtaken_) {
      overtaken_ = client.query(kOvertaken).front().front();
      return false;
    }
    const test::PgValue ended =
        client.query("SELECT pg_xact_status($1::xid8)", {overtaken_}).front().front();
    if (ended != "in progress" && ended != "committed") overtaken_.reset();
    return ended == "committed";
  }

  std::int64_t next_look_us_ = 0;
  std::optional<std::string> overtaken_;  // a transaction's id
};

// F4 of the noop emitter, whose deliveries take longer than the lease in the whole run.
class SlowFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;
  void strike() override {}
  [[nodiscard]] bool happened() override { return may_look() && a_lease_was_outlasted(); }
};

}  // namespace

std::unique_ptr<Fault> make_producer_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F4-slow") return std::make_unique<SlowFault>(scene, injection);
  if (kind == "F16-poison") return std::make_unique<PoisonFault>(scene, injection);
  if (kind == "F17-duplicate") return std::make_unique<DuplicateFault>(scene, injection);
  if (kind == "F18-late") return std::make_unique<LateFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
