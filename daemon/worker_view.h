#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "config/config.h"
#include "daemon/commands.h"

// What workers tell of themselves to `outfall status` and `outfall top`: their breakers, which are
// in no database. One thread, as every command.

namespace outfall {

// What one worker told.
struct WorkerView {
  std::string address;            // HOST:PORT
  std::optional<std::string> id;  // none where no worker answers
  boost::json::array breakers;    // that are not closed
  std::string problem;            // why nothing was told
};

// --worker HOST:PORT, again and again.
void add_worker_option(CLI::App& command, std::vector<std::string>& workers);
// Throws CommandError (usage) for an address without a port.
void check_workers(const std::vector<std::string>& named);
// Those that were named, else the one of this configuration; none where that has no port that could
// be asked. Checks them.
[[nodiscard]] std::vector<std::string> workers_to_ask(const std::vector<std::string>& named,
                                                      const Config& config);
// One after the other. Blocks for at most a second each, beyond the time that looking up a host's
// name takes. Never throws for a worker that does not answer.
[[nodiscard]] std::vector<WorkerView> ask_workers(const std::vector<std::string>& addresses);

// Adds `breakers`, those that are not closed, and `asked_workers` to a document.
void add_worker_views(boost::json::object& document, const std::vector<WorkerView>& workers);

// The same for people: a line for each worker that does not answer, and a table. Writes nothing
// where every worker answered and no breaker is open.
void write_breakers(std::ostream& out, const boost::json::object& document);
// Whether an asked worker answered.
[[nodiscard]] bool a_worker_answers(const boost::json::object& document);

}  // namespace outfall
