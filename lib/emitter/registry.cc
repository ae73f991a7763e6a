#include "emitter/registry.h"

#include <cstdio>
#include <cstdlib>

namespace outfall {

void EmitterRegistry::add(const EmitterKind& kind) {
  const auto [place, added] = kinds_.try_emplace(std::string(kind.kind), kind);
  if (added) return;
  std::fprintf(stderr, "outfall: the emitter kind \"%s\" is registered twice\n",
               place->first.c_str());
  std::abort();
}

const EmitterKind* EmitterRegistry::find(std::string_view kind) const {
  const auto found = kinds_.find(kind);
  return found == kinds_.end() ? nullptr : &found->second;
}

std::vector<std::string_view> EmitterRegistry::kinds() const {
  std::vector<std::string_view> names;
  names.reserve(kinds_.size());
  for (const auto& [name, kind] : kinds_) names.push_back(name);
  return names;
}

}  // namespace outfall
