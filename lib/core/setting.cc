#include "core/setting.h"

#include <cstdio>
#include <cstdlib>

namespace outfall {

std::string SettingOrigin::to_string() const {
  if (!variable.empty()) return variable;
  if (file.empty()) return "default";
  if (line == 0) return file;
  std::string text = file + ':' + std::to_string(line);
  if (column != 0) text += ':' + std::to_string(column);
  return text;
}

const SettingValues::Value& SettingValues::at(std::string_view name) const {
  const auto found = values_.find(name);
  if (found != values_.end()) return found->second;
  // Only a name that no row of the table of settings has gets here: a defect of the code.
  std::fprintf(stderr, "outfall: no setting is called \"%.*s\"\n", static_cast<int>(name.size()),
               name.data());
  std::abort();
}

bool SettingValues::has(std::string_view name) const {
  return at(name).is_set;
}

bool SettingValues::usable(std::string_view name) const {
  return !at(name).in_doubt;
}

const std::string& SettingValues::text(std::string_view name) const {
  return at(name).text;
}

std::int64_t SettingValues::integer(std::string_view name) const {
  return at(name).number;
}

bool SettingValues::flag(std::string_view name) const {
  return at(name).number != 0;
}

Milliseconds SettingValues::duration(std::string_view name) const {
  return Milliseconds{at(name).number};
}

std::int64_t SettingValues::bytes(std::string_view name) const {
  return at(name).number;
}

const std::vector<std::string>& SettingValues::list(std::string_view name) const {
  return at(name).list;
}

const std::map<std::string, std::string>& SettingValues::map(std::string_view name) const {
  return at(name).map;
}

const SettingOrigin& SettingValues::origin(std::string_view name) const {
  return at(name).origin;
}

const SettingOrigin& SettingValues::origin(std::string_view name, std::string_view entry) const {
  const Value& value = at(name);
  const auto found = value.entry_origins.find(std::string(entry));
  return found == value.entry_origins.end() ? value.origin : found->second;
}

}  // namespace outfall
