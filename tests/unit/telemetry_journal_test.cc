// Entries are read back as journald reads them: NAME=value lines, and values with a line break by
// their length. That the real one understands them shows tests/systems/systemd_test.py.

#include <cstring>
#include <filesystem>
#include <map>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "telemetry/journal.h"

namespace outfall {
namespace {

using testing::ElementsAre;
using testing::Pair;

std::map<std::string, std::string> parse(const std::string& entry) {
  std::map<std::string, std::string> result;
  for (std::size_t at = 0; at < entry.size();) {
    const std::size_t end = entry.find_first_of("=\n", at);
    if (end == std::string::npos) throw std::runtime_error("a name without an end");
    const std::string name = entry.substr(at, end - at);
    std::size_t start = end + 1;
    std::size_t size = 0;
    if (entry[end] == '=') {
      size = entry.find('\n', start) - start;
    } else {
      for (int i = 7; i >= 0; --i)
        size =
            size << 8 | static_cast<unsigned char>(entry.at(start + static_cast<std::size_t>(i)));
      start += 8;
    }
    result[name] = entry.substr(start, size);
    if (entry.at(start + size) != '\n') throw std::runtime_error("a value without an end");
    at = start + size + 1;
  }
  return result;
}

std::map<std::string, std::string> entry_of(LogLevel level, std::string_view message,
                                            std::initializer_list<LogField> fields) {
  std::string out;
  append_journal_entry(out, level, message, fields);
  return parse(out);
}

TEST(Journal, EveryFieldIsOneOfTheJournals) {
  EXPECT_THAT(
      entry_of(LogLevel::warning, "waiting for the database",
               {{"kind", "unavailable"}, {"entries", 12}, {"full", true}}),
      ElementsAre(Pair("MESSAGE", "waiting for the database kind=unavailable entries=12 full=true"),
                  Pair("OUTFALL_ENTRIES", "12"), Pair("OUTFALL_FULL", "true"),
                  Pair("OUTFALL_KIND", "unavailable"), Pair("OUTFALL_LEVEL", "warning"),
                  Pair("OUTFALL_MSG", "waiting for the database"), Pair("PRIORITY", "4"),
                  Pair("SYSLOG_IDENTIFIER", "outfall")));
}

TEST(Journal, PrioritiesAreSyslogs) {
  EXPECT_EQ(entry_of(LogLevel::error, "m", {}).at("PRIORITY"), "3");
  EXPECT_EQ(entry_of(LogLevel::info, "m", {}).at("PRIORITY"), "6");
  EXPECT_EQ(entry_of(LogLevel::debug, "m", {}).at("PRIORITY"), "7");
  EXPECT_EQ(entry_of(LogLevel::trace, "m", {}).at("PRIORITY"), "7");
}

TEST(Journal, AValueCanForgeNoField) {
  const auto entry = entry_of(LogLevel::info, "m\nPRIORITY=0", {{"error", "a\nPRIORITY=0\n\"b\""}});
  EXPECT_EQ(entry.at("PRIORITY"), "6");
  EXPECT_EQ(entry.at("OUTFALL_ERROR"), "a\nPRIORITY=0\n\"b\"");
  EXPECT_EQ(entry.at("OUTFALL_MSG"), "m\nPRIORITY=0");
  EXPECT_EQ(entry.at("MESSAGE").find('\n'), std::string::npos);
}

TEST(Journal, LongValuesAreCut) {
  const std::string value(10 * kMaxLogValueBytes, 'x');
  EXPECT_EQ(entry_of(LogLevel::info, "m", {{"error", value}}).at("OUTFALL_ERROR").size(),
            kMaxLogValueBytes);
}

TEST(Journal, SendsOneDatagramAndTellsWhenNobodyReads) {
  char name[] = "/tmp/outfall-journal-XXXXXX";
  const std::filesystem::path folder = mkdtemp(name);
  const std::string path = (folder / "socket").string();
  const Journal journal(path);
  EXPECT_FALSE(journal.send(LogLevel::info, "lost", {}));

  const int receiver = socket(AF_UNIX, SOCK_DGRAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(bind(receiver, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_TRUE(journal.send(LogLevel::info, "kept", {}));
  std::string buffer(65536, '\0');
  const ssize_t size = recv(receiver, buffer.data(), buffer.size(), MSG_DONTWAIT);
  close(receiver);
  std::filesystem::remove_all(folder);
  ASSERT_GT(size, 0);
  EXPECT_EQ(parse(buffer.substr(0, static_cast<std::size_t>(size))).at("OUTFALL_MSG"), "kept");
}

TEST(Journal, IsNotThereWhereStandardErrorLeadsElsewhere) {
  unsetenv("JOURNAL_STREAM");
  EXPECT_EQ(Journal::behind_standard_error(), nullptr);
  setenv("JOURNAL_STREAM", "1:1", 1);  // inherited by a program whose output was redirected
  EXPECT_EQ(Journal::behind_standard_error(), nullptr);
  unsetenv("JOURNAL_STREAM");
}

}  // namespace
}  // namespace outfall
