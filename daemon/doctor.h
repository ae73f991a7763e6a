#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "core/clock.h"

// What `outfall doctor` concludes from what it saw. Pure: documents of sql/doctor and status() in,
// findings out.

namespace outfall {

enum class Severity {
  note,      // worth knowing; nothing is wrong
  warning,   // delivery works now, and something will hurt
  critical,  // entries are not delivered, or may be lost
};

// snake_case name, as in JSON.
[[nodiscard]] std::string_view to_string(Severity severity) noexcept;

struct Finding {
  std::string check;  // "long_transaction": stable, for scripts
  Severity severity = Severity::note;
  std::string about;   // what it is about: a table, a stream, an emitter, a setting
  std::string what;    // a sentence
  std::string change;  // what to do about it
};
using Findings = std::vector<Finding>;

struct DoctorLimits {
  Milliseconds long_transaction{600'000};  // from here on an open transaction is a finding
  Milliseconds clock_offset{2'000};
  Milliseconds locked{2'000};  // a migration of a moment is none
  // As long as the objective allows, and as OutfallHeldTooLong waits.
  Milliseconds waiting{60'000};
  Milliseconds held{1'800'000};
  Milliseconds retried{300'000};  // as old as it is when OutfallNothingDelivered fires
};

// sql/doctor/server.sql. `pooler`: a transaction pooler stands in between, so that the role and not
// the session carries the settings.
[[nodiscard]] Findings judge_server(const boost::json::object& server, bool pooler);
[[nodiscard]] Findings judge_tables(const boost::json::array& tables);
[[nodiscard]] Findings judge_transactions(const boost::json::object& transactions,
                                          const DoctorLimits& limits);
// sql/doctor/locks.sql.
[[nodiscard]] Findings judge_locks(const boost::json::array& locks, const DoctorLimits& limits);
[[nodiscard]] Findings judge_slots(const boost::json::array& slots);
[[nodiscard]] Findings judge_privileges(const boost::json::object& privileges,
                                        std::string_view schema);
// `offset`: how far the database is ahead of this machine; `uncertainty`: by how much that may be
// wrong, since the question took so long.
[[nodiscard]] Findings judge_clock(std::chrono::microseconds offset,
                                   std::chrono::microseconds uncertainty,
                                   const DoctorLimits& limits);
// The document of `outfall status`.
[[nodiscard]] Findings judge_streams(const boost::json::object& status, const DoctorLimits& limits);
// The /status of the worker at `address`.
[[nodiscard]] Findings judge_worker(const boost::json::object& status, const std::string& address);

}  // namespace outfall
