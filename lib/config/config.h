#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/setting.h"

namespace outfall {

// One [streams.NAME] table, resolved.
struct StreamConfig {
  std::string name;
  SettingValues settings;
};

// One [emitters.NAME] table, resolved: the rows of its kind and `kind` itself.
struct EmitterConfig {
  std::string name;
  std::string kind;
  SettingValues settings;
  std::span<const SettingSpec>
      specs;  // the kind's rows; owned by the EmitterRegistry's static data
};

// Everything that a Config holds; what the loader fills.
struct ConfigTables {
  std::string file;  // as it was named; empty where the environment alone configured
  std::map<std::string, SettingValues, std::less<>> globals;
  std::map<std::string, StreamConfig, std::less<>> streams;
  std::map<std::string, EmitterConfig, std::less<>> emitters;
};

// A complete and valid configuration, but for that of a command
// (ConfigLoader::load_for_command()). Made by ConfigLoader only, immutable afterwards, and so safe
// to read and share (as shared_ptr<const Config>) from any thread. Holds secrets in the clear:
// print it through config/print.h only. The EmitterRegistry it was loaded with must outlive it.
class Config {
 public:
  explicit Config(ConfigTables tables) : tables_(std::move(tables)) {}

  [[nodiscard]] const SettingValues& database() const { return global("database"); }
  [[nodiscard]] const SettingValues& worker() const { return global("worker"); }
  [[nodiscard]] const SettingValues& admin() const { return global("admin"); }
  [[nodiscard]] const SettingValues& log() const { return global("log"); }
  [[nodiscard]] const SettingValues& drain() const { return global("drain"); }
  [[nodiscard]] const SettingValues& receipts() const { return global("receipts"); }

  // By name. Every stream's `emitter` is a key of emitters().
  [[nodiscard]] const auto& streams() const { return tables_.streams; }
  [[nodiscard]] const auto& emitters() const { return tables_.emitters; }
  [[nodiscard]] const std::string& file() const { return tables_.file; }
  [[nodiscard]] const ConfigTables& tables() const { return tables_; }

 private:
  // Every global table is there once the loader is through, also where the file does not name it.
  [[nodiscard]] const SettingValues& global(std::string_view name) const;

  ConfigTables tables_;
};

// One setting that differs between two configurations. Values are redacted and written as in TOML;
// "" where it was not set. A whole stream or emitter that came or went is one change, at its table.
struct SettingChange {
  std::string setting;  // "streams.orders.retry.max", or "streams.orders" for the table
  Reload reload = Reload::restart;
  std::string before;
  std::string after;
};

// What differs, in the order of the reference. Streams and emitters that come or go need a restart.
[[nodiscard]] std::vector<SettingChange> diff(const Config& before, const Config& after);

// `running` with the values that `next` changes and that can change at run time; all else stays.
[[nodiscard]] ConfigTables apply_live(const Config& running, const Config& next);

}  // namespace outfall
