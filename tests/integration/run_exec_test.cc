// Goal: a stream that goes to a program loses nothing, keeps the order per key and repeats only
// what was not answered, whatever happens to the program. Method: the example of the docs and a
// program with a weakness under the real worker, killed by SIGKILL and by their own entries.

#include <csignal>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

const std::string kExample = OUTFALL_SOURCE_FOLDER "/samples/exec/deliver.py";

std::string to_program(const std::string& command, const std::string& more_of_stream = {},
                       const std::string& more_of_emitter = {}) {
  return "[streams.orders]\nemitter = \"out\"\nretry.initial = \"20ms\"\nretry.max = \"100ms\"\n"
         "breaker.probe_initial = \"20ms\"\nbreaker.probe_max = \"100ms\"\n" +
         more_of_stream + "\n[emitters.out]\nkind = \"exec\"\ncommand = [" + command +
         "]\nrestart.initial = \"10ms\"\nrestart.max = \"100ms\"\n" + more_of_emitter + "\n";
}

class RunExec : public WorkerTest {
 protected:
  // The process that the worker has started, once there is one.
  static pid_t program_of(WorkerProcess& worker) {
    pid_t program = 0;
    const auto tasks = "/proc/" + std::to_string(worker.process().pid()) + "/task";
    wait_until(
        [&] {
          for (const auto& task : std::filesystem::directory_iterator(tasks)) {
            std::ifstream children(task.path() / "children");
            if (children >> program) return true;
          }
          return false;
        },
        "the program runs");
    return program;
  }
  static std::size_t lines_in(const std::filesystem::path& file) {
    std::ifstream lines(file);
    return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(lines), {}, '\n'));
  }
  static bool is_gone(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string number, name, state;
    return !(stat >> number >> name >> state) || state == "Z";
  }
};

TEST_F(RunExec, AProgramThatIsKilledAgainAndAgainLosesNothing) {
  constexpr int kKills = 3;
  enqueue_many("orders", 2000, 50);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_program("\"python3\", \"" + kExample + "\", \"events\"")});
  for (std::size_t kill = 0; kill < kKills; ++kill) {
    wait_until([&] { return lines_in(worker.file("events")) > 300 + 500 * kill; },
               "the program works");
    ::kill(program_of(worker), SIGKILL);
  }
  wait_until_empty("orders");

  const auto events = worker.events("events");
  std::set<std::string> seen;
  std::map<std::string, std::int64_t> last_of_key;
  for (const auto& event : events) {
    if (!seen.emplace(event.at("id").as_string()).second) continue;
    std::int64_t& last = last_of_key[std::string(event.at("partitionkey").as_string())];
    const auto number = event.at("data").as_object().at("n").to_number<std::int64_t>();
    EXPECT_LT(last, number) << "out of order";
    last = number;
  }
  EXPECT_EQ(seen.size(), 2000U);
  // The example has one entry in its hands at a time; what it has answered is never repeated.
  EXPECT_LE(events.size(), 2000U + kKills);
  EXPECT_EQ(delivered(), 2000);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1) << "a crash spent an attempt";
  EXPECT_EQ(worker.metric("outfall_exec_starts_total{emitter=\"out\"}"), kKills + 1);
  EXPECT_THAT(worker.log(), HasSubstr("signal 9 (Killed)"));
  const pid_t program = program_of(worker);
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_TRUE(is_gone(program));
}

TEST_F(RunExec, TheRecordOfTheAnswerIsInTheReceipt) {
  enqueue("orders", "ana");
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_program("\"python3\", \"" + kExample + "\", \"events\"")});
  wait_until_empty("orders");
  EXPECT_EQ(sql_.number("SELECT record_id::bigint FROM delivered"),
            static_cast<std::int64_t>(std::filesystem::file_size(worker.file("events"))));
}

TEST_F(RunExec, AProgramDoesNotOutliveAWorkerThatIsKilled) {
  enqueue("orders", "ana");
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = to_program("\"python3\", \"-c\", \"import signal; signal.pause()\"")});
  const pid_t program = program_of(worker);
  EXPECT_FALSE(is_gone(program));
  worker.kill();
  wait_until([&] { return is_gone(program); }, "the program has ended");
}

