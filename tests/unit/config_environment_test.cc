// Settings by environment variables: which setting a variable means, and what wins.

#include <gmock/gmock.h>

#include "config/environment.h"
#include "tests/unit/config_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ConfigEnvironment : public ConfigFixture {};

TEST_F(ConfigEnvironment, WinsOverTheFile) {
  write(std::string(kLeast) + "retry.max = \"10s\"\n[drain]\nlease = \"5s\"\n");
  const auto config = load({{"OUTFALL_DRAIN__LEASE", "7s"},
                            {"OUTFALL_STREAMS__ORDERS__RETRY__MAX", "20s"},
                            {"OUTFALL_STREAMS__ORDERS__RETRY__MAX_ATTEMPTS", "3"},
                            {"OUTFALL_DATABASE__URL", "host=other password=x"}});
  EXPECT_EQ(config->drain().duration("lease"), Milliseconds{7000});
  EXPECT_EQ(config->drain().origin("lease").to_string(), "OUTFALL_DRAIN__LEASE");
  EXPECT_EQ(config->streams().at("orders").settings.duration("retry.max"), Milliseconds{20'000});
  EXPECT_EQ(config->streams().at("orders").settings.integer("retry.max_attempts"), 3);
  EXPECT_EQ(config->database().text("url"), "host=other password=x");
}

TEST_F(ConfigEnvironment, AloneCanConfigureEverything) {
  const auto config = load({{"OUTFALL_DATABASE__URL", "postgresql:///shop"},
                            {"OUTFALL_STREAMS__ORDERS__EMITTER", "log"},
                            {"OUTFALL_EMITTERS__LOG__KIND", "probe"},
                            {"OUTFALL_EMITTERS__LOG__COUNT", "5"},
                            {"OUTFALL_EMITTERS__LOG__EAGER", "true"},
                            {"OUTFALL_EMITTERS__LOG__MODE", "fast"},
                            {"OUTFALL_EMITTERS__LOG__WAIT", "1h"},
                            {"OUTFALL_EMITTERS__LOG__SIZE", "2MiB"},
                            {"OUTFALL_EMITTERS__LOG__LABEL", ""},
                            {"OUTFALL_EMITTERS__LOG__HOSTS", "a, b,,c"},
                            {"OUTFALL_EMITTERS__LOG__EXTRA", "{\"x.y\" = \"1\", z = \"2\"}"}});
  EXPECT_EQ(config->file(), "");
  ASSERT_TRUE(config->streams().contains("orders"));
  const SettingValues& log = config->emitters().at("log").settings;
  EXPECT_EQ(log.integer("count"), 5);
  EXPECT_TRUE(log.flag("eager"));
  EXPECT_EQ(log.text("mode"), "fast");
  EXPECT_EQ(log.duration("wait"), std::chrono::hours{1});
  EXPECT_EQ(log.bytes("size"), 2 << 20);
  EXPECT_EQ(log.text("label"), "");
  EXPECT_THAT(log.list("hosts"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(log.map("extra"), ElementsAre(testing::Pair("x.y", "1"), testing::Pair("z", "2")));
}

TEST_F(ConfigEnvironment, AListCanBeATomlArray) {
  write(std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\n");
  const auto config = load({{"OUTFALL_EMITTERS__P__HOSTS", "[\"a,b\", \"c\"]"}});
  EXPECT_THAT(config->emitters().at("p").settings.list("hosts"), ElementsAre("a,b", "c"));
}

TEST_F(ConfigEnvironment, MatchesNamesOfTheFileWithoutRegardToCaseDashesAndDots) {
  write(std::string(kLeast) +
        "[streams.order-events]\nemitter = \"log\"\n[streams.\"eu.orders\"]\nemitter = \"log\"\n"
        "[streams.a__b]\nemitter = \"log\"\n");
  const auto config = load({{"OUTFALL_STREAMS__ORDER_EVENTS__MAX_ABANDONED", "7"},
                            {"OUTFALL_STREAMS__eu_orders__MAX_ABANDONED", "8"},
                            {"OUTFALL_STREAMS__A__B__MAX_ABANDONED", "9"}});
  EXPECT_EQ(config->streams().size(), 4u);
  EXPECT_EQ(config->streams().at("order-events").settings.integer("max_abandoned"), 7);
  EXPECT_EQ(config->streams().at("eu.orders").settings.integer("max_abandoned"), 8);
  EXPECT_EQ(config->streams().at("a__b").settings.integer("max_abandoned"), 9);
}

TEST_F(ConfigEnvironment, ANameThatFitsTwoIsRefused) {
  write(std::string(kLeast) +
        "[streams.a-b]\nemitter = \"log\"\n[streams.\"a.b\"]\nemitter = \"log\"\n");
  EXPECT_THAT(problems({{"OUTFALL_STREAMS__A_B__MAX_ABANDONED", "7"}}),
              ElementsAre("OUTFALL_STREAMS__A_B__MAX_ABANDONED: could mean a-b and a.b | give this "
                          "setting in the file"));
}

TEST_F(ConfigEnvironment, MistakesNameTheVariable) {
  write(kLeast);
  EXPECT_THAT(
      problems({{"OUTFALL_DRAIN__LEESE", "3s"},
                {"OUTFALL_DRAN__LEASE", "3s"},
                {"OUTFALL_DRAIN__MAX_IN_FLIGHT", "many"},
                {"OUTFALL_ADMIN__ENABLED", "yes"},
                {"OUTFALL_LOG__LEVEL", "loud"},
                {"OUTFALL_STREAMS__ORDERS", "x"},
                {"OUTFALL_STREAMS__OTHER__LANE", "type"},
                {"OUTFALL_WORKER__INSTANCE", "\xff"},
                {"OUTFALL_DATABASE_URL", "s3cret"}}),
      ElementsAre(
          "OUTFALL_DATABASE_URL: is not a setting | levels are separated by two underscores: did "
          "you "
          "mean OUTFALL_DATABASE__URL?",
          "OUTFALL_DRAN__LEASE: there is no table [dran] | did you mean OUTFALL_DRAIN__LEASE?",
          "OUTFALL_STREAMS__ORDERS: names no setting of [streams.orders] | append two underscores "
          "and the setting, such as OUTFALL_STREAMS__ORDERS__EMITTER",
          "OUTFALL_WORKER__INSTANCE: worker.instance: is not valid UTF-8 | write it in UTF-8",
          "OUTFALL_ADMIN__ENABLED: admin.enabled: expected true or false, got \"yes\" | write true "
          "or "
          "false without quotes",
          "OUTFALL_LOG__LEVEL: log.level: expected one of \"trace\", \"debug\", \"info\", "
          "\"warning\", \"error\", got \"loud\" | write trace, debug, info, warning or error",
          "OUTFALL_DRAIN__LEESE: drain.leese: there is no such setting | did you mean "
          "OUTFALL_DRAIN__LEASE?",
          "OUTFALL_DRAIN__MAX_IN_FLIGHT: drain.max_in_flight: expected an integer, got \"many\" | "
          "write digits without quotes",
          "OUTFALL_STREAMS__OTHER__LANE: streams.other.emitter: is required and not set | set it "
          "in "
          "[streams.other], or by OUTFALL_STREAMS__OTHER__EMITTER"));
}

TEST_F(ConfigEnvironment, AMistypedNameOfTheFileIsSuggested) {
  write(std::string(kLeast) + "[streams.order-events]\nemitter = \"log\"\n");
  EXPECT_THAT(
      problems({{"OUTFALL_EMITTERS__LGO__COUNT", "3"},
                {"OUTFALL_STREAMS__ORDRES__LANE", "key"},
                {"OUTFALL_STREAMS__ORDRES__RETRY__MAX", "3s"},
                {"OUTFALL_STREAMS__ORDERS_RETRY_MAX", "3s"},
                {"OUTFALL_STREAMS__ORDER_EVENTS_LANE", "type"},
                {"OUTFALL_STREAMS__SOMETHING_LANE", "type"}}),
      testing::UnorderedElementsAre(
          "OUTFALL_EMITTERS__LGO__COUNT: emitters.lgo.kind: is required and not set | did you mean "
          "OUTFALL_EMITTERS__LOG__COUNT? Something new needs OUTFALL_EMITTERS__LGO__KIND too",
          "OUTFALL_STREAMS__ORDRES__LANE: streams.ordres.emitter: is required and not set | did "
          "you mean OUTFALL_STREAMS__ORDERS__LANE? Something new needs "
          "OUTFALL_STREAMS__ORDRES__EMITTER too",
          "OUTFALL_STREAMS__ORDERS_RETRY_MAX: names no setting of [streams.orders_retry_max] | "
          "levels are separated by two underscores: did you mean "
          "OUTFALL_STREAMS__ORDERS__RETRY__MAX?",
          "OUTFALL_STREAMS__ORDER_EVENTS_LANE: names no setting of [streams.order_events_lane] | "
          "levels are separated by two underscores: did you mean "
          "OUTFALL_STREAMS__ORDER_EVENTS__LANE?",
          "OUTFALL_STREAMS__SOMETHING_LANE: names no setting of [streams.something_lane] | append "
          "two underscores and the setting, such as OUTFALL_STREAMS__SOMETHING_LANE__EMITTER"));
}

TEST_F(ConfigEnvironment, ANewNameNearOneOfTheFileIsNoMistake) {
  write(kLeast);
  const auto config = load({{"OUTFALL_STREAMS__ORDER__EMITTER", "log"}});
  EXPECT_TRUE(config->streams().contains("order"));
}

TEST_F(ConfigEnvironment, VariablesOfKubernetesServicesAndImagesAreNotOurs) {
  write(kLeast);
  EXPECT_THAT(problems({{"OUTFALL_SERVICE_HOST", "10.0.0.1"},
                        {"OUTFALL_SERVICE_PORT_METRICS", "9464"},
                        {"OUTFALL_PORT", "tcp://10.0.0.1:9464"},
                        {"OUTFALL_PORT_9464_TCP_ADDR", "10.0.0.1"},
                        {"OUTFALL_ADMIN_SERVICE_HOST", "10.0.0.1"},
                        {"OUTFALL_ADMIN_PORT_9464_TCP", "tcp://10.0.0.1:9464"},
                        {"OUTFALL_VERSION", "0.1.0"},
                        {"OUTFALL_CONFIG", "x"}}),
              IsEmpty());
}

TEST_F(ConfigEnvironment, ASlipInTheUnderscoresIsAMistake) {
  write(kLeast);
  EXPECT_THAT(
      problems({{"OUTFALL_LOGLEVEL", "debug"}, {"OUTFALL_ADMIN", "x"}, {"OUTFALL_STREAMS", "x"}}),
      testing::UnorderedElementsAre(
          "OUTFALL_LOGLEVEL: is not a setting | levels are separated by two underscores: "
          "did you mean OUTFALL_LOG__LEVEL?",
          "OUTFALL_ADMIN: is not a setting | append two underscores and the setting, such "
          "as OUTFALL_ADMIN__ENABLED",
          "OUTFALL_STREAMS: is not a setting | append two underscores and a name and a "
          "setting, such as OUTFALL_STREAMS__ORDERS__EMITTER"));
}

TEST_F(ConfigEnvironment, WhatNothingReadsIsTold) {
  EXPECT_THAT(unread_variables({{"OUTFALL_URL", "x"},
                                {"OUTFALL_FOO", "1"},
                                {"OUTFALL_CONFG", "x"},
                                {"OUTFALL_ACTR", "x"},
                                {"OUTFALL_LGO_LEVEL", "x"},
                                {"PATH", "/bin"}}),
              ElementsAre("nothing reads the variable OUTFALL_ACTR (did you mean OUTFALL_ACTOR?)",
                          "nothing reads the variable OUTFALL_CONFG (did you mean OUTFALL_CONFIG?)",
                          "nothing reads the variable OUTFALL_FOO",
                          "nothing reads the variable OUTFALL_LGO_LEVEL (did you mean "
                          "OUTFALL_LOG__LEVEL?)",
                          "nothing reads the variable OUTFALL_URL (did you mean "
                          "OUTFALL_DATABASE__URL?)"));
  EXPECT_THAT(unread_variables({{"OUTFALL_SERVICE_HOST", "10.0.0.1"},
                                {"OUTFALL_PORT", "tcp://10.0.0.1:9464"},
                                {"OUTFALL_PORT_9464_TCP", "tcp://10.0.0.1:9464"},
                                {"OUTFALL_ADMIN_SERVICE_PORT_HTTP", "9464"},
                                {"OUTFALL_TEST_POSTGRES_BIN", "x"},
                                {"OUTFALL_CRASH_POINT", "x"},
                                {"OUTFALL_BROKEN", "x"},
                                {"OUTFALL_ACTOR", "x"},
                                {"OUTFALL_CONFIG", "x"},
                                {"OUTFALL_VERSION", "x"},
                                {"OUTFALL_LOGLEVEL", "a problem already"},
                                {"OUTFALL_LOG__LEVEL", "debug"}}),
              IsEmpty());
}

TEST_F(ConfigEnvironment, HintsFitAVariable) {
  write(kLeast);
  EXPECT_THAT(problems({{"OUTFALL_STREAMS__ORDERS__RETRY__MAX", "5"},
                        {"OUTFALL_STREAMS__ORDERS__MAX_PAYLOAD", "much"}}),
              testing::UnorderedElementsAre(
                  testing::EndsWith(" | write a whole number and one unit of ms, s, m, h or d"),
                  testing::EndsWith(" | write a whole number and one unit of B, KiB, MiB or GiB")));
}

TEST_F(ConfigEnvironment, NamesOfVariablesAreMadeByTheRuleThatReadsThem) {
  EXPECT_EQ(variable_name("database", "url"), "OUTFALL_DATABASE__URL");
  EXPECT_EQ(variable_name("streams.a.b-c", "retry.max_age"),
            "OUTFALL_STREAMS__A_B_C__RETRY__MAX_AGE");
}

TEST_F(ConfigEnvironment, FindsTheFile) {
  EXPECT_EQ(find_config_file("flag.toml", {{"OUTFALL_CONFIG", "variable.toml"}}), "flag.toml");
  EXPECT_EQ(find_config_file("", {{"OUTFALL_CONFIG", "variable.toml"}}), "variable.toml");
}

}  // namespace
}  // namespace outfall::test
