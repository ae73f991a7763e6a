// Secrets by file, and that none of them gets into a message or a print.

#include <gmock/gmock.h>

#include "config/print.h"
#include "tests/unit/config_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

constexpr std::string_view kRest =
    "[emitters.log]\nkind = \"plain\"\n[streams.orders]\nemitter = \"log\"\n";

class ConfigSecrets : public ConfigFixture {};

TEST_F(ConfigSecrets, AFileIsReadFromBesideTheConfigurationWithoutItsLastLineBreak) {
  folder_.write("url", "postgresql://u:s3cret@h/d\n");
  write("[database]\nurl_file = \"url\"\n");
  const auto config = load();
  EXPECT_EQ(config->database().text("url"), "postgresql://u:s3cret@h/d");
  EXPECT_EQ(config->database().origin("url").to_string(), file_ + ":2:12");
}

TEST_F(ConfigSecrets, OnlyOneLineBreakIsTaken) {
  folder_.write("token", "abc\n\n");
  write("[database]\nurl = \"postgresql:///d\"\n[admin]\ntoken_file = \"token\"\n");
  EXPECT_THAT(problems(), ElementsAre(HasSubstr("admin.token: cannot be sent in an HTTP header")));
  folder_.write("token", "0123456789abcdef\r\n");
  EXPECT_EQ(load()->admin().text("token"), "0123456789abcdef");
  folder_.write("token", "0123456789abcde\n");
  EXPECT_THAT(problems(), ElementsAre(HasSubstr("admin.token: is too short")));
}

TEST_F(ConfigSecrets, AVariableCanNameTheFileAndWinsOverTheConfiguration) {
  const std::string path = folder_.write("elsewhere", "postgresql:///other\n");
  write("[database]\nurl = \"postgresql:///shop\"\n");
  const auto config = load({{"OUTFALL_DATABASE__URL_FILE", path}});
  EXPECT_EQ(config->database().text("url"), "postgresql:///other");
  EXPECT_EQ(config->database().origin("url").to_string(), "OUTFALL_DATABASE__URL_FILE");
}

TEST_F(ConfigSecrets, AFileThatCannotBeReadIsNamed) {
  write("[database]\nurl_file = \"/no/such/file\"\n[admin]\ntoken_file = 3\n");
  EXPECT_THAT(
      problems(),
      ElementsAre(
          "2:12: database.url_file: the file \"/no/such/file\" cannot be read: No such file "
          "or directory | name a file that outfall's user may read",
          "4:14: admin.token_file: expected the name of a file, got an integer | write the "
          "name in double quotes"));
}

TEST_F(ConfigSecrets, AnEmptyFileIsRefused) {
  folder_.write("url", "\n");
  write("[database]\nurl_file = \"url\"\n");
  EXPECT_THAT(problems(),
              ElementsAre("2:12: database.url: is empty | give it a value, or leave it out"));
}

// It passed for "no keys", so that a key file that was cut off or not yet there left requests
// unsigned.
TEST_F(ConfigSecrets, AListOfKeysThatHoldsNoneIsRefused) {
  folder_.write("keys", "\n\n");
  const std::string probe = "[emitters.p]\nkind = \"probe\"\n";
  const auto is_empty = testing::Contains(HasSubstr("emitters.p.keys: is empty"));
  write(probe + "keys_file = \"keys\"\n");
  EXPECT_THAT(problems(), is_empty);
  write(probe + "keys = []\n");
  EXPECT_THAT(problems(), is_empty);
  write(probe);
  EXPECT_THAT(problems({{"OUTFALL_EMITTERS__P__KEYS", ""}}), is_empty);
  EXPECT_THAT(problems(), Not(is_empty));
}

TEST_F(ConfigSecrets, BothFormsContradictEachOther) {
  folder_.write("url", "postgresql:///d");
  write("[database]\nurl = \"postgresql:///d\"\nurl_file = \"url\"\n");
  EXPECT_THAT(
      problems(),
      ElementsAre("3:12: database.url: both url and url_file are set | keep one of the two"));
  write("[log]\n");
  EXPECT_THAT(
      problems(
          {{"OUTFALL_DATABASE__URL", "postgresql:///d"}, {"OUTFALL_DATABASE__URL_FILE", "url"}}),
      ElementsAre("OUTFALL_DATABASE__URL_FILE: database.url: both url and url_file are set | "
                  "keep one of the two"));
}

TEST_F(ConfigSecrets, ListsAndMapsHaveOneItemALine) {
  folder_.write("keys", "whsec_new\nwhsec_old\n");
  folder_.write("logins", "sasl.username = shop\nsasl.password=a=b\n");
  write(std::string(kLeast) +
        "[emitters.p]\nkind = \"probe\"\nkeys_file = \"keys\"\nlogins_file = \"logins\"\n");
  const auto config = load();
  const SettingValues& probe = config->emitters().at("p").settings;
  EXPECT_THAT(probe.list("keys"), ElementsAre("whsec_new", "whsec_old"));
  EXPECT_THAT(probe.map("logins"),
              ElementsAre(Pair("sasl.password", "a=b"), Pair("sasl.username", "shop")));
  EXPECT_THAT(print_toml(*config), Not(HasSubstr("whsec_")));
  EXPECT_THAT(print_toml(*config), HasSubstr("keys = \"***\""));
  EXPECT_THAT(print_toml(*config),
              HasSubstr("logins = {\"sasl.password\" = \"***\", \"sasl.username\" = \"***\"}"));
}

// Each of these is wrong in some way and holds "s3cret", which no message may show.
TEST_F(ConfigSecrets, NoMessageShowsASecret) {
  folder_.write("broken", "s3cret");
  for (const std::string toml :
       {"[database]\nurl = s3cret\n", "[database]\nurl = \"s3cret\n",
        "[database]\nurl = [\"s3cret\"]\n", "[database]\nurl = \"host=h password=a s3cret x=y\"\n",
        "[database]\nurl = \"mysql://u:s3cret@h/d\"\n", "[admin]\ntoken = \"s3cret s3cret\"\n",
        "[admin]\ntoken = 's3cret\n", "[emitters.p]\nkind = \"probe\"\nlogins = \"s3cret\"\n",
        "[emitters.p]\nkind = \"probe\"\nlogins_file = \"broken\"\n",
        "[emitters.p]\nkind = \"probe\"\nkeys = [\"s3cret\", 3]\n",
        "[emitters.p]\nkind = \"probe\"\nlink = [\"s3cret\"]\n",
        "[emitters.p]\nkind = \"probe\"\nlink = \"s3cret\"\nlink_file = \"broken\"\n"}) {
    write(toml);
    const auto found = problems();
    EXPECT_THAT(found, Not(testing::IsEmpty())) << toml;
    EXPECT_THAT(found, Not(testing::Contains(HasSubstr("s3cret")))) << toml;
  }
  write(kRest);
  EXPECT_THAT(problems({{"OUTFALL_DATABASE__URL", "s3cret"},
                        {"OUTFALL_ADMIN__TOKEN", "s3cret s3cret"},
                        {"OUTFALL_EMITTERS__P__KIND", "probe"},
                        {"OUTFALL_EMITTERS__P__LOGINS", "s3cret"}}),
              testing::AllOf(testing::SizeIs(3), Not(testing::Contains(HasSubstr("s3cret")))));
}

}  // namespace
}  // namespace outfall::test
