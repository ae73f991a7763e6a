#pragma once

#include <filesystem>

namespace outfall::test {

// Where ops/install-dependencies keeps what it fetches beyond Debian's packages.
[[nodiscard]] std::filesystem::path cache_folder();

}  // namespace outfall::test
