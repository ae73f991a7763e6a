// The table of settings itself, and that the documents made from it are those in the tree.
//
// Boost.Regex, since g++ 12 warns about std::regex under sanitizers.

#include <filesystem>
#include <set>

#include <boost/regex.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "config/reference.h"
#include "config/settings.h"
#include "tests/unit/config_fixture.h"

namespace outfall::test {
namespace {

using testing::IsEmpty;

const std::filesystem::path kSource = OUTFALL_SOURCE_FOLDER;

// Every row of every table and of every kind of emitter in this binary.
std::vector<std::pair<std::string, SettingSpec>> all_rows() {
  std::vector<std::pair<std::string, SettingSpec>> rows;
  for (const TableSpec& table : setting_tables()) {
    for (const SettingSpec& spec : table.settings) rows.emplace_back(table.name, spec);
  }
  EmitterRegistry registry;
  register_emitters(registry);
  for (const std::string_view kind : registry.kinds()) {
    for (const SettingSpec& spec : registry.find(kind)->settings) {
      rows.emplace_back(fmt::format("emitters of kind {}", kind), spec);
    }
  }
  return rows;
}

TEST(SettingTable, EveryRowIsSound) {
  std::set<std::string> names;
  for (const auto& [table, spec] : all_rows()) {
    SCOPED_TRACE(fmt::format("{}: {}", table, spec.name));
    EXPECT_TRUE(names.insert(fmt::format("{}: {}", table, spec.name)).second)
        << "it is there twice";
    EXPECT_TRUE(
        boost::regex_match(std::string(spec.name), boost::regex("[a-z0-9_]+(\\.[a-z0-9_]+)*")));
    // Environment variables separate levels by two underscores.
    EXPECT_EQ(spec.name.find("__"), std::string_view::npos);
    EXPECT_TRUE(spec.summary.ends_with('.')) << "a summary is made of sentences";
    EXPECT_FALSE(spec.required && !spec.default_value.empty()) << "required and defaulted";
    EXPECT_LE(spec.min, spec.max);
    EXPECT_EQ(spec.type == SettingType::choice, !spec.choices.empty());
    // Aborts when the default does not fit the row.
    EXPECT_EQ(default_value(spec).is_set, !spec.default_value.empty());
  }
}

TEST(SettingTable, NamesOfStreamsAndEmitters) {
  for (const std::string& name : {std::string("a"), std::string("0-a_b.c"), std::string(63, 'x')}) {
    EXPECT_TRUE(is_table_name(name)) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("A"), std::string("-a"), std::string(".a"), std::string("a b"),
        std::string("ä"), std::string(64, 'x')}) {
    EXPECT_FALSE(is_table_name(name)) << name;
  }
}

TEST(Reference, ThePageInTheTreeIsTheOneThatIsGenerated) {
  EXPECT_EQ(read_file(kSource / "docs/reference/configuration.md"), reference_markdown())
      << "run: outfall config-reference --format markdown > docs/reference/configuration.md";
}

TEST(Reference, TheSampleInTheTreeIsTheOneThatIsGenerated) {
  EXPECT_EQ(read_file(kSource / "ops/outfall.sample.toml"), reference_sample())
      << "run: outfall config-reference --format sample > ops/outfall.sample.toml";
}

TEST(Reference, EveryEmittersPageHoldsItsGeneratedSettings) {
  EmitterRegistry registry;
  register_emitters(registry);
  ASSERT_THAT(registry.kinds(), testing::Not(IsEmpty()));
  for (const std::string_view kind : registry.kinds()) {
    const auto page = kSource / fmt::format("docs/reference/emitters/{}.md", kind);
    ASSERT_TRUE(std::filesystem::exists(page)) << page;
    const std::string text = read_file(page);
    const std::size_t begin = text.find(kSettingsBegin);
    const std::size_t end = text.find(kSettingsEnd);
    ASSERT_NE(begin, std::string::npos) << page;
    ASSERT_NE(end, std::string::npos) << page;
    const std::size_t start = begin + kSettingsBegin.size();
    EXPECT_EQ(text.substr(start, end - start), emitter_markdown(*registry.find(kind)))
        << "put the output of `outfall config-reference --emitter " << kind << "` into " << page;
  }
}

TEST(Reference, EveryEmittersPageNamesItsMetrics) {
  EmitterRegistry registry;
  register_emitters(registry);
  std::size_t metrics = 0;
  for (const std::string_view kind : registry.kinds()) {
    const std::string page =
        read_file(kSource / fmt::format("docs/reference/emitters/{}.md", kind));
    for (const EmitterMetricSpec& metric : registry.find(kind)->metrics) {
      ++metrics;
      const std::string name = fmt::format("`outfall_{}_{}", kind, metric.name);
      const std::string labelled =
          metric.label.empty() ? name + "`" : fmt::format("{}{{{}}}`", name, metric.label);
      EXPECT_TRUE(page.find(name + "`") != std::string::npos ||
                  page.find(labelled) != std::string::npos)
          << labelled;
    }
  }
  EXPECT_GT(metrics, 15U);
}

// lib/telemetry, which makes that page, knows no emitter.
TEST(Reference, ThePageOfMetricsLeadsToThoseOfEveryEmitter) {
  EmitterRegistry registry;
  register_emitters(registry);
  const std::string page = read_file(kSource / "docs/reference/metrics.md");
  for (const std::string_view kind : registry.kinds()) {
    const std::string link = fmt::format("[{0}](emitters/{0}.md#metrics)", kind);
    const bool is_linked = page.find(link) != std::string::npos;
    EXPECT_EQ(is_linked, !registry.find(kind)->metrics.empty()) << link;
  }
}

class Sample : public ConfigFixture {
 protected:
  Sample() { register_emitters(real_); }

  std::shared_ptr<const Config> load_real(std::string_view toml) {
    write(toml);
    LoadedConfig loaded = ConfigLoader(real_, {file_, {}, "test-host"}).load();
    if (auto* problems = std::get_if<ConfigProblems>(&loaded)) {
      for (const std::string& problem : shown(*problems)) ADD_FAILURE() << problem;
      throw std::runtime_error("the sample should load");
    }
    return std::get<std::shared_ptr<const Config>>(loaded);
  }

  EmitterRegistry real_;
};

TEST_F(Sample, IsAValidConfiguration) {
  EXPECT_EQ(load_real(reference_sample())->streams().size(), 1u);
}

TEST_F(Sample, WithEveryLineUncommentedMeansTheSame) {
  const auto plain = load_real(reference_sample());
  const std::string uncommented =
      boost::regex_replace(reference_sample(), boost::regex("\n#([a-z])"), "\n$1");
  EXPECT_NE(uncommented, reference_sample());
  EXPECT_THAT(diff(*plain, *load_real(uncommented)), IsEmpty());
}

}  // namespace
}  // namespace outfall::test
