// The registry: what a binary knows, and that its kinds describe themselves fully.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "emitter/registry.h"

namespace outfall {
namespace {

TEST(EmitterRegistryTest, FindsWhatWasAdded) {
  EmitterRegistry registry;
  EXPECT_EQ(registry.find("b"), nullptr);
  registry.add({.kind = "b", .summary = "B."});
  registry.add({.kind = "a", .summary = "A."});
  ASSERT_NE(registry.find("b"), nullptr);
  EXPECT_EQ(registry.find("b")->summary, "B.");
  EXPECT_EQ(registry.kinds(), (std::vector<std::string_view>{"a", "b"}));
}

TEST(EmitterRegistryDeathTest, AbortsOnTheSameKindTwice) {
  EmitterRegistry registry;
  registry.add({.kind = "a"});
  EXPECT_DEATH(registry.add({.kind = "a"}), "\"a\" is registered twice");
}

TEST(EmitterRegistryTest, EveryKindOfThisBinaryDescribesItself) {
  EmitterRegistry registry;
  register_emitters(registry);
  for (const char* kind : {"noop", "stdout"}) EXPECT_NE(registry.find(kind), nullptr) << kind;
  for (const std::string_view name : registry.kinds()) {
    const EmitterKind& kind = *registry.find(name);
    EXPECT_TRUE(kind.create) << name;
    EXPECT_TRUE(kind.summary.ends_with('.')) << name;
    std::set<std::string_view> settings;
    for (const SettingSpec& spec : kind.settings) {
      EXPECT_TRUE(settings.insert(spec.name).second) << name << " " << spec.name;
      EXPECT_TRUE(spec.summary.ends_with('.')) << name << " " << spec.name;
      // `kind` is the row of lib/config that chooses among these.
      EXPECT_NE(spec.name, "kind") << name;
    }
  }
}

}  // namespace
}  // namespace outfall
