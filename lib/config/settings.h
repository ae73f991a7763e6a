#pragma once

#include <span>
#include <string_view>

#include "core/setting.h"

namespace outfall {

// One table of the configuration file. A `named` table has one sub-table per stream or emitter
// ([streams.orders]) and its rows describe each of them.
struct TableSpec {
  std::string_view name;     // "database", "streams"
  std::string_view summary;  // what the table is about, for the reference
  bool named = false;
  std::span<const SettingSpec> settings;
};

// The one table of settings, in the order in which the reference shows it. What an emitter's kind
// adds to [emitters.NAME] stands in the EmitterRegistry and not here. Constant data with static
// lifetime; safe from any thread.
[[nodiscard]] std::span<const TableSpec> setting_tables() noexcept;

// The table of that name; aborts when there is none, since names are written in the source.
[[nodiscard]] const TableSpec& setting_table(std::string_view name);

// "[a-z0-9][a-z0-9_.-]{0,62}": what a stream or an emitter may be called in the configuration.
[[nodiscard]] bool is_table_name(std::string_view name) noexcept;

// The default of a row, decoded; not set where it has none. Aborts when it does not fit the row,
// which a test of every row prevents.
[[nodiscard]] SettingValues::Value default_value(const SettingSpec& spec);

// How values come together, in the words that help texts and the reference share.
inline constexpr std::string_view kFileRule =
    "The configuration is one TOML file: the one that --config names, else the one that the "
    "environment variable OUTFALL_CONFIG names, else ./outfall.toml, else "
    "/etc/outfall/outfall.toml. "
    "Without a file, the environment alone can configure.";
inline constexpr std::string_view kPrecedenceRule =
    "A value in the environment wins over the file, the file over the default.";
inline constexpr std::string_view kEnvironmentRule =
    "Every setting can be given by an environment variable: OUTFALL_, then its path in capitals "
    "with "
    "two underscores between the levels, for example OUTFALL_DATABASE__URL or "
    "OUTFALL_STREAMS__ORDERS__RETRY__MAX.";
inline constexpr std::string_view kSecretRule =
    "A secret can also be read from a file: name the file in the setting with _file appended, for "
    "example OUTFALL_DATABASE__URL_FILE=/run/secrets/database-url.";

}  // namespace outfall
