#include "tests/bench/usage.h"

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unistd.h>

namespace outfall::bench {

namespace {

struct Times {
  double own = 0;
  double of_ended_children = 0;
};

// A process that ends while its parent is being read shows as zero here and in its parent's ended
// children next time.
Times times_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return {};
  // The name in parentheses may hold anything; the fields after it are numbers from the state on.
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double utime = 0, stime = 0, cutime = 0, cstime = 0;
  fields >> utime >> stime >> cutime >> cstime;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  return {(utime + stime) / ticks, (cutime + cstime) / ticks};
}

}  // namespace

double cpu_seconds(pid_t pid) {
  return times_of(pid).own;
}

double tree_cpu_seconds(pid_t pid) {
  const Times times = times_of(pid);
  double total = times.own + times.of_ended_children;
  const std::string name = std::to_string(pid);
  std::ifstream children("/proc/" + name + "/task/" + name + "/children");
  for (pid_t child = 0; children >> child;) total += tree_cpu_seconds(child);
  return total;
}

std::int64_t peak_rss_bytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;) {
    std::int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  throw std::runtime_error("no VmHWM of process " + std::to_string(pid));
}

}  // namespace outfall::bench
