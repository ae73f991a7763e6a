// Goal: the page about faults tells the truth about where each one is tried.
// Method: docs/internals/faults.md against the kinds of the torture and the sources of the tests.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/faults/torture/plan.h"

namespace outfall::torture {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  EXPECT_TRUE(in) << file;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> rows_of(const std::string& heading) {
  const fs::path file = fs::path(OUTFALL_SOURCE_FOLDER) / "docs/internals/faults.md";
  std::istringstream lines(text_of(file));
  std::vector<std::string> rows;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## ")) inside = line == "## " + heading;
    if (inside && line.starts_with("| ")) rows.push_back(line);
  }
  return rows;
}

// What stands between backquotes.
std::vector<std::string> quoted(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream parts(text);
  bool inside = false;
  for (std::string part; std::getline(parts, part, '`'); inside = !inside) {
    if (inside) names.push_back(part);
  }
  return names;
}

// Every test of the tree, as "Suite.Name".
std::set<std::string> tests_of_the_tree() {
  std::set<std::string> tests;
  for (const auto& file :
       fs::recursive_directory_iterator(fs::path(OUTFALL_SOURCE_FOLDER) / "tests")) {
    if (!file.path().string().ends_with("_test.cc")) continue;
    const std::string text = text_of(file.path());
    for (std::size_t at = text.find("\nTEST"); at != std::string::npos;
         at = text.find("\nTEST", at + 1)) {
      std::string name = text.substr(text.find('(', at) + 1);
      name.resize(std::min(name.find(')'), name.size()));
      std::erase_if(name, [](unsigned char c) { return std::isspace(c) != 0; });
      std::replace(name.begin(), name.end(), ',', '.');
      tests.insert(name);
    }
  }
  return tests;
}

TEST(TortureDocs, EachRowOfTheMatrixIsTriedSomewhereAndWhatItNamesExists) {
  const std::set<std::string> tests = tests_of_the_tree();
  EXPECT_GT(tests.size(), 500u);
  std::set<std::string> tried;
  std::set<std::string> numbers;
  for (const std::string& row : rows_of("The matrix: what is tried, and where")) {
    const std::vector<std::string> names = quoted(row);
    const std::string number = row.substr(2, row.find(' ', 2) - 2);
    if (number.starts_with("F") && !names.empty()) numbers.insert(number);
    for (const std::string& name : names) {
      if (name.find('.') == std::string::npos) {
        tried.insert(name);
      } else {
        EXPECT_TRUE(tests.contains(name)) << name << " is no test";
      }
    }
  }
  for (int i = 1; i <= 26; ++i)
    EXPECT_TRUE(numbers.contains("F" + std::to_string(i))) << "F" << i << " has no row";
  std::set<std::string> kinds;
  for (const FaultKind& kind : fault_kinds()) kinds.insert(kind.name);
  EXPECT_EQ(tried, kinds);
}

// The steps in a text like "at S0 to S8; …" or "at S3, S4, ".
std::vector<std::string> steps_in(const std::string& text) {
  const std::string part = text.substr(0, text.find(';'));
  if (part.find("S0 to S8") != std::string::npos) return fault_kind("F1-sigkill").steps;
  std::vector<std::string> steps;
  for (std::size_t at = part.find('S'); at != std::string::npos; at = part.find('S', at + 1))
    steps.push_back(part.substr(at, 2));
  return steps;
}

TEST(TortureDocs, TheStepsOfTheMatrixAreThoseThatThePlanPlays) {
  for (const std::string& row : rows_of("The matrix: what is tried, and where")) {
    for (const FaultKind& kind : fault_kinds()) {
      const std::string name = "`" + kind.name + "`";
      const std::size_t at = row.find(name);
      if (at == std::string::npos) continue;
      const std::size_t begin = at + name.size();
      EXPECT_EQ(steps_in(row.substr(begin, row.find('`', begin) - begin)), kind.steps) << kind.name;
    }
  }
}

TEST(TortureDocs, EachFaultOfTheTortureIsDescribed) {
  std::set<std::string> described;
  for (const std::string& row : rows_of("The torture: every fault, under load")) {
    if (row.starts_with("| `")) described.insert(quoted(row).front());
  }
  for (const FaultKind& kind : fault_kinds())
    EXPECT_TRUE(described.contains(kind.name)) << kind.name;
}

}  // namespace
}  // namespace outfall::torture
