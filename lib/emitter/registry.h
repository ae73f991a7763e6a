#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "emitter/emitter.h"

namespace outfall {

// The kinds of emitter that this binary knows. Filled once at start by register_emitters()
// (emitters/all.cc, one line per emitter), read-only afterwards and safe to read from any thread.
class EmitterRegistry {
 public:
  // Aborts when the kind is there already: a defect of the build, not of the input.
  void add(const EmitterKind& kind);
  [[nodiscard]] const EmitterKind* find(std::string_view kind) const;
  [[nodiscard]] std::vector<std::string_view> kinds() const;  // sorted

 private:
  std::map<std::string, EmitterKind, std::less<>> kinds_;
};

// Defined in emitters/all.cc.
void register_emitters(EmitterRegistry& registry);

}  // namespace outfall
