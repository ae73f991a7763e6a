// The binary as its users start it: exit codes, what goes to which output, where the configuration
// is found. Commands that need no database.

#include <algorithm>
#include <sstream>

#include <boost/json.hpp>
#include <gmock/gmock.h>

#include "tests/support/child_process.h"
#include "tests/support/sanitizers.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view kValid =
    "[database]\nurl = \"postgresql://shop:s3cret@localhost/shop\"\n[streams.orders]\n"
    "emitter = \"log\"\n[emitters.log]\nkind = \"stdout\"\n";

class Cli : public testing::Test {
 protected:
  // In a folder of its own, with no outfall.toml unless the test writes one.
  [[nodiscard]] Finished outfall(std::vector<std::string> arguments,
                                 std::map<std::string, std::string> environment = {}) const {
    arguments.insert(arguments.begin(), OUTFALL_BINARY);
    return run(std::move(arguments),
               {.environment = std::move(environment), .working_folder = folder_.path()});
  }

  static boost::json::value parsed(const std::string& line) {
    EXPECT_THAT(line, EndsWith("\n"));
    EXPECT_EQ(std::ranges::count(line, '\n'), 1) << line;
    return boost::json::parse(line);
  }

  TempFolder folder_;
};

#define EXPECT_CODE(finished, expected) \
  EXPECT_EQ((finished).status.code, expected) << (finished).output << (finished).error_output

TEST_F(Cli, AValidConfigurationIsSaidToBeValid) {
  folder_.write("outfall.toml", kValid);
  const Finished text = outfall({"check-config"});
  EXPECT_CODE(text, 0);
  EXPECT_EQ(text.output, "outfall.toml is valid: 1 stream, 1 emitter\n");
  EXPECT_THAT(text.error_output, IsEmpty());

  const Finished json = outfall({"check-config", "--json"});
  EXPECT_CODE(json, 0);
  EXPECT_EQ(parsed(json.output), boost::json::parse(R"({"valid": true, "file": "outfall.toml",
      "streams": 1, "emitters": 1, "notes": []})"));
}

TEST_F(Cli, AnEmitterWithoutAStreamIsNoted) {
  folder_.write("outfall.toml", std::string(kValid) + "[emitters.spare]\nkind = \"noop\"\n");
  EXPECT_THAT(outfall({"check-config"}).output,
              HasSubstr("note: no stream uses the emitter spare\n"));
}

// `run` starts, and waits for it: a mount that comes late must not stop the other streams.
TEST_F(Cli, AProgramThatIsNotThereIsNoted) {
  const std::string exec = std::string(kValid) +
                           "[streams.mail]\nemitter = \"mail\"\n[emitters.mail]\nkind = \"exec\"\n";
  folder_.write("outfall.toml", exec + "command = [\"./deliver\"]\n");
  const Finished missing = outfall({"check-config"});
  EXPECT_CODE(missing, 0);
  EXPECT_THAT(missing.output,
              HasSubstr("note: emitters.mail: command ./deliver: No such file or directory; "));
  folder_.write("outfall.toml",
                exec + "command = [\"sh\"]\nworking_directory = \"/no/such/folder\"\n");
  const Finished nowhere = outfall({"check-config", "--json"});
  EXPECT_CODE(nowhere, 0);
  EXPECT_THAT(
      std::string(parsed(nowhere.output).at("notes").at(0).as_string()),
      StartsWith("emitters.mail: working_directory /no/such/folder: No such file or directory; "));
  folder_.write("outfall.toml", exec + "command = [\"sh\"]\n");
  EXPECT_THAT(outfall({"check-config"}).output, Not(HasSubstr("note: ")));
}

