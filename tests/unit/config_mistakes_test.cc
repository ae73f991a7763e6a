// Every kind of mistake that a file can hold, with the exact place, message and hint.

#include <filesystem>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/unit/config_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Mistake {
  std::string_view name;
  std::string_view toml;      // follows kLeast, so its first line is line 7
  std::string_view problems;  // a line each
};

class ConfigMistakes : public ConfigFixture, public testing::WithParamInterface<Mistake> {};

TEST_P(ConfigMistakes, AreReportedWithPlaceAndHint) {
  write(std::string(kLeast).append(GetParam().toml));
  EXPECT_EQ(fmt::format("{}", fmt::join(problems(), "\n")), GetParam().problems);
}

constexpr auto kMistakes = std::to_array<Mistake>({
    {"unknown_table", "[dran]\nlease = \"30s\"\n",
     "7:2: dran: there is no such table | did you mean [drain]?"},
    {"table_unlike_any", "[xyzzy]\n",
     "7:2: xyzzy: there is no such table | the tables are database, worker, admin, log, drain, "
     "receipts, streams and emitters"},
    {"value_for_table", "admin.listen = \"127.0.0.1:1\"\n",
     "7:1: streams.orders.admin: there is no such setting | a name with a dot in it needs quotes: "
     "[streams.\"orders.admin\"]"},
    {"unknown_setting", "[drain]\nleese = \"30s\"\n",
     "8:1: drain.leese: there is no such setting | did you mean lease?"},
    {"unknown_nested_setting", "retry.maximum = \"30s\"\n",
     "7:7: streams.orders.retry.maximum: there is no such setting | did you mean retry.max?"},
    {"setting_of_another_table", "[log]\nlisten = \"127.0.0.1:1\"\n",
     "8:1: log.listen: there is no such setting | it belongs to [admin]"},
    {"setting_unlike_any", "[log]\ncolour = true\n",
     "8:1: log.colour: there is no such setting | the settings here are level and format"},
    {"setting_of_an_emitter", "[emitters.probe]\nkind = \"probe\"\ncuont = 3\n",
     "9:1: emitters.probe.cuont: there is no such setting | did you mean count?"},
    {"dotted_stream_without_quotes", "[streams.orders.eu]\nemitter = \"log\"\n",
     "7:17: streams.orders.eu: there is no such setting | a name with a dot in it needs quotes: "
     "[streams.\"orders.eu\"]"},
    {"integer_for_string", "[database.x]\n",
     "7:11: database.x: there is no such setting | the settings here are url, schema, pooler, "
     "connections, connect_timeout, statement_timeout, claim_timeout, tcp_user_timeout and "
     "reconnect_max"},
    {"integer_for_duration", "[drain]\nlease = 30\n",
     "8:9: drain.lease: expected a duration such as \"30s\", got an integer | write a whole number "
     "and one unit of ms, s, m, h or d, in double quotes"},
    {"bad_duration", "[drain]\nlease = \"30 seconds\"\n",
     "8:9: drain.lease: expected a duration such as \"30s\", got \"30 seconds\" | write a whole "
     "number and one unit of ms, s, m, h or d, in double quotes"},
    {"duration_without_unit", "[drain]\nlease = \"30\"\n",
     "8:9: drain.lease: expected a duration such as \"30s\", got \"30\" | write a whole number and "
     "one unit of ms, s, m, h or d, in double quotes"},
    {"duration_too_short", "[drain]\nlease = \"999ms\"\n",
     "8:9: drain.lease: 999ms is out of range: 1s to 1h | write a value of at least 1s"},
    {"duration_too_long", "[drain]\nlease = \"61m\"\n",
     "8:9: drain.lease: 61m is out of range: 1s to 1h | write a value of at most 1h"},
    {"bad_size", "max_payload = \"5MB\"\n",
     "7:15: streams.orders.max_payload: expected a size such as \"64KiB\", got \"5MB\" | write a "
     "whole number and one unit of B, KiB, MiB or GiB, in double quotes"},
    {"negative_size", "max_payload = -1\n",
     "7:15: streams.orders.max_payload: -1 is out of range: 0B to 1GiB | write a value of at least "
     "0B"},
    {"string_for_integer", "key_in_flight = \"5\"\n",
     "7:17: streams.orders.key_in_flight: expected an integer, got a string | write digits without "
     "quotes"},
    {"float_for_integer", "key_in_flight = 5.5\n",
     "7:17: streams.orders.key_in_flight: expected an integer, got a floating-point number | write "
     "digits without quotes"},
    {"integer_out_of_range", "max_abandoned = 0\n",
     "7:17: streams.orders.max_abandoned: 0 is out of range: 1 to 1000 | write a value of at least "
     "1"},
    {"string_for_boolean", "[admin]\nenabled = \"yes\"\n",
     "8:11: admin.enabled: expected true or false, got a string | write true or false without "
     "quotes"},
    {"boolean_for_choice", "receipts = true\n",
     "7:12: streams.orders.receipts: expected one of \"on\", \"off\", got a boolean | write "
     "\"on\" or \"off\""},
    {"unknown_choice", "ordering = \"kye\"\n",
     "7:12: streams.orders.ordering: expected one of \"key\", \"none\", got \"kye\" | did you mean "
     "\"key\"?"},
    {"beginning_of_a_choice", "[log]\nlevel = \"warn\"\n",
     "8:9: log.level: expected one of \"trace\", \"debug\", \"info\", \"warning\", \"error\", got "
     "\"warn\" | did you mean \"warning\"?"},
    {"choice_unlike_any", "ordering = \"strictly\"\n",
     "7:12: streams.orders.ordering: expected one of \"key\", \"none\", got \"strictly\" | write "
     "\"key\" or \"none\""},
    {"value_for_group", "retry = 3\n",
     "7:9: streams.orders.retry: expected a table of settings, got an integer | set "
     "streams.orders.retry.initial instead"},
    {"string_for_list", "[emitters.p]\nkind = \"probe\"\nhosts = \"a\"\n",
     "9:9: emitters.p.hosts: expected an array of strings, got a string | write strings in "
     "brackets: "
     "[\"a\", \"b\"]"},
    {"integer_in_list", "[emitters.p]\nkind = \"probe\"\nhosts = [\"a\", 1]\n",
     "9:15: emitters.p.hosts: expected an array of strings, got an integer in it | write strings "
     "in "
     "brackets: [\"a\", \"b\"]"},
    {"integer_in_map", "[emitters.p]\nkind = \"probe\"\nextra = {acks = 1}\n",
     "9:17: emitters.p.extra: expected a table of strings, got an integer for \"acks\" | write the "
     "value of \"acks\" in double quotes"},
    {"dotted_key_in_map", "[emitters.p]\nkind = \"probe\"\nextra.linger.ms = \"1\"\n",
     "9:7: emitters.p.extra: expected a table of strings, got a table for \"linger\" | write the "
     "value of \"linger\" in double quotes, and its name too if it holds a dot"},
    {"nul_in_string", "[worker]\ninstance = \"a\\u0000b\"\n",
     "8:12: worker.instance: holds a NUL character | remove it"},
    {"nul_in_list", "[emitters.p]\nkind = \"probe\"\nhosts = [\"a\", \"b\\u0000\"]\n",
     "9:15: emitters.p.hosts: holds a NUL character | remove it"},
    {"nul_in_map", "[emitters.p]\nkind = \"probe\"\nextra = {a = \"b\\u0000c\"}\n",
     "9:14: emitters.p.extra: holds a NUL character | remove it"},
    {"missing_emitter", "[streams.other]\nordering = \"key\"\n",
     "7:1: streams.other.emitter: is required and not set | set it in [streams.other], or by "
     "OUTFALL_STREAMS__OTHER__EMITTER"},
    {"missing_emitter_of_a_name_with_a_dot", "[streams.\"eu.other\"]\nordering = \"key\"\n",
     "7:1: streams.eu.other.emitter: is required and not set | set it in [streams.\"eu.other\"], "
     "or "
     "by OUTFALL_STREAMS__EU_OTHER__EMITTER"},
    {"missing_kind", "[emitters.other]\n",
     "7:1: emitters.other.kind: is required: a string that names the kind of emitter | the kinds "
     "are "
     "plain and probe"},
    {"kind_is_no_string", "[emitters.other]\nkind = 3\n",
     "8:8: emitters.other.kind: is required: a string that names the kind of emitter | the kinds "
     "are "
     "plain and probe"},
    {"unknown_kind", "[emitters.other]\nkind = \"xyzzy\"\nrate = 3\n",
     "8:8: emitters.other.kind: there is no kind of emitter \"xyzzy\" | the kinds are plain and "
     "probe"},
    {"mistakes_below_a_kind_that_is_nearly_one",
     "[emitters.other]\nkind = \"proeb\"\nlabel = \"lonely\"\ncount = 12\ncuont = 3\n",
     "8:8: emitters.other.kind: there is no kind of emitter \"proeb\" | did you mean \"probe\"? "
     "The kinds are plain and probe\n"
     "8:8: emitters.other.wait: is needed with that label | set it\n"
     "10:9: emitters.other.count: 12 is out of range: 1 to 9 | write a value of at most 9\n"
     "11:1: emitters.other.cuont: there is no such setting | did you mean count?"},
    {"emitter_not_there", "[streams.other]\nemitter = \"logg\"\n",
     "8:11: streams.other.emitter: there is no emitter \"logg\" | did you mean \"log\"?"},
    {"emitter_unlike_any", "[streams.other]\nemitter = \"kafka\"\n",
     "8:11: streams.other.emitter: there is no emitter \"kafka\" | add a table [emitters.kafka], "
     "or "
     "name one of those there: log"},
    {"empty_emitter", "[streams.other]\nemitter = \"\"\n",
     "8:11: streams.other.emitter: is empty | give it a value, or leave it out"},
    {"capital_in_stream", "[streams.Other]\nemitter = \"log\"\n",
     "7:1: streams.Other: is not a name that can be used | write a small letter or digit, then at "
     "most 62 of a-z, 0-9, _, . and -"},
    {"mistakes_below_a_name_that_cannot_be_used",
     "[streams.Other]\nordering = \"kye\"\nretry = {initial = \"10s\", max = \"5s\"}\n"
     "[emitters.\"my probe\"]\nkind = \"probe\"\ncount = 12\neager = true\n",
     "7:1: streams.Other: is not a name that can be used | write a small letter or digit, then at "
     "most 62 of a-z, 0-9, _, . and -\n"
     "7:1: streams.Other.emitter: is required and not set | set it in [streams.Other], or by "
     "OUTFALL_STREAMS__OTHER__EMITTER\n"
     "8:12: streams.Other.ordering: expected one of \"key\", \"none\", got \"kye\" | did you "
     "mean \"key\"?\n"
     "9:20: streams.Other.retry.initial: \"10s\" is more than streams.Other.retry.max (\"5s\") | "
     "lower it, or raise streams.Other.retry.max\n"
     "10:1: emitters.my probe: is not a name that can be used | write a small letter or digit, "
     "then at most 62 of a-z, 0-9, _, . and -\n"
     "12:9: emitters.my probe.count: 12 is out of range: 1 to 9 | write a value of at most 9\n"
     "13:9: emitters.my probe.eager: needs mode = \"fast\" | set mode = \"fast\""},
    {"emitter_whose_name_cannot_be_used",
     "[emitters.Probe]\nkind = \"probe\"\n[streams.a]\nemitter = \"Probe\"\n"
     "[streams.b]\nemitter = \"probe\"\n",
     "7:1: emitters.Probe: is not a name that can be used | write a small letter or digit, then at "
     "most 62 of a-z, 0-9, _, . and -\n"
     "12:11: streams.b.emitter: there is no emitter \"probe\" | add a table [emitters.probe], or "
     "name one of those there: log"},
    {"stream_is_no_table", "[streams]\nother = 3\n",
     "8:9: streams.other: expected a table, got an integer | write [streams.NAME] and the settings "
     "below it"},
    {"bad_lane", "lane = \"headers.x\"\n",
     "7:8: streams.orders.lane: \"headers.x\" does not name a lane | write type, source, subject "
     "or "
     "header.NAME, or leave it empty"},
    {"retry_bounds", "retry = {initial = \"10s\", max = \"5s\"}\n",
     "7:20: streams.orders.retry.initial: \"10s\" is more than streams.orders.retry.max (\"5s\") | "
     "lower it, or raise streams.orders.retry.max"},
    {"holding_keys_without_keys", "ordering = \"none\"\non_dead_letter = \"hold-key\"\n",
     "8:18: streams.orders.on_dead_letter: \"hold-key\" holds nothing where ordering is \"none\" | "
     "set ordering = \"key\", or leave on_dead_letter at \"continue\""},
    {"bound_below_default", "breaker.probe_max = \"100ms\"\n",
     "7:21: streams.orders.breaker.probe_max: \"100ms\" is less than "
     "streams.orders.breaker.probe_initial (\"200ms\") | raise it, or lower "
     "streams.orders.breaker.probe_initial"},
    {"poll_bounds", "[drain]\npoll_active = \"1s\"\n",
     "8:15: drain.poll_active: \"1s\" is more than drain.poll_idle (\"250ms\") | lower it, or "
     "raise "
     "drain.poll_idle"},
    {"batch_beyond_memory", "[drain]\nmax_in_flight = 10\n",
     "8:17: drain.max_in_flight: 10 is less than drain.batch_entries (1000) | raise it, or lower "
     "drain.batch_entries"},
    {"lease_below_claim", "[drain]\nlease = \"1s\"\n",
     "8:9: drain.lease: \"1s\" is less than database.claim_timeout (\"2s\") | raise it, or lower "
     "database.claim_timeout"},
    {"bad_listen", "[admin]\nlisten = \"9464\"\n",
     "8:10: admin.listen: \"9464\" is not an address to listen on | write an IP address and a "
     "port, "
     "such as 127.0.0.1:9464 or [::1]:9464"},
    {"bad_token", "[admin]\ntoken = \"top secret\"\n",
     "8:9: admin.token: cannot be sent in an HTTP header | write printable ASCII characters "
     "without "
     "spaces"},
    {"empty_token", "[admin]\ntoken = \"\"\n",
     "8:9: admin.token: is empty | give it a value, or leave it out"},
    {"bad_instance", "[worker]\ninstance = \"\"\n",
     "8:12: worker.instance: \"\" cannot be a label | write 1 to 63 bytes without control "
     "characters"},
    {"attempt_beyond_its_lease", "[emitters.p]\nkind = \"probe\"\nattempt = \"16s\"\n",
     "9:11: emitters.p.attempt: \"16s\" is more than half of drain.lease (\"30s\") | lower it, "
     "or raise drain.lease"},
    {"rule_about_an_entry_of_a_map",
     "[emitters.p]\nkind = \"probe\"\n[emitters.p.extra]\n\"linger.max.ms\" = \"5\"\n",
     "10:19: emitters.p.extra.linger.max.ms: is not for you | leave it out"},
    {"rule_of_an_emitter", "[emitters.p]\nkind = \"probe\"\neager = true\n",
     "9:9: emitters.p.eager: needs mode = \"fast\" | set mode = \"fast\""},
    {"file_of_what_is_no_secret", "[worker]\ninstance_file = \"x\"\n",
     "8:1: worker.instance_file: there is no such setting | the settings here are instance"},
    {"given_twice", "emitter = \"log\"\n",
     "7:11: Error while parsing key-value pair: cannot redefine existing string 'emitter' | it is "
     "given twice: keep one of the two"},
    {"text_without_quotes", "lane = type\n",
     "7:9: Error while parsing boolean: expected 'true' | write text, durations and sizes in "
     "double "
     "quotes"},
    {"secret_of_digits_without_quotes", "[admin]\ntoken = 12345678901234567890123\n",
     "8:32: Error while parsing decimal integer: the value is not representable in 64 bits | write "
     "text, durations and sizes in double quotes"},
    {"text_not_closed", "lane = \"type\n",
     "7:13: Error while parsing string: unescaped control characters other than TAB (U+0009) are "
     "explicitly prohibited | close the text with its quote on the line where it begins"},
    {"header_not_closed", "[admin\n",
     "7:7: Error while parsing table header: expected ']', saw '\\n' | the file must be valid TOML "
     "(https://toml.io)"},
});

