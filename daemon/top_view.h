#pragma once

#include <string>
#include <vector>

#include <boost/json.hpp>

#include "core/clock.h"
#include "daemon/worker_view.h"

// What `outfall top` shows, made of what it read. Pure.

namespace outfall {

// One look at everything.
struct TopFrame {
  MonotonicTime at;
  boost::json::object status;     // as `outfall status` has it
  boost::json::object held;       // sql/top/holds.sql
  boost::json::object delivered;  // sql/top/delivered.sql
  std::vector<WorkerView> workers;
};

// The frame as one document. `before` is the frame that differences are taken from, null for the
// first one. Streams have beside what status() says of them held_keys, held_lanes,
// delivered_per_second and backlog_per_second, null where it is not known.
[[nodiscard]] boost::json::object top_document(const TopFrame& frame, const TopFrame* before);

// The same for people. `note` is shown in the first line.
[[nodiscard]] std::vector<std::string> top_lines(const boost::json::object& document,
                                                 const std::string& note);

}  // namespace outfall
