#include "config/config.h"

#include <cstdlib>

#include <fmt/format.h>

#include "config/print.h"
#include "config/settings.h"

namespace outfall {
namespace {

// Values differ when what they mean differs, wherever they were written.
bool same(std::string_view name, const SettingValues& a, const SettingValues& b) {
  return a.has(name) == b.has(name) && a.text(name) == b.text(name) &&
         a.integer(name) == b.integer(name) && a.list(name) == b.list(name) &&
         a.map(name) == b.map(name);
}

void copy_value(std::string_view name, const SettingValues& from, SettingValues& to) {
  to.set(std::string(name), {.text = from.text(name),
                             .number = from.integer(name),
                             .list = from.list(name),
                             .map = from.map(name),
                             .is_set = from.has(name),
                             .origin = from.origin(name)});
}

void copy_live(std::span<const SettingSpec> specs, const SettingValues& from, SettingValues& to) {
  for (const SettingSpec& spec : specs) {
    if (spec.reload == Reload::live) copy_value(spec.name, from, to);
  }
}

void diff_table(const std::string& path, std::span<const SettingSpec> specs,
                const SettingValues& before, const SettingValues& after,
                std::vector<SettingChange>& changes) {
  for (const SettingSpec& spec : specs) {
    if (same(spec.name, before, after)) continue;
    changes.push_back({fmt::format("{}.{}", path, spec.name), spec.reload,
                       printed_value(spec, before), printed_value(spec, after)});
  }
}

// Streams or emitters: those on both sides by `compare`, the others as a whole.
template <typename Map, typename Compare>
void diff_named(std::string_view table, const Map& before, const Map& after,
                std::vector<SettingChange>& changes, Compare&& compare) {
  for (const auto& [name, old] : before) {
    const std::string path = fmt::format("{}.{}", table, name);
    const auto found = after.find(name);
    if (found == after.end()) {
      changes.push_back({path, Reload::restart, "present", ""});
    } else {
      compare(path, old, found->second);
    }
  }
  for (const auto& [name, fresh] : after) {
    if (before.contains(name)) continue;
    changes.push_back({fmt::format("{}.{}", table, name), Reload::restart, "", "present"});
  }
}

}  // namespace

const SettingValues& Config::global(std::string_view name) const {
  const auto found = tables_.globals.find(name);
  if (found == tables_.globals.end()) std::abort();
  return found->second;
}

std::vector<SettingChange> diff(const Config& before, const Config& after) {
  std::vector<SettingChange> changes;
  for (const TableSpec& table : setting_tables()) {
    if (table.named) continue;
    diff_table(std::string(table.name), table.settings,
               before.tables().globals.find(table.name)->second,
               after.tables().globals.find(table.name)->second, changes);
  }
  diff_named("streams", before.streams(), after.streams(), changes,
             [&](const std::string& path, const StreamConfig& old, const StreamConfig& fresh) {
               diff_table(path, setting_table("streams").settings, old.settings, fresh.settings,
                          changes);
             });
  diff_named("emitters", before.emitters(), after.emitters(), changes,
             [&](const std::string& path, const EmitterConfig& old, const EmitterConfig& fresh) {
               if (old.kind != fresh.kind) {
                 changes.push_back({path + ".kind", Reload::restart, toml_quote(old.kind),
                                    toml_quote(fresh.kind)});
                 return;
               }
               diff_table(path, old.specs, old.settings, fresh.settings, changes);
             });
  return changes;
}

ConfigTables apply_live(const Config& running, const Config& next) {
  ConfigTables tables = running.tables();
  for (const TableSpec& table : setting_tables()) {
    if (table.named) continue;
    copy_live(table.settings, next.tables().globals.find(table.name)->second,
              tables.globals[std::string(table.name)]);
  }
  for (auto& [name, stream] : tables.streams) {
    const auto found = next.streams().find(name);
    if (found == next.streams().end()) continue;
    copy_live(setting_table("streams").settings, found->second.settings, stream.settings);
  }
  for (auto& [name, emitter] : tables.emitters) {
    const auto found = next.emitters().find(name);
    // The settings of another kind mean nothing to the emitter that runs.
    if (found == next.emitters().end() || found->second.kind != emitter.kind) continue;
    copy_live(emitter.specs, found->second.settings, emitter.settings);
  }
  return tables;
}

}  // namespace outfall
