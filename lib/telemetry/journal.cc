#include "telemetry/journal.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace outfall {
namespace {

// syslog's numbers; journald keeps debug as the least.
constexpr std::array<int, 6> kPriorities = {7, 7, 6, 4, 3, 7};

void append_variable(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  if (value.find('\n') == std::string_view::npos) {
    out += '=';
    out += value;
  } else {
    // With a line break inside: the length, little-endian, and then the bytes.
    out += '\n';
    std::uint64_t length = value.size();
    for (int i = 0; i < 8; ++i, length >>= 8) out += static_cast<char>(length & 0xFFU);
    out += value;
  }
  out += '\n';
}

}  // namespace

void append_journal_entry(std::string& out, LogLevel level, std::string_view message,
                          std::span<const LogField> fields) {
  std::string text;
  append_text_message(text, message, fields);
  append_variable(out, "MESSAGE", text);
  append_variable(out, "PRIORITY", std::to_string(kPriorities.at(static_cast<std::size_t>(level))));
  append_variable(out, "SYSLOG_IDENTIFIER", "outfall");
  append_variable(out, "OUTFALL_LEVEL", to_string(level));
  append_variable(out, "OUTFALL_MSG", message);
  for (const LogField& field : fields) {
    std::string name = "OUTFALL_";
    for (const char c : field.name.text)
      name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    std::string value;
    append_plain_value(value, field.value);
    append_variable(out, name, value);
  }
}

Journal::Journal(std::string socket)
    : path_(std::move(socket)), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  path_.resize(std::min(path_.size(), sizeof(sockaddr_un::sun_path) - 1));
}

Journal::~Journal() {
  if (socket_ >= 0) close(socket_);
}

std::unique_ptr<Journal> Journal::behind_standard_error() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  if (stream == nullptr || fstat(STDERR_FILENO, &status) != 0) return nullptr;
  if (fmt::format("{}:{}", status.st_dev, status.st_ino) != stream) return nullptr;
  return std::make_unique<Journal>(std::string(kSocket));
}

bool Journal::send(LogLevel level, std::string_view message,
                   std::span<const LogField> fields) const {
  std::string entry;
  append_journal_entry(entry, level, message, fields);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  ssize_t sent = -1;
  do {
    sent = sendto(socket_, entry.data(), entry.size(), MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(entry.size());
}

}  // namespace outfall
