#include "tests/bench/usage.h"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unistd.h>

namespace outfall::bench {

namespace {

std::string proc(pid_t pid) {
  return "/proc/" + std::to_string(pid);
}

enum class Of { process, ended_children };

// User and system time of the process, or of its ended children, in whole ticks.
double ticked_seconds(pid_t pid, Of of) {
  std::ifstream file(proc(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return 0;
  // The name in parentheses may hold anything; behind it are fields without spaces.
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < (of == Of::process ? 11 : 13); ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

double cpu_seconds(pid_t pid) {
  // Nanoseconds, where utime and stime are ticks of 10 ms: an idle worker needs less than that.
  double nanoseconds = 0;
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator(proc(pid) + "/task", gone)) {
    std::ifstream file(task.path() / "schedstat");
    double running = 0;
    file >> running;
    nanoseconds += running;
  }
  return nanoseconds * 1e-9;
}

double process_cpu_seconds(pid_t pid) {
  return ticked_seconds(pid, Of::process);
}

double tree_cpu_seconds(pid_t pid) {
  // A process that ends while its parent is being read is missing until it counts as ended.
  double total = cpu_seconds(pid) + ticked_seconds(pid, Of::ended_children);
  std::ifstream children(proc(pid) + "/task/" + std::to_string(pid) + "/children");
  for (pid_t child = 0; children >> child;) total += tree_cpu_seconds(child);
  return total;
}

double thread_cpu_seconds() {
  timespec used{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

std::int64_t peak_rss_bytes(pid_t pid) {
  std::ifstream status(proc(pid) + "/status");
  for (std::string word; status >> word;) {
    std::int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  throw std::runtime_error("no VmHWM of process " + std::to_string(pid));
}

double stolen_cpu_seconds() {
  std::ifstream file("/proc/stat");
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, waiting = 0, interrupts = 0, soft = 0,
         stolen = 0;
  file >> name >> user >> nice >> system >> idle >> waiting >> interrupts >> soft >> stolen;
  return stolen / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace outfall::bench
