#include "config/check.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "config/conninfo.h"
#include "config/listen_address.h"
#include "config/print.h"
#include "config/settings.h"
#include "config/suggest.h"
#include "core/quantity.h"

namespace outfall {
namespace {

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

bool is_schema_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && name.size() <= 63 &&
         std::isdigit(static_cast<unsigned char>(name[0])) == 0 && !name.starts_with("pg_") &&
         std::ranges::all_of(name, allowed);
}

bool is_lane(std::string_view lane) {
  if (lane.empty() || lane == "type" || lane == "source" || lane == "subject") return true;
  constexpr std::string_view kHeader = "header.";
  return lane.starts_with(kHeader) && lane.size() > kHeader.size() && !has_control_characters(lane);
}

// The row that a setting of an emitter stands in: itself, or the map of which it is an entry, whose
// names may have dots. `kind` for what is in none: it stands in each emitter's table.
std::string_view row_of(std::span<const SettingSpec> rows, std::string_view setting) {
  std::string_view row = "kind";
  std::size_t longest = 0;
  for (const SettingSpec& spec : rows) {
    if (spec.name.size() < longest || !setting.starts_with(spec.name)) continue;
    if (setting.size() > spec.name.size() && setting[spec.name.size()] != '.') continue;
    row = spec.name;
    longest = spec.name.size();
  }
  return row;
}

class Checker {
 public:
  Checker(const ConfigTables& tables, const EmitterRegistry& registry,
          std::vector<SettingProblem>& problems)
      : tables_(tables), registry_(registry), problems_(problems) {
    for (const SettingProblem& problem : problems) broken_.insert(problem.setting);
  }

  void run() {
    check_texts();
    check_global_pairs();
    for (const auto& [name, stream] : tables_.streams) check_stream(name, stream.settings);
    for (const auto& [name, emitter] : tables_.emitters) check_emitter(name, emitter);
  }

 private:
  static bool usable(const SettingValues& values, std::string_view name) {
    return values.has(name) && values.usable(name);
  }

  [[nodiscard]] const SettingValues& global(std::string_view table) const {
    return tables_.globals.find(table)->second;
  }

  void report(const std::string& table, std::string_view name, const SettingOrigin& origin,
              std::string message, std::string hint) {
    problems_.push_back({.origin = origin,
                         .setting = fmt::format("{}.{}", table, name),
                         .message = std::move(message),
                         .hint = std::move(hint)});
  }

  // One text against one rule; the value is shown only where it is no secret.
  template <typename Rule>
  void check_text(const std::string& table, std::string_view name, const SettingValues& values,
                  bool secret, std::string_view what, std::string_view hint, Rule&& rule) {
    if (!usable(values, name) || rule(values.text(name))) return;
    report(table, name, values.origin(name),
           secret ? std::string(what) : fmt::format("{} {}", toml_quote(values.text(name)), what),
           std::string(hint));
  }

  void check_texts() {
    const SettingValues& database = global("database");
    if (usable(database, "url")) {
      if (const auto problem = conninfo_problem(database.text("url"))) {
        report("database", "url", database.origin("url"), *problem,
               "write postgresql://USER@HOST/DATABASE or host=HOST user=USER dbname=DATABASE");
      }
    }
    check_text("database", "schema", database, false, "cannot be the name of a schema",
               "write a small letter or _, then at most 62 of a-z, 0-9 and _, not pg_ in front",
               is_schema_name);
    check_text("worker", "instance", global("worker"), false, "cannot be a label",
               "write 1 to 63 bytes without control characters", [](const std::string& label) {
                 return !label.empty() && label.size() <= 63 && !has_control_characters(label);
               });
    check_text("admin", "listen", global("admin"), false, "is not an address to listen on",
               "write an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464",
               [](const std::string& text) { return parse_listen_address(text).has_value(); });
    const auto can_be_sent = [](const std::string& token) {
      return std::ranges::all_of(token, [](char c) { return c > 0x20 && c < 0x7f; });
    };
    check_text("admin", "token", global("admin"), true, "cannot be sent in an HTTP header",
               "write printable ASCII characters without spaces", can_be_sent);
    check_text("admin", "token", global("admin"), true, "is too short, so that it can be guessed",
               "make one of at least 16 characters, such as by `openssl rand -hex 32`",
               [&](const std::string& token) {
                 return token.size() >= 16 || token.empty() || !can_be_sent(token);
               });
  }

  // `small` must not exceed `large`.
  void check_order(const std::string& small_table, std::string_view small,
                   const SettingValues& small_values, const std::string& large_table,
                   std::string_view large, const SettingValues& large_values) {
    if (!usable(small_values, small) || !usable(large_values, large)) return;
    if (small_values.integer(small) <= large_values.integer(large)) return;
    // The message stands where somebody wrote something, not at a default.
    const bool small_given = small_values.origin(small).is_place();
    const auto shown = [](std::string_view table, std::string_view name,
                          const SettingValues& values) {
      const auto specs = setting_table(table.substr(0, table.find('.'))).settings;
      return printed_value(*std::ranges::find(specs, name, &SettingSpec::name), values);
    };
    const std::string small_shown = shown(small_table, small, small_values);
    const std::string large_shown = shown(large_table, large, large_values);
    if (small_given) {
      report(
          small_table, small, small_values.origin(small),
          fmt::format("{} is more than {}.{} ({})", small_shown, large_table, large, large_shown),
          fmt::format("lower it, or raise {}.{}", large_table, large));
    } else {
      report(
          large_table, large, large_values.origin(large),
          fmt::format("{} is less than {}.{} ({})", large_shown, small_table, small, small_shown),
          fmt::format("raise it, or lower {}.{}", small_table, small));
    }
  }

