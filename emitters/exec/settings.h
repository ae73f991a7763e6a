#pragma once

#include <span>
#include <string>
#include <vector>

#include "emitter/emitter.h"

namespace outfall {

// The settings of one exec emitter, resolved once when it is created. A value type.
struct ExecSettings {
  std::vector<std::string> command;      // the program and its arguments
  std::string working_directory;         // empty: the worker's
  std::vector<std::string> environment;  // all of the program's, as "NAME=value"
  std::size_t max_in_flight = 32;
  Milliseconds timeout{60'000};  // of one entry
  Milliseconds restart_initial{100};
  Milliseconds restart_max{10'000};
  Milliseconds stop_grace{5'000};

  // Reads the environment of the worker as well.
  [[nodiscard]] static ExecSettings from(const SettingValues& values);
  // The rows below [emitters.NAME] of this kind, and what is wrong with values by the rules that
  // rows cannot say. Whether the program is there is for find_program() to say.
  [[nodiscard]] static std::span<const SettingSpec> specs();
  [[nodiscard]] static std::vector<SettingProblem> problems(const SettingValues& values);
  // That the program cannot be started now, where all else is right. Looks at the file system.
  [[nodiscard]] static std::vector<std::string> notes(const SettingValues& values);
};

// The environment of a program: of `worker`, entries "NAME=value", those that every program may see
// (PATH, HOME, LANG, …) or with `pass_all` all but outfall's own settings, which hold secrets; and
// `added` on top.
[[nodiscard]] std::vector<std::string> program_environment(
    std::span<const char* const> worker, bool pass_all,
    const std::map<std::string, std::string>& added);

// Where the program is: the path itself where the command names one, else the first match in the
// PATH of its environment. `problem` says for people, with the setting, why it cannot be started,
// and is empty where it can. Looks at the file system.
struct ProgramFile {
  std::string path;
  std::string problem;
};
[[nodiscard]] ProgramFile find_program(const ExecSettings& settings);

// What an errno value says, without its number.
[[nodiscard]] std::string text_of_error(int error);

}  // namespace outfall
