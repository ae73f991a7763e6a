#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/faults/history_judge.h"
#include "tests/support/pg_client.h"

namespace outfall::torture {

// A build with one rule left out, which the torture must notice: in the SQL of a fresh schema, or
// in the worker by OUTFALL_BROKEN where it has crash points.
struct Broken {
  std::string name;
  std::string what;
  struct Patch {
    std::string function;  // of the schema
    std::string find;      // occurs once in its definition
    std::string replace;
  };
  std::vector<Patch> patches = {};      // none: the rule is the worker's
  test::history::Anomaly anomaly = {};  // what it must be noticed as
  std::vector<std::string> runs = {};   // those in which it shows soonest, by emitter/fault/step
  bool shows_in_soak = false;           // within a short one, whatever its faults
};
[[nodiscard]] const std::vector<Broken>& broken_builds();
[[nodiscard]] const Broken& broken_build(std::string_view name);  // throws std::invalid_argument

// Replaces the functions in this database. Throws std::runtime_error where the text does not occur
// exactly once. Nothing to do for a rule of the worker.
void break_schema(test::PgClient& database, const Broken& broken);

}  // namespace outfall::torture
