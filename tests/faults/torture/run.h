#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "tests/faults/torture/broken.h"
#include "tests/faults/torture/database.h"
#include "tests/faults/torture/plan.h"
#include "tests/faults/torture/result.h"
#include "tests/support/temp_kafka.h"

namespace outfall::torture {

struct Settings {
  std::string outfall;         // the binary under test
  std::string source_folder;   // of the repository
  std::filesystem::path keep;  // where runs with an anomaly leave what they wrote
  bool judge_times = false;    // too late a recovery is an anomaly, and a delay elsewhere
  const Broken* broken = nullptr;
};

// Plays runs one after the other and judges them. What servers can be used again are kept from one
// to the next. One thread.
class Runner {
 public:
  explicit Runner(Settings settings);
  ~Runner();
  [[nodiscard]] Result play(const Case& of);

 private:
  class Run;
  [[nodiscard]] Servers& servers(const Plan& plan);
  [[nodiscard]] test::TempKafka& kafka();

  const Settings settings_;
  std::unique_ptr<Servers> plain_;
  std::unique_ptr<Servers> with_standbys_;  // of one run
  std::unique_ptr<test::TempKafka> kafka_;
  int runs_ = 0;
};

}  // namespace outfall::torture
