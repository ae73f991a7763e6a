#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <spdlog/fwd.h>

#include "core/clock.h"
#include "core/mutex.h"
#include "telemetry/log_format.h"

namespace spdlog::sinks {
class sink;
}

namespace outfall {

class Journal;

// Structured log lines: a short constant message and typed fields, never a payload or a secret.
//
//   log.info("claimed", {{"stream", name}, {"lease_id", lease.id}, {"entries", n}});
//
// Threads: every member may be called from any thread. Blocking: a line is written before the call
// returns and waits as long as standard error does; a line whose level is off costs one relaxed
// load beyond its arguments (ask enabled() before you compute any). Failure: a line that cannot be
// written is dropped. Ownership: passed by reference from main() to whoever logs, outlives them
// all.
class Logger {
 public:
  // Writes to standard error; where that leads to systemd's journal, text goes there as entries
  // with fields (journal.h).
  Logger(const Clock& clock, LogLevel level, LogFormat format);
  // Writes to `sink`, which must be thread-safe (a spdlog `_mt` sink).
  Logger(const Clock& clock, LogLevel level, LogFormat format,
         std::shared_ptr<spdlog::sinks::sink> sink);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  // Drops everything; for tests of code that logs.
  [[nodiscard]] static Logger& null();

  [[nodiscard]] bool enabled(LogLevel level) const noexcept {
    return level >= level_.load(std::memory_order_relaxed);
  }
  void set_level(LogLevel level) noexcept { level_.store(level, std::memory_order_relaxed); }
  void set_format(LogFormat format) noexcept { format_.store(format, std::memory_order_relaxed); }

  using Fields = std::initializer_list<LogField>;

  void log(LogLevel level, std::string_view message, Fields fields = {}) noexcept {
    if (enabled(level)) write(level, message, fields);
  }
  void trace(std::string_view message, Fields fields = {}) noexcept {
    log(LogLevel::trace, message, fields);
  }
  void debug(std::string_view message, Fields fields = {}) noexcept {
    log(LogLevel::debug, message, fields);
  }
  void info(std::string_view message, Fields fields = {}) noexcept {
    log(LogLevel::info, message, fields);
  }
  void warning(std::string_view message, Fields fields = {}) noexcept {
    log(LogLevel::warning, message, fields);
  }
  void error(std::string_view message, Fields fields = {}) noexcept {
    log(LogLevel::error, message, fields);
  }

  // For messages that a lasting fault repeats: of one `id` ("database.connect",
  // "stale_settle/orders") the first line is written at once, then at most one every
  // kRepeatInterval, which says in its field `suppressed` how many were left out. Ids are bounded
  // to kMaxRepeatIds; the oldest is forgotten.
  void limited(LogLevel level, std::string_view id, std::string_view message,
               Fields fields = {}) noexcept {
    if (enabled(level)) write_limited(level, id, message, fields);
  }
  static constexpr Milliseconds kRepeatInterval{10'000};
  static constexpr std::size_t kMaxRepeatIds = 256;

  // Lines written by level and lines suppressed since the start, for the metrics.
  [[nodiscard]] std::uint64_t lines(LogLevel level) const noexcept;
  [[nodiscard]] std::uint64_t suppressed() const noexcept { return suppressed_; }

 private:
  struct Repeat {
    MonotonicTime written;
    std::uint64_t suppressed = 0;
  };

  [[nodiscard]] std::string line_of(LogLevel level, std::string_view message,
                                    std::span<const LogField> fields) const;
  void write(LogLevel level, std::string_view message, Fields fields,
             std::uint64_t suppressed = 0) noexcept;
  void write_limited(LogLevel level, std::string_view id, std::string_view message,
                     Fields fields) noexcept;
  // Whether a line of this id is due, and how many were suppressed before it.
  bool admit(std::string_view id, std::uint64_t& suppressed);

  const Clock& clock_;
  std::atomic<LogLevel> level_;
  std::atomic<LogFormat> format_;
  std::shared_ptr<spdlog::sinks::sink> sink_;
  std::unique_ptr<Journal> journal_;  // null: there is none
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(LogLevel::off)> lines_{};
  std::atomic<std::uint64_t> suppressed_{0};

  Mutex repeats_mutex_;
  std::map<std::string, Repeat, std::less<>> repeats_ OUTFALL_GUARDED_BY(repeats_mutex_);
};

}  // namespace outfall
