#include "tests/faults/torture/faults.h"

#include <optional>
#include <stdexcept>

#include "tests/faults/torture/counters.h"

namespace outfall::torture {

namespace {

// How soon after the end of a fault all that was committed before must have arrived.
std::optional<std::int64_t> recovery_bound_us(const Plan& plan, const std::string& kind) {
  // What is paused, or held by a dead letter, waits for its operator.
  if (plan.injections.size() > 1 || plan.of.shape == "paused" || plan.of.shape == "hold-key")
    return std::nullopt;
  if (kind == "F1-sigkill") return 3'000'000;
  if (kind == "F22-pooler") return (plan.lease_ms + 1000) * 1000;
  if (kind == "F6-backend-killed" || kind == "F7-restart" || kind == "F8-failover" ||
      kind == "F9-failover-async" || kind == "F22-pooler-restart" ||
      kind == "F22-pooler-failover" || kind == "F8-split-brain" || kind == "F9-split-brain")
    return 5'000'000;
  return std::nullopt;
}

// How long an entry for another sink may take meanwhile. A fault that stops it, too, does so for at
// least a second longer.
constexpr std::int64_t kIsolateWithinUs = 2'000'000;

}  // namespace

bool Fault::inject() {
  if (!stands() || !ready()) return false;
  begun();
  struck_now();
  strike();
  release();
  return true;
}

bool Fault::stands() {
  if (injection_.point.empty()) return true;
  if (!under_way("STOP") || !placed().frozen()) return false;
  if (!stopped_) more_["stopped_us"] = now_us();
  stopped_ = true;
  return true;
}

// Its line tells when, so that it can be seen that the step was met.
void Fault::release() {
  if (!stopped_) return;
  if (!placed().frozen())
    scene_.complain(placed().name() + " had left the step when it was struck");
  more_["released_us"] = now_us();
  stopped_ = false;
  placed().thaw();
}

void Fault::heal() {
  mend();
  ended();
  // Who has been asked to end has done so meanwhile, or does so now.
  if (asked_) {
    const int code = placed().await_end();
    if (code != 0) scene_.complain(placed().name() + " ended with code " + std::to_string(code));
    placed().start();
  }
}

void Fault::give_up() {
  if (!armed_) return;
  placed().resume();
  (void)placed().stop();
  placed().start();
}

void Fault::start_armed(const std::string& signal) {
  worker().stop();
  worker().start(armed(signal));
}

bool Fault::under_way(const std::string& signal) {
  if (!armed_) {
    armed_ = true;
    asked_ = false;
    start_armed(signal);
    return false;
  }
  if (injection_.step != "S8" || asked_) return true;
  // Only a worker that ends releases its leases; before that it works.
  if (!placed().logged("\"claimed\"")) return false;
  asked_ = true;
  placed().terminate();
  return false;
}

std::optional<std::int64_t> Fault::leases_of(const Worker& worker) const {
  try {
    return scene_.servers.primary()
        .connect(scene_.database)
        .number("SELECT count(*) FROM outbox.leases WHERE instance = $1 AND NOT released",
                {worker.instance()});
  } catch (const test::PgError&) {
    return std::nullopt;
  }
}

bool Fault::a_lease_was_outlasted() const {
  try {
    return scene_.servers.connect(scene_.database)
               .number(
                   "SELECT count(*) FROM outbox.leases WHERE NOT released AND expires_at > "
                   "clock_timestamp() AND claimed_at + $1 * interval '1 ms' < clock_timestamp()",
                   {std::to_string(scene_.plan.lease_ms)}) > 0;
  } catch (const test::PgError&) {
    return false;  // another fault of the run has taken the server
  }
}

std::vector<std::int64_t> Fault::worker_sessions() const {
  std::vector<std::int64_t> pids;
  for (const test::PgRow& row : scene_.servers.primary().connect().query(
           "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = 'torture_worker'",
           {scene_.database}))
    pids.push_back(std::stoll(*row[0]));
  return pids;
}

std::vector<Growth::Told> Fault::told(std::string_view metric, std::string_view label) const {
  std::vector<Growth::Told> all;
  for (const auto& worker : scene_.workers) {
    Growth::Told& one = all.emplace_back();
    one.worker = worker->name();
    if (const auto text = worker->metrics()) one.value = sum_of(*text, metric, label);
    one.process = worker->pid();
  }
  return all;
}

bool Fault::may_look() {
  constexpr std::int64_t kEveryUs = 50'000;
  if (now_us() < next_look_us_) return false;
  next_look_us_ = now_us() + kEveryUs;
  return true;
}

void Fault::record() {
  boost::json::object line = {{"f", "fault"},
                              {"at_us", at_us_},
                              {"until_us", until_us()},
                              {"kind", injection_.kind},
                              {"mode", injection_.mode},
                              {"step", injection_.step},
                              {"point", injection_.point},
                              {"touches", touches_}};
  const auto bound = recovery_bound_us(scene_.plan, injection_.kind);
  if (scene_.judge_times && bound) line["recover_within_us"] = *bound;
  if (scene_.judge_times && scene_.plan.injections.size() == 1 &&
      fault_kind(injection_.kind).of_sink)
    line["isolate_within_us"] = kIsolateWithinUs;
  for (const auto& member : more_) line[member.key()] = member.value();
  if (!its_point_strikes() && !struck_at_its_step(line))
    scene_.complain(described(injection_) + " struck when its worker did not stand there");
  scene_.history.add(std::move(line));
}

int Fault::copies() const {
  if (touches_.empty()) return 0;
  const boost::json::value* copies = more_.if_contains("copies");
  return copies == nullptr ? 1 : static_cast<int>(copies->as_int64());
}

bool Fault::may_be_late() const {
  if (const boost::json::value* late = more_.if_contains("late")) return late->as_bool();
  return touches_.contains("sinks");
}

Worker& Fault::worker() const {
  return *scene_.workers[static_cast<std::size_t>(injection_.worker)];
}

std::map<std::string, std::string> Fault::armed(const std::string& signal) const {
  return {{"OUTFALL_CRASH_AT", injection_.point + ":" + std::to_string(injection_.nth)},
          {"OUTFALL_CRASH_SIGNAL", signal}};
}

void ForgetfulFault::fall_behind() {
  // What is on its way to the standby at this moment may or may not get there.
  constexpr std::int64_t kOnItsWayUs = 500'000;
  if (behind_since_us_ != 0) return;
  scene_.servers.cut_asynchronous();
  behind_since_us_ = now_us();
  more_["forgets_from_us"] = behind_since_us_ - kOnItsWayUs;
}

std::unique_ptr<Fault> make_fault(Scene& scene, const Injection& injection) {
  for (const auto make : {make_worker_fault, make_server_fault, make_session_fault,
                          make_network_fault, make_standby_fault, make_producer_fault}) {
    if (auto fault = make(scene, injection)) return fault;
  }
  throw std::logic_error("nobody plays " + injection.kind);
}

}  // namespace outfall::torture
