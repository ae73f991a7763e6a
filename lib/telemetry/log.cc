#include "telemetry/log.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <spdlog/details/log_msg.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "telemetry/journal.h"

namespace outfall {
namespace {

// The lines come ready made: spdlog's patterns do not escape what they print.
class LineFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& msg, spdlog::memory_buf_t& dest) override {
    dest.append(msg.payload.begin(), msg.payload.end());
    dest.push_back('\n');
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<LineFormatter>();
  }
};

}  // namespace

Logger::Logger(const Clock& clock, LogLevel level, LogFormat format)
    : Logger(clock, level, format, std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
  journal_ = Journal::behind_standard_error();
}

Logger::Logger(const Clock& clock, LogLevel level, LogFormat format,
               std::shared_ptr<spdlog::sinks::sink> sink)
    : clock_(clock), level_(level), format_(format), sink_(std::move(sink)) {
  sink_->set_formatter(std::make_unique<LineFormatter>());
}

Logger::~Logger() = default;

Logger& Logger::null() {
  static Logger logger(system_clock(), LogLevel::off, LogFormat::text,
                       std::make_shared<spdlog::sinks::null_sink_mt>());
  return logger;
}

std::uint64_t Logger::lines(LogLevel level) const noexcept {
  return lines_.at(static_cast<std::size_t>(level)).load(std::memory_order_relaxed);
}

std::string Logger::line_of(LogLevel level, std::string_view message,
                            std::span<const LogField> fields) const {
  std::string line;
  line.reserve(256);
  if (format_.load(std::memory_order_relaxed) == LogFormat::json) {
    append_json_line(line, clock_.wall(), level, message, fields);
  } else {
    append_text_line(line, clock_.wall(), level, message, fields);
  }
  return line;
}

void Logger::write(LogLevel level, std::string_view message, Fields fields,
                   std::uint64_t suppressed) noexcept {
  if (level == LogLevel::off) return;
  try {
    std::vector<LogField> all(fields);
    if (suppressed > 0) all.push_back({"suppressed", suppressed});
    const bool journal = journal_ && format_.load(std::memory_order_relaxed) == LogFormat::text;
    if (!journal || !journal_->send(level, message, all)) {
      sink_->log(spdlog::details::log_msg("", spdlog::level::info, line_of(level, message, all)));
    }
    lines_[static_cast<std::size_t>(level)].fetch_add(1, std::memory_order_relaxed);
  } catch (...) {
    // There is nowhere left to say so, and a log line is never worth a delivery.
  }
}

void Logger::write_limited(LogLevel level, std::string_view id, std::string_view message,
                           Fields fields) noexcept {
  std::uint64_t suppressed = 0;
  try {
    if (!admit(id, suppressed)) {
      suppressed_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  } catch (...) {
    // Out of memory for the bookkeeping: rather one line too many.
  }
  write(level, message, fields, suppressed);
}

bool Logger::admit(std::string_view id, std::uint64_t& suppressed) {
  const MonotonicTime now = clock_.monotonic();
  const MutexLock lock(repeats_mutex_);
  if (const auto found = repeats_.find(id); found != repeats_.end()) {
    Repeat& repeat = found->second;
    if (now - repeat.written < kRepeatInterval) {
      ++repeat.suppressed;
      return false;
    }
    suppressed = std::exchange(repeat.suppressed, 0);
    repeat.written = now;
    return true;
  }
  if (repeats_.size() >= kMaxRepeatIds) {
    repeats_.erase(std::min_element(
        repeats_.begin(), repeats_.end(),
        [](const auto& a, const auto& b) { return a.second.written < b.second.written; }));
  }
  repeats_.emplace(std::string(id), Repeat{now, 0});
  return true;
}

}  // namespace outfall
