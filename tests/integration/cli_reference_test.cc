// docs/reference/cli.md against the binary: every command and option that --help shows has its
// place there, and the page names no command that is not there.
//
// Boost.Regex, since g++ 12 warns about std::regex under sanitizers.

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <boost/regex.hpp>
#include <gmock/gmock.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

// What one --help shows.
struct Help {
  std::vector<std::string> commands;
  std::set<std::string> options;  // "--config", and positionals as "ENVELOPE_ID"
};

Help help_of(const std::vector<std::string>& path) {
  std::vector<std::string> command = {OUTFALL_BINARY};
  command.insert(command.end(), path.begin(), path.end());
  command.emplace_back("--help");
  const Finished finished = run(command);
  EXPECT_EQ(finished.status.code, 0) << finished.error_output;

  Help help;
  std::string section;
  std::istringstream lines(finished.output);
  for (std::string line; std::getline(lines, line);) {
    boost::smatch match;
    if (boost::regex_match(line, match, boost::regex("([A-Z][a-z]+):"))) section = match[1];
    if (!boost::regex_search(line, match, boost::regex("^  (\\S+)"))) continue;
    const std::string word = match[1];
    if (section == "Subcommands") help.commands.push_back(word);
    if (section == "Positionals") help.options.insert(word);
    if (section == "Options" && word.find("--") != std::string::npos) {
      help.options.insert(word.substr(word.find("--")));
    }
  }
  return help;
}

std::string joined(const std::vector<std::string>& path) {
  std::string text = "outfall";
  for (const std::string& part : path) text += " " + part;
  return text;
}

// The text below a heading, up to the next one.
std::string section_of(const std::string& page, const std::string& heading) {
  const std::string line = "\n## " + heading + "\n";
  const std::size_t begin = page.find(line);
  if (begin == std::string::npos) return {};
  const std::size_t start = begin + line.size();
  return page.substr(start, page.find("\n## ", start) - start);
}

void expect_documented(const std::string& page, const std::vector<std::string>& path,
                       std::set<std::string>& commands) {
  const Help help = help_of(path);
  for (const std::string& command : help.commands) {
    std::vector<std::string> below = path;
    below.push_back(command);
    expect_documented(page, below, commands);
  }
  // A command that only holds others has no section of its own.
  if (!help.commands.empty()) return;
  commands.insert(joined(path));
  const std::string section = section_of(page, "`" + joined(path) + "`");
  EXPECT_FALSE(section.empty()) << "cli.md has no heading ## `" << joined(path) << "`";
  const std::string shared = section_of(page, "Shared by every command");
  for (const std::string& option : help.options) {
    const boost::regex named("`[^`]*" + option + "\\b[^`]*`");
    EXPECT_TRUE(boost::regex_search(section, named) || boost::regex_search(shared, named))
        << "cli.md does not name " << option << " of `" << joined(path) << "`";
  }
}

TEST(CliReference, NamesEveryCommandAndOptionAndNoOther) {
  const std::string page = read_file(OUTFALL_CLI_REFERENCE);
  std::set<std::string> commands;
  expect_documented(page, {}, commands);
  EXPECT_THAT(commands, testing::Contains("outfall check-config"));

  const boost::regex heading("\n## `([^`]*)`");
  for (boost::sregex_iterator match(page.begin(), page.end(), heading), end; match != end;
       ++match) {
    EXPECT_TRUE(commands.contains((*match)[1]))
        << "cli.md describes a command that is not there: " << (*match)[1];
  }
}

// The pages that show commands: the README, docs/ and the runbooks.
std::vector<std::filesystem::path> documentation() {
  const std::filesystem::path root = OUTFALL_SOURCE_DIR;
  std::vector<std::filesystem::path> pages{root / "README.md"};
  for (const char* folder : {"docs", "ops/runbooks"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (entry.path().extension() == ".md") pages.push_back(entry.path());
    }
  }
  return pages;
}

// The words of a command line as a shell takes them: what is quoted is one, and it ends with a
// comment, a pipe or a redirection.
std::vector<std::string> words_of(const std::string& line) {
  const boost::regex word(R"re((#|\||\d?>).*|"([^"]*)"|([^\s"]+))re");
  std::vector<std::string> words;
  for (boost::sregex_iterator match(line.begin(), line.end(), word), end; match != end; ++match) {
    if ((*match)[1].matched) break;
    words.push_back((*match)[(*match)[2].matched ? 2 : 3]);
  }
  return words;
}

// The command lines of outfall in the code blocks of a page. A table that psql prints is none.
std::vector<std::string> command_lines_of(const std::string& page) {
  std::vector<std::string> found;
  std::istringstream lines(page);
  bool code = false;
  boost::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) code = !code;
    if (line.find("  |") != std::string::npos) continue;
    if (code && boost::regex_match(line, match, boost::regex(R"(\s*(?:\$ )?(outfall [a-z].*))")))
      found.push_back(match[1]);
  }
  return found;
}

// Without a configuration each ends at that, after its command line was understood.
TEST(CliReference, EveryCommandLineOfTheDocsIsUnderstood) {
  const std::map<std::string, std::string> placeholders{
      {"N", "1"}, {"ENVELOPE_ID", "01a1fd77-3731-71c4-b617-bb9798dca0b8"}};
  const TempFolder folder;
  std::ofstream(folder / "fixed.jsonl") << R"({"entry_id": 1, "payload": "{}"})";
  std::set<std::string> tried;
  for (const auto& file : documentation()) {
    for (const std::string& line : command_lines_of(read_file(file))) {
      if (!tried.insert(line).second) continue;
      std::vector<std::string> words = words_of(line);
      words[0] = OUTFALL_BINARY;
      for (std::string& word : words) {
        if (placeholders.contains(word)) word = placeholders.at(word);
        if (word == "fixed.jsonl") word = (folder / word).string();
      }
      const Finished finished =
          run(words, {.environment = {{"OUTFALL_CONFIG", "/nonexistent/outfall.toml"}}});
      EXPECT_NE(finished.status.code, 64) << file << ": " << line << "\n" << finished.error_output;
    }
  }
  EXPECT_GT(tried.size(), 30U);
}

}  // namespace
}  // namespace outfall::test
