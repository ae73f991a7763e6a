// Judges the histories of a run with faults: see README.md in this folder.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tests/faults/history_judge.h"
#include "tests/faults/history_reader.h"
#include "tests/faults/history_report.h"

namespace {

using namespace outfall::test::history;  // NOLINT(google-build-using-namespace)

constexpr int kBroken = 1;
constexpr int kUsage = 64;
constexpr int kBadData = 65;
constexpr int kNoInput = 66;

int read_file(const std::string& path, History& history) {
  if (path == "-") {
    read_records(std::cin, "standard input", history);
    return 0;
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::cerr << "outfall_history_check: cannot open " << path << "\n";
    return kNoInput;
  }
  read_records(in, path, history);
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Decides by a history what a run with faults has broken.", "outfall_history_check");
  std::vector<std::string> files;
  bool as_json = false;
  std::int64_t send_timeout_ms = 5000;
  JudgeOptions options;
  app.add_option("file", files, "JSON lines, in any order of files; - is standard input")
      ->required();
  app.add_flag("--json", as_json, "print one JSON object instead of a table");
  app.add_option("--send-timeout-ms", send_timeout_ms,
                 "how long a send may be on its way, where the history does not say")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--samples", options.samples, "texts printed of each anomaly")
      ->capture_default_str();
  app.add_flag("--without-final", options.without_final,
               "accept a history that was cut off, and say nothing about what is left");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  options.send_timeout = send_timeout_ms * 1000;
  History history;
  for (const std::string& file : files) {
    if (const int code = read_file(file, history); code != 0) return code;
  }
  const Verdict verdict = judge(history, options);
  std::cout << (as_json ? to_json(verdict) + "\n" : to_table(verdict));
  return verdict.ok() ? 0 : kBroken;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const BadRecord& error) {
    std::cerr << "outfall_history_check: " << error.what() << "\n";
  } catch (const BadHistory& error) {
    std::cerr << "outfall_history_check: " << error.what() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "outfall_history_check: " << error.what() << "\n";
    return 70;
  }
  return kBadData;
}
