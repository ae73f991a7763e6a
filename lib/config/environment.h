#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/setting.h"

namespace outfall {

// What one variable says about one setting.
struct EnvironmentValue {
  std::string variable;
  std::string value;
};

// By the path below the table: "retry.max".
using EnvironmentTable = std::map<std::string, EnvironmentValue, std::less<>>;

// What all variables say, by the tables that they mean.
struct EnvironmentSettings {
  std::map<std::string, EnvironmentTable, std::less<>> globals;  // by table
  // By table ("streams", "emitters"), then by name.
  std::map<std::string, std::map<std::string, EnvironmentTable, std::less<>>, std::less<>> named;
};

// Sorts the OUTFALL_ variables into tables. `names` holds the streams and emitters that the file
// names: a variable means one of those when it is equal without regard to case, with '-' and '.'
// standing for '_' since they cannot be in a variable's name; else it makes a new one, in small
// letters. Whether the setting below the table exists is the resolver's business.
[[nodiscard]] EnvironmentSettings sort_environment(
    const std::map<std::string, std::string>& environment,
    const std::map<std::string, std::set<std::string>, std::less<>>& names,
    std::vector<SettingProblem>& problems);

// Variables that nothing reads, each with the name that may have been meant, as sentences. What
// Kubernetes sets beside a Service is left out, and what an image tells about itself.
[[nodiscard]] std::vector<std::string> unread_variables(
    const std::map<std::string, std::string>& environment);

// The variable that sets a setting: ("streams.orders", "retry.max") ->
// OUTFALL_STREAMS__ORDERS__RETRY__MAX.
[[nodiscard]] std::string variable_name(std::string_view table, std::string_view setting);

}  // namespace outfall
