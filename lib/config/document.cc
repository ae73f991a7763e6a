#include "config/document.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace outfall {
namespace {

// Longer than any sensible configuration; guards against a device or a log named by mistake.
constexpr std::size_t kMaxFileBytes = 1u << 20;

// toml++ quotes numbers that it cannot represent and the beginning of words that it does not know:
// an unquoted password is one of these. A single character or an escape tells nothing and helps.
std::string without_values(std::string_view description) {
  std::string text(description);
  constexpr std::string_view kSaw = ", saw '";
  if (const std::size_t saw = text.find(kSaw); saw != std::string::npos) {
    const std::size_t shown = text.size() - saw - kSaw.size();
    if (shown > 2 && text[saw + kSaw.size()] != '\\') text.erase(saw);
  } else if (text.find("representable") != std::string::npos ||
             text.find("interpret") != std::string::npos) {
    const std::size_t first = text.find('\'');
    const std::size_t last = text.rfind('\'');
    if (first != last) text.replace(first, last - first + 1, "the value");
  }
  return text;
}

std::string_view hint_for(std::string_view description) {
  if (description.find("could not determine value type") != std::string_view::npos ||
      description.find("floating-point") != std::string_view::npos ||
      description.find("value-terminator") != std::string_view::npos ||
      description.find("boolean:") != std::string_view::npos ||
      description.find("integer:") != std::string_view::npos) {
    return "write text, durations and sizes in double quotes";
  }
  if (description.find("string: unescaped control characters") != std::string_view::npos) {
    return "close the text with its quote on the line where it begins";
  }
  if (description.find("cannot redefine") != std::string_view::npos) {
    return "it is given twice: keep one of the two";
  }
  return "the file must be valid TOML (https://toml.io)";
}

class Descriptor {
 public:
  explicit Descriptor(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

FileProblem errno_problem() {
  return {.message = fmt::format("cannot be read: {}", std::generic_category().message(errno)),
          .denied = errno == EACCES};
}

}  // namespace

std::variant<toml::table, SettingProblem> parse_document(const std::string& file,
                                                         std::string_view text) {
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    return SettingProblem{.origin = origin_of(file, error.source()),
                          .setting = {},
                          .message = without_values(error.description()),
                          .hint = std::string(hint_for(error.description()))};
  }
}

SettingOrigin origin_of(const std::string& file, const toml::source_region& region) {
  return {.file = file, .line = region.begin.line, .column = region.begin.column, .variable = {}};
}

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::none:
      return "nothing";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    case toml::node_type::date:
      return "a date";
    case toml::node_type::time:
      return "a time";
    case toml::node_type::date_time:
      return "a date and time";
  }
  return "an unknown type";
}

std::variant<std::string, FileProblem> read_small_file(const std::string& path) {
  const Descriptor file(path);
  if (file.get() < 0) return errno_problem();
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return errno_problem();
  if (S_ISDIR(status.st_mode)) return FileProblem{.message = "is a directory"};
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t count = read(file.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_problem();
    if (count == 0) return content;
    content.append(buffer, static_cast<std::size_t>(count));
    if (content.size() > kMaxFileBytes) return FileProblem{.message = "is longer than 1 MiB"};
  }
}

}  // namespace outfall
