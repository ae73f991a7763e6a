#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "tests/faults/torture/database.h"
#include "tests/faults/torture/history.h"
#include "tests/faults/torture/load.h"
#include "tests/faults/torture/plan.h"
#include "tests/faults/torture/play.h"
#include "tests/faults/torture/sink.h"
#include "tests/faults/torture/witness.h"
#include "tests/faults/torture/worker.h"

namespace outfall::torture {

// Everything of a run that a fault can lay its hands on.
struct Scene {
  const Plan& plan;
  History& history;
  Servers& servers;
  std::string database;
  Sink& sink;
  Load& load;
  std::vector<std::unique_ptr<Worker>>& workers;
  SmallDisk* disk = nullptr;
  bool judge_times = false;  // too late a recovery is an anomaly, and a delay elsewhere
  // Adds a worker to the run (not started), with this instance name.
  std::function<Worker&(const std::string& instance)> hire;
  // Something that no history shows is wrong.
  std::function<void(const std::string&)> complain;
};

// One fault of a run. inject(), then tick() every few milliseconds, then heal(); each may block for
// as long as a server takes to stop or to start. Used by the run's thread only.
//
// Where the step is exact, a worker is started anew whose point is armed: it is stopped there until
// the fault has struck, and goes on.
class Fault : public Playable {
 public:
  Fault(Scene& scene, Injection injection)
      : scene_(scene), injection_(std::move(injection)), engine_(injection_.seed) {}

  bool inject() override;
  void tick() override {}
  void heal() override;
  void give_up() override;
  // `until_us` is when it was healed, for a death its own moment.
  void record() override;
  [[nodiscard]] const Injection& injection() const override { return injection_; }
  // What it allows, in the words of the history checker: how many copies of one entry, and whether
  // a send from before may arrive after its repetition.
  [[nodiscard]] int copies() const;
  [[nodiscard]] bool may_be_late() const;
  // When, as its line says it; `until` is the end of time while it is not over.
  [[nodiscard]] std::int64_t from_us() const { return at_us_; }
  [[nodiscard]] std::int64_t until_us() const {
    if (ends_at_once_) return at_us_;
    return until_us_ == 0 ? std::numeric_limits<std::int64_t>::max() : until_us_;
  }
  void begun() { begun(now_us()); }
  void begun(std::int64_t at_us) { at_us_ = at_us; }
  void ended() { until_us_ = now_us(); }

 protected:
  virtual void strike() {}
  virtual void mend() {}
  // Whether there is something to strike.
  [[nodiscard]] virtual bool ready() { return true; }
  // Who is stopped at the point.
  [[nodiscard]] virtual Worker& placed() { return worker(); }
  virtual void start_armed(const std::string& signal);
  // Whether it is its point itself that strikes, and no hand while the worker stands there.
  [[nodiscard]] virtual bool its_point_strikes() const { return false; }
  // Of one that strikes later than strike().
  void struck_now() { more_["struck_us"] = now_us(); }

  // Whether its worker is stopped at the point; true where there is none.
  bool stands();
  // Lets that worker go on, after what has struck while it stood there.
  void release();
  // Starts the worker with its point armed; then false while it has not had the time to get there,
  // which at S8 takes a worker that has been asked to end.
  bool under_way(const std::string& signal);
  // The point was passed, or never came: once more.
  void arm_again() { armed_ = false; }
  // Leases in the database that are this worker's; nothing where the database cannot be asked.
  [[nodiscard]] std::optional<std::int64_t> leases_of(const Worker& worker) const;

  // Whether some delivery is on its way for longer than a lease lasts, so that its lease has been
  // renewed.
  [[nodiscard]] bool a_lease_was_outlasted() const;
  // The sessions of workers that the server has now, by their process; throws PgError.
  [[nodiscard]] std::vector<std::int64_t> worker_sessions() const;
  // What each worker tells of this metric.
  [[nodiscard]] std::vector<Growth::Told> told(std::string_view metric,
                                               std::string_view label = {}) const;
  // Not more often than a look at a server or a log may be taken.
  [[nodiscard]] bool may_look();

