#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <toml++/toml.h>

#include "config/environment.h"
#include "core/setting.h"

namespace outfall {

// What is said about one table, before it is checked.
struct TableInput {
  std::string path;                               // "database", "streams.orders"
  const toml::table* node = nullptr;              // null: not in the file
  const EnvironmentTable* environment = nullptr;  // null: no variable names it
};

// Turns what is said about a table into typed values, by the rows that describe it. Whatever is
// wrong is appended to `problems`, and the setting concerned is in doubt. Reads the files that
// secrets name. One resolver serves one load.
class Resolver {
 public:
  enum class SecretFiles : std::uint8_t { read, leave };

  // `file` as it was named by the user; "" where there is none.
  Resolver(std::string file, std::vector<SettingProblem>& problems)
      : file_(std::move(file)), problems_(problems) {}

  // What is in a file of its own that is left alone is in doubt, without a problem.
  [[nodiscard]] SettingValues resolve(const TableInput& input, std::span<const SettingSpec> specs,
                                      SecretFiles secret_files = SecretFiles::read);

  // Where a table stands: its header, else the first variable that names it, else the file.
  [[nodiscard]] SettingOrigin origin_of_table(const TableInput& input) const;

 private:
  struct Given;
  struct Scan;

  void scan_file(Scan& scan, const toml::table& node, const std::string& prefix);
  void scan_environment(Scan& scan);
  [[nodiscard]] SettingValues::Value resolve_one(Scan& scan, const SettingSpec& spec);
  // From what is given directly.
  [[nodiscard]] SettingValues::Value decode_given(const Scan& scan, const SettingSpec& spec,
                                                  const Given& given);
  void missing(const Scan& scan, const SettingSpec& spec);
  void unknown(Scan& scan, const std::string& name, SettingOrigin origin, bool is_table);
  [[nodiscard]] bool read_secret(const Scan& scan, const SettingSpec& spec, const Given& given,
                                 SettingValues::Value& value);
  void report(const Scan& scan, std::string_view name, SettingOrigin origin, std::string message,
              std::string hint);

  std::string file_;
  std::vector<SettingProblem>& problems_;
};

}  // namespace outfall
