#include "tests/faults/torture/faults.h"

#include <optional>
#include <stdexcept>

namespace outfall::torture {

namespace {

// How soon after the end of a fault all that was committed before must have arrived.
std::optional<std::int64_t> recovery_bound_us(const Plan& plan, const std::string& kind) {
  if (plan.injections.size() > 1) return std::nullopt;
  if (kind == "F1-sigkill") return 3'000'000;
  if (kind == "F22-pooler") return (plan.lease_ms + 1000) * 1000;
  if (kind == "F6-backend-killed" || kind == "F7-restart" || kind == "F8-failover" ||
      kind == "F9-failover-async")
    return 5'000'000;
  return std::nullopt;
}

// How long an entry for another sink may take meanwhile. A fault that stops it, too, does so for at
// least a second longer.
constexpr std::int64_t kIsolateWithinUs = 2'000'000;

}  // namespace

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
  scene_.history.add(std::move(line));
}

int Fault::copies() const {
  if (touches_.empty()) return 0;
  const boost::json::value* copies = more_.if_contains("copies");
  return copies == nullptr ? 1 : static_cast<int>(copies->as_int64());
}

bool Fault::may_be_late() const {
  return touches_.contains("sinks") || injection_.kind.starts_with("F3-");
}

Worker& Fault::worker() const {
  return *scene_.workers[static_cast<std::size_t>(injection_.worker)];
}

std::map<std::string, std::string> Fault::armed(const std::string& signal) const {
  return {{"OUTFALL_CRASH_AT", injection_.point + ":" + std::to_string(injection_.nth)},
          {"OUTFALL_CRASH_SIGNAL", signal}};
}

std::unique_ptr<Fault> make_fault(Scene& scene, const Injection& injection) {
  for (const auto make : {make_worker_fault, make_server_fault, make_session_fault,
                          make_network_fault, make_producer_fault}) {
    if (auto fault = make(scene, injection)) return fault;
  }
  throw std::logic_error("nobody plays " + injection.kind);
}

}  // namespace outfall::torture
