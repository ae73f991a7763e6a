#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/faults/history.h"

namespace outfall::test::history {

// What a history may be found guilty of. README.md says of each by which facts.
enum class Anomaly : std::uint8_t {
  lost,
  phantom,
  dup_unexplained,
  reorder,
  gap,
  double_terminal,
  resurrect,
  zombie_write,
  stuck,
  unbounded,     // I8
  not_isolated,  // I10
  miscounted,    // I11
  given_up,      // I12
  attempt_spent,
};
inline constexpr std::size_t kAnomalies = 14;

// As in the README: "dup-unexplained".
[[nodiscard]] std::string_view to_string(Anomaly anomaly) noexcept;
// The invariant that it breaks: "I3 bounded duplicates".
[[nodiscard]] std::string_view invariant_of(Anomaly anomaly) noexcept;

struct JudgeOptions {
  // How long before its arrival a message may have been sent; the history's own setting wins.
  Micros send_timeout = 5'000'000;
  // A history that was cut off: nothing is said about what is left in the database.
  bool without_final = false;
  std::size_t samples = 10;  // texts kept of each anomaly
};

struct Verdict {
  struct Sample {
    Anomaly anomaly;
    std::string text;
  };
  std::array<std::size_t, kAnomalies> found{};
  std::vector<Sample> samples;

  std::size_t records = 0;
  std::size_t committed = 0;
  std::size_t rolled_back = 0;
  std::size_t in_doubt = 0;  // commits whose fate their producer never learned
  std::size_t arrivals = 0;
  std::size_t delivered = 0;  // entries that arrived
  std::size_t dead_letters = 0;
  std::size_t replayed = 0;
  std::size_t dup_explained = 0;  // copies
  std::size_t late = 0;           // of these, those that arrived out of their turn
  std::size_t forgotten = 0;      // commits that a failover undid, as announced
  std::size_t takeovers = 0;      // entries that a second lease held
  std::size_t stale = 0;
  std::size_t worker_deaths = 0;

  struct FaultSummary {
    std::size_t injected = 0;
    std::size_t copies = 0;  // that it explains
    Micros longest_recovery = 0;
  };
  std::map<std::string, FaultSummary> faults;  // by kind

  [[nodiscard]] std::size_t count(Anomaly anomaly) const {
    return found[static_cast<std::size_t>(anomaly)];
  }
  [[nodiscard]] bool ok() const;
};

// The history says too little or contradicts itself, so that nothing can be decided.
class BadHistory : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Pure. Sorts copies of what it needs: some 100 bytes an entry and 30 an arrival beside the
// history. Throws BadHistory.
[[nodiscard]] Verdict judge(const History& history, const JudgeOptions& options = {});

}  // namespace outfall::test::history
