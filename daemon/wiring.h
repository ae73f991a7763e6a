#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "daemon/commands.h"
#include "daemon/sampler.h"
#include "drain/options.h"
#include "emitter/registry.h"
#include "store/postgres/connection.h"

// From the configuration's tables to the options of the parts. One place, so that a setting's name
// is read in one place only; pure.

namespace outfall {

[[nodiscard]] postgres::ConnectOptions connect_options(const Config& config);
[[nodiscard]] DrainOptions drain_options(const Config& config);
// What is allowed in a configuration and yet seldom meant.
[[nodiscard]] std::vector<std::string> configuration_notes(const Context& context,
                                                           const Config& config);
// An emitter that cannot be built or whose destination does not answer, wherever that is found.
[[nodiscard]] SettingProblem emitter_problem(const EmitterConfig& emitter, std::string message,
                                             std::string hint);
// Where the worker of this configuration answers, as HOST:PORT; "" where it does not, or where its
// port is not known before it listens.
[[nodiscard]] std::string own_worker(const Config& config);
[[nodiscard]] std::vector<std::string> stream_names(const Config& config);
[[nodiscard]] Sampler::Options sampler_options(const Config& config);
[[nodiscard]] StreamOptions stream_options(const Config& config, const EmitterRegistry& registry,
                                           const StreamConfig& stream);
// The largest payload that a stream of this emitter lets in; 0 where one has no limit.
[[nodiscard]] std::int64_t max_payload_of(const Config& config, std::string_view emitter);

}  // namespace outfall
