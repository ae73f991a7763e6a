// Goal: what `cmake --install` puts down works on its own and is complete. Method: it installs into
// a temporary folder; the binary is run there, and the links of the docs are followed.

#include <filesystem>
#include <set>

#include <gmock/gmock.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

namespace fs = std::filesystem;
using testing::StartsWith;

class Install : public testing::Test {
 protected:
  Install() { install(); }

  void install() const {
    const Finished installed =
        run({OUTFALL_CMAKE, "--install", OUTFALL_BUILD_FOLDER, "--prefix", "/usr"},
            {.environment = {{"DESTDIR", folder_.path().string()}}});
    EXPECT_EQ(installed.status.code, 0) << installed.output << installed.error_output;
  }

  static std::set<std::string> files_below(const fs::path& folder) {
    std::set<std::string> files;
    for (const auto& file : fs::recursive_directory_iterator(folder)) {
      if (file.is_regular_file()) files.insert(file.path().lexically_relative(folder).string());
    }
    return files;
  }

  TempFolder folder_;
  const fs::path usr_ = folder_.path() / "usr";
  const fs::path docs_ = usr_ / OUTFALL_DOC_FOLDER;
  const fs::path source_ = OUTFALL_SOURCE_FOLDER;
};

TEST_F(Install, TheBinaryRunsAndTheMigrationsAreThere) {
  const Finished version = run({(usr_ / "bin/outfall").string(), "version"});
  EXPECT_THAT(version.output, StartsWith("outfall ")) << version.error_output;
  EXPECT_EQ(files_below(usr_ / "share/outfall/sql"), files_below(source_ / "sql"));
}

// It is often root's, and what it wrote into the build folder would be root's, too. A binary that
// is newer would tempt it most.
TEST_F(Install, WhatIsGeneratedForShellsIsThereAndWasNotGeneratedByIt) {
  const fs::path made = OUTFALL_COMPLETIONS_FOLDER;
  if (made.empty()) GTEST_SKIP() << "instrumented build";
  fs::remove_all(usr_);
  const auto time = fs::last_write_time(made / "fish");
  fs::last_write_time(fs::path(OUTFALL_BUILD_FOLDER) / "bin/outfall",
                      fs::file_time_type::clock::now());
  install();
  EXPECT_EQ(fs::last_write_time(made / "fish"), time);
  for (const std::string file :
       {"bash-completion/completions/outfall", "zsh/vendor-completions/_outfall",
        "fish/vendor_completions.d/outfall.fish"}) {
    ASSERT_TRUE(fs::exists(usr_ / "share" / file)) << file;
    EXPECT_GT(fs::file_size(usr_ / "share" / file), 100U) << file;
  }
}

TEST_F(Install, TheSamplesAreWhereTheDocsSay) {
  for (const std::string file :
       {"ops/outfall.sample.toml", "samples/webhook/receive.py", "samples/exec/deliver.py",
        "samples/orders/shop.sql", "ops/prometheus/outfall.rules.yml", "ops/grafana/outfall.json",
        "ops/runbooks/OutfallNoWorker.md", "README.md", "CHANGELOG.md", "LICENSE"}) {
    ASSERT_TRUE(fs::exists(docs_ / file)) << file;
    EXPECT_EQ(read_file(docs_ / file), read_file(source_ / file));
  }
  EXPECT_EQ(files_below(docs_ / "docs"), files_below(source_ / "docs"));
}

TEST_F(Install, EveryLinkOfADocumentLeadsToAFile) {
  int links = 0;
  for (const std::string& name : files_below(docs_)) {
    if (!name.ends_with(".md")) continue;
    const std::string text = read_file(docs_ / name);
    for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 2)) {
      const std::string target = text.substr(at + 2, text.find_first_of(")# \n", at + 2) - at - 2);
      if (target.empty() || target.find("://") != std::string::npos) continue;
      ++links;
      EXPECT_TRUE(fs::exists((docs_ / name).parent_path() / target)) << name << ": " << target;
    }
  }
  EXPECT_GT(links, 100);
}

}  // namespace
}  // namespace outfall::test