TEST_F(Cli, EveryProblemIsToldWithItsPlaceAndAHint) {
  folder_.write("outfall.toml", std::string(kValid) + "kid = 1\n[drain]\nlease = 30\n");
  const Finished text = outfall({"check-config"});
  EXPECT_CODE(text, 78);
  EXPECT_THAT(text.output, IsEmpty());
  EXPECT_EQ(text.error_output,
            "outfall: outfall.toml:7:1: emitters.log.kid: there is no such setting\n"
            "  hint: did you mean kind?\n"
            "outfall: outfall.toml:9:9: drain.lease: expected a duration such as \"30s\", got an "
            "integer\n"
            "  hint: write a whole number and one unit of ms, s, m, h or d, in double quotes\n");

  const Finished json = outfall({"--json", "check-config"});
  EXPECT_CODE(json, 78);
  EXPECT_THAT(json.output, IsEmpty());
  const boost::json::value document = parsed(json.error_output);
  const auto& error = document.at("error");
  EXPECT_EQ(error.at("code"), "configuration");
  EXPECT_EQ(error.at("exit_code"), 78);
  EXPECT_EQ(error.at("message"), "the configuration has 2 problems");
  EXPECT_EQ(error.at("problems").at(0), boost::json::parse(R"({
      "setting": "emitters.log.kid", "message": "there is no such setting",
      "hint": "did you mean kind?", "file": "outfall.toml", "line": 7, "column": 1})"));
}

TEST_F(Cli, TheConfigurationIsFoundByOptionThenVariableThenFolder) {
  const std::string by_option = folder_.write("option.toml", kValid);
  const std::string by_variable = folder_.write("variable.toml", kValid);
  folder_.write("outfall.toml", kValid);
  const std::map<std::string, std::string> variable = {{"OUTFALL_CONFIG", by_variable}};
  EXPECT_THAT(outfall({"check-config", "--config", by_option}, variable).output,
              StartsWith(by_option));
  EXPECT_THAT(outfall({"--config", by_option, "check-config"}, variable).output,
              StartsWith(by_option));
  EXPECT_THAT(outfall({"check-config"}, variable).output, StartsWith(by_variable));
  EXPECT_THAT(outfall({"check-config"}).output, StartsWith("outfall.toml"));
}

TEST_F(Cli, AFileThatWasNamedAndIsNotThereIsAnError) {
  folder_.write("outfall.toml", kValid);
  const Finished finished = outfall({"check-config", "--config", "other.toml"});
  EXPECT_CODE(finished, 78);
  EXPECT_THAT(finished.error_output,
              StartsWith("outfall: other.toml: cannot be read: No such file or directory\n"));
}

TEST_F(Cli, TheEnvironmentAloneCanConfigure) {
  const Finished finished = outfall({"check-config"}, {{"OUTFALL_DATABASE__URL", "postgresql:///s"},
                                                       {"OUTFALL_STREAMS__ORDERS__EMITTER", "log"},
                                                       {"OUTFALL_EMITTERS__LOG__KIND", "stdout"}});
  EXPECT_CODE(finished, 0);
  EXPECT_EQ(finished.output, "the environment is valid: 1 stream, 1 emitter\n");
}

TEST_F(Cli, AVariableThatNothingReadsIsNoted) {
  folder_.write("outfall.toml", kValid);
  const Finished noted = outfall({"check-config"}, {{"OUTFALL_ACTR", "anna"}});
  EXPECT_CODE(noted, 0);
  EXPECT_THAT(noted.output, HasSubstr("\nnote: nothing reads the variable OUTFALL_ACTR (did you "
                                      "mean OUTFALL_ACTOR?)\n"));
  EXPECT_CODE(outfall({"check-config"}, {{"OUTFALL_LOGLEVEL", "debug"}}), 78);
}

TEST_F(Cli, ADatabaseThatCouldNeverBeReachedIsAProblemOfTheConfiguration) {
  for (const char* url : {"postgresql://x:99999999/y", "postgresql://u:s3cret@x/y?foo=bar",
                          "postgresql://u:s3cret@x/y?sslmod=require"}) {
    const Finished finished = outfall({"check-config"}, {{"OUTFALL_DATABASE__URL", url},
                                                         {"OUTFALL_STREAMS__S__EMITTER", "log"},
                                                         {"OUTFALL_EMITTERS__LOG__KIND", "noop"}});
    EXPECT_CODE(finished, 78);
    EXPECT_THAT(finished.error_output,
                StartsWith("outfall: OUTFALL_DATABASE__URL: database.url: has a p"));
    EXPECT_THAT(finished.error_output, testing::Not(HasSubstr("s3cret")));
  }
}

