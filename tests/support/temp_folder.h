#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace outfall::test {

// A folder of its own below $TMPDIR or /tmp, readable by every user (servers run as another one),
// removed with all that it holds by the destructor, or by the reaper when the test crashes.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }

  // Writes `text` to `name` inside the folder and returns the file's path. Throws when it cannot.
  std::filesystem::path write(std::string_view name, std::string_view text) const;

 private:
  std::filesystem::path path_;
};

// The whole file as text; throws when it cannot be read.
[[nodiscard]] std::string read_file(const std::filesystem::path& file);

// A TCP port on 127.0.0.1 that nobody listens on, below the range that the kernel hands to outgoing
// connections, and that no other test process gets from here while this one lives: a server can be
// stopped and started on it again.
[[nodiscard]] int free_port();

}  // namespace outfall::test
