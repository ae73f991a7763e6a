#include "daemon/wiring.h"

#include <set>

#include <fmt/format.h>

#include "config/environment.h"
#include "config/listen_address.h"

namespace outfall {

postgres::ConnectOptions connect_options(const Config& config) {
  const SettingValues& database = config.database();
  return {.url = database.text("url"),
          .schema = database.text("schema"),
          .pooler = database.text("pooler") == "transaction",
          .connect_timeout = database.duration("connect_timeout"),
          .statement_timeout = database.duration("statement_timeout"),
          .claim_timeout = database.duration("claim_timeout"),
          .tcp_user_timeout = database.duration("tcp_user_timeout"),
          .application_name = "outfall " + config.worker().text("instance")};
}

DrainOptions drain_options(const Config& config) {
  const SettingValues& drain = config.drain();
  return {.lease = drain.duration("lease"),
          .shutdown_timeout = drain.duration("shutdown_timeout"),
          .poll_idle = drain.duration("poll_idle"),
          .poll_active = drain.duration("poll_active"),
          .max_in_flight = static_cast<std::int32_t>(drain.integer("max_in_flight")),
          .max_in_flight_bytes = drain.bytes("max_in_flight_bytes"),
          .batch_entries = static_cast<std::int32_t>(drain.integer("batch_entries")),
          .batch_bytes = drain.bytes("batch_bytes"),
          .connections = static_cast<std::int32_t>(config.database().integer("connections")),
          .reconnect_max = config.database().duration("reconnect_max")};
}

std::vector<std::string> configuration_notes(const Context& context, const Config& config) {
  std::set<std::string_view> used;
  for (const auto& [name, stream] : config.streams()) used.insert(stream.settings.text("emitter"));
  std::vector<std::string> result = unread_variables(context.environment);
  for (const auto& [name, emitter] : config.emitters()) {
    if (!used.contains(name)) result.push_back(fmt::format("no stream uses the emitter {}", name));
    const EmitterKind& kind = *context.registry.find(emitter.kind);
    if (!kind.notes) continue;
    for (const std::string& note : kind.notes(emitter.settings))
      result.push_back(fmt::format("emitters.{}: {}", name, note));
  }
  return result;
}

SettingProblem emitter_problem(const EmitterConfig& emitter, std::string message,
                               std::string hint) {
  return {.origin = emitter.settings.origin("kind"),
          .setting = fmt::format("emitters.{}", emitter.name),
          .message = std::move(message),
          .hint = std::move(hint)};
}

std::string own_worker(const Config& config) {
  if (!config.admin().flag("enabled")) return {};
  const auto listen = parse_listen_address(config.admin().text("listen"));
  if (!listen || listen->port == 0) return {};
  // One that listens everywhere also listens here.
  std::string host = listen->host;
  if (host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  if (host.find(':') != std::string::npos) host = fmt::format("[{}]", host);
  return fmt::format("{}:{}", host, listen->port);
}

std::vector<std::string> stream_names(const Config& config) {
  std::vector<std::string> names;
  for (const auto& [name, stream] : config.streams()) names.push_back(name);
  return names;
}

Sampler::Options sampler_options(const Config& config) {
  return {.interval = config.drain().duration("sampler_interval"),
          .retention = config.receipts().duration("retention")};
}

std::int64_t max_payload_of(const Config& config, std::string_view emitter) {
  std::int64_t largest = 0;
  for (const auto& [name, stream] : config.streams()) {
    if (stream.settings.text("emitter") != emitter) continue;
    const std::int64_t limit = stream.settings.bytes("max_payload");
    if (limit == 0) return 0;
    largest = std::max(largest, limit);
  }
  return largest;
}

StreamOptions stream_options(const Config& config, const EmitterRegistry& registry,
                             const StreamConfig& stream) {
  const SettingValues& settings = stream.settings;
  StreamOptions options;
  options.name = stream.name;
  options.emitter = settings.text("emitter");
  const EmitterConfig& emitter = config.emitters().at(options.emitter);
  options.provider = emitter.kind;
  options.policy.retry = {
      .initial = settings.duration("retry.initial"),
      .max = settings.duration("retry.max"),
      .max_attempts = static_cast<std::int32_t>(settings.integer("retry.max_attempts")),
      .max_age = settings.duration("retry.max_age"),
      .retry_after_max = settings.duration("retry.after_max")};
  options.policy.defer_delay = settings.duration("defer_delay");
  options.policy.ordering = settings.text("ordering") == "key" ? Ordering::key : Ordering::none;
  options.policy.on_dead_letter = settings.text("on_dead_letter") == "hold-key"
                                      ? OnDeadLetter::hold_key
                                      : OnDeadLetter::continue_key;
  options.lane = settings.text("lane");
  const EmitterKind* kind = registry.find(emitter.kind);
  if (options.lane.empty() && kind != nullptr && kind->lane)
    options.lane = kind->lane(emitter.settings);
  options.receipts = settings.text("receipts") == "on";
  options.max_abandoned = static_cast<std::int32_t>(settings.integer("max_abandoned"));
  options.key_in_flight = static_cast<std::int32_t>(settings.integer("key_in_flight"));
  options.lane_in_flight = static_cast<std::int32_t>(settings.integer("lane_in_flight"));
  options.breaker = {.failures = static_cast<std::int32_t>(settings.integer("breaker.failures")),
                     .probe_initial = settings.duration("breaker.probe_initial"),
                     .probe_max = settings.duration("breaker.probe_max")};
  options.max_payload_bytes = settings.bytes("max_payload");
  return options;
}

}  // namespace outfall
