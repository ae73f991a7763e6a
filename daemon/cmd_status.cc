#include <memory>
#include <sstream>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/commands.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/worker_view.h"

namespace outfall {
namespace {

namespace json = boost::json;

class StatusText {
 public:
  StatusText(const Context& context, const json::object& status)
      : context_(context),
        status_(status),
        out_(context.out),
        limit_(integer_field(status, "counts_end_at")) {}

  void write(const std::string& schema) {
    const json::object& database = status_.at("database").as_object();
    out_ << fmt::format("schema \"{}\", version {}, at {}\n\n", schema,
                        integer_field(database, "schema_version"), time_field(status_, "taken_at"));
    write_streams();
    write_unbound();
    write_breakers();
    write_workers();
    const double oldest = number_field(database, "oldest_transaction_seconds");
    if (oldest >= kLongTransaction) {
      out_ << fmt::format(
          "\nA transaction has been open for {}: vacuum cannot clean up behind "
          "it.\n",
          age_of_seconds(oldest));
    }
    if (!next_.empty()) out_ << '\n';
    write_next(context_, next_);
  }

 private:
  static constexpr double kLongTransaction = 600;

  [[nodiscard]] std::string number(const json::object& object, std::string_view field) const {
    const std::int64_t value = integer_field(object, field);
    return value >= limit_ ? grouped(limit_) + "+" : grouped(value);
  }

  static std::string oldest(const json::object& object, std::string_view field) {
    const double seconds = number_field(object, field);
    return seconds > 0 ? age_of_seconds(seconds) : "-";
  }

  void write_streams() {
    TextTable table({{"STREAM"},
                     {"STATE"},
                     {"PENDING", true},
                     {"RETRY", true},
                     {"DEFERRED", true},
                     {"HELD", true},
                     {"DEAD LETTERS", true},
                     {"OLDEST DUE", true},
                     {"LEASES", true}});
    for (const json::value& value : status_.at("streams").as_array()) {
      const json::object& stream = value.as_object();
      table.add({text_field(stream, "stream"), stream_state(stream), number(stream, "pending"),
                 number(stream, "retryable_failure"), number(stream, "deferred"),
                 number(stream, "held"), number(stream, "dead_letters"),
                 oldest(stream, "oldest_due_seconds"),
                 grouped(integer_field(stream, "leases_active") +
                         integer_field(stream, "leases_expired"))});
      suggest(stream);
    }
    if (table.empty()) {
      out_ << "no worker has served a stream yet\n";
    } else {
      table.write(out_);
    }
  }

  void suggest(const json::object& stream) {
    const std::string name = text_field(stream, "stream");
    const std::string argument = shell_quoted(name);
    if (flag_field(stream, "paused")) {
      next_.push_back(
          fmt::format("`outfall streams resume {} --reason ...` ends the pause of {} ({})",
                      argument, printable(name), printable(text_field(stream, "paused_reason"))));
    } else if (stream.at("served").is_bool() && !stream.at("served").as_bool()) {
      next_.push_back(fmt::format("no worker serves {}: start `outfall run`", printable(name)));
    }
    if (stream.contains("destinations")) {
      next_.push_back(
          fmt::format("`outfall destinations list --stream {}` shows its paused lanes", argument));
    }
    if (integer_field(stream, "dead_letters") > 0) {
      next_.push_back(fmt::format("`outfall dead-letters list --stream {}` shows its {}", argument,
                                  counted(integer_field(stream, "dead_letters"), "dead letter")));
    }
  }

  void write_unbound() {
    TextTable table({{"STREAM"}, {"STATE"}, {"ENTRIES", true}, {"OLDEST", true}});
    for (const json::value& value : status_.at("unbound").as_array()) {
      const json::object& stream = value.as_object();
      const bool elsewhere = flag_field(stream, "served");
      const bool hidden = stream.at("served").is_null();
      table.add({text_field(stream, "stream"),
                 elsewhere ? "served with another configuration"
                 : hidden  ? "unknown"
                           : "nobody serves it",
                 number(stream, "entries"), oldest(stream, "oldest_created_seconds")});
      if (hidden) {
        next_.push_back(fmt::format(
            "it cannot be seen here whether anybody serves {}; if not, add [streams.{}] to the "
            "configuration of a worker, or correct the producer",
            printable(text_field(stream, "stream")), printable(text_field(stream, "stream"))));
      } else if (!elsewhere) {
        next_.push_back(fmt::format(
            "nobody serves {}: add [streams.{}] to the configuration of a "
            "worker, or correct the producer",
            printable(text_field(stream, "stream")), printable(text_field(stream, "stream"))));
      }
    }
    if (table.empty()) return;
    out_ << "\nentries in streams that this configuration does not have\n";
    table.write(out_);
  }

  // What is closed is not worth a line; what cannot be known is.
  void write_breakers() {
    if (array_field(status_, "asked_workers").empty()) {
      out_ << "\nbreakers: not known, since admin.listen names no worker to ask; --worker "
              "HOST:PORT asks one\n";
      return;
    }
    std::ostringstream text;
    outfall::write_breakers(text, status_);
    if (!text.str().empty()) out_ << '\n' << text.str();
  }

  void write_workers() {
    TextTable table(
        {{"WORKER"}, {"INSTANCE"}, {"STREAM"}, {"LEASES", true}, {"ENTRIES", true}, {"UNTIL"}});
    for (const json::value& value : status_.at("workers").as_array()) {
      const json::object& worker = value.as_object();
      table.add({text_field(worker, "worker"), text_field(worker, "instance"),
                 text_field(worker, "stream"), grouped(integer_field(worker, "leases")),
                 grouped(integer_field(worker, "entries")), time_field(worker, "expires_at")});
    }
    if (table.empty()) return;
    out_ << "\nentries in delivery\n";
    table.write(out_);
  }

  const Context& context_;
  const json::object& status_;
  std::ostream& out_;
  const std::int64_t limit_;
  std::vector<std::string> next_;
};

ExitCode show_status(const Context& context, const std::vector<std::string>& workers) {
  // A mistake in the command line is one whatever the database says.
  check_workers(workers);
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    const std::vector<WorkerView> views = ask_workers(workers_to_ask(workers, config));
    json::object status = status_document(store, config);
    add_worker_views(status, views);
    if (context.json) {
      write_json(context, status);
    } else {
      StatusText(context, status).write(config.database().text("schema"));
    }
    return ExitCode::ok;
  });
}

}  // namespace

void add_status(CLI::App& app, Context& context) {
  const auto workers = std::make_shared<std::vector<std::string>>();
  CLI::App& command =
      add_command(app, context, "status",
                  "Show the streams with their backlog, what nobody serves, and what to do next",
                  [&context, workers] { return show_status(context, *workers); });
  add_worker_option(command, *workers);
}

}  // namespace outfall
