#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "config/loader.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {

// A folder with an outfall.toml, and a registry with two kinds of emitter made for these tests:
// `plain` without settings, and `probe` with one of each type and a rule of its own.
class ConfigFixture : public testing::Test {
 protected:
  using Environment = std::map<std::string, std::string>;

  ConfigFixture();

  void write(std::string_view toml) { file_ = folder_.write("outfall.toml", toml); }
  [[nodiscard]] ConfigLoader loader(Environment environment = {}) const;
  [[nodiscard]] std::shared_ptr<const Config> load(Environment environment = {}) const;

  // What is wrong, each as "line:column setting: message | hint" or "VARIABLE setting: …".
  [[nodiscard]] std::vector<std::string> problems(Environment environment = {}) const;
  [[nodiscard]] std::vector<std::string> shown(const ConfigProblems& problems) const;

  TempFolder folder_;
  std::string file_;  // empty until write()
  EmitterRegistry registry_;
};

// The least that is valid, in lines 1 to 6; what a test appends begins in line 7.
inline constexpr std::string_view kLeast =
    "[database]\n"
    "url = \"postgresql://shop:s3cret@localhost/shop\"\n"
    "[emitters.log]\n"
    "kind = \"plain\"\n"
    "[streams.orders]\n"
    "emitter = \"log\"\n";

}  // namespace outfall::test
