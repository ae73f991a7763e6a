#include "emitters/webhook/endpoint.h"

#include <algorithm>

namespace outfall::webhook {
namespace {

using Seconds = std::chrono::duration<double>;

// A longer Retry-After is left to the entry that it was said about; the endpoint is asked again.
constexpr Milliseconds kLongestPause{30'000};
constexpr Milliseconds kShortestProbe{2'000};
// A long probe that is under way when the endpoint comes back, and whose request is lost, delays
// that by what is left of it. A short one is cut by an endpoint that is back and slow, which then
// has a copy more. So a long one lasts no longer than a part of the silence.
constexpr int kProbesPerLongOne = 4;
constexpr int kSilencePerLongProbe = 5;
constexpr int kSlowestFactor = 4;
// A bucket holds what comes in a tenth of a second.
constexpr double kBurstSeconds = 0.1;

MonotonicTime::duration to_ticks(Seconds seconds) {
  return std::chrono::ceil<MonotonicTime::duration>(seconds);
}

}  // namespace

double Pace::burst() const noexcept {
  return std::max(1.0, limits_->rate_per_second * kBurstSeconds);
}

double Pace::tokens_at(MonotonicTime now) const noexcept {
  if (tokens_since_ == MonotonicTime{}) return burst();
  return std::min(burst(),
                  tokens_ + Seconds(now - tokens_since_).count() * limits_->rate_per_second);
}

MonotonicTime Pace::next_at(MonotonicTime now) const noexcept {
  MonotonicTime at = paused_until_;
  if (limits_->rate_per_second <= 0) return at;
  const double missing = 1.0 - tokens_at(now);
  if (missing > 0) at = std::max(at, now + to_ticks(Seconds(missing / limits_->rate_per_second)));
  return at;
}

void Pace::spend(std::size_t entries, MonotonicTime now) noexcept {
  if (limits_->rate_per_second <= 0) return;
  // More than there is, for a batch, is paid back before the next request.
  tokens_ = tokens_at(now) - static_cast<double>(entries);
  tokens_since_ = now;
}

void Pace::answered(MonotonicTime started, MonotonicTime now, bool overloaded,
                    Milliseconds pause) noexcept {
  last_answer_ = now;
  silent_rounds_ = 0;
  const auto took = std::chrono::ceil<Milliseconds>(now - started);
  slowest_answer_ = std::max(took, slowest_answer_ - slowest_answer_ / 64);
  if (!overloaded) {
    window_ = std::min(window_ + 1, static_cast<double>(limits_->max_in_flight));
    return;
  }
  // Requests that were out when the window was cut say nothing about the new one.
  if (started >= last_cut_) {
    window_ = std::max(1.0, window_ / 2);
    last_cut_ = now;
  }
  if (pause.count() > 0) {
    paused_until_ = std::max(paused_until_, now + std::min(pause, kLongestPause));
  }
}

void Pace::unanswered(MonotonicTime started, MonotonicTime now, bool timed_out) noexcept {
  window_ = std::min(window_, kColdWindow);
  if (!timed_out || started < last_silence_) return;
  if (silent_rounds_ == 0) first_silence_ = started;
  last_silence_ = now;
  ++silent_rounds_;
}

Milliseconds Pace::timeout() const noexcept {
  if (silent_rounds_ == 0) return limits_->timeout;
  Milliseconds probe = std::max(kShortestProbe, slowest_answer_ * kSlowestFactor);
  if (silent_rounds_ % kProbesPerLongOne == 0) {
    const auto silence = std::chrono::ceil<Milliseconds>(last_silence_ - first_silence_);
    probe = std::max(probe, silence / kSilencePerLongProbe);
  }
  return std::min(limits_->timeout, probe);
}

bool Pace::is_slow() const noexcept {
  return slowest_answer_ * kSlowestFactor > kShortestProbe;
}

bool Pace::is_rested(MonotonicTime now) const noexcept {
  return paused_until_ <= now && (limits_->rate_per_second <= 0 || tokens_at(now) >= burst());
}

}  // namespace outfall::webhook
