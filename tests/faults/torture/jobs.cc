#include "tests/faults/torture/jobs.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace {

using std::chrono::steady_clock;

constexpr std::chrono::hours kLongestTorture{24};
// To stop its servers and to remove its folders.
constexpr std::chrono::minutes kEndDeadline{2};

// The whole lines of a file that somebody else is writing, each of them once.
class Lines {
 public:
  explicit Lines(std::filesystem::path file) : file_(std::move(file)) {}
  std::optional<std::string> next() {
    std::ifstream in(file_, std::ios::binary);
    in.seekg(read_);
    std::string line;
    if (!std::getline(in, line) || in.eof()) return std::nullopt;
    read_ += static_cast<std::streamoff>(line.size() + 1);
    return line;
  }

 private:
  std::filesystem::path file_;
  std::streamoff read_ = 0;
};

// One of the processes.
class Process {
 public:
  Process(const Jobs& jobs, const std::filesystem::path& folder, int number)
      : Process(jobs, folder / fmt::format("results-{}", number),
                folder / fmt::format("errors-{}", number)) {}

  bool running() { return child_.running(); }
  void ask(const Case& of) { child_.write_input(of.name() + "\n"); }
  std::optional<std::string> answer() {
    while (const auto line = errors_.next()) fmt::print(stderr, "{}\n", *line);
    return results_.next();
  }
  test::ExitStatus end() {
    child_.close_input();
    return child_.wait(kEndDeadline);
  }

 private:
  Process(const Jobs& jobs, const std::filesystem::path& results,
          const std::filesystem::path& errors)
      : results_(results),
        errors_(errors),
        child_(jobs.command, {.environment = jobs.environment,
                              .output_file = results,
                              .error_file = errors,
                              .input_pipe = true}) {}

  Lines results_;
  Lines errors_;
  test::ChildProcess child_;
};

// Whoever plays one run after the other: a process, and another one where that has died.
class Player {
 public:
  Player(const Jobs& jobs, const std::filesystem::path& folder, int& processes)
      : jobs_(jobs), folder_(folder), processes_(processes) {}

  [[nodiscard]] bool idle() const { return !of_; }

  void take(const Case& of) {
    of_ = of;
    since_ = steady_clock::now();
    if (!process_) process_ = std::make_unique<Process>(jobs_, folder_, ++processes_);
    try {
      process_->ask(of);
    } catch (const std::system_error&) {
      // It is dead, as look() will see.
    }
  }

  // The result of what it has taken, once there is one.
  std::optional<Result> look() {
    if (!of_) return std::nullopt;
    // In this order: what it wrote last is there when its end is seen.
    const bool ended = !process_->running();
    const auto line = process_->answer();
    if (!line && !ended) return std::nullopt;
    Result result = line ? read(*line) : failed("ended by " + process_->end().to_string());
    of_.reset();
    return result;
  }

  // What is wrong with its end, if anything.
  std::optional<std::string> end() {
    if (!process_) return std::nullopt;
    try {
      const test::ExitStatus status = process_->end();
      (void)process_->answer();
      if (status.code == 0) return std::nullopt;
      return "a process that had played all its runs ended by " + status.to_string();
    } catch (const test::TimedOut&) {
      return "a process that had played all its runs did not end";
    }
  }

 private:
  Result read(const std::string& line) {
    try {
      Result result = result_of_line(line);
      if (result.of == *of_) return result;
      return failed("answered for " + result.of.name());
    } catch (const std::invalid_argument& error) {
      return failed(std::string("answered with ") + error.what());
    }
  }

  // Nothing more is to be had from it.
  Result failed(const std::string& how) {
    process_.reset();
    Result result;
    result.of = *of_;
    result.problem = "the process that played it " + how;
    result.seconds = std::chrono::duration<double>(steady_clock::now() - since_).count();
    return result;
  }

  const Jobs& jobs_;
  const std::filesystem::path& folder_;
  int& processes_;
  std::unique_ptr<Process> process_;
  std::optional<Case> of_;
  steady_clock::time_point since_;
};

}  // namespace

void play_in_jobs(const Jobs& jobs, const std::vector<Case>& cases, Report& report) {
  // A process that has died is told by its end, not by the pipe to it.
  (void)std::signal(SIGPIPE, SIG_IGN);
  const test::TempFolder folder;
  int processes = 0;
  std::vector<Player> players;
  for (int i = 0; i < jobs.count; ++i) players.emplace_back(jobs, folder.path(), processes);
  std::size_t dealt = 0;
  std::size_t played = 0;
  test::wait_until(
      [&] {
        for (Player& player : players) {
          if (player.idle() && dealt < cases.size()) player.take(cases[dealt++]);
          auto result = player.look();
          if (!result) continue;
          report.add(std::move(*result));
          ++played;
        }
        return played == cases.size();
      },
      "all runs to be played", kLongestTorture);
  for (Player& player : players) {
    if (auto problem = player.end()) report.complain(std::move(*problem));
  }
  report.order_as(cases);
}

}  // namespace outfall::torture
