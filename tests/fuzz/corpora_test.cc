// Runs every input of the corpora through its target, so that what a fuzzer once found stays found
// in every build, also without clang.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpora = fs::path(OUTFALL_SOURCE_FOLDER) / "tests/fuzz/corpora";
// Below it nobody could say what a folder of inputs is there for.
constexpr std::size_t kFewestInputs = 5;

class FuzzCorpora : public testing::TestWithParam<Target> {};

TEST_P(FuzzCorpora, HoldNoFinding) {
  const Target& target = GetParam();
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(kCorpora / target.name)) {
    files.insert(entry.path());
  }
  EXPECT_GE(files.size(), kFewestInputs);
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.filename().string());
    std::ifstream stream(file, std::ios::binary);
    ASSERT_TRUE(stream);
    const std::string input{std::istreambuf_iterator<char>(stream), {}};
    try {
      target.run(input);
    } catch (const std::exception& finding) {
      ADD_FAILURE() << finding.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzCorpora,
                         testing::ValuesIn(targets().begin(), targets().end()),
                         [](const auto& target) { return std::string(target.param.name); });

TEST(FuzzCorporaFolder, HoldsNoFolderWithoutATarget) {
  for (const auto& entry : fs::directory_iterator(kCorpora)) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(std::ranges::any_of(targets(), [&](const Target& t) { return t.name == name; }))
        << name;
  }
}

}  // namespace
}  // namespace outfall::fuzz
