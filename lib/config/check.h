#pragma once

#include <vector>

#include "config/config.h"
#include "emitter/registry.h"

namespace outfall {

// The rules that one row cannot say: the form of special texts, values that contradict each other,
// streams without their emitter, and each emitter's own rules. A setting that `problems` already
// names is not looked at again. Appends to `problems`.
void check_config(const ConfigTables& tables, const EmitterRegistry& registry,
                  std::vector<SettingProblem>& problems);

// What `run` needs beyond a valid configuration: a stream to serve. Commands that only ask the
// database do without.
[[nodiscard]] std::vector<SettingProblem> problems_for_run(const Config& config);

// That one, of a configuration in which nothing names a stream. `file`: empty for none.
[[nodiscard]] SettingProblem no_stream(const std::string& file);

}  // namespace outfall
