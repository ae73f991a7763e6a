#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/faults/torture/result.h"

namespace outfall::torture {

// What the runs of one torture add up to. One thread.
class Report {
 public:
  // Whether a run that could not be tried fails the whole: on a machine that is there for tests it
  // must be possible.
  explicit Report(bool skips_fail) : skips_fail_(skips_fail) {}
  void add(Result result);  // also says so on standard error
  // Something is wrong that belongs to no run; also says so on standard error.
  void complain(std::string what);
  // From now on the results stand in this order, whichever came first.
  void order_as(const std::vector<Case>& cases);
  // Whether each run was played, each fault of it has struck, and nothing was found.
  [[nodiscard]] bool ok() const;
  // The table that docs/internals/faults.md shows.
  [[nodiscard]] std::string table() const;
  void write_json(const std::filesystem::path& file, std::uint64_t seed) const;
  [[nodiscard]] const std::vector<Result>& results() const { return results_; }

 private:
  struct Line {
    int runs = 0;
    int injected = 0;
    std::size_t entries = 0;
    std::size_t lost = 0;
    std::size_t explained = 0;
    std::size_t unexplained = 0;
    std::size_t order = 0;   // reorder and gap
    std::size_t others = 0;  // anomalies of other names, and runs that could not be played
    std::int64_t recovery_us = 0;
    void add(const Result& result);
  };
  [[nodiscard]] std::map<std::string, Line> lines() const;  // by kind, pairs under "pairs"
  [[nodiscard]] Line total() const;

  const bool skips_fail_;
  std::vector<Result> results_;
  std::vector<std::string> problems_;
};

// What is wrong with a run, as in "2 lost, 1 stuck"; empty: nothing.
[[nodiscard]] std::string anomalies_of(const Result& result);

}  // namespace outfall::torture
