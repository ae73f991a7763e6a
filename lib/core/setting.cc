#include "core/setting.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "core/text.h"

namespace outfall {
namespace {

// Anywhere in a name.
constexpr auto kSecretParts = std::to_array<std::string_view>(
    {"password", "passwd", "secret", "token", "authorization", "credential", "cookie", "apikey",
     "api-key", "api_key", "passphrase", "signature", "oauthbearer.config", "kinit.cmd"});
// As a word of their own: `ssl.key.pem`, `x-api-key`, and not `keystore` or `author`.
constexpr auto kSecretWords =
    std::to_array<std::string_view>({"key", "pem", "auth", "pwd", "pass"});

}  // namespace

bool names_a_secret(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), lower_ascii);
  if (std::ranges::any_of(kSecretParts, [&](std::string_view part) {
        return lower.find(part) != std::string::npos;
      })) {
    return true;
  }
  constexpr std::string_view kBetweenWords = "._- ";
  std::string_view rest = lower;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find_first_of(kBetweenWords));
    if (std::ranges::find(kSecretWords, word) != kSecretWords.end()) return true;
    rest.remove_prefix(std::min(word.size() + 1, rest.size()));
  }
  return false;
}

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
