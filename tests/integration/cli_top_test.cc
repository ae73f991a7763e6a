// Goal: `outfall top` shows what is going on, in the place of what it showed before, and leaves the
// terminal as it was; elsewhere it writes plain text. Method: a real terminal (tmux) and a real
// worker.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

// A shell in a terminal of so many columns and lines.
class Terminal {
 public:
  Terminal(int columns, int lines) : socket_((folder_ / "tmux").string()) {
    server_ = std::make_unique<ChildProcess>(
        std::vector<std::string>{"tmux", "-u", "-S", socket_, "-f", "/dev/null", "-D"});
    wait_until([&] { return std::filesystem::exists(socket_); }, "tmux listens");
    ask({"new-session", "-d", "-x", std::to_string(columns), "-y", std::to_string(lines),
         "env PS1='ready> ' ENV= sh"});
    wait_until([&] { return screen().find("ready>") != std::string::npos; }, "the shell is ready");
  }

  // Types a line.
  void run(const std::string& command) { ask({"send-keys", command, "Enter"}); }
  void press(const std::string& key) { ask({"send-keys", key}); }
  void resize(int columns, int lines) {
    ask({"resize-window", "-x", std::to_string(columns), "-y", std::to_string(lines)});
  }
  // What it shows now.
  [[nodiscard]] std::string screen() { return ask({"capture-pane", "-p"}); }
  [[nodiscard]] bool shows(const std::string& text) {
    return screen().find(text) != std::string::npos;
  }
  void wait_for(const std::string& text) {
    try {
      wait_until([&] { return shows(text); }, "the terminal shows " + text);
    } catch (const TimedOut& late) {
      throw TimedOut(late.what() + (":\n" + screen()));
    }
  }
  // A variable of tmux: "history_size".
  [[nodiscard]] std::string state(const std::string& name) {
    std::string text = ask({"display-message", "-p", "#{" + name + "}"});
    text.erase(text.find_last_not_of('\n') + 1);
    return text;
  }

 private:
  std::string ask(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"tmux", "-u", "-S", socket_});
    const Finished finished = test::run(std::move(arguments));
    if (finished.status.code != 0) throw std::runtime_error("tmux: " + finished.error_output);
    return finished.output;
  }

  TempFolder folder_;
  std::string socket_;
  std::unique_ptr<ChildProcess> server_;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::string noop(const std::string& emitter, const std::string& stream = {}) {
  return "[streams.orders]\nemitter = \"sink\"\n" + stream +
         "\n[emitters.sink]\nkind = \"noop\"\n" + emitter + "\n";
}

class CliTop : public WorkerTest {
 protected:
  // Uses the configuration of the worker.
  static std::vector<std::string> command(const WorkerProcess& worker,
                                          std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {OUTFALL_BINARY, "top", "--config", worker.file("outfall.toml").string()});
    return arguments;
  }
  static boost::json::object look(const WorkerProcess& worker,
                                  std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.end(), {"--once", "--json"});
    const Finished finished = run(command(worker, std::move(arguments)));
    EXPECT_EQ(finished.status.code, 0) << finished.error_output;
    return boost::json::parse(finished.output).as_object();
  }
  static boost::json::object stream(const boost::json::object& document) {
    return document.at("streams").at(0).as_object();
  }

  void pause() {
    wait_until([&] { return sql_.number("SELECT count(*) FROM streams") == 1; },
               "the worker has registered its stream");
    sql_.exec("SELECT pause_stream('orders', 'ana', 'moving')");
  }

  // A script that starts it, so that a line to type stays short.
  std::string script(const WorkerProcess& worker) {
    return "sh " +
           folder_
               .write("top", fmt::format("trap : INT\n{} top --config {} --interval 200ms\n"
                                         "echo ended with $?\n",
                                         OUTFALL_BINARY, worker.file("outfall.toml").string()))
               .string();
  }

  TempFolder folder_;
};

