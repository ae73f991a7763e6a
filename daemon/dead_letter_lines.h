#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "config/loader.h"
#include "store/operator_store.h"

// The JSON Lines that `outfall dead-letters export` writes and `import` reads: one object a line,
// as `dead-letters show --json` has it. Pure but for the stream that is read.

namespace outfall {

// One line of a file to import.
struct DeadLetterLine {
  std::uint32_t line = 0;
  MendRequest mend;
  // What cannot be changed, as far as the line says it.
  std::optional<std::string> stream, type, key, source, subject;
};

struct DeadLetterFile {
  std::string name;  // for problems: "fixed.jsonl"
  std::vector<DeadLetterLine> lines;
  std::vector<SettingProblem> problems;  // with file and line
};

// Reads all of it; lines that are wrong become problems, and empty ones are left out.
[[nodiscard]] DeadLetterFile read_dead_letter_lines(std::istream& in, std::string name);

[[nodiscard]] SettingProblem line_problem(const DeadLetterFile& file, std::uint32_t line,
                                          std::string message, std::string hint);

// What the line says other than the dead letter, of what cannot be changed: its field's name, or
// nothing.
[[nodiscard]] std::string contradiction(const DeadLetterLine& line,
                                        const DeadLetterContent& content);

}  // namespace outfall