// Whoever checks first and whoever starts at once are told the same, in the same words.
TEST_F(Cli, RunAndCheckConfigTellTheSameOfAMistake) {
  const std::string valid(kValid);
  for (const std::string& toml : std::vector<std::string>{
           "[database]\nurl = \"postgresql:///shop\"\n",
           valid + "[drain]\nlease = \"30 seconds\"\nbatch_size = 3\n",
           valid + "path = 3\nfsync = \"yes\"\n", valid + "[streams.mails]\nemitter = \"smtp\"\n",
           valid + "[streams.Mails]\nemitter = \"log\"\n",
           valid + "[emitters.hook]\nkind = \"webhok\"\n",
           valid + "[emitters.hook]\nkind = \"webhook\"\nurl = \"ftp://x\"\nca_file = \"/no/ca\"\n"
                   "timeout = 5\n[emitters.hook.status]\n\"404\" = \"lost\"\n",
           valid + "[emitters.k]\nkind = \"kafka\"\nbrokers = \"x:1\"\ntopic = \"a b\"\n"
                   "tls = {ca_file = \"/no/ca.pem\"}\n[emitters.k.librdkafka]\nacks = \"1\"\nx = "
                   "\"y\"\n",
           valid + "[emitters.e]\nkind = \"exec\"\ncommand = []\nrestart.max = \"1ms\"\n",
           valid + "[emitters.n]\nkind = \"noop\"\nfail = {lost = \"2\"}\n",
           valid + "ordering = \n",
           valid + "[admin]\nlisten = \"9464\"\ntoken_file = \"/no/token\"\n"}) {
    folder_.write("outfall.toml", toml);
    for (const char* json : {"", "--json"}) {
      const std::vector<std::string> more(*json == '\0' ? 0 : 1, json);
      std::vector<std::string> check = {"check-config"}, start = {"run"};
      check.insert(check.end(), more.begin(), more.end());
      start.insert(start.end(), more.begin(), more.end());
      const Finished checked = outfall(check);
      const Finished started = outfall(start);
      EXPECT_CODE(checked, 78);
      EXPECT_CODE(started, 78);
      EXPECT_EQ(checked.error_output, started.error_output);
    }
  }
}

TEST_F(Cli, ThatThereIsNoStreamIsToldWithTheRest) {
  folder_.write("outfall.toml", "[drain]\nlease = \"30s\"\n");
  const Finished checked = outfall({"check-config"});
  EXPECT_CODE(checked, 78);
  EXPECT_THAT(checked.error_output,
              testing::AllOf(HasSubstr("database.url: is required"),
                             HasSubstr("streams: there is no stream to serve")));
  EXPECT_THAT(outfall({"migrate"}).error_output, Not(HasSubstr("there is no stream")));
}

TEST_F(Cli, NoConfigurationAtAllSaysWhatToDo) {
  const Finished finished = outfall({"check-config"});
  EXPECT_CODE(finished, 78);
  EXPECT_THAT(finished.error_output, StartsWith("outfall: there is no configuration\n  hint: "));
}

TEST_F(Cli, AVariableWithOneUnderscoreTooFewIsReportedWithoutAFileToo) {
  const Finished finished = outfall({"run"}, {{"OUTFALL_DATABASE_URL", "postgresql:///shop"}});
  EXPECT_CODE(finished, 78);
  EXPECT_THAT(finished.error_output,
              StartsWith("outfall: OUTFALL_DATABASE_URL: is not a setting\n  hint: levels are "
                         "separated by two underscores: did you mean OUTFALL_DATABASE__URL?\n"
                         "outfall: there is no configuration\n"));
}

TEST_F(Cli, AConfigurationWithoutAStreamWouldNotRun) {
  folder_.write("outfall.toml", "[database]\nurl = \"postgresql:///shop\"\n");
  const Finished finished = outfall({"check-config"});
  EXPECT_CODE(finished, 78);
  EXPECT_EQ(finished.error_output,
            "outfall: outfall.toml: streams: there is no stream to serve\n"
            "  hint: add a table [streams.NAME] with the emitter that delivers it\n");
}