TEST_F(CliTop, ATerminalShowsItInPlaceAndIsLeftAsItWas) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  pause();
  Terminal terminal(140, 20);
  terminal.run(script(worker));
  terminal.wait_for("paused by ana");
  terminal.wait_for("breakers: all closed");
  EXPECT_EQ(terminal.state("alternate_on"), "1");
  EXPECT_EQ(terminal.state("cursor_flag"), "0");
  EXPECT_THAT(terminal.screen(), StartsWith("outfall top - schema \"outbox\", "));

  enqueue_many("orders", 1234, 10);
  terminal.wait_for(" 1,234 ");
  sql_.exec("SELECT resume_stream('orders', 'ana', 'moved')");
  terminal.wait_for("orders  running");
  wait_until_empty("orders");
  terminal.wait_for(" 123 ");  // a second, over ten seconds
  const std::string settled = terminal.screen();
  EXPECT_EQ(count_of(settled, "outfall top - "), 1U) << settled;
  EXPECT_EQ(count_of(settled, "STREAM"), 1U) << "what was there before is gone: " << settled;
  EXPECT_EQ(terminal.state("history_size"), "0") << "nothing has scrolled";

  terminal.resize(40, 6);
  wait_until(
      [&] {
        const std::vector<std::string> lines = lines_of(terminal.screen());
        return lines.size() == 6 && lines[0].starts_with("outfall top") &&
               lines[3].starts_with("STREAM");
      },
      "it fits into a smaller terminal");
  terminal.resize(140, 20);
  terminal.wait_for("LEASES");

  terminal.press("q");
  terminal.wait_for("ended with 0");
  EXPECT_EQ(terminal.state("alternate_on"), "0");
  EXPECT_EQ(terminal.state("cursor_flag"), "1");
  EXPECT_FALSE(terminal.shows("STREAM"));
  terminal.run("stty -a");
  terminal.wait_for(" icanon");
  EXPECT_THAT(terminal.screen(), AllOf(HasSubstr(" echo "), Not(HasSubstr("-icanon"))));
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(CliTop, AnInterruptAlsoLeavesTheTerminalAsItWas) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  Terminal terminal(100, 20);
  terminal.run(script(worker));
  terminal.wait_for("orders  running");
  terminal.press("C-c");
  terminal.wait_for("ended with 0");
  EXPECT_EQ(terminal.state("alternate_on"), "0");
  EXPECT_EQ(terminal.state("cursor_flag"), "1");
}

// The database goes away and comes back while somebody looks.
TEST_F(CliTop, ItWaitsForADatabaseThatIsAwayAndSaysSo) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  Terminal terminal(140, 20);
  terminal.run(script(worker));
  terminal.wait_for("orders  running");
  PgClient server = database_.server().connect();
  server.exec("ALTER DATABASE " + database_.name() + " ALLOW_CONNECTIONS false");
  server.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND "
      "application_name LIKE 'outfall%'",
      {database_.name()});
  terminal.wait_for("OUT OF DATE, the database: ");
  EXPECT_TRUE(terminal.shows("orders")) << "the last look stays";
  server.exec("ALTER DATABASE " + database_.name() + " ALLOW_CONNECTIONS true");
  wait_until([&] { return !terminal.shows("OUT OF DATE"); }, "it goes on");
  terminal.press("q");
  terminal.wait_for("ended with 0");
}

TEST_F(CliTop, ElsewhereItIsPlainText) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  const Finished once = run(command(worker, {"--once"}));
  EXPECT_EQ(once.status.code, 0) << once.error_output;
  EXPECT_THAT(once.output, AllOf(StartsWith("outfall top - "), HasSubstr("\nSTREAM  STATE"),
                                 Not(HasSubstr("\x1b"))));
  EXPECT_EQ(count_of(once.output, "STREAM  STATE"), 1U);

  ChildProcess again(command(worker, {"--interval", "100ms"}));
  wait_until([&] { return count_of(again.output(), "STREAM  STATE") >= 3; }, "it goes on");
  again.signal(SIGTERM);
  EXPECT_EQ(again.wait().code, 0);
  EXPECT_THAT(again.output(), Not(HasSubstr("\x1b")));
  EXPECT_THAT(again.error_output(), IsEmpty());

  // A reader that has seen enough ends it.
  std::string line;
  for (const std::string& word : command(worker, {"--interval", "100ms"})) line += word + " ";
  const Finished enough = run({"bash", "-c", "set -o pipefail; " + line + "| head -n 1"});
  EXPECT_EQ(enough.status.code, 0) << enough.error_output;
  EXPECT_THAT(lines_of(enough.output), SizeIs(1));
}

