#include "tests/support/cache_folder.h"

#include <cstdlib>

namespace outfall::test {

std::filesystem::path cache_folder() {
  if (const char* cache = std::getenv("OUTFALL_CACHE")) return cache;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) {
    return std::filesystem::path(cache) / "outfall";
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : "/root") / ".cache/outfall";
}

}  // namespace outfall::test
