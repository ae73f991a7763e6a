#include <memory>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "core/quantity.h"
#include "daemon/commands.h"
#include "daemon/operating.h"
#include "daemon/screen.h"
#include "daemon/time_arguments.h"
#include "daemon/top_view.h"
#include "daemon/wiring.h"
#include "store/postgres/examination.h"
#include "store/postgres/operator_store.h"

namespace outfall {
namespace {

namespace json = boost::json;

struct TopOptions {
  std::string interval = "2s";
  bool once = false;
  std::vector<std::string> workers;
};

// Looks at the database over sessions that it keeps, and at workers.
class TopReader {
 public:
  TopReader(const Config& config, std::vector<std::string> workers)
      : config_(config), workers_(std::move(workers)), options_(connect_options(config)) {
    options_.application_name = "outfall top";
    options_.read_write = false;
    // Signals are seen between two looks.
    options_.statement_timeout = std::min(options_.statement_timeout, kStatementTimeout);
  }

  // Throws StoreError; the next one begins with new sessions.
  TopFrame look() {
    try {
      if (!store_) {
        store_ = std::make_unique<postgres::PostgresOperatorStore>(options_);
        questions_ = std::make_unique<postgres::Examination>(options_);
      }
      TopFrame frame;
      frame.at = system_clock().monotonic();
      frame.status = status_document(*store_, config_);
      frame.held = json::parse(questions_->ask("top/holds")).as_object();
      frame.delivered = json::parse(questions_->ask("top/delivered")).as_object();
      frame.workers = ask_workers(workers_);
      return frame;
    } catch (...) {
      store_.reset();
      questions_.reset();
      throw;
    }
  }

 private:
  static constexpr Milliseconds kStatementTimeout{5000};

  const Config& config_;
  const std::vector<std::string> workers_;
  postgres::ConnectOptions options_;
  std::unique_ptr<postgres::PostgresOperatorStore> store_;
  std::unique_ptr<postgres::Examination> questions_;
};

// Shows one look after another until it is told to end, or nobody reads any more.
class Top {
 public:
  Top(const Context& context, TopReader& reader, Milliseconds interval)
      : context_(context), reader_(reader), interval_(interval) {}

  // Ends with 0. What fails at the first look ends it; later on it waits for better times.
  ExitCode run() {
    TopFrame before = reader_.look();
    Screen screen;
    const std::string hint = screen.is_terminal()
                                 ? fmt::format("every {}, q ends", format_duration(interval_))
                                 : std::string();
    bool seen = show(screen, top_document(before, nullptr), hint);
    while (seen) {
      switch (screen.wait(interval_)) {
        case Screen::Event::quit:
          return ExitCode::ok;
        case Screen::Event::resized:
          seen = show(screen, shown_, hint);
          continue;
        case Screen::Event::timeout:
        case Screen::Event::refresh:
          break;
      }
      try {
        TopFrame frame = reader_.look();
        seen = show(screen, top_document(frame, &before), hint);
        before = std::move(frame);
      } catch (const StoreError& error) {
        seen = show(screen, shown_, fmt::format("OUT OF DATE, the database: {}", error.what()));
      }
    }
    return ExitCode::ok;
  }

 private:
  // False where nobody reads any more.
  bool show(Screen& screen, json::object document, const std::string& note) {
    shown_ = std::move(document);
    if (!context_.json) return screen.draw(top_lines(shown_, note));
    write_json(context_, shown_);
    return context_.out.flush().good();
  }

  const Context& context_;
  TopReader& reader_;
  const Milliseconds interval_;
  json::object shown_;
};

ExitCode top(const Context& context, const TopOptions& options) {
  const Milliseconds interval = parse_span("--interval", options.interval, Milliseconds{100});
  const auto config = load_command_config(context).config;
  TopReader reader(*config, workers_to_ask(options.workers, *config));
  try {
    if (!options.once) return Top(context, reader, interval).run();
    const json::object document = top_document(reader.look(), nullptr);
    if (context.json) {
      write_json(context, document);
    } else {
      for (const std::string& line : top_lines(document, {})) context.out << line << '\n';
    }
    return ExitCode::ok;
  } catch (const StoreError& error) {
    throw command_error(error);
  }
}

}  // namespace

void add_top(CLI::App& app, Context& context) {
  const auto options = std::make_shared<TopOptions>();
  CLI::App& command =
      add_command(app, context, "top", "Show streams, rates, breakers and leases as they change",
                  [&context, options] { return top(context, *options); });
  command.add_option("--interval", options->interval, "How long to wait between two looks")
      ->type_name("DURATION")
      ->capture_default_str();
  command.add_flag("--once", options->once, "Look once and end");
  add_worker_option(command, options->workers);
}

}  // namespace outfall