  // What it touches, and so explains copies of; nothing unless said.
  void touch_database() { touches_["database"] = true; }
  // The same, of one that crashes or moves: what it had confirmed to workers may be undone.
  void undo_commits() { more_["undoes_commits"] = true; }
  void touch_sink() { touches_["sinks"] = boost::json::array{Sink::kName}; }
  // The same, of a fault that may delay what goes there, and explains no copies.
  void slow_sink() {
    touch_sink();
    more_["copies"] = 0;
    more_["late"] = false;
  }
  // Of one that leaves a request without an answer while others get theirs: the entry is blamed,
  // as often as it can wait for nothing meanwhile.
  void may_cost_attempts() {
    constexpr int kSinkTimeoutMs = 1000;
    more_["attempts"] = injection_.lasts_ms / kSinkTimeoutMs + 2;
  }
  void touch_all_workers() { touches_["workers"] = "all"; }
  void touch(const Worker& worker) { touches_["workers"] = boost::json::array{worker.name()}; }
  [[nodiscard]] Worker& worker() const;
  // The environment of a worker that stops, dies or ends at this fault's point.
  [[nodiscard]] std::map<std::string, std::string> armed(const std::string& signal) const;

  Scene& scene_;
  const Injection injection_;
  std::mt19937_64 engine_;
  boost::json::object more_;   // further members of its line
  bool ends_at_once_ = false;  // what it explains happened when it began

 private:
  boost::json::object touches_;
  std::int64_t at_us_ = 0;
  std::int64_t until_us_ = 0;
  bool armed_ = false;
  bool asked_ = false;    // to end
  bool stopped_ = false;  // at the point
  std::int64_t next_look_us_ = 0;
};

using WitnessedFault = Witnessed<Fault>;

// Of the database, which answers workers with an error of this kind: they have met it when one of
// them has logged that it waits for the database because of it, or that a statement failed with it.
class RefusedFault : public WitnessedFault {
 public:
  RefusedFault(Scene& scene, Injection injection, const std::string& kind, std::string error)
      : WitnessedFault(scene, std::move(injection)),
        waits_("\"kind\":\"" + kind + "\""),
        error_(std::move(error)) {
    touch_database();
  }

 protected:
  virtual void refuse() = 0;

 private:
  void strike() final {
    for (const auto& worker : scene_.workers) logged_[worker->name()] = worker->log_length();
    refuse();
  }
  [[nodiscard]] bool happened() final {
    return may_look() &&
           std::any_of(scene_.workers.begin(), scene_.workers.end(), [this](const auto& worker) {
             const std::size_t before = logged_[worker->name()];
             return worker->logged_since(before, waits_) || worker->logged_since(before, error_);
           });
  }

  const std::string waits_;
  const std::string error_;
  std::map<std::string, std::size_t> logged_;  // lengths when it struck
};

// Of a failover to a standby that has fallen behind before (F9): what is committed from then on the
// new primary will never have.
class ForgetfulFault : public Fault {
 public:
  ForgetfulFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_database();
  }

 protected:
  // The standby stands still from the first of these calls on.
  void fall_behind();
  [[nodiscard]] std::int64_t behind_since_us() const { return behind_since_us_; }
  // Whether there has been that much time to commit what will be forgotten.
  [[nodiscard]] bool is_behind_for(std::int64_t us) const {
    return now_us() >= behind_since_us_ + us;
  }

 private:
  std::int64_t behind_since_us_ = 0;
};

[[nodiscard]] std::unique_ptr<Fault> make_fault(Scene& scene, const Injection& injection);

// By part; null where the fault is not one of that part.
[[nodiscard]] std::unique_ptr<Fault> make_worker_fault(Scene& scene, const Injection& injection);
[[nodiscard]] std::unique_ptr<Fault> make_server_fault(Scene& scene, const Injection& injection);
[[nodiscard]] std::unique_ptr<Fault> make_session_fault(Scene& scene, const Injection& injection);
[[nodiscard]] std::unique_ptr<Fault> make_network_fault(Scene& scene, const Injection& injection);
[[nodiscard]] std::unique_ptr<Fault> make_standby_fault(Scene& scene, const Injection& injection);
[[nodiscard]] std::unique_ptr<Fault> make_producer_fault(Scene& scene, const Injection& injection);

}  // namespace outfall::torture
