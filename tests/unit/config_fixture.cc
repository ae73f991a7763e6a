#include "tests/unit/config_fixture.h"

#include <array>

#include "tests/support/hint_form.h"

namespace outfall::test {
namespace {

constexpr std::array<std::string_view, 2> kModes = {"fast", "safe"};

constexpr auto kProbe = std::to_array<SettingSpec>({
    {.name = "label", .type = SettingType::string, .default_value = "\"x\"", .summary = "Label."},
    {.name = "count",
     .type = SettingType::integer,
     .default_value = "3",
     .summary = "Count.",
     .reload = Reload::live,
     .min = 1,
     .max = 9},
    {.name = "eager", .type = SettingType::boolean, .default_value = "false", .summary = "Eager."},
    {.name = "wait", .type = SettingType::duration, .default_value = "\"5s\"", .summary = "Wait."},
    {.name = "attempt",
     .type = SettingType::duration,
     .default_value = "\"5s\"",
     .summary = "Attempt."},
    {.name = "size", .type = SettingType::bytes, .default_value = "\"1KiB\"", .summary = "Size."},
    {.name = "mode",
     .type = SettingType::choice,
     .default_value = "\"safe\"",
     .summary = "Mode.",
     .choices = kModes},
    {.name = "hosts", .type = SettingType::string_list, .default_value = "[]", .summary = "Hosts."},
    {.name = "extra", .type = SettingType::string_map, .default_value = "{}", .summary = "Extra."},
    {.name = "keys",
     .type = SettingType::string_list,
     .default_value = "",
     .summary = "Keys.",
     .secret = true},
    {.name = "link",
     .type = SettingType::string,
     .summary = "Link.",
     .secret = true,
     .shown = [](std::string_view link) { return std::string(link.substr(0, 4)) + "…"; }},
    {.name = "logins",
     .type = SettingType::string_map,
     .default_value = "",
     .summary = "Logins.",
     .secret = true},
});

std::vector<SettingProblem> validate_probe(const SettingValues& values) {
  std::vector<SettingProblem> problems;
  const auto report = [&](std::string setting, std::string message, std::string hint) {
    problems.push_back({{}, std::move(setting), std::move(message), std::move(hint)});
  };
  if (values.map("extra").contains("linger.max.ms")) {
    report("extra.linger.max.ms", "is not for you", "leave it out");
  }
  if (values.flag("eager") && values.usable("mode") && values.text("mode") != "fast") {
    report("eager", "needs mode = \"fast\"", "set mode = \"fast\"");
  }
  if (values.text("label") == "lonely") report("wait", "is needed with that label", "set it");
  return problems;
}

}  // namespace

ConfigFixture::ConfigFixture() {
  registry_.add({.kind = "plain", .summary = "", .settings = {}, .validate = {}, .create = {}});
  registry_.add({.kind = "probe",
                 .summary = "",
                 .settings = kProbe,
                 .validate = validate_probe,
                 .attempt_limit = "attempt",
                 .create = {}});
}

ConfigLoader ConfigFixture::loader(Environment environment) const {
  return {registry_,
          {.file = file_, .environment = std::move(environment), .host_name = "test-host"}};
}

std::shared_ptr<const Config> ConfigFixture::load(Environment environment) const {
  LoadedConfig loaded = loader(std::move(environment)).load();
  if (auto* problems = std::get_if<ConfigProblems>(&loaded)) {
    for (const std::string& problem : shown(*problems)) ADD_FAILURE() << problem;
    throw std::runtime_error("the configuration should load");
  }
  return std::get<std::shared_ptr<const Config>>(loaded);
}

std::vector<std::string> ConfigFixture::problems(Environment environment) const {
  const LoadedConfig loaded = loader(std::move(environment)).load();
  const auto* problems = std::get_if<ConfigProblems>(&loaded);
  return problems == nullptr ? std::vector<std::string>{} : shown(*problems);
}

std::vector<std::string> ConfigFixture::shown(const ConfigProblems& problems) const {
  std::vector<std::string> lines;
  for (const SettingProblem& problem : problems) {
    expect_hint_form(problem);
    std::string line = to_string(problem);
    // The folder's name is another in each run.
    if (!file_.empty() && line.starts_with(file_)) line.erase(0, file_.size() + 1);
    lines.push_back(line + " | " + problem.hint);
  }
  return lines;
}

}  // namespace outfall::test
