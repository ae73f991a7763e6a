#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What a run is going to do, as a pure function of its name. No I/O here.

namespace outfall::torture {

// One fault of the matrix, as it can be played by the supervisor.
struct FaultKind {
  std::string name;                        // "F11-partition"
  std::string what;                        // one line for --list
  std::vector<std::string> modes = {};     // its variants; empty: one
  std::vector<std::string> emitters = {};  // empty: all
  std::vector<std::string> steps = {};     // beside "any", at which it can be placed exactly
  // Of its modes the full form plays so many at each step with each emitter, dealt in turn; 0: all.
  int modes_at_a_step = 0;
  int lasts_ms = 1000;        // at least; a half more at most
  int lease_ms = 4000;        // drain.lease of the workers
  bool takes_server = false;  // stops, replaces or fills the database server
  bool uses_server = false;   // has sessions of its own there, which must not fail
  bool standbys = false;      // needs a synchronous and an asynchronous standby
  bool pooler = false;        // is played behind a pooler
  bool of_sink = false;       // is the sink's: other streams, sinks and keys go on
};
[[nodiscard]] const std::vector<FaultKind>& fault_kinds();
[[nodiscard]] const FaultKind& fault_kind(std::string_view name);  // throws std::invalid_argument
[[nodiscard]] const std::vector<std::string>& emitter_names();

// How the stream of a run is set up, or what is done to it meanwhile, where it is not as in most.
struct Shape {
  std::string name;
  std::string what;                        // one line for --list
  std::vector<std::string> emitters = {};  // empty: all
};
[[nodiscard]] const std::vector<Shape>& shapes();
// The faults that each shape is played with, at any moment.
[[nodiscard]] const std::vector<std::string>& faults_of_shapes();

// One cell of the matrix. Its name is "emitter[:shape]/fault[.mode][+fault[.mode]]/step/seed".
struct Case {
  std::string emitter;
  std::string fault;         // "F11-partition.drop+F1-sigkill"
  std::string step = "any";  // of the first fault: "any" or "S0" to "S8"
  std::uint64_t seed = 1;
  std::string shape = {};  // empty: none
  [[nodiscard]] std::string name() const;
  bool operator==(const Case&) const = default;
};
[[nodiscard]] Case parse_case(std::string_view name);  // throws std::invalid_argument

struct Injection {
  std::string kind;
  std::string mode;
  std::string step;
  std::string point;  // of lib/core/crash_point.h, where the step is exact
  int nth = 0;        // time that the point is reached
  int worker = 0;     // whom it hits, where it hits one
  int after_ms = 0;   // since the warm-up
  int lasts_ms = 0;
  std::uint64_t seed = 0;  // for what the fault itself draws
  bool operator==(const Injection&) const = default;
};

// A whole number, and nothing else; nothing where it is none, or too large.
[[nodiscard]] std::optional<std::uint64_t> parse_seed(std::string_view text);

// "F1-sigkill at S3 (send.begun, time 17)"
[[nodiscard]] std::string described(const Injection& injection);

// Whether it makes a sink say that it takes nothing: then the worker knows, and no copy and no late
// arrival is explained by it.
[[nodiscard]] bool refuses_with_a_status(const Injection& injection);

struct Plan {
  Case of;
  std::vector<Injection> injections;
  int workers = 2;
  int lease_ms = 4000;
  bool standbys = false;
  bool pooler = false;
  bool disk = false;       // the database stands on a small file system of its own
  bool bystander = false;  // another stream with a sink of its own, which must not notice anything
  bool operator==(const Plan&) const = default;
};
[[nodiscard]] Plan make_plan(const Case& of);
// Whether a fault of this kind is in it.
[[nodiscard]] bool plays(const Plan& plan, const std::string& kind);
// Whether answers or settles may take longer in it than a worker that is asked to end waits for
// them.
[[nodiscard]] bool outlasts_a_stop(const Plan& plan);

// Whether its webhook endpoint is a process that can be killed and stopped. It takes everything, so
// that it cannot be the one that has to refuse as well.
[[nodiscard]] bool has_own_process(const Plan& plan);

// Which cases a form of the torture plays. Without crash points in the binary only the step "any"
// is left of the faults that hit a worker.
[[nodiscard]] std::vector<Case> quick_cases(std::uint64_t seed, bool crash_points);
[[nodiscard]] std::vector<Case> full_cases(std::uint64_t seed, bool crash_points);

// The faults of a soak that lasts so long, one after the other: every kind that fits, in random
// order and over again. `after_ms` counts from the end of the one before. None needs a standby, a
// pooler or a disk of its own, and of several workers none ends the first. With `kind` only those
// with this in their name; throws std::invalid_argument, which names all, where there is none.
[[nodiscard]] std::vector<Injection> soak_injections(const std::string& emitter, int workers,
                                                     std::chrono::seconds lasts, std::uint64_t seed,
                                                     const std::string& kind = {});

}  // namespace outfall::torture
