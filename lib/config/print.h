#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "core/setting.h"

namespace outfall {

// A value as TOML text, with secrets as "***" or as their row shows them; "" where it is not set.
// The one way in which a value reaches an output.
[[nodiscard]] std::string printed_value(const SettingSpec& spec, const SettingValues& values);

// One line of `print-config`.
struct PrintedSetting {
  std::string table;   // "database", "streams.orders"; quoted as TOML needs it
  std::string name;    // "retry.max"
  std::string value;   // as printed_value
  std::string json;    // the same as JSON text
  std::string origin;  // as SettingOrigin::to_string
};

// Every setting of the configuration in the order of the reference, those that are not set left
// out.
[[nodiscard]] std::vector<PrintedSetting> printed_settings(const Config& config);

// The same as a TOML document with the origin of each value beside it.
[[nodiscard]] std::string print_toml(const Config& config);

// A basic TOML string, quotes included, with everything escaped that needs it.
[[nodiscard]] std::string toml_quote(std::string_view text);

// `name` as it stands between the dots of a table header: bare where TOML allows it, else quoted.
[[nodiscard]] std::string toml_key(std::string_view name);

}  // namespace outfall
