#include <algorithm>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/admin/client.h"
#include "daemon/commands.h"
#include "daemon/connect_check.h"
#include "daemon/doctor.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/time_arguments.h"
#include "daemon/wiring.h"
#include "store/postgres/examination.h"
#include "store/postgres/operator_store.h"

namespace outfall {
namespace {

namespace json = boost::json;

// What was looked at, what was found there, and what could not be looked at.
struct Diagnosis {
  Findings findings;
  std::vector<std::string> checked;
  std::vector<std::pair<std::string, std::string>> skipped;  // what, and why
};

// Goes through everything and stops at nothing: one area that cannot be asked leaves the others.
class Doctor {
 public:
  Doctor(const Context& context, const CommandConfig& loaded, const DoctorLimits& limits)
      : context_(context),
        config_(*loaded.config),
        problems_(loaded.set_aside),
        limits_(limits),
        schema_(config_.database().text("schema")) {}

  Diagnosis examine() {
    examine_configuration();
    examine_database();
    examine_worker();
    for (const auto& [name, emitter] : config_.emitters()) examine_emitter(emitter);
    std::ranges::stable_sort(diagnosis_.findings, std::ranges::greater(), &Finding::severity);
    return std::move(diagnosis_);
  }

 private:
  // Takes over what `look` finds; what the database refuses leaves the area unchecked.
  template <typename Look>
  void area(const std::string& name, Look look) {
    try {
      Findings found = look();
      std::ranges::move(found, std::back_inserter(diagnosis_.findings));
      diagnosis_.checked.push_back(name);
    } catch (const StoreError& error) {
      diagnosis_.skipped.emplace_back(name, error.what());
    }
  }

  // A worker that runs goes on with what it has read, and may have secrets that are not here.
  void examine_configuration() {
    for (const SettingProblem& problem : problems_) {
      diagnosis_.findings.push_back({"configuration", Severity::warning, problem.setting,
                                     to_string(problem) + ": a worker would not start with this",
                                     problem.hint});
    }
  }

  void examine_database() {
    std::optional<postgres::Examination> database;
    try {
      database.emplace(options());
    } catch (const StoreError& error) {
      diagnosis_.findings.push_back({"database", Severity::critical, "database.url", error.what(),
                                     error.hint().empty() ? "check database.url" : error.hint()});
      for (const char* name : {"server", "clock", "slots", "transactions", "locks", "tables",
                               "privileges", "schema", "streams"}) {
        diagnosis_.skipped.emplace_back(name, "the database does not answer");
      }
      return;
    }
    const auto ask = [&](std::string_view name) {
      return json::parse(database->ask(std::string("doctor/").append(name)));
    };
    area("server",
         [&] { return judge_server(ask("server").as_object(), connect_options(config_).pooler); });
    area("clock", [&] { return examine_clock(*database); });
    area("slots", [&] { return judge_slots(ask("slots").as_array()); });
    area("transactions",
         [&] { return judge_transactions(ask("transactions").as_object(), limits_); });
    area("locks", [&] { return judge_locks(ask("locks").as_array(), limits_); });
    area("tables", [&] { return judge_tables(ask("tables").as_array()); });
    area("privileges", [&] { return judge_privileges(ask("privileges").as_object(), schema_); });
    area("schema", [&] { return examine_schema(*database); });
    if (fits_) {
      area("streams", [&] { return examine_streams(); });
    } else {
      diagnosis_.skipped.emplace_back("streams", "the schema cannot be used");
    }
  }

  [[nodiscard]] postgres::ConnectOptions options() const {
    postgres::ConnectOptions options = connect_options(config_);
    options.application_name = "outfall doctor";
    options.read_write = false;
    return options;
  }

  Findings examine_clock(postgres::Examination& database) const {
    (void)database.now();  // prepares the statement, so that the next one is a single round trip
    const WallTime before = system_clock().wall();
    const WallTime there = database.now();
    const WallTime after = system_clock().wall();
    const auto half = std::chrono::duration_cast<std::chrono::microseconds>(after - before) / 2;
    return judge_clock(std::chrono::duration_cast<std::chrono::microseconds>(there - before) - half,
                       half, limits_);
  }

  Findings examine_schema(postgres::Examination& database) {
    const SchemaState state = database.schema_state();
    fits_ = state.fit == SchemaFit::fits;
    if (!fits_) {
      return {{"schema", Severity::critical, schema_, state.detail, state.hint}};
    }
    try {
      const std::string remark = database.schema_remark();
      if (remark.empty()) return {};
      return {{"schema", Severity::note, schema_, remark, "`outfall migrate` records it"}};
    } catch (const StoreError& error) {
      if (error.kind() != StoreErrorKind::schema) throw;
      return {{"schema", Severity::warning, schema_, error.what(), error.hint()}};
    }
  }

  Findings examine_streams() const {
    postgres::PostgresOperatorStore store(options());
    return judge_streams(status_document(store, config_), limits_);
  }

