#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "config/config.h"
#include "daemon/dead_letters.h"
#include "store/operator_store.h"

// What commands with --json write and the admin server answers: one set of words for both. What is
// named and not there ends in a CommandError (unavailable); StoreErrors pass through. One thread.

namespace outfall {

// One object a stream: those that a worker or an operator has registered, then those that only the
// configuration has.
[[nodiscard]] boost::json::array stream_list(OperatorStore& store, const Config& config);

// The paused lanes, of one stream or of all.
[[nodiscard]] boost::json::array paused_destinations(OperatorStore& store, const Config& config,
                                                     const std::optional<std::string>& stream);
// A lane is known only while it is paused, so a mistyped one shows by not being that.
void expect_paused(OperatorStore& store, const Config& config, const std::string& stream,
                   const std::string& lane);

// All that is known of one entry, wherever it is.
[[nodiscard]] boost::json::object entry_document(OperatorStore& store, const Config& config,
                                                 const EntryTarget& target);

struct DeadLetterPage {
  std::vector<DeadLetter> letters;
  bool more = false;  // the limit leaves some
};
inline constexpr std::int32_t kDeadLettersListed = 50;  // where no limit is given
[[nodiscard]] DeadLetterPage dead_letter_page(OperatorStore& store, const Config& config,
                                              const DeadLetterFilter& filter, std::int32_t limit);
[[nodiscard]] boost::json::object page_json(const DeadLetterPage& page);

// What a replay or discard would find: `found` is the document of count_dead_letters().
struct DryRun {
  DeadLetterAction action = DeadLetterAction::replay;
  DeadLetterFilter filter;
  std::optional<std::int32_t> limit;
  boost::json::object found;
  bool more = false;  // the limit leaves some
};
// The filter has an end.
[[nodiscard]] DryRun dry_run(OperatorStore& store, const Config& config, const JobRequest& request);
[[nodiscard]] boost::json::object dry_run_json(const DryRun& run);

[[nodiscard]] boost::json::object jobs_document(OperatorStore& store, const std::string& state,
                                                std::int32_t limit);
[[nodiscard]] boost::json::object job_document(OperatorStore& store, JobId job);

}  // namespace outfall
