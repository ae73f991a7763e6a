#include "tests/unit/exec_fixture.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace outfall::test {
namespace {

constexpr std::string_view kPrelude = R"py(
import json, os, select, signal, sys, time

def events():
    for line in sys.stdin:
        yield json.loads(line)

def answer(event, outcome="delivered", **more):
    print(json.dumps({"id": event["id"], "outcome": outcome, **more}), flush=True)

def write(name, text):
    with open(name + ".part", "w") as file:
        file.write(str(text))
    os.rename(name + ".part", name)

def first_run():
    first = not os.path.exists("ran")
    write("ran", 1)
    return first

)py";

}  // namespace

bool is_running(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::ostringstream text;
  text << stat.rdbuf();
  const std::size_t name_end = text.str().rfind(") ");
  return name_end != std::string::npos && text.str()[name_end + 2] != 'Z';
}

ExecTest::ExecTest() {
  test_reporter().clear();
  settings_.text("working_directory", folder_.path());
  settings_.number("restart.initial", 10).number("restart.max", 50);
}

void ExecTest::create(const std::string& script) {
  settings_.list("command",
                 {"python3", folder_.write("program.py", std::string(kPrelude) + script)});
  emitter_ = make_emitter(kind_, settings_, drain_);
}

std::vector<std::uint64_t> ExecTest::deliver(const std::vector<TestEntry>& entries) {
  const auto tokens = drain_.emit(*emitter_, entries);
  drain_.wait_for_all();
  return tokens;
}

OutcomeKind ExecTest::deliver_one(const std::string& type) {
  return drain_.kind(deliver({{.type = type}})[0]);
}

void ExecTest::deliver_in_the_end() {
  OutcomeKind last = OutcomeKind::exception;
  wait_until(
      [&] {
        last = deliver_one();
        return last != OutcomeKind::destination_unavailable;
      },
      "the program is there again");
  EXPECT_EQ(last, OutcomeKind::delivered);
}

const Outcome& ExecTest::outcome(std::uint64_t token) {
  return *drain_.item(token).outcome;
}

std::string ExecTest::error_code(std::uint64_t token) {
  return outcome(token).error ? outcome(token).error->code : "";
}

std::string ExecTest::error_message(std::uint64_t token) {
  return outcome(token).error ? outcome(token).error->message : "";
}

double ExecTest::metric(Conversation::Metric metric) {
  return test_reporter().value(metric).value_or(0);
}

bool ExecTest::has_logged(const std::string& text) {
  return std::ranges::any_of(test_reporter().lines(), [&](const std::string& line) {
    return line.find(text) != std::string::npos;
  });
}

pid_t ExecTest::pid_in(const std::string& file) {
  wait_until([&] { return std::filesystem::exists(folder_ / file); }, file + " is written");
  return std::stoi(read_file(folder_ / file));
}

void ExecTest::wait_until_ended(pid_t pid) {
  wait_until([&] { return !is_running(pid); }, "process " + std::to_string(pid) + " has ended");
}

std::vector<TestEntry> ExecTest::entries(std::size_t count, const std::string& type) {
  std::vector<TestEntry> made;
  for (std::size_t i = 0; i < count; ++i) made.push_back({.type = type});
  return made;
}

}  // namespace outfall::test