TEST_F(Cli, PrintConfigShowsValuesAndOriginsAndNoSecret) {
  folder_.write("outfall.toml", kValid);
  const Finished text = outfall({"print-config"}, {{"OUTFALL_ADMIN__TOKEN", "t0ken-t0ken-t0ken"}});
  EXPECT_CODE(text, 0);
  EXPECT_THAT(text.output, HasSubstr("url = \"postgresql://shop:***@localhost/shop\""));
  EXPECT_THAT(text.output, HasSubstr("# OUTFALL_ADMIN__TOKEN\n"));
  EXPECT_THAT(text.output, Not(HasSubstr("s3cret")));
  EXPECT_THAT(text.output, Not(HasSubstr("t0ken-t0ken-t0ken")));

  const Finished json =
      outfall({"print-config", "--json"}, {{"OUTFALL_ADMIN__TOKEN", "t0ken-t0ken-t0ken"}});
  EXPECT_CODE(json, 0);
  const boost::json::value document = parsed(json.output);
  EXPECT_EQ(document.at("file"), "outfall.toml");
  EXPECT_EQ(document.at("settings").at(0), boost::json::parse(R"({
      "table": "database", "name": "url", "value": "postgresql://shop:***@localhost/shop",
      "origin": "outfall.toml:2:7"})"));
  EXPECT_THAT(json.output, Not(HasSubstr("t0ken-t0ken-t0ken")));
}

TEST_F(Cli, PrintConfigShowsNoPasswordOfAProxy) {
  const std::string sent =
      "[database]\nurl = \"postgresql:///shop\"\n[streams.orders]\nemitter = \"hook\"\n"
      "[emitters.hook]\nkind = \"webhook\"\nurl = \"https://a.example/\"\n";
  folder_.write("proxy", "http://shop:s3cret@proxy.example:3128\n");
  for (const std::string proxy :
       {"proxy = \"http://shop:s3cret@proxy.example:3128\"\n", "proxy_file = \"proxy\"\n"}) {
    folder_.write("outfall.toml", sent + proxy);
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"print-config"}, {"print-config", "--json"}}) {
      const Finished printed = outfall(command);
      EXPECT_CODE(printed, 0);
      EXPECT_THAT(printed.output, HasSubstr("proxy"));
      EXPECT_THAT(printed.output, Not(HasSubstr("s3cret")));
    }
  }
}

TEST_F(Cli, TheHelpOfRunHasEverySettingOfTheReference) {
  const std::string help = outfall({"run", "--help"}).output;
  std::istringstream reference(outfall({"config-reference"}).output);
  std::string table;
  int settings = 0;
  for (std::string line; std::getline(reference, line);) {
    if (line.starts_with("## [")) table = line.substr(3);
    if (!line.starts_with("### `")) continue;
    ++settings;
    // "### `streams.NAME.emitter`" below "## [streams.NAME]"
    const std::string name = line.substr(5, line.size() - 6).substr(table.size() - 1);
    const std::string below = help.substr(std::min(help.find("  " + table + "\n"), help.size()));
    EXPECT_THAT(below.substr(0, below.find("\n  [", 1)) + "\n",
                testing::AnyOf(HasSubstr("\n    " + name + "\n"), HasSubstr("\n    " + name + " ")))
        << table;
  }
  EXPECT_GT(settings, 40);
  EXPECT_THAT(help, HasSubstr("\n    max_in_flight = 8000\n"));
}

