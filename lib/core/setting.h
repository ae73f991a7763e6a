#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"

namespace outfall {

// What a value is, and how TOML writes it.
enum class SettingType : std::uint8_t {
  string,       // TOML string
  integer,      // TOML integer within [min, max]
  boolean,      // TOML boolean
  duration,     // TOML string with a unit: "250ms", "30s", "5m", "2h", "7d"
  bytes,        // TOML string with a unit: "512B", "64KiB", "16MiB"; or an integer number of bytes
  choice,       // TOML string, one of `choices`
  string_list,  // TOML array of strings
  string_map,   // TOML table of strings
};

enum class Reload : std::uint8_t { live, restart };  // what SIGHUP can change at run time

// One row of the table of settings. Parser, `--help`, the sample file and the reference page are
// all made from these rows, so none of them can know a setting that another does not.
struct SettingSpec {
  std::string_view name = {};  // path below its table: "retry.initial"
  SettingType type = SettingType::string;
  std::string_view default_value = {};  // as written after `=` in TOML; empty: no default
  std::string_view summary = {};  // what it means and what follows from it, one or two sentences
  bool required = false;
  bool secret = false;  // redacted in print-config; also accepted as `<name>_file`
  // What may be shown of a secret text that says more than its secret; null: nothing.
  std::string (*shown)(std::string_view) = nullptr;
  Reload reload = Reload::restart;
  std::int64_t min = 0;  // integer, duration (ms) and bytes
  std::int64_t max = INT64_MAX;
  std::span<const std::string_view> choices = {};
};

// Whether an entry of a map that is not secret as a whole carries a secret by what it is called:
// `sasl.password`, `private.key`, `Authorization`. Pure.
[[nodiscard]] bool names_a_secret(std::string_view name);

// Where a value stands, for error messages: a file with line and column, an environment variable,
// or the default.
struct SettingOrigin {
  std::string file = {};  // empty: not from a file
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  std::string variable = {};  // environment variable, if it came from there

  // "outfall.toml:7:12", "OUTFALL_STREAMS__ORDERS__EMITTER" or "default".
  [[nodiscard]] std::string to_string() const;
  // Whether it is somewhere that a person can look: not a default.
  [[nodiscard]] bool is_place() const { return !file.empty() || !variable.empty(); }
};

// The resolved values of one table (one stream, one emitter, …), typed and checked against its
// specs: every getter below is total for a name that the specs hold, and aborts for one they do
// not. Immutable after it was built; safe to read from any thread.
class SettingValues {
 public:
  struct Value {
    std::string text = {};    // string, choice
    std::int64_t number = 0;  // integer, boolean, duration (ms), bytes
    std::vector<std::string> list = {};
    std::map<std::string, std::string> map = {};
    bool is_set = false;  // false: neither given nor defaulted
    SettingOrigin origin = {};
    std::map<std::string, SettingOrigin> entry_origins = {};  // where the file has a map's entries
    // What was given cannot be used, and is told of; the default stands in, and in a map the
    // entries that can be used.
    bool in_doubt = false;
  };

  void set(std::string name, Value value) { values_[std::move(name)] = std::move(value); }

  [[nodiscard]] bool has(std::string_view name) const;  // is_set
  // Whether a rule may conclude anything from the value. Only while a configuration is checked can
  // it be false.
  [[nodiscard]] bool usable(std::string_view name) const;
  [[nodiscard]] const std::string& text(std::string_view name) const;
  [[nodiscard]] std::int64_t integer(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name) const;
  [[nodiscard]] Milliseconds duration(std::string_view name) const;
  [[nodiscard]] std::int64_t bytes(std::string_view name) const;
  [[nodiscard]] const std::vector<std::string>& list(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, std::string>& map(std::string_view name) const;
  [[nodiscard]] const SettingOrigin& origin(std::string_view name) const;
  // Of one entry of a map; that of the whole map where it did not come from the file.
  [[nodiscard]] const SettingOrigin& origin(std::string_view name, std::string_view entry) const;

 private:
  [[nodiscard]] const Value& at(std::string_view name) const;
  std::map<std::string, Value, std::less<>> values_;
};

// One thing wrong with a configuration; all are reported at once.
struct SettingProblem {
  SettingOrigin origin;
  std::string setting;  // full path: "streams.orders.emitter"
  std::string message;  // what is wrong
  std::string hint;     // what to change; may be empty
};

}  // namespace outfall
