#include <boost/json.hpp>
#include <fmt/format.h>

#include "core/quantity.h"
#include "daemon/commands.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/wiring.h"
#include "store/postgres/migrator.h"

namespace outfall {
namespace {

using postgres::Migrator;

struct MigrateOptions {
  bool dry_run = false;
  std::string lock_timeout = "10s";
};

void write_report(const Context& context, const std::string& schema, bool dry_run,
                  const Migrator::Report& report) {
  if (report.steps.empty()) {
    context.out << fmt::format("schema \"{}\" is up to date at version {}\n", schema, report.after);
    return;
  }
  for (const Migrator::Step& step : report.steps) {
    const bool apply = step.kind == Migrator::StepKind::apply;
    const std::string_view verb =
        apply ? (dry_run ? "would apply" : "applied") : (dry_run ? "would record" : "recorded");
    context.out << fmt::format("{} {}{}\n", verb, step.name,
                               apply ? "" : ", which psql has applied");
  }
  context.out << fmt::format("schema \"{}\" {} at version {}\n", schema,
                             dry_run ? "would be" : "is", report.after);
  if (dry_run) write_next(context, {"`outfall migrate` does it"});
}

void write_report_json(const Context& context, const std::string& schema, bool dry_run,
                       const Migrator::Report& report) {
  boost::json::array steps;
  for (const Migrator::Step& step : report.steps) {
    steps.push_back(boost::json::object{
        {"version", step.version},
        {"name", step.name},
        {"action", step.kind == Migrator::StepKind::apply ? "apply" : "record"}});
  }
  write_json(context, boost::json::object{{"schema", schema},
                                          {"dry_run", dry_run},
                                          {"version_before", report.before},
                                          {"version_after", report.after},
                                          {"steps", std::move(steps)}});
}

ExitCode migrate(const Context& context, const MigrateOptions& options) {
  const auto lock_timeout = parse_duration(options.lock_timeout);
  if (!lock_timeout || *lock_timeout < Milliseconds{1} || *lock_timeout > std::chrono::hours(24)) {
    throw CommandError(ExitCode::usage,
                       fmt::format("--lock-timeout: \"{}\" is not a time to wait",
                                   printable(options.lock_timeout)),
                       "write a whole number and one unit of ms, s, m or h, at most 24h");
  }
  const auto config = load_command_config(context).config;
  const postgres::ConnectOptions connect = connect_options(*config);
  try {
    Migrator migrator(connect, *lock_timeout);
    const Migrator::Report report = options.dry_run ? migrator.plan() : migrator.run();
    const auto write = context.json ? write_report_json : write_report;
    write(context, connect.schema, options.dry_run, report);
    return ExitCode::ok;
  } catch (const StoreError& error) {
    const CommandError failure = command_error(error);
    if (error.kind() != StoreErrorKind::denied) throw failure;
    // The general hints are about operators and workers; what a migration itself says is better.
    const bool of_migration = error.hint().find("migrate") != std::string::npos;
    throw CommandError(failure.code(), failure.what(),
                       of_migration ? error.hint()
                                    : "migrate as the owner of the schema, of the database where "
                                      "there is none yet, or as a superuser");
  }
}

}  // namespace

void add_migrate(CLI::App& app, Context& context) {
  const auto options = std::make_shared<MigrateOptions>();
  CLI::App& command =
      add_command(app, context, "migrate", "Bring the outbox's schema in the database up to date",
                  [&context, options] { return migrate(context, *options); });
  command.add_flag("--dry-run", options->dry_run, "Only tell what would be applied");
  command
      .add_option("--lock-timeout", options->lock_timeout,
                  "How long to wait for a lock that others hold")
      ->type_name("DURATION")
      ->capture_default_str();
}

}  // namespace outfall