  // What a destination did last is known to each worker alone. This is the one of this
  // configuration; there need not be one here.
  void examine_worker() {
    const std::string address = own_worker(config_);
    if (address.empty()) return;
    constexpr Milliseconds kPatience{1000};
    try {
      const json::value status = json::parse(admin_get(address, "/status", kPatience));
      std::ranges::move(judge_worker(status.as_object(), address),
                        std::back_inserter(diagnosis_.findings));
      diagnosis_.checked.emplace_back("worker");
    } catch (const std::exception& error) {
      diagnosis_.skipped.emplace_back("worker",
                                      fmt::format("none answers at {}: {}", address, error.what()));
    }
  }

  [[nodiscard]] bool has_problem(const EmitterConfig& emitter) const {
    const std::string table = "emitters." + emitter.name;
    return std::ranges::any_of(problems_, [&](const SettingProblem& problem) {
      return problem.setting == table || problem.setting.starts_with(table + ".");
    });
  }

  void examine_emitter(const EmitterConfig& emitter) {
    if (has_problem(emitter)) {
      diagnosis_.skipped.emplace_back("emitters." + emitter.name, "its configuration is not whole");
      return;
    }
    const Connected answer = ask_emitter(context_, config_, emitter);
    diagnosis_.checked.push_back(answer.what);
    if (answer.problem.message.empty()) return;
    diagnosis_.findings.push_back({"sink", Severity::critical, answer.what,
                                   fmt::format("{}: {}", answer.what, answer.problem.message),
                                   answer.problem.hint});
  }

  const Context& context_;
  const Config& config_;
  const ConfigProblems& problems_;
  const DoctorLimits limits_;
  const std::string schema_;
  Diagnosis diagnosis_;
  bool fits_ = false;
};

ExitCode exit_code(const Findings& findings) {
  Severity worst = Severity::note;
  for (const Finding& finding : findings) worst = std::max(worst, finding.severity);
  switch (worst) {
    case Severity::critical:
      return ExitCode::unavailable;
    case Severity::warning:
      return ExitCode::temporary;
    case Severity::note:
      break;
  }
  return ExitCode::ok;
}

void write_findings(const Context& context, const Diagnosis& diagnosis) {
  constexpr std::size_t kSeverityWidth = 10;
  for (const Finding& finding : diagnosis.findings) {
    context.out << fmt::format("{:<{}}{}: {}\n{:<{}}change: {}\n", to_string(finding.severity),
                               kSeverityWidth, finding.check, printable(finding.what), "",
                               kSeverityWidth, printable(with_config(context, finding.change)));
  }
  if (!diagnosis.findings.empty()) context.out << '\n';
  for (const auto& [what, why] : diagnosis.skipped) {
    context.out << fmt::format("not checked: {} ({})\n", what, printable(why));
  }
  context.out << fmt::format("checked: {}\n", fmt::join(diagnosis.checked, ", "));
  const auto count = [&](Severity severity) {
    return std::ranges::count(diagnosis.findings, severity, &Finding::severity);
  };
  context.out << fmt::format("{} critical, {}, {}\n", count(Severity::critical),
                             counted(count(Severity::warning), "warning"),
                             counted(count(Severity::note), "note"));
}

void write_document(const Context& context, const Diagnosis& diagnosis) {
  json::array findings;
  for (const Finding& finding : diagnosis.findings) {
    findings.push_back(json::object{{"check", finding.check},
                                    {"severity", to_string(finding.severity)},
                                    {"about", finding.about},
                                    {"what", finding.what},
                                    {"change", with_config(context, finding.change)}});
  }
  json::array skipped;
  for (const auto& [what, why] : diagnosis.skipped) {
    skipped.push_back(json::object{{"area", what}, {"why", why}});
  }
  write_json(
      context,
      json::object{{"findings", std::move(findings)},
                   {"checked", json::array(diagnosis.checked.begin(), diagnosis.checked.end())},
                   {"not_checked", std::move(skipped)}});
}

ExitCode diagnose(const Context& context, const std::string& long_transaction) {
  DoctorLimits limits;
  limits.long_transaction = parse_span("--long-transaction", long_transaction, Milliseconds{1});
  const CommandConfig loaded = load_command_config(context, CommandEmitters::judged);
  const Diagnosis diagnosis = Doctor(context, loaded, limits).examine();
  (context.json ? write_document : write_findings)(context, diagnosis);
  return exit_code(diagnosis.findings);
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  const auto long_transaction = std::make_shared<std::string>("10m");
  CLI::App& command = add_command(
      app, context, "doctor",
      "Look for what keeps entries from being delivered, or soon will, and say what to change",
      [&context, long_transaction] { return diagnose(context, *long_transaction); });
  command
      .add_option("--long-transaction", *long_transaction,
                  "How long a transaction may be open before it is a finding")
      ->type_name("DURATION")
      ->capture_default_str();
}

}  // namespace outfall