INSTANTIATE_TEST_SUITE_P(Table, ConfigMistakes, testing::ValuesIn(kMistakes),
                         [](const auto& mistake) { return std::string(mistake.param.name); });

class ConfigFile : public ConfigFixture {};

TEST_F(ConfigFile, TheLeastThatIsValidGetsEveryDefault) {
  write(kLeast);
  const auto config = load();
  EXPECT_EQ(config->database().text("url"), "postgresql://shop:s3cret@localhost/shop");
  EXPECT_EQ(config->database().integer("connections"), 4);
  EXPECT_EQ(config->drain().duration("lease"), Milliseconds{30'000});
  EXPECT_EQ(config->drain().bytes("max_in_flight_bytes"), 16 << 20);
  EXPECT_TRUE(config->admin().flag("enabled"));
  EXPECT_FALSE(config->admin().has("token"));
  EXPECT_EQ(config->worker().text("instance"), "test-host");
  EXPECT_EQ(config->receipts().duration("retention"), std::chrono::days{7});
  EXPECT_EQ(config->log().text("level"), "info");
  const SettingValues& orders = config->streams().at("orders").settings;
  EXPECT_EQ(orders.text("ordering"), "key");
  EXPECT_EQ(orders.duration("retry.max"), Milliseconds{300'000});
  EXPECT_EQ(orders.origin("emitter").to_string(), file_ + ":6:11");
  EXPECT_EQ(orders.origin("ordering").to_string(), "default");
  EXPECT_EQ(config->emitters().at("log").kind, "plain");
}

TEST_F(ConfigFile, EveryTypeOfSettingIsRead) {
  write(std::string(kLeast) +
        "[emitters.\"a.b-c_d\"]\nkind = \"probe\"\nlabel = \"l\"\ncount = 9\neager = true\n"
        "wait = \"2m\"\nsize = 77\nmode = \"fast\"\nhosts = [\"a\", \"b\"]\n"
        "[emitters.\"a.b-c_d\".extra]\n\"linger.ms\" = \"5\"\n");
  const auto config = load();
  const SettingValues& probe = config->emitters().at("a.b-c_d").settings;
  EXPECT_EQ(probe.text("label"), "l");
  EXPECT_EQ(probe.integer("count"), 9);
  EXPECT_TRUE(probe.flag("eager"));
  EXPECT_EQ(probe.duration("wait"), Milliseconds{120'000});
  EXPECT_EQ(probe.bytes("size"), 77);
  EXPECT_EQ(probe.text("mode"), "fast");
  EXPECT_THAT(probe.list("hosts"), ElementsAre("a", "b"));
  EXPECT_THAT(probe.map("extra"), ElementsAre(testing::Pair("linger.ms", "5")));
  EXPECT_FALSE(probe.has("keys"));
}

TEST_F(ConfigFile, AllProblemsAreReportedAtOnceInTheOrderOfTheFile) {
  write(
      "[streams.orders]\nemitter = \"nowhere\"\nretry.max = 5\n[log]\nlevel = \"loud\"\n[dran]\n"
      "[database]\nconnections = 99\n");
  EXPECT_THAT(
      problems({{"OUTFALL_DRAIN__LEASE", "soon"}}),
      ElementsAre(testing::StartsWith("2:11: streams.orders.emitter: there is no emitter"),
                  testing::StartsWith("3:13: streams.orders.retry.max: expected a duration"),
                  testing::StartsWith("5:9: log.level: expected one of"),
                  testing::StartsWith("6:2: dran: there is no such table"),
                  testing::StartsWith("7:1: database.url: is required and not set"),
                  testing::StartsWith("8:15: database.connections: 99 is out of range"),
                  testing::StartsWith("OUTFALL_DRAIN__LEASE: drain.lease: expected a duration")));
}

TEST_F(ConfigFile, OneMistakeInAnEmitterDoesNotHideItsOthers) {
  write(std::string(kLeast) +
        "[emitters.p]\nkind = \"probe\"\ncount = 10\neager = true\nhosts = [1, \"a\", true]\n"
        "[emitters.p.extra]\n\"linger.max.ms\" = \"5\"\nacks = 1\nretries = 2\n");
  EXPECT_THAT(
      problems(),
      ElementsAre(testing::StartsWith("9:9: emitters.p.count: 10 is out of range"),
                  testing::StartsWith("10:9: emitters.p.eager: needs mode"),
                  testing::StartsWith("11:10: emitters.p.hosts: expected an array of strings"),
                  testing::StartsWith("11:18: emitters.p.hosts: expected an array of strings"),
                  testing::StartsWith("13:19: emitters.p.extra.linger.max.ms: is not for you"),
                  testing::StartsWith("14:8: emitters.p.extra: expected a table of strings"),
                  testing::StartsWith("15:11: emitters.p.extra: expected a table of strings")));
}

TEST_F(ConfigFile, WhatFollowsFromAMistakeIsNotToldAsAnother) {
  const std::string eager = std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\neager = true\n";
  write(eager + "mode = \"fasst\"\n");
  EXPECT_THAT(problems(), ElementsAre(testing::StartsWith("10:8: emitters.p.mode: expected one")));
  write(eager + "modes = \"fast\"\n");
  EXPECT_THAT(problems(), ElementsAre(testing::StartsWith("10:1: emitters.p.modes: there is no")));
  write(eager + "attempt = \"1 day\"\n");
  EXPECT_THAT(problems(), ElementsAre(testing::StartsWith("9:9: emitters.p.eager: needs mode"),
                                      testing::StartsWith("10:11: emitters.p.attempt: expected")));
}

TEST_F(ConfigFile, AMistakeOfAnotherEmitterWithALongerNameIsNone) {
  write(std::string(kLeast) +
        "[emitters.p]\nkind = \"probe\"\neager = true\n"
        "[emitters.\"p.x\"]\nkind = \"probe\"\ncount = 10\n");
  EXPECT_THAT(problems(), ElementsAre(testing::StartsWith("9:9: emitters.p.eager: needs mode"),
                                      testing::StartsWith("12:9: emitters.p.x.count: 10 is out")));
}

TEST_F(ConfigFile, ARuleAboutWhatIsNotGivenPointsToTheTable) {
  write(std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\nlabel = \"lonely\"\n");
  EXPECT_THAT(problems(), ElementsAre("8:8: emitters.p.wait: is needed with that label | set it"));
}

TEST_F(ConfigFile, AMissingTableIsAProblemOfTheWholeFile) {
  write("[log]\n");
  EXPECT_THAT(problems(), ElementsAre(" database.url: is required and not set | set it, or "
                                      "url_file to the name of a file that has it, in [database], "
                                      "or by OUTFALL_DATABASE__URL or OUTFALL_DATABASE__URL_FILE"));
}

TEST_F(ConfigFile, ASettingOutsideOfAnyTableIsToldWhereItBelongs) {
  write("url = \"postgresql:///shop\"\n[database]\nurl = \"postgresql:///shop\"\n");
  EXPECT_THAT(problems(),
              ElementsAre("1:1: url: there is no such setting | it belongs below a line "
                          "[database]"));
}

TEST_F(ConfigFile, ATableThatIsAValueIsRefused) {
  write("drain = 3\n[database]\nurl = \"postgresql:///shop\"\n");
  EXPECT_THAT(problems(), ElementsAre("1:9: drain: expected a table, got an integer | write its "
                                      "settings below a line [drain]"));
}

TEST_F(ConfigFile, AUrlThatIsNoConnectionStringIsRefusedWithoutItsText) {
  write("[database]\nurl = \"s3cret without a keyword\"\n");
  EXPECT_THAT(
      problems(),
      ElementsAre("2:7: database.url: is neither a libpq URI nor a list of key=value pairs | "
                  "write postgresql://USER@HOST/DATABASE or host=HOST user=USER "
                  "dbname=DATABASE"));
}

TEST_F(ConfigFile, ASchemaNameThatNeedsQuotesIsRefused) {
  for (const std::string name : {"Outbox", "out box", "pg_outbox", "1box", ""}) {
    write("[database]\nurl = \"postgresql:///shop\"\nschema = \"" + name + "\"\n");
    EXPECT_THAT(problems(),
                ElementsAre("3:10: database.schema: \"" + name +
                            "\" cannot be the name of a schema | write a small letter or "
                            "_, then at most 62 of a-z, 0-9 and _, not pg_ in front"));
  }
}

TEST_F(ConfigFile, AFileThatIsNotThereIsNamed) {
  file_ = folder_ / "missing.toml";
  EXPECT_THAT(problems(), ElementsAre(" cannot be read: No such file or directory | name the "
                                      "configuration by --config or OUTFALL_CONFIG, or set all by "
                                      "the environment"));
  file_ = folder_.path();
  EXPECT_THAT(problems(), ElementsAre(testing::StartsWith(" is a directory")));
}

TEST_F(ConfigFile, AFileThatMayNotBeReadLeadsToItsRights) {
  write(kLeast);
  std::filesystem::permissions(file_, std::filesystem::perms::none);
  // Root may read everything, and becomes nobody for this.
  const uid_t user = geteuid();
  if (user == 0) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  const auto found = problems();
  ASSERT_EQ(seteuid(user), 0);
  EXPECT_THAT(found, ElementsAre(" cannot be read: Permission denied | let the user that outfall "
                                 "runs as read it, and enter its folder"));
}

TEST_F(ConfigFile, AFileBeyondAnySenseIsNotRead) {
  write(std::string(2 << 20, '\n'));
  EXPECT_THAT(problems(), ElementsAre(testing::StartsWith(" is longer than 1 MiB")));
}

TEST_F(ConfigFile, NoFileAndNoVariableIsOneProblem) {
  EXPECT_THAT(
      problems({{"OUTFALL_CONFIG", ""}}),
      ElementsAre("there is no configuration | write outfall.toml or "
                  "/etc/outfall/outfall.toml, name a file by --config or OUTFALL_CONFIG, or "
                  "set at least OUTFALL_DATABASE__URL"));
}

TEST_F(ConfigFile, AByteOrderMarkAndWindowsLineEndsAreFine) {
  std::string text = "\xEF\xBB\xBF";
  for (const char c : kLeast) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  write(text);
  EXPECT_THAT(problems(), IsEmpty());
}

}  // namespace
}  // namespace outfall::test
