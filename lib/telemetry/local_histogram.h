#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include <prometheus/histogram.h>

namespace outfall {

// A histogram series with its bucket bounds in seconds. Lives as long as its Metrics.
struct HistogramSeries {
  prometheus::Histogram& series;
  std::span<const double> bounds;

  // Takes a mutex: for events that happen once a batch. Negative values count as 0 (clocks differ).
  void observe(std::chrono::microseconds value);
};

// Observations of one thread, collected in a plain array and added to the series at once by
// flush(): for events that happen for each entry, where a mutex each would show. Not thread-safe;
// the destructor flushes. The series outlives it.
class LocalHistogram {
 public:
  explicit LocalHistogram(HistogramSeries target);
  ~LocalHistogram();
  LocalHistogram(const LocalHistogram&) = delete;
  LocalHistogram& operator=(const LocalHistogram&) = delete;

  void observe(std::chrono::microseconds value, std::uint64_t n = 1) noexcept;
  void flush();

 private:
  HistogramSeries target_;
  std::vector<std::int64_t> bounds_us_;
  std::vector<double> counts_;  // one more than bounds: the last is +Inf
  double sum_us_ = 0;
  bool dirty_ = false;
};

}  // namespace outfall
