// docs/reference/cli.md against the binary: every command and option that --help shows has its
// place there, and the page names no command that is not there.
//
// Boost.Regex, since g++ 12 warns about std::regex under sanitizers.

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

}  // namespace
}  // namespace outfall::test
