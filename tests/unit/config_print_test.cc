// print-config: what it shows, that it is TOML again, and that secrets stay out of it.

#include <gmock/gmock.h>

#include "config/check.h"
#include "config/print.h"
#include "tests/unit/config_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class ConfigPrint : public ConfigFixture {};

TEST_F(ConfigPrint, ShowsEverySettingWithItsOriginAndNoSecret) {
  write(std::string(kLeast) +
        "[admin]\ntoken = \"t0ken-t0ken-t0ken\"\n[emitters.\"a.b\"]\nkind = \"probe\"\nkeys = "
        "[\"whsec_1\"]\n"
        "extra = {acks = \"all\", \"sasl.password\" = \"hidden\"}\nlabel = \"a\\\"b\\n\"\n");
  const std::string text = print_toml(*load({{"OUTFALL_DRAIN__LEASE", "60s"}}));
  EXPECT_THAT(text, HasSubstr("url = \"postgresql://shop:***@localhost/shop\" "));
  EXPECT_THAT(text, HasSubstr("# " + file_ + ":2:7\n"));
  EXPECT_THAT(text, HasSubstr("token = \"***\""));
  EXPECT_THAT(text, HasSubstr("lease = \"1m\" "));
  EXPECT_THAT(text, HasSubstr("# OUTFALL_DRAIN__LEASE\n"));
  EXPECT_THAT(text, HasSubstr("[streams.orders]\nemitter = \"log\""));
  EXPECT_THAT(text, HasSubstr("[emitters.\"a.b\"]\nkind = \"probe\""));
  EXPECT_THAT(text, HasSubstr("keys = \"***\""));
  EXPECT_THAT(text, HasSubstr("extra = {acks = \"all\", \"sasl.password\" = \"***\"}"));
  EXPECT_THAT(text, HasSubstr("label = \"a\\\"b\\u000A\""));
  for (const std::string secret : {"s3cret", "t0ken", "whsec_1", "hidden"}) {
    EXPECT_THAT(text, Not(HasSubstr(secret)));
  }
}

TEST_F(ConfigPrint, WhatItPrintsLoadsToTheSameValues) {
  write(kLeast);
  const auto first = load();
  write(print_toml(*first));
  const auto second = load();
  for (const SettingChange& change : diff(*first, *second)) {
    EXPECT_EQ(change.setting, "database.url");
  }
}

TEST_F(ConfigPrint, OfASecretThatIsPartOfATextTheRestIsShown) {
  write(std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\nlink = \"abcds3cret\"\n");
  const std::string text = print_toml(*load());
  EXPECT_THAT(text, HasSubstr("link = \"abcd…\""));
  EXPECT_THAT(text, Not(HasSubstr("s3cret")));
}

TEST_F(ConfigPrint, EntriesOfAMapAreMaskedByWhatTheyAreCalled) {
  for (const std::string name :
       {"sasl.oauthbearer.config", "sasl.oauthbearer.client.secret", "ssl.key.pem", "x-api-key",
        "API_KEY", "sasl.kerberos.kinit.cmd", "Authorization", "proxy-auth", "ssl.key.password"}) {
    EXPECT_TRUE(names_a_secret(name)) << name;
    write(std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\nextra = {\"" + name +
          "\" = \"s3cret\"}\n");
    EXPECT_THAT(print_toml(*load()), Not(HasSubstr("s3cret"))) << name;
  }
  for (const std::string name : {"debug", "ssl.keystore.location", "socket.keepalive.enable",
                                 "author", "monkey", "404", "sasl.oauthbearer.method", "..", ""}) {
    EXPECT_FALSE(names_a_secret(name)) << name;
  }
}

TEST_F(ConfigPrint, MapsAreJsonObjects) {
  write(std::string(kLeast) +
        "[emitters.p]\nkind = \"probe\"\nextra = {\"a.b\" = \"x\", c = \"y\"}\n");
  std::string json;
  for (const PrintedSetting& setting : printed_settings(*load())) {
    if (setting.name == "extra") json = setting.json;
  }
  EXPECT_EQ(json, R"({"a.b": "x", "c": "y"})");
}

TEST_F(ConfigPrint, RunNeedsAStream) {
  write("[database]\nurl = \"postgresql:///shop\"\n");
  const auto missing = problems_for_run(*load());
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_EQ(to_string(missing[0]), file_ + ": streams: there is no stream to serve");
  write(kLeast);
  EXPECT_TRUE(problems_for_run(*load()).empty());
}

}  // namespace
}  // namespace outfall::test