TEST_F(Cli, MistakesOnTheCommandLineEndWith64) {
  struct Mistake {
    std::vector<std::string> arguments;
    std::string error;
  };
  const std::vector<Mistake> mistakes = {
      {{}, "outfall: `outfall` needs a command\n  hint: see `outfall --help`\n"},
      {{"check-confg"},
       "outfall: `outfall` does not take the argument `check-confg`\n  hint: did you mean "
       "`check-config`?\n"},
      {{"version", "--jsn"},
       "outfall: `outfall version` does not take the argument `--jsn`\n  hint: did you mean "
       "`--json`?\n"},
      {{"version", "now"},
       "outfall: `outfall version` does not take the argument `now`\n  hint: see `outfall version "
       "--help`\n"},
      {{"config-reference", "--emitter", "carrier-pigeon"},
       "outfall: there is no kind of emitter \"carrier-pigeon\"\n  hint: the kinds are "},
  };
  for (const auto& [arguments, error] : mistakes) {
    const Finished finished = outfall(arguments);
    EXPECT_CODE(finished, 64);
    EXPECT_THAT(finished.error_output, StartsWith(error));
    EXPECT_THAT(finished.output, IsEmpty());
  }
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"config-reference", "--format", "pdf"}, {"check-config", "--config"}}) {
    const Finished finished = outfall(arguments);
    EXPECT_CODE(finished, 64);
    EXPECT_THAT(finished.error_output, StartsWith("outfall: --"));
  }
}

TEST_F(Cli, AUsageErrorIsAnObjectWhereJsonWasAskedFor) {
  const Finished finished = outfall({"version", "now", "--json"});
  EXPECT_CODE(finished, 64);
  const boost::json::value document = parsed(finished.error_output);
  EXPECT_EQ(document.at("error").at("code"), "usage");
  EXPECT_EQ(document.at("error").at("exit_code"), 64);
}

TEST_F(Cli, VersionTellsWhatItIs) {
  EXPECT_THAT(outfall({"version"}).output, StartsWith("outfall "));
  EXPECT_THAT(outfall({"--version"}).output, StartsWith("outfall "));
  const Finished json = outfall({"version", "--json"});
  EXPECT_CODE(json, 0);
  const boost::json::value document = parsed(json.output);
  for (const std::string_view field : {"version", "commit", "compiler", "build_type"}) {
    EXPECT_FALSE(document.at(field).as_string().empty()) << field;
  }
  const auto& emitters = document.at("emitters").as_array();
  EXPECT_NE(std::ranges::find(emitters, boost::json::value("stdout")), emitters.end());
}

TEST_F(Cli, AResultThatCannotBeWrittenIsAnErrorUnlessTheReaderHasGone) {
  const auto shell = [&](const std::string& script) {
    return run({"bash", "-c", script, OUTFALL_BINARY}, {.working_folder = folder_.path()});
  };
  const Finished full = shell("\"$0\" config-reference >/dev/full");
  EXPECT_CODE(full, 70);
  EXPECT_THAT(full.error_output, StartsWith("outfall: the result cannot be written"));

  // The pipe is closed before outfall starts, so that every write meets a reader that has gone.
  const Finished gone = shell("exec 3> >(exec <&-); wait $!; \"$0\" config-reference >&3");
  EXPECT_CODE(gone, 0);
  EXPECT_THAT(gone.error_output, IsEmpty());
}

// Its supervisor tries again after 75, and not after 78: it used to stay down.
TEST_F(Cli, AWorkerThatIsRefusedItsThreadsIsToBeStartedAgain) {
  if (kAddressSanitizer || kThreadSanitizer) {
    GTEST_SKIP() << "a sanitizer needs more address space than the test leaves";
  }
  folder_.write(
      "outfall.toml",
      "[database]\nurl = \"postgresql://shop@127.0.0.1:1/shop\"\n[admin]\nenabled = false\n"
      "[streams.orders]\nemitter = \"topic\"\n[emitters.topic]\nkind = \"kafka\"\n"
      "brokers = \"127.0.0.1:1\"\ntopic = \"orders\"\n");
  // A thread's stack is as large as the limit says, and does not fit.
  const Finished finished =
      run({"prlimit", "--stack=68719476736", "--as=34359738368", OUTFALL_BINARY, "run"},
          {.working_folder = folder_.path()});
  EXPECT_CODE(finished, 75);
  EXPECT_THAT(finished.error_output, HasSubstr("emitters.topic: "));
  EXPECT_THAT(finished.error_output, HasSubstr("TasksMax"));
}

}  // namespace
}  // namespace outfall::test
