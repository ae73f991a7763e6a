#pragma once

#include <string_view>

namespace outfall {

// What this binary was built from.
struct BuildInfo {
  std::string_view version;
  std::string_view commit;      // "unknown" when built from an archive
  std::string_view compiler;    // "GNU 12.2.0"
  std::string_view build_type;  // "RelWithDebInfo"
};

[[nodiscard]] const BuildInfo& build_info() noexcept;

}  // namespace outfall
