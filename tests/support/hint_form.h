#pragma once

#include <cctype>
#include <string_view>

#include <gtest/gtest.h>

#include "core/setting.h"

namespace outfall::test {

// Whether it is a hint as all of the configuration are: it goes on after "hint: ", so it begins
// with a small letter, unless with a name, and ends without a full stop. Empty is one as well.
[[nodiscard]] inline bool is_in_hint_form(std::string_view hint) {
  const auto is = [&](int (*kind)(int), std::size_t at) {
    return at < hint.size() && kind(static_cast<unsigned char>(hint[at])) != 0;
  };
  return !(is(std::isupper, 0) && is(std::islower, 1)) && !hint.ends_with('.');
}

// Every test that is told what is wrong with a configuration looks at the hints by the way.
inline void expect_hint_form(const SettingProblem& problem) {
  EXPECT_TRUE(is_in_hint_form(problem.hint)) << problem.setting << ": " << problem.hint;
}

}  // namespace outfall::test
