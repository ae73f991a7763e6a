#pragma once

#include <cstdint>
#include <string>

#include "core/clock.h"
#include "daemon/commands.h"
#include "store/operator_store.h"

// What a job shows on standard error while it runs: a bar on a terminal, elsewhere a line every few
// seconds, with --json a JSON object a line. One thread; writes never fail the command.

namespace outfall {

class JobProgress {
 public:
  // Lines come `every` so often; the bar moves as fast as the job, ten times a second at most.
  JobProgress(const Context& context, DeadLetterAction action, JobId job, Milliseconds every);
  ~JobProgress();
  JobProgress(const JobProgress&) = delete;
  JobProgress& operator=(const JobProgress&) = delete;

  // What a job begins to wait for is shown at once.
  void show(const JobStep& step);
  // Takes the bar away, so that what follows stands in its place.
  void clear();

 private:
  void write_bar(const JobStep& step);
  void write_line(const JobStep& step);
  // How many a second this run has dealt with, and what is left by that measure; empty: unknown.
  [[nodiscard]] double per_second(const JobStep& step) const;
  [[nodiscard]] std::string left(const JobStep& step) const;
  // ", 120/s, 3m left", or what keeps it from going on.
  [[nodiscard]] std::string pace(const JobStep& step) const;

  const Context& context_;
  const DeadLetterAction action_;
  const JobId job_;
  const bool terminal_;
  const Milliseconds every_;
  const MonotonicTime started_;
  MonotonicTime shown_;
  std::int64_t before_ = -1;  // dealt with before this run; -1: not known yet
  bool bar_ = false;
  bool waiting_ = false;
};

// "of 50,000", or nothing where it was not counted.
[[nodiscard]] std::string of_total(const std::optional<std::int64_t>& total);

}  // namespace outfall