TEST_F(CliTop, RatesComeFromReceiptsAndFromDifferences) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  pause();
  ChildProcess top(command(worker, {"--interval", "200ms", "--json"}));
  const auto rates = [&](const char* field) {
    std::vector<double> values;
    for (const std::string& line : lines_of(top.output())) {
      if (!line.ends_with('}')) continue;
      const boost::json::value value = stream(boost::json::parse(line).as_object()).at(field);
      if (value.is_number()) values.push_back(value.to_number<double>());
    }
    return values;
  };
  wait_until([&] { return rates("backlog_per_second").size() >= 2; }, "differences are known");
  EXPECT_THAT(rates("backlog_per_second"), Each(0));
  EXPECT_THAT(rates("delivered_per_second"), Each(0));
  enqueue_many("orders", 500, 10);
  wait_until(
      [&] {
        return std::ranges::any_of(rates("backlog_per_second"), [](double r) { return r > 0; });
      },
      "the backlog grows");
  sql_.exec("SELECT resume_stream('orders', 'ana', 'moved')");
  wait_until(
      [&] {
        return std::ranges::any_of(rates("backlog_per_second"), [](double r) { return r < 0; });
      },
      "the backlog shrinks");
  wait_until(
      [&] {
        return std::ranges::any_of(rates("delivered_per_second"), [](double r) { return r == 50; });
      },
      "500 in ten seconds");
  top.signal(SIGINT);
  EXPECT_EQ(top.wait().code, 0);
}

TEST_F(CliTop, HeldKeysAndLeases) {
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = noop("fail = { retryable_failure = \"1\" }",
                       "retry.initial = \"1h\"\nretry.max = \"1h\"\nbreaker.failures = 1000")});
  for (int i = 0; i < 3; ++i) enqueue("orders", "ana");
  for (int i = 0; i < 2; ++i) enqueue("orders", "bob");
  wait_until([&] { return stream(look(worker)).at("held_keys") == 2; }, "both keys are held");
  EXPECT_EQ(stream(look(worker)).at("held"), 3);
  EXPECT_EQ(stream(look(worker)).at("retryable_failure"), 2);
  worker.kill();

  WorkerProcess slow({.dsn = database_.dsn(),
                      .streams = noop("latency = \"1h\""),
                      .drain = "shutdown_timeout = \"0s\"",
                      .instance = "slow-one"});
  enqueue("orders", "eve");
  wait_until([&] { return !look(slow).at("workers").as_array().empty(); }, "it has a lease");
  const Finished text = run(command(slow, {"--once"}));
  EXPECT_THAT(text.output, AllOf(HasSubstr("LEASES OF"), HasSubstr("slow-one")));
}

TEST_F(CliTop, BreakersAreAskedOfTheWorkers) {
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = fmt::format("[streams.orders]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = "
                              "\"webhook\"\nurl = \"http://127.0.0.1:{}/in\"\n",
                              free_port())});
  EXPECT_THAT(look(worker).at("breakers").as_array(), IsEmpty());
  enqueue("orders", "ana");
  wait_until([&] { return !look(worker).at("breakers").as_array().empty(); }, "the breaker opens");
  const boost::json::value breaker = look(worker).at("breakers").at(0);
  EXPECT_EQ(breaker.at("stream"), "orders");
  EXPECT_THAT(std::string(breaker.at("error").as_string()), HasSubstr("webhook.refused"));
  wait_until([&] { return look(worker).at("breakers").at(0).at("away_seconds").as_int64() > 0; },
             "a second passes");
  EXPECT_THAT(
      run(command(worker, {"--once"})).output,
      testing::ContainsRegex("\nBREAKER +LANE +STATE +AWAY +WORKER AT +ERROR *\n"
                             "orders +[^ ]+ +(open|half_open) +[0-9]+s +[^ ]+ +webhook.refused"));

  const std::string nobody = "127.0.0.1:" + std::to_string(free_port());
  const boost::json::object other = look(worker, {"--worker", nobody});
  EXPECT_EQ(other.at("asked_workers").at(0).at("answers"), false);
  EXPECT_THAT(run(command(worker, {"--once", "--worker", nobody})).output,
              HasSubstr("breakers: no worker answers at " + nobody));
  EXPECT_EQ(run(command(worker, {"--once", "--worker", "elsewhere"})).status.code, 64);
}

TEST_F(CliTop, WithoutADatabaseItEndsAtOnce) {
  const std::string config = folder_.write(
      "outfall.toml",
      fmt::format("[database]\nurl = \"postgresql://a@127.0.0.1:{}/d\"\n", free_port()));
  const Finished finished = run({OUTFALL_BINARY, "top", "--config", config});
  EXPECT_EQ(finished.status.code, 69);
  EXPECT_THAT(finished.output, IsEmpty());
}

}  // namespace
}  // namespace outfall::test
