#include "telemetry/local_histogram.h"

#include <algorithm>
#include <cmath>

namespace outfall {

void HistogramSeries::observe(std::chrono::microseconds value) {
  series.Observe(static_cast<double>(std::max<std::int64_t>(value.count(), 0)) / 1e6);
}

LocalHistogram::LocalHistogram(HistogramSeries target)
    : target_(target), counts_(target.bounds.size() + 1) {
  bounds_us_.reserve(target.bounds.size());
  for (const double bound : target.bounds) bounds_us_.push_back(std::llround(bound * 1e6));
}

LocalHistogram::~LocalHistogram() {
  flush();
}

void LocalHistogram::observe(std::chrono::microseconds value, std::uint64_t n) noexcept {
  const std::int64_t us = std::max<std::int64_t>(value.count(), 0);
  // A bucket holds what is at most its bound.
  const auto bucket = std::lower_bound(bounds_us_.begin(), bounds_us_.end(), us);
  counts_[static_cast<std::size_t>(bucket - bounds_us_.begin())] += static_cast<double>(n);
  sum_us_ += static_cast<double>(us) * static_cast<double>(n);
  dirty_ = true;
}

void LocalHistogram::flush() {
  if (!dirty_) return;
  target_.series.ObserveMultiple(counts_, sum_us_ / 1e6);
  std::fill(counts_.begin(), counts_.end(), 0.0);
  sum_us_ = 0;
  dirty_ = false;
}

}  // namespace outfall
