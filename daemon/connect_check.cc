#include "daemon/connect_check.h"

#include <fmt/format.h>

#include "daemon/wiring.h"
#include "store/postgres/examination.h"
#include "store/postgres/postgres_store.h"

namespace outfall {
namespace {

// How long one destination may take to answer.
constexpr Milliseconds kCheckTimeout{5000};

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

// What is odd about migrations that are applied, such as one whose text is another one here. A
// worker can go on with that, so it is no problem of the configuration.
std::string remark_on_migrations(const Config& config) {
  try {
    return postgres::Examination(connect_options(config)).schema_remark();
  } catch (const StoreError& error) {
    if (error.kind() != StoreErrorKind::schema) throw;
    return error.what();
  }
}

}  // namespace

Connected ask_database(const Config& config) {
  Connected result{.what = "database", .detail = {}, .problem = {}, .unsuited = false};
  result.problem.origin = config.database().origin("url");
  result.problem.setting = "database.url";
  try {
    postgres::Examination(connect_options(config)).check_encoding();
    postgres::PostgresStore store(connect_options(config), system_random().uuid(),
                                  config.worker().text("instance"), system_clock());
    const SchemaState state = store.schema_state();
    if (state.fit != SchemaFit::fits) {
      result.problem.setting = "database.schema";
      result.problem.origin = config.database().origin("schema");
      result.problem.message = state.detail;
      result.problem.hint = state.hint;
      result.unsuited = true;
      return result;
    }
    result.detail = fmt::format("it answers; schema \"{}\" is at version {}",
                                config.database().text("schema"), state.version);
    if (const std::string remark = remark_on_migrations(config); !remark.empty()) {
      result.detail += "; " + remark;
    }
  } catch (const StoreError& error) {
    result.problem.message = error.what();
    result.problem.hint = error.hint();
    result.unsuited =
        error.kind() == StoreErrorKind::schema || error.kind() == StoreErrorKind::denied;
  }
  return result;
}

Connected ask_emitter(const Context& context, const Config& config, const EmitterConfig& emitter) {
  Connected result{
      .what = "emitters." + emitter.name, .detail = {}, .problem = {}, .unsuited = false};
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
    if (health.ok) {
      result.detail = health.detail;
    } else {
      result.problem =
          emitter_problem(emitter, health.detail.empty() ? "it does not answer" : health.detail,
                          fmt::format("start what it delivers to, or correct [{}]", result.what));
    }
  } catch (const std::runtime_error& error) {
    // As `outfall run` ends.
    result.problem =
        emitter_problem(emitter, error.what(), fmt::format("change [{}]", result.what));
    result.unsuited = true;
  }
  return result;
}

}  // namespace outfall