TEST_F(RunExec, WhileTheProgramCannotRunNothingIsGivenUp) {
  enqueue_many("orders", 100, 10);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_program("\"./deliver.sh\"", "retry.max_attempts = 2")});
  worker.process().wait_for_output("emitters.out: command ./deliver.sh: No such file or directory");
  worker.process().wait_for_output(
      "the program cannot be started: command ./deliver.sh: No such file or directory");
  std::ofstream(worker.file("deliver.part"))
      << "#!/bin/sh\nexec python3 " << kExample << " events\n";
  std::filesystem::permissions(worker.file("deliver.part"), std::filesystem::perms::owner_all);
  EXPECT_EQ(live("orders"), 100);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM entries"), 0);
  std::filesystem::rename(worker.file("deliver.part"), worker.file("deliver.sh"));
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 100);
  EXPECT_EQ(worker.events("events").size(), 100U);
}

// An entry that ends its program each time becomes a dead letter, and its neighbours do not.
TEST_F(RunExec, AnEntryThatKillsItsProgramIsADeadLetterInTheEnd) {
  enqueue_many("orders", 100, 20);
  enqueue("orders", "bad", "{}", "poison");
  enqueue_many("orders", 100, 20);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_program("\"python3\", \"weak.py\"",
                                              "retry.max_attempts = 2\nbreaker.failures = 50"),
                        .environment = {}});
  std::ofstream(worker.file("weak.py")) << "import json, os, sys\n"
                                           "for line in sys.stdin:\n"
                                           "    event = json.loads(line)\n"
                                           "    if event['type'] == 'poison':\n"
                                           "        os._exit(1)\n"
                                           "    print(json.dumps({'id': event['id'], 'outcome': "
                                           "'delivered'}), flush=True)\n";
  wait_until(
      [&] {
        // Others get through in between, which is what tells that the program is not to blame.
        if (live("orders") <= 1) enqueue_many("orders", 5, 5);
        return sql_.number("SELECT count(*) FROM dead_letters") > 0;
      },
      "there is a dead letter", std::chrono::seconds{60});
  wait_until_empty("orders");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 1);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters WHERE type = 'poison'"), 1);
  EXPECT_GE(delivered(), 200);
}

// A lease that is done is written at once, and one whose neighbour is not answered waits for more.
// Were that left behind, a worker that dies in between would have its first entry come again after
// the second.
TEST_F(RunExec, NoOutcomeOfAKeyIsWrittenBeforeAnEarlierOne) {
  constexpr int kRounds = 40;
  sql_.exec(
      "CREATE TABLE written (n bigserial, id bigint, key text);"
      "CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ "
      "BEGIN "
      "INSERT INTO outbox.written (id, key) SELECT id, key FROM gone ORDER BY id; RETURN NULL; "
      "END $$;"
      "CREATE TRIGGER note_written AFTER DELETE ON entries REFERENCING OLD TABLE AS gone "
      "FOR EACH STATEMENT EXECUTE FUNCTION note_written()");
  for (int round = 0; round < kRounds; ++round) {
    enqueue("orders", "k");
    enqueue("orders", "silent-" + std::to_string(round), "{}", "silent");
    enqueue("orders", "k");
    enqueue("orders", "k");
  }
  const std::string answers =
      "import json, sys\\nfor line in sys.stdin:\\n    event = json.loads(line)\\n"
      "    if event['type'] != 'silent':\\n"
      "        print(json.dumps({'id': event['id'], 'outcome': 'delivered'}), flush=True)\\n";
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = to_program(R"("python3", "-c", ")" + answers + "\"", {}, "max_in_flight = 1000"),
       .drain = "batch_entries = 2\nshutdown_timeout = \"1s\""});
  wait_until([&] { return live("orders") == kRounds; }, "what is answered is written");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM written WHERE key = 'k'"), 3 * kRounds);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM (SELECT id, max(id) OVER (ORDER BY n) AS latest "
                        "FROM written WHERE key = 'k') AS each WHERE id < latest"),
            0);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
