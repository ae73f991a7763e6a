#include "telemetry/process_metrics.h"

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <sys/resource.h>
#include <unistd.h>

namespace outfall {
namespace {

struct ProcStat {
  double start_ticks = 0;  // since boot
  double virtual_bytes = 0;
  double resident_pages = 0;
};

// Fields 22 to 24 of /proc/self/stat; the second field is a name that may hold blanks and ")".
std::optional<ProcStat> read_proc_stat() {
  std::ifstream file("/proc/self/stat");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) rest >> skipped;
  ProcStat stat;
  if (!(rest >> stat.start_ticks >> stat.virtual_bytes >> stat.resident_pages)) return std::nullopt;
  return stat;
}

std::optional<double> open_fds() {
  std::error_code ec;
  std::filesystem::directory_iterator it("/proc/self/fd", ec);
  if (ec) return std::nullopt;
  double n = -1;  // the iterator's own
  for (const std::filesystem::directory_iterator end; !ec && it != end; it.increment(ec)) ++n;
  return n;
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

void add(std::vector<prometheus::MetricFamily>& out, Metric id, double value) {
  prometheus::MetricFamily& family = out.emplace_back(family_of(id));
  prometheus::ClientMetric& sample = family.metric.emplace_back();
  if (family.type == prometheus::MetricType::Counter) {
    sample.counter.value = value;
  } else {
    sample.gauge.value = value;
  }
}

}  // namespace

prometheus::MetricFamily family_of(Metric id) {
  const MetricSpec& spec = metric_spec(id);
  prometheus::MetricFamily family;
  family.name = spec.name;
  family.help = spec.help;
  family.type = spec.type == MetricType::counter     ? prometheus::MetricType::Counter
                : spec.type == MetricType::histogram ? prometheus::MetricType::Histogram
                                                     : prometheus::MetricType::Gauge;
  return family;
}

ProcessMetrics::ProcessMetrics(const Clock& clock) {
  // /proc/stat, which has the time of the boot, is hidden from hardened services.
  timespec since_boot{};
  const auto stat = read_proc_stat();
  const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (!stat || ticks_per_second <= 0 || clock_gettime(CLOCK_BOOTTIME, &since_boot) != 0) return;
  const double uptime =
      static_cast<double>(since_boot.tv_sec) + static_cast<double>(since_boot.tv_nsec) / 1e9;
  const double now = std::chrono::duration<double>(clock.wall().time_since_epoch()).count();
  start_time_seconds_ = now - (uptime - stat->start_ticks / ticks_per_second);
}

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  std::vector<prometheus::MetricFamily> out;
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    add(out, Metric::process_cpu_seconds_total, seconds(usage.ru_utime) + seconds(usage.ru_stime));
  }
  if (const auto stat = read_proc_stat()) {
    add(out, Metric::process_resident_memory_bytes,
        stat->resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
    add(out, Metric::process_virtual_memory_bytes, stat->virtual_bytes);
  }
  if (const auto fds = open_fds()) add(out, Metric::process_open_fds, *fds);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add(out, Metric::process_max_fds, static_cast<double>(limit.rlim_cur));
  }
  if (start_time_seconds_ > 0) add(out, Metric::process_start_time_seconds, start_time_seconds_);
  return out;
}

}  // namespace outfall
