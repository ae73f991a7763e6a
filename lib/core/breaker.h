#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"

namespace outfall {

// From `breaker.*` of a stream's settings.
struct BreakerPolicy {
  // This many in a row open it, once nothing was answered for `probe_initial`, and ten times as
  // many in any case; `unavailable` opens it at once.
  std::int32_t failures = 5;
  Milliseconds probe_initial{200};
  Milliseconds probe_max{3000};
};

enum class BreakerState : std::uint8_t { closed, open, half_open };
[[nodiscard]] std::string_view to_string(BreakerState state) noexcept;

// What an outcome says about the destination; core/transition.h derives it.
enum class BreakerSignal : std::uint8_t {
  answered,     // it took the entry, or refused this very entry: it works
  failure,      // the answer was lost, which may be its fault
  unavailable,  // it is down, or refuses everybody
  nothing,      // the outcome says nothing either way
};

// The circuit breaker of one lane: closed lets everything through; open lets nothing through until
// the time of a probe; half_open has exactly one probe out, a real delivery. A probe that is
// answered closes it at once; one that fails doubles the pause before the next, up to probe_max;
// the pause is drawn between half of its bound and the bound, so that workers do not probe in step.
//
// Failures in a row are not enough. With many deliveries under way five of them come soon at a
// destination that answers every second one, which would then get no more than a few probes a
// second; one that has just answered gets as long as the first pause would be, unless ten times as
// many come in a row. From the first so many on no more attempts are counted.
//
// While it is not closed, only the probe counts: the outcomes of entries that were sent before it
// opened neither close it nor lengthen the pause.
//
// A plain value without a clock: the owner passes the time, which must not go back, and calls it
// from one thread at a time. It must answer every probe it took by record() or return_probe().
class Breaker {
 public:
  explicit Breaker(BreakerPolicy policy) : policy_(policy) {}

  enum class Admission : std::uint8_t { send, probe, wait };

  // Whether the next entry may be sent. `probe` takes the only place for a probe: send exactly one.
  [[nodiscard]] Admission admit(MonotonicTime now) noexcept;

  // The outcome of a delivery; `probe` when its admission was `probe`. A probe that says nothing
  // leaves the breaker open for another pause of the same length. `random` jitters the pause.
  void record(BreakerSignal signal, bool probe, MonotonicTime now, Random& random);

  // The probe was not sent after all (blocked, or the worker stops): another may go at once.
  void return_probe(MonotonicTime now) noexcept;

  [[nodiscard]] BreakerState state() const noexcept { return state_; }

  // Whether a failure is put down to the destination alone, so that it counts as nobody's attempt:
  // the breaker is not closed, or has as many failures in a row as open it.
  [[nodiscard]] bool is_suspect() const noexcept {
    return state_ != BreakerState::closed || failures_ >= policy_.failures;
  }

  // When the next probe may go; nullopt unless it is open.
  [[nodiscard]] std::optional<MonotonicTime> next_probe() const noexcept;

  // How long it has not been closed since it was made, up to `now`. An entry's age limit leaves out
  // the difference of two of these.
  [[nodiscard]] MonotonicTime::duration open_time(MonotonicTime now) const noexcept;

  // New settings; an open breaker keeps the time of its next probe.
  void set_policy(BreakerPolicy policy) noexcept { policy_ = policy; }

 private:
  void open(MonotonicTime now, Random& random);
  void wait_for_probe(MonotonicTime now, Random& random);
  [[nodiscard]] bool is_silent(MonotonicTime now) const noexcept;
  void note_answer(MonotonicTime now) noexcept;
  void close(MonotonicTime now) noexcept;

  BreakerPolicy policy_;
  BreakerState state_ = BreakerState::closed;
  std::int32_t failures_ = 0;                 // in a row, while closed
  std::optional<MonotonicTime> answered_at_;  // last, while closed or by a probe
  std::int64_t failed_probes_ = 0;            // since it opened
  MonotonicTime opened_at_{};
  MonotonicTime probe_at_{};
  MonotonicTime::duration open_before_{};  // of the times it was open and closed again
};

}  // namespace outfall
