// SIGHUP: what takes effect, what needs a restart, and that a wrong file changes nothing.

#include <gmock/gmock.h>

#include "tests/unit/config_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ConfigReload : public ConfigFixture {
 protected:
  static std::vector<std::string> shown_changes(const std::vector<SettingChange>& changes) {
    std::vector<std::string> lines;
    for (const SettingChange& change : changes) {
      lines.push_back(change.setting + ": " + change.before + " -> " + change.after);
    }
    return lines;
  }

  ReloadedConfig reload(const Config& running, Environment environment = {}) {
    auto result = loader(std::move(environment)).reload(running);
    if (auto* problems = std::get_if<ConfigProblems>(&result)) {
      for (const std::string& problem : shown(*problems)) ADD_FAILURE() << problem;
      throw std::runtime_error("the configuration should reload");
    }
    return std::get<ReloadedConfig>(std::move(result));
  }
};

TEST_F(ConfigReload, AppliesWhatIsLiveAndTellsWhatNeedsARestart) {
  write(std::string(kLeast) + "retry.max = \"10s\"\n");
  const auto running = load();
  write(
      "[database]\nurl = \"postgresql://shop:0ther@localhost/shop\"\n[log]\nlevel = \"debug\"\n"
      "[drain]\nlease = \"10s\"\npoll_idle = \"1s\"\n[emitters.log]\nkind = \"plain\"\n"
      "[streams.orders]\nemitter = \"log\"\nretry.max = \"20s\"\nordering = \"none\"\n");
  const ReloadedConfig reloaded = reload(*running);
  EXPECT_THAT(
      shown_changes(reloaded.live),
      ElementsAre("log.level: \"info\" -> \"debug\"", "drain.poll_idle: \"250ms\" -> \"1s\"",
                  "streams.orders.retry.max: \"10s\" -> \"20s\""));
  EXPECT_THAT(shown_changes(reloaded.needs_restart),
              ElementsAre("database.url: \"postgresql://shop:***@localhost/shop\" -> "
                          "\"postgresql://shop:***@localhost/shop\"",
                          "drain.lease: \"30s\" -> \"10s\"",
                          "streams.orders.ordering: \"key\" -> \"none\""));
  EXPECT_EQ(reloaded.config->log().text("level"), "debug");
  EXPECT_EQ(reloaded.config->drain().duration("poll_idle"), Milliseconds{1000});
  EXPECT_EQ(reloaded.config->drain().duration("lease"), Milliseconds{30'000});
  EXPECT_EQ(reloaded.config->database().text("url"), running->database().text("url"));
  const SettingValues& orders = reloaded.config->streams().at("orders").settings;
  EXPECT_EQ(orders.duration("retry.max"), Milliseconds{20'000});
  EXPECT_EQ(orders.text("ordering"), "key");
}

TEST_F(ConfigReload, OfTheSameFileChangesNothing) {
  write(kLeast);
  const auto running = load();
  // Moved within the file, and a default written out: the meaning is the same.
  write("\n\n" + std::string(kLeast) + "ordering = \"key\"\n");
  const ReloadedConfig reloaded = reload(*running);
  EXPECT_THAT(reloaded.live, IsEmpty());
  EXPECT_THAT(reloaded.needs_restart, IsEmpty());
}

TEST_F(ConfigReload, StreamsAndEmittersThatComeAndGoNeedARestart) {
  write(std::string(kLeast) + "[streams.old]\nemitter = \"log\"\n");
  const auto running = load();
  write(std::string(kLeast) + "[streams.new]\nemitter = \"p\"\n[emitters.p]\nkind = \"probe\"\n");
  const ReloadedConfig reloaded = reload(*running);
  EXPECT_THAT(shown_changes(reloaded.needs_restart),
              ElementsAre("streams.old: present -> ", "streams.new:  -> present",
                          "emitters.p:  -> present"));
  EXPECT_TRUE(reloaded.config->streams().contains("old"));
  EXPECT_FALSE(reloaded.config->streams().contains("new"));
}

TEST_F(ConfigReload, AnEmittersLiveSettingsAreAppliedUnlessItsKindChanges) {
  write(std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\n");
  const auto running = load();
  write(std::string(kLeast) + "[emitters.p]\nkind = \"probe\"\ncount = 7\nlabel = \"y\"\n");
  const ReloadedConfig changed = reload(*running);
  EXPECT_THAT(shown_changes(changed.live), ElementsAre("emitters.p.count: 3 -> 7"));
  EXPECT_THAT(shown_changes(changed.needs_restart),
              ElementsAre("emitters.p.label: \"x\" -> \"y\""));
  EXPECT_EQ(changed.config->emitters().at("p").settings.integer("count"), 7);
  EXPECT_EQ(changed.config->emitters().at("p").settings.text("label"), "x");

  write(std::string(kLeast) + "[emitters.p]\nkind = \"plain\"\n");
  const ReloadedConfig replaced = reload(*running);
  EXPECT_THAT(shown_changes(replaced.needs_restart),
              ElementsAre("emitters.p.kind: \"probe\" -> \"plain\""));
  EXPECT_EQ(replaced.config->emitters().at("p").kind, "probe");
  EXPECT_EQ(replaced.config->emitters().at("p").settings.integer("count"), 3);
}

TEST_F(ConfigReload, ReadsSecretFilesAnew) {
  folder_.write("url", "postgresql://u:first@h/d");
  write("[database]\nurl_file = \"url\"\n");
  const auto running = load();
  folder_.write("url", "postgresql://u:second@h/d");
  EXPECT_THAT(
      shown_changes(reload(*running).needs_restart),
      ElementsAre("database.url: \"postgresql://u:***@h/d\" -> \"postgresql://u:***@h/d\""));
}

TEST_F(ConfigReload, OfAWrongFileGivesProblemsOnly) {
  write(kLeast);
  const auto running = load();
  write(std::string(kLeast) + "[log]\nlevel = \"debug\"\n[dran]\n");
  const auto result = loader().reload(*running);
  ASSERT_TRUE(std::holds_alternative<ConfigProblems>(result));
  EXPECT_THAT(shown(std::get<ConfigProblems>(result)),
              ElementsAre("9:2: dran: there is no such table | did you mean [drain]?"));
  EXPECT_EQ(running->log().text("level"), "info");
}

}  // namespace
}  // namespace outfall::test