  void check_global_pairs() {
    const SettingValues& drain = global("drain");
    check_order("database", "claim_timeout", global("database"), "drain", "lease", drain);
    check_order("drain", "poll_active", drain, "drain", "poll_idle", drain);
    check_order("drain", "batch_entries", drain, "drain", "max_in_flight", drain);
    check_order("drain", "batch_bytes", drain, "drain", "max_in_flight_bytes", drain);
  }

  // Those that a stream can name, also where their own table has a problem of its kind.
  [[nodiscard]] std::vector<std::string_view> emitters_to_name() const {
    std::set<std::string_view> names;
    for (const auto& [name, unused] : tables_.emitters) names.insert(name);
    for (const std::string_view setting : broken_) {
      constexpr std::string_view kTable = "emitters.";
      constexpr std::string_view kKind = ".kind";
      if (!setting.starts_with(kTable) || !setting.ends_with(kKind)) continue;
      names.insert(setting.substr(kTable.size(), setting.size() - kTable.size() - kKind.size()));
    }
    std::erase_if(names, [](std::string_view name) { return !is_table_name(name); });
    return {names.begin(), names.end()};
  }

  void check_stream(const std::string& name, const SettingValues& values) {
    const std::string table = "streams." + name;
    check_text(table, "lane", values, false, "does not name a lane",
               "write type, source, subject or header.NAME, or leave it empty", is_lane);
    check_order(table, "retry.initial", values, table, "retry.max", values);
    check_order(table, "breaker.probe_initial", values, table, "breaker.probe_max", values);
    if (usable(values, "on_dead_letter") && usable(values, "ordering") &&
        values.text("on_dead_letter") == "hold-key" && values.text("ordering") == "none") {
      report(table, "on_dead_letter", values.origin("on_dead_letter"),
             "\"hold-key\" holds nothing where ordering is \"none\"",
             "set ordering = \"key\", or leave on_dead_letter at \"continue\"");
    }
    if (!usable(values, "emitter")) return;
    const std::string& emitter = values.text("emitter");
    // A table that is there but could not be used has its own problem.
    if (tables_.emitters.contains(emitter) || broken_.contains("emitters." + emitter) ||
        broken_.contains("emitters." + emitter + ".kind")) {
      return;
    }
    const std::vector<std::string_view> known = emitters_to_name();
    std::string hint = fmt::format("add a table [emitters.{}]",
                                   is_table_name(emitter) ? toml_key(emitter) : "NAME");
    if (const std::string_view meant = nearest(emitter, known); !meant.empty()) {
      hint = fmt::format("did you mean {}?", toml_quote(meant));
    } else if (!known.empty()) {
      hint += fmt::format(", or name one of those there: {}", enumerate(known));
    }
    report(table, "emitter", values.origin("emitter"),
           fmt::format("there is no emitter {}", toml_quote(emitter)), std::move(hint));
  }

  // All of its rules, also where some of its settings are wrong: what follows from those is left
  // out, here and by the emitter.
  void check_emitter(const std::string& name, const EmitterConfig& emitter) {
    const std::string table = "emitters." + name;
    const EmitterKind* kind = registry_.find(emitter.kind);
    if (kind == nullptr) return;
    check_attempt_limit(table, kind->attempt_limit, emitter.settings);
    if (!kind->validate) return;
    for (SettingProblem problem : kind->validate(emitter.settings)) {
      if (problem.setting.starts_with(table + ".")) problem.setting.erase(0, table.size() + 1);
      const std::string row(row_of(kind->settings, problem.setting));
      if (problem.setting == row && !emitter.settings.usable(row)) continue;
      // An emitter need not know where its settings were written.
      if (problem.setting.starts_with(row + ".")) {
        problem.origin = emitter.settings.origin(row, problem.setting.substr(row.size() + 1));
      } else if (!problem.origin.is_place()) {
        problem.origin = emitter.settings.origin(row);
      }
      // What is not given has to go into the table.
      if (!problem.origin.is_place()) problem.origin = emitter.settings.origin("kind");
      problem.setting = problem.setting.empty() ? table : table + "." + problem.setting;
      problems_.push_back(std::move(problem));
    }
  }

  void check_attempt_limit(const std::string& table, std::string_view limit,
                           const SettingValues& settings) {
    if (limit.empty() || !usable(global("drain"), "lease")) return;
    if (!usable(settings, limit)) return;
    const Milliseconds lease = global("drain").duration("lease");
    const Milliseconds attempt = settings.duration(limit);
    if (attempt <= lease / 2) return;
    report(table, limit, settings.origin(limit),
           fmt::format("{} is more than half of drain.lease ({})",
                       toml_quote(format_duration(attempt)), toml_quote(format_duration(lease))),
           "lower it, or raise drain.lease");
  }

  const ConfigTables& tables_;
  const EmitterRegistry& registry_;
  std::vector<SettingProblem>& problems_;
  std::set<std::string> broken_;
};

}  // namespace

void check_config(const ConfigTables& tables, const EmitterRegistry& registry,
                  std::vector<SettingProblem>& problems) {
  Checker(tables, registry, problems).run();
}

SettingProblem no_stream(const std::string& file) {
  SettingOrigin origin;
  origin.file = file;
  return {.origin = std::move(origin),
          .setting = "streams",
          .message = "there is no stream to serve",
          .hint = "add a table [streams.NAME] with the emitter that delivers it"};
}

std::vector<SettingProblem> problems_for_run(const Config& config) {
  if (!config.streams().empty()) return {};
  return {no_stream(config.file())};
}

}  // namespace outfall
