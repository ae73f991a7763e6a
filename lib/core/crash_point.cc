#include "core/crash_point.h"

#ifdef OUTFALL_CRASH_POINTS

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <unistd.h>

#include "core/mutex.h"

namespace outfall {

namespace {

struct CrashPlan {
  std::string_view name;
  long at = 0;
  int signal = SIGKILL;
  int log = -1;
};

CrashPlan plan_from_environment() {
  CrashPlan plan;
  // NOLINTBEGIN(concurrency-mt-unsafe): nobody changes the environment
  if (const char* at = std::getenv("OUTFALL_CRASH_AT")) {
    plan.name = at;
    const std::size_t colon = plan.name.find(':');
    if (colon != std::string_view::npos) plan.at = std::strtol(at + colon + 1, nullptr, 10);
    plan.name = plan.name.substr(0, colon);
  }
  if (const char* name = std::getenv("OUTFALL_CRASH_SIGNAL")) {
    if (std::string_view(name) == "STOP") plan.signal = SIGSTOP;
    if (std::string_view(name) == "TERM") plan.signal = SIGTERM;
  }
  if (const char* file = std::getenv("OUTFALL_CRASH_LOG"))
    plan.log = ::open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  // NOLINTEND(concurrency-mt-unsafe)
  return plan;
}

}  // namespace

void crash_point(std::string_view part, std::string_view moment) noexcept {
  static const CrashPlan plan = plan_from_environment();
  if (plan.at == 0 && plan.log < 0) return;
  // No other thread gets further while this one may be the end of the process.
  static Mutex mutex;
  static long reached OUTFALL_GUARDED_BY(mutex) = 0;
  const MutexLock lock(mutex);
  bool here = false;
  try {
    std::string line = std::string(part) + "." + std::string(moment);
    here = line == plan.name && ++reached == plan.at;
    line += "\n";
    if (plan.log >= 0) {
      [[maybe_unused]] const ssize_t written = ::write(plan.log, line.data(), line.size());
    }
  } catch (const std::bad_alloc&) {
    // The test misses a name.
  }
  if (!here) return;
  // SIGTERM is for whichever thread waits for it; the others end or stop this one on the spot.
  if (plan.signal == SIGTERM) {
    ::kill(::getpid(), SIGTERM);
  } else {
    ::raise(plan.signal);
  }
}

bool rule_broken(std::string_view name) noexcept {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  static const char* const broken = std::getenv("OUTFALL_BROKEN");
  return broken != nullptr && name == broken;
}

}  // namespace outfall

#endif
