#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/faults/history_judge.h"

namespace outfall::test::simulation {

// Rules that a broken variant leaves out. Each must be caught within 1,500 seeds: those from 1 on,
// and from 2,600 on where it takes a rarer schedule (`restart`).
enum class Flaw : std::uint8_t {
  none,
  fencing,       // a settle does not look whether its lease is still there
  renewal,       // a renewal is confirmed and not written
  key_order,     // the stream is drained as if it had no keys
  answer,        // an emitter says "delivered" when it has sent, before the sink has answered
  outage,        // a destination that is away counts as a failed attempt
  late_commits,  // the claim floor does not track open transactions
  restart,       // after a restart of the database a settle is written before the release
  server,        // a settle does not look whether the server is the one that its lease is of
  refusal,       // no lease is given up when a settle is the first to meet another server
  gate,          // an entry that is stopped by its destination's breaker does not stop its key
};
[[nodiscard]] std::string_view to_string(Flaw flaw) noexcept;
[[nodiscard]] std::optional<Flaw> flaw_from(std::string_view name) noexcept;
inline constexpr std::size_t kFlaws = 11;

struct Result {
  history::Verdict verdict;
  // What the history does not show: attempts spent in an outage, answers that the store must not
  // give, a run that could not be judged.
  std::vector<std::string> defects;
  std::uint64_t events = 0;
  // Of all that happened and of what was said of it: equal ones are the same run.
  std::uint64_t digest = 0;

  [[nodiscard]] bool ok() const { return verdict.ok() && defects.empty(); }
  // All anomalies and defects, one a line.
  [[nodiscard]] std::string text() const;
};

// Plays one run of several workers, from a seed, in virtual time and in the calling thread. The
// workers are the production's StreamDrain with its transitions, breakers, retries and key order,
// and its ClaimFloor; database, sink, network and the worker's loop are models. Workers are killed,
// frozen, stopped and cut off, the database crashes, sinks refuse, lose answers and hang; then all
// is well again and everything must drain. In one run of five a pooler stands before the database,
// and sessions outlive its crashes. The same seed gives the same run.
[[nodiscard]] Result simulate(std::uint64_t seed, Flaw flaw = Flaw::none, bool trace = false);

// All of the result but the digest itself must be there.
[[nodiscard]] std::uint64_t digest_of(const history::History& history, const Result& result);

}  // namespace outfall::test::simulation
