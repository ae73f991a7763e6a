// The configuration, from TOML and variables to settings: it loads or says what is wrong, quotes no
// secret, and what it prints loads to the same.
//
// An input is the file; what stands before a line "---" are variables, one NAME=VALUE a line.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include "config/document.h"
#include "config/loader.h"
#include "config/print.h"
#include "config/settings.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

// A file without a place on a disk.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("outfall.toml", MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void write(std::string_view text) const {
    if (ftruncate(descriptor_, 0) != 0 ||
        pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
      throw std::system_error(errno, std::generic_category(), "memory file");
    }
  }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

const EmitterRegistry& registry() {
  static const EmitterRegistry all = [] {
    EmitterRegistry made;
    register_emitters(made);
    return made;
  }();
  return all;
}

LoadedConfig load(std::string_view text, std::map<std::string, std::string> variables) {
  static const MemoryFile file;
  file.write(text);
  return ConfigLoader(
             registry(),
             {.file = file.path(), .environment = std::move(variables), .host_name = "host"})
      .load();
}

std::map<std::string, std::string> variables_of(std::string_view text) {
  std::map<std::string, std::string> variables;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::size_t equals = std::min(line.find('='), line.size());
    variables.emplace(line.substr(0, equals), line.substr(std::min(equals + 1, line.size())));
  }
  return variables;
}

bool holds_marker(std::string_view text) {
  return text.find(kMarker) != std::string_view::npos;
}

bool names_secret(std::string_view setting, std::span<const SettingSpec> specs) {
  return std::ranges::any_of(specs, [&](const SettingSpec& spec) {
    const std::size_t dot = setting.size() - std::min(setting.size(), spec.name.size() + 1);
    return spec.secret && setting.ends_with(spec.name) && setting[dot] == '.';
  });
}

bool is_secret(std::string_view setting) {
  for (const TableSpec& table : setting_tables()) {
    if (names_secret(setting, table.settings)) return true;
  }
  for (const std::string_view kind : registry().kinds()) {
    if (names_secret(setting, registry().find(kind)->settings)) return true;
  }
  return false;
}

void check_problems(const ConfigProblems& problems) {
  require(!problems.empty(), "what does not load has a problem");
  for (const SettingProblem& problem : problems) {
    require(!problem.message.empty(), "a problem says what is wrong");
    if (!is_secret(problem.setting) || holds_marker(problem.setting)) continue;
    // The host of a URL is shown everywhere.
    if (problem.message == "allow_hosts does not hold its host") continue;
    require(!holds_marker(problem.message) && !holds_marker(problem.hint),
            "a problem with a secret does not quote it");
  }
}

// What a loaded configuration holds, by whether it may be shown.
struct Seen {
  bool marker_shown = false;

  void text(std::string_view value, bool secret) {
    require(value.find('\0') == std::string_view::npos, "no value holds a NUL character");
    marker_shown = marker_shown || (!secret && holds_marker(value));
  }

  void settings(std::span<const SettingSpec> specs, const SettingValues& values) {
    for (const SettingSpec& spec : specs) {
      if (!values.has(spec.name)) continue;
      // What is shown of a URL is not all that it holds.
      const bool secret = spec.secret && spec.shown == nullptr;
      text(spec.shown == nullptr ? values.text(spec.name) : spec.shown(values.text(spec.name)),
           secret);
      for (const std::string& item : values.list(spec.name)) text(item, secret);
      for (const auto& [name, value] : values.map(spec.name)) {
        text(name, false);
        text(value, secret);
      }
    }
  }
};

void check_texts(const Config& config, const std::string& printed) {
  Seen seen;
  for (const TableSpec& table : setting_tables()) {
    if (table.named) continue;
    seen.settings(table.settings, config.tables().globals.find(table.name)->second);
  }
  for (const auto& [name, stream] : config.streams()) {
    seen.text(name, false);
    seen.settings(setting_table("streams").settings, stream.settings);
  }
  for (const auto& [name, emitter] : config.emitters()) {
    seen.text(name, false);
    seen.settings(emitter.specs, emitter.settings);
  }
  require(seen.marker_shown || !holds_marker(printed), "what is printed holds no secret");
}

using Lines = std::vector<std::vector<std::string>>;

Lines lines_of(const Config& config) {
  Lines lines;
  for (const PrintedSetting& line : printed_settings(config)) {
    lines.push_back({line.table, line.name, line.value});
  }
  return lines;
}

}  // namespace

void configuration(std::string_view input) {
  constexpr std::string_view kRuler = "\n---\n";
  const std::size_t ruler = input.find(kRuler);
  const bool has_variables = ruler != std::string_view::npos;
  const auto loaded = load(
      has_variables ? input.substr(ruler + kRuler.size()) : input,
      has_variables ? variables_of(input.substr(0, ruler)) : std::map<std::string, std::string>{});
  if (const auto* problems = std::get_if<ConfigProblems>(&loaded)) return check_problems(*problems);

  const Config& config = *std::get<std::shared_ptr<const Config>>(loaded);
  const std::string printed = print_toml(config);
  require(std::holds_alternative<toml::table>(parse_document("", printed)),
          "what is printed is TOML");
  check_texts(config, printed);
  require(diff(config, config).empty(), "a configuration does not differ from itself");
  if (printed.find("***") != std::string::npos) return;  // something is masked
  const auto again = load(printed, {});
  const auto* second = std::get_if<std::shared_ptr<const Config>>(&again);
  require(second != nullptr, "what is printed loads");
  require(lines_of(**second) == lines_of(config), "what is printed loads to the same");
}

}  // namespace outfall::fuzz
