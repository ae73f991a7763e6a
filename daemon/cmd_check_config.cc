#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/check.h"
#include "daemon/commands.h"
#include "daemon/wiring.h"
#include "store/postgres/postgres_store.h"

namespace outfall {
namespace {

// How long one destination may take to answer.
constexpr Milliseconds kCheckTimeout{5000};

// What one connection was found to be like; `problem` has a message where it would not work.
struct Connected {
  std::string what;  // "database", "emitters.log"
  std::string detail;
  SettingProblem problem;
};

// Emitters are only asked for their health here, so nothing completes.
class NoCompletions final : public CompletionSink {
 public:
  void complete(std::span<Completion> /*completions*/) noexcept override {}
};

class NoReports final : public EmitterReporter {
 public:
  void log(ReportLevel /*level*/, std::string_view /*id*/, std::string_view /*message*/,
           std::string_view /*detail*/) noexcept override {}
  void set(std::size_t /*metric*/, double /*value*/, std::string_view /*label*/) noexcept override {
  }
  void add(std::size_t /*metric*/, double /*amount*/,
           std::string_view /*label*/) noexcept override {}
  void forget(std::size_t /*metric*/, std::string_view /*label*/) noexcept override {}
};

// What is allowed and yet seldom meant.
std::vector<std::string> notes(const Config& config) {
  std::set<std::string_view> used;
  for (const auto& [name, stream] : config.streams()) used.insert(stream.settings.text("emitter"));
  std::vector<std::string> result;
  for (const auto& [name, emitter] : config.emitters()) {
    if (!used.contains(name)) result.push_back(fmt::format("no stream uses the emitter {}", name));
  }
  return result;
}

Connected ask_database(const Config& config) {
  Connected result{.what = "database", .detail = {}, .problem = {}};
  result.problem.origin = config.database().origin("url");
  result.problem.setting = "database.url";
  try {
    postgres::PostgresStore store(connect_options(config), system_random().uuid(),
                                  config.worker().text("instance"), system_clock());
    const SchemaState state = store.schema_state();
    if (state.fit != SchemaFit::fits) {
      result.problem.setting = "database.schema";
      result.problem.origin = config.database().origin("schema");
      result.problem.message = state.detail;
      return result;
    }
    result.detail = fmt::format("it answers; schema \"{}\" is at version {}",
                                config.database().text("schema"), state.version);
  } catch (const StoreError& error) {
    result.problem.message = error.what();
    result.problem.hint = error.hint();
  }
  return result;
}

Connected ask_emitter(const Context& context, const Config& config, const EmitterConfig& emitter) {
  Connected result{.what = "emitters." + emitter.name, .detail = {}, .problem = {}};
  result.problem.origin = emitter.settings.origin("kind");
  result.problem.setting = result.what;
  NoCompletions sink;
  NoReports reporter;
  try {
    const auto running = context.registry.find(emitter.kind)
                             ->create({.name = emitter.name,
                                       .settings = emitter.settings,
                                       .sink = sink,
                                       .clock = system_clock(),
                                       .random = system_random(),
                                       .reporter = reporter,
                                       .max_payload_bytes = max_payload_of(config, emitter.name)});
    const Emitter::Health health = running->check(kCheckTimeout);
    running->stop(Milliseconds{0});
    (health.ok ? result.detail : result.problem.message) = health.detail;
    if (!health.ok && health.detail.empty()) result.problem.message = "it does not answer";
  } catch (const std::runtime_error& error) {
    result.problem.message = error.what();
  }
  return result;
}

// Throws CommandError (unavailable) with all that would not work.
std::vector<Connected> connect(const Context& context, const Config& config) {
  std::vector<Connected> results = {ask_database(config)};
  for (const auto& [name, emitter] : config.emitters()) {
    results.push_back(ask_emitter(context, config, emitter));
  }
  std::vector<SettingProblem> problems;
  for (const Connected& result : results) {
    if (!result.problem.message.empty()) problems.push_back(result.problem);
  }
  if (!problems.empty()) {
    throw CommandError(ExitCode::unavailable,
                       "the configuration is valid, but not all that it names can be used", {},
                       std::move(problems));
  }
  return results;
}

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

void write_text(const Context& context, const Config& config,
                const std::vector<Connected>& connected) {
  context.out << fmt::format(
      "{} is valid: {}, {}\n", config.file().empty() ? "the environment" : config.file(),
      counted(config.streams().size(), "stream"), counted(config.emitters().size(), "emitter"));
  for (const std::string& note : notes(config)) context.out << "note: " << note << '\n';
  for (const Connected& result : connected) {
    context.out << result.what << ": " << (result.detail.empty() ? "ok" : result.detail) << '\n';
  }
}

void write_json(const Context& context, const Config& config,
                const std::vector<Connected>& connected) {
  const std::vector<std::string> remarks = notes(config);
  boost::json::object object;
  object["valid"] = true;
  object["file"] = config.file();
  object["streams"] = config.streams().size();
  object["emitters"] = config.emitters().size();
  object["notes"] = boost::json::array(remarks.begin(), remarks.end());
  boost::json::object connections;
  for (const Connected& result : connected) connections[result.what] = result.detail;
  if (!connections.empty()) object["connected"] = std::move(connections);
  context.out << boost::json::serialize(object) << '\n';
}

ExitCode check_configuration(const Context& context, bool connecting) {
  const auto config = load_config(context);
  if (auto problems = problems_for_run(*config); !problems.empty()) {
    throw CommandError(ExitCode::configuration, "`outfall run` would not start", {},
                       std::move(problems));
  }
  const auto connected = connecting ? connect(context, *config) : std::vector<Connected>{};
  (context.json ? write_json : write_text)(context, *config, connected);
  return ExitCode::ok;
}

}  // namespace

void add_check_config(CLI::App& app, Context& context) {
  const auto connecting = std::make_shared<bool>(false);
  CLI::App& command =
      add_command(app, context, "check-config",
                  "Check the configuration completely and tell everything that is wrong with it",
                  [&context, connecting] { return check_configuration(context, *connecting); });
  command.add_flag("--connect", *connecting,
                   "Also connect to the database and to every emitter's destination");
}

}  // namespace outfall
