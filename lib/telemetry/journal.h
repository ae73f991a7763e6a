#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "telemetry/log_format.h"

namespace outfall {

// One entry in the form that journald reads (systemd's "native journal protocol"): MESSAGE as a
// text line would have it but for time and level, PRIORITY, SYSLOG_IDENTIFIER, and every field
// under OUTFALL_ and its name in capitals, so that `journalctl OUTFALL_STREAM=orders` finds it.
void append_journal_entry(std::string& out, LogLevel level, std::string_view message,
                          std::span<const LogField> fields);

// A socket to journald. A pipe to it carries lines only, and it looks into no JSON.
//
// Any thread. An entry waits as long as journald does. send() tells when it could not be written,
// and the caller then writes a line to standard error instead.
class Journal {
 public:
  static constexpr std::string_view kSocket = "/run/systemd/journal/socket";

  explicit Journal(std::string socket);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Where standard error leads to the journal, as $JOURNAL_STREAM tells; else null.
  [[nodiscard]] static std::unique_ptr<Journal> behind_standard_error();

  [[nodiscard]] bool send(LogLevel level, std::string_view message,
                          std::span<const LogField> fields) const;

 private:
  std::string path_;
  int socket_;
};

}  // namespace outfall
