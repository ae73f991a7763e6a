#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "core/clock.h"
#include "emitter/emitter.h"
#include "emitters/webhook/classify.h"

namespace outfall::webhook {

// A batch of the drain's with how many of its items are not complete yet.
struct HeldBatch {
  EmitBatch batch;
  std::size_t open = 0;
  std::uint64_t number = 0;  // in the order of arrival
};

// One entry that waits for its endpoint's turn. The batch outlives it.
struct QueuedItem {
  const EmitItem* item = nullptr;
  HeldBatch* batch = nullptr;
  bool alone = false;  // was in a batch that the endpoint refused: to be sent by itself
};

// The pace of one endpoint: how many requests it gets at a time, from when on it may get the next
// one, and how long an attempt waits for it. A plain value of the loop's thread without a clock.
//
// The window begins small and doubles with each round of answers up to the limit, so that a name is
// resolved and an address refused a few times and not a thousand; it is halved by an endpoint that
// says that it is overloaded, and begins anew for one that does not answer.
class Pace {
 public:
  struct Limits {
    std::size_t max_in_flight = 64;
    double rate_per_second = 0;  // 0: none
    Milliseconds timeout{15'000};
  };
  explicit Pace(const Limits& limits) : limits_(&limits) {}

  [[nodiscard]] std::size_t window() const noexcept {
    return std::min(static_cast<std::size_t>(window_), limits_->max_in_flight);
  }
  // When the next request may go; in the past: now.
  [[nodiscard]] MonotonicTime next_at(MonotonicTime now) const noexcept;
  // Entries are on their way.
  void spend(std::size_t entries, MonotonicTime now) noexcept;

  // A status came. `overloaded`: it says that there is too much (429, 502, 503, 504), and how long
  // to leave it alone, where that is not negative.
  void answered(MonotonicTime started, MonotonicTime now, bool overloaded,
                Milliseconds pause) noexcept;
  // No status came for a reason that lies at the endpoint or the way to it.
  void unanswered(MonotonicTime started, MonotonicTime now, bool timed_out) noexcept;
  // Whether nothing came from it since then.
  [[nodiscard]] bool silent_since(MonotonicTime then) const noexcept { return last_answer_ < then; }
  // How long the next attempt may take. After a silence it is not the whole time-out but a few
  // times what the endpoint took before, so that its return is noticed soon. After each three of
  // these comes a longer one, for an endpoint that is back and slow, or has become slow: a fifth of
  // the time that the silence has lasted, up to the whole time-out.
  [[nodiscard]] Milliseconds timeout() const noexcept;
  // The bucket of the rate limit is full: nothing is lost by forgetting the endpoint.
  [[nodiscard]] bool is_rested(MonotonicTime now) const noexcept;
  // What it took before makes a probe longer than that of an endpoint that is not known.
  [[nodiscard]] bool is_slow() const noexcept;

 private:
  [[nodiscard]] double burst() const noexcept;
  [[nodiscard]] double tokens_at(MonotonicTime now) const noexcept;

  static constexpr double kColdWindow = 4;
  const Limits* limits_;
  double window_ = kColdWindow;
  double tokens_ = -1;  // entries that may go at once; negative at the start: a full bucket
  MonotonicTime tokens_since_{};
  MonotonicTime paused_until_{};
  MonotonicTime last_answer_{};
  MonotonicTime last_cut_{};        // of the window
  MonotonicTime first_silence_{};   // when what was not answered first began
  MonotonicTime last_silence_{};    // when that was given up last
  Milliseconds slowest_answer_{0};  // forgets slowly
  int silent_rounds_ = 0;
};

// The answer of a URL that is gone for good, for what had arrived by then and waits.
struct GoneUrl {
  Attempt attempt;  // but for its texts, which are these
  std::string detail;
  std::string excerpt;
  std::uint64_t newest_batch = 0;
};

// One endpoint of an emitter: a lane of its streams, or where they have none the host of the URL.
struct Endpoint {
  Endpoint(std::string its_name, const Pace::Limits& limits)
      : name(std::move(its_name)), pace(limits) {}

  std::string name;
  std::string checked_url;  // the last one that was found to be allowed
  std::deque<QueuedItem> queue;
  // By stream and URL, until all that waits has been held against them.
  std::map<std::pair<std::string, std::string>, GoneUrl> gone;
  std::size_t in_flight = 0;
  bool ready = false;    // waits for its turn
  bool waiting = false;  // waits for a time
  MonotonicTime used_at{};
  Pace pace;
};

}  // namespace outfall::webhook
