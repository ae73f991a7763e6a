#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/faults/torture/run.h"

namespace outfall::torture {

// What the runs of one torture add up to.
class Report {
 public:
  void add(Result result);  // also says so on standard error
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

  std::vector<Result> results_;
};

// The anomalies of a run, as in "2 lost, 1 stuck"; empty: none.
[[nodiscard]] std::string anomalies_of(const Result& result);

}  // namespace outfall::torture
