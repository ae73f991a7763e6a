// stdout writing to files and FIFOs: the conformance suite, offsets, rotation, full disks, torn
// lines, and readers that come late, are slow or go away.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <poll.h>
#include <set>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "emitters/stdout/stdout.h"
#include "tests/support/emitter_conformance.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/event_lines.h"

namespace outfall {
namespace {

using test::ConformanceCase;
using test::lines_of;
using test::make_emitter;
using test::read_file;
using test::received_from;
using test::received_from_lines;
using test::TempFolder;
using test::TestDrain;
using test::TestEntry;
using test::TestSettings;
using Received = test::ConformanceSubject::Received;

class FileSubject final : public test::ConformanceSubject {
 public:
  explicit FileSubject(bool sync) { settings_.text("path", path_).number("fsync", sync ? 1 : 0); }
  std::unique_ptr<Emitter> create(CompletionSink& sink) override {
    return make_emitter(stdout_emitter_kind(), settings_, sink);
  }
  std::optional<std::vector<Received>> received() override {
    return received_from_lines(std::filesystem::exists(path_) ? read_file(path_) : "");
  }

 private:
  TempFolder folder_;
  const std::string path_ = folder_ / "lines";
  TestSettings settings_{stdout_emitter_kind()};
};

// A FIFO and its reader, which can pause.
class FifoReader {
 public:
  explicit FifoReader(const std::string& path) {
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    EXPECT_GE(descriptor_, 0);
    thread_ = std::thread([this] { run(); });
  }
  ~FifoReader() { hang_up(); }

  void pause() { paused_ = true; }
  void resume() { paused_ = false; }
  // All that was written so far, read to the end also while paused.
  std::string text() {
    drain();
    const std::lock_guard lock(mutex_);
    return text_;
  }
  void hang_up() {
    if (!thread_.joinable()) return;
    ended_ = true;
    thread_.join();
    ::close(descriptor_);
  }

 private:
  void run() {
    while (!ended_) {
      pollfd polled{descriptor_, POLLIN, 0};
      // The pause bounds how long the end of the test waits, and nothing else.
      ::poll(&polled, paused_ ? 0 : 1, 2);
      if (!paused_) drain();
    }
  }
  void drain() {
    const std::lock_guard lock(mutex_);
    char buffer[65'536];
    for (ssize_t got = 0; (got = ::read(descriptor_, buffer, sizeof buffer)) > 0;) {
      text_.append(buffer, static_cast<std::size_t>(got));
    }
  }

  int descriptor_ = -1;
  std::atomic<bool> paused_ = false;
  std::atomic<bool> ended_ = false;
  std::mutex mutex_;
  std::string text_;  // guarded by mutex_
  std::thread thread_;
};

class FifoSubject final : public test::ConformanceSubject {
 public:
  std::unique_ptr<Emitter> create(CompletionSink& sink) override {
    return make_emitter(stdout_emitter_kind(), settings_, sink);
  }
  std::optional<std::vector<Received>> received() override {
    return received_from_lines(reader_.text());
  }
  bool stall() override {
    reader_.pause();
    return true;
  }
  void release() override { reader_.resume(); }

 private:
  TempFolder folder_;
  FifoReader reader_{folder_ / "fifo"};
  TestSettings settings_ = TestSettings(stdout_emitter_kind()).text("path", folder_ / "fifo");
};

OUTFALL_EMITTER_CONFORMANCE(
    Stdout, ConformanceCase{"File", [] { return std::make_unique<FileSubject>(false); }},
    ConformanceCase{"SyncedFile", [] { return std::make_unique<FileSubject>(true); }},
    ConformanceCase{"Fifo", [] { return std::make_unique<FifoSubject>(); }});

class Stdout : public testing::Test {
 protected:
  void create() { emitter_ = make_emitter(kind_, settings_.text("path", path_), drain_); }
  std::vector<std::uint64_t> deliver(const std::vector<TestEntry>& entries,
                                     MonotonicTime deadline = MonotonicTime::max()) {
    const auto tokens = drain_.emit(*emitter_, entries, deadline);
    drain_.wait_for_all();
    return tokens;
  }
  OutcomeKind deliver_one() {
    drain_.new_runs();
    return drain_.kind(deliver({{.key = "one"}})[0]);
  }
  std::string error_code(std::uint64_t token) {
    const Outcome& outcome = *drain_.item(token).outcome;
    return outcome.error ? outcome.error->code : "";
  }

  EmitterKind kind_ = stdout_emitter_kind();
  TestSettings settings_{kind_};
  TempFolder folder_;
  std::string path_ = folder_ / "lines";
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

TEST_F(Stdout, TheRecordIdIsTheOffsetOfTheLine) {
  folder_.write("lines", "there before\n");
  create();
  std::vector<std::uint64_t> tokens = deliver({{.payload = "1"}, {.payload = "\"zwei\""}});
  const auto more = deliver({{.payload = "3"}});
  tokens.insert(tokens.end(), more.begin(), more.end());
  const std::string text = read_file(path_);
  EXPECT_TRUE(text.starts_with("there before\n{"));
  for (const std::uint64_t token : tokens) {
    const std::size_t offset = std::stoul(drain_.item(token).outcome->record_id);
    ASSERT_LT(offset, text.size());
    EXPECT_EQ(text[offset - 1], '\n');
    const std::string line = text.substr(offset, text.find('\n', offset) - offset);
    EXPECT_EQ(received_from(line).envelope_id, drain_.item(token).envelope_id);
  }
}

TEST_F(Stdout, FollowsARotatedFile) {
  create();
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  std::filesystem::rename(path_, path_ + ".1");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  std::filesystem::remove(path_);
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  EXPECT_EQ(lines_of(read_file(path_ + ".1")).size(), 1U);
  EXPECT_EQ(lines_of(read_file(path_)).size(), 1U);
}

TEST_F(Stdout, EndsALineThatACrashHasTorn) {
  folder_.write("lines", "{\"specversion\":\"1.0\",\"id\":\"01");
  create();
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  const auto lines = lines_of(read_file(path_));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NO_THROW((void)received_from(lines[1]));
}

TEST_F(Stdout, TakesBackATornLineWhenTheDiskIsFull) {
  create();
  std::vector<TestEntry> entries;
  for (int i = 0; i < 10; ++i) {
    entries.push_back(
        {.key = i % 2 == 0 ? "even" : "odd", .payload = "\"" + std::string(1000, 'x') + "\""});
  }
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit full{4500, old.rlim_max};  // room for three lines and a part of the fourth
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  const auto tokens = deliver(entries);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);

  EXPECT_EQ(lines_of(read_file(path_)).size(), 3U);
  auto expected = std::vector<OutcomeKind>(10, OutcomeKind::blocked);
  for (std::size_t i = 0; i < 3; ++i) expected[i] = OutcomeKind::delivered;
  expected[3] = expected[4] = OutcomeKind::destination_unavailable;
  EXPECT_EQ(drain_.kinds(tokens), expected);
  EXPECT_EQ(error_code(tokens[3]), "stdout.disk_full");

  // There is room again: the file goes on with whole lines.
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  for (const std::string& line : lines_of(read_file(path_))) {
    EXPECT_NO_THROW((void)received_from(line));
  }
}

TEST_F(Stdout, AFullDiskIsNotTheFaultOfTheEntry) {
  path_ = "/dev/full";
  create();
  const auto tokens = deliver({{.key = "a"}, {.key = "a"}, {}});
  EXPECT_EQ(drain_.kinds(tokens),
            (std::vector{OutcomeKind::destination_unavailable, OutcomeKind::blocked,
                         OutcomeKind::destination_unavailable}));
  EXPECT_EQ(error_code(tokens[0]), "stdout.disk_full");
}

TEST_F(Stdout, WaitsForAFolderThatIsNotThereYet) {
  path_ = folder_ / "later/lines";
  create();
  EXPECT_FALSE(emitter_->check(Milliseconds{100}).ok);
  const auto tokens = deliver({{}});
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::destination_unavailable);
  EXPECT_EQ(error_code(tokens[0]), "stdout.open_failed");
  std::filesystem::create_directory(folder_ / "later");
  EXPECT_TRUE(emitter_->check(Milliseconds{100}).ok);
  EXPECT_FALSE(std::filesystem::exists(path_)) << "the check created the file";
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
}

// A file system of which nobody takes the requests, as a network share whose server is gone.
class HangingShare {
 public:
  explicit HangingShare(const std::filesystem::path& folder) : folder_(folder) {
    std::filesystem::create_directory(folder_);
    requests_ = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const std::string options =
        "rootmode=40000,user_id=0,group_id=0,fd=" + std::to_string(requests_);
    mounted_ = requests_ >= 0 &&
               ::mount("test", folder_.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
  }
  ~HangingShare() {
    // Whoever waits for an answer is told that there will be none.
    if (requests_ >= 0) ::close(requests_);
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  HangingShare(const HangingShare&) = delete;
  HangingShare& operator=(const HangingShare&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  const std::filesystem::path folder_;
  int requests_ = -1;
  bool mounted_ = false;
};

TEST_F(Stdout, ACheckOfAShareThatHangsEnds) {
  const HangingShare share(folder_ / "share");
  if (!share.mounted()) GTEST_SKIP() << "mounting is for root, and not in every container";
  path_ = folder_ / "share/lines";
  create();
  const Emitter::Health health = emitter_->check(Milliseconds{100});
  EXPECT_FALSE(health.ok);
  EXPECT_EQ(health.detail, path_ + ": the file system does not answer");
}

TEST_F(Stdout, WritesABatchThatIsLargerThanItsBuffer) {
  create();
  std::vector<TestEntry> entries;
  for (int i = 0; i < 12; ++i) {
    entries.push_back({.key = "k", .payload = "\"" + std::string(400'000, 'y') + "\""});
  }
  EXPECT_EQ(drain_.kinds(deliver(entries)), std::vector<OutcomeKind>(12, OutcomeKind::delivered));
  EXPECT_EQ(lines_of(read_file(path_)).size(), 12U);
}

class StdoutFifo : public Stdout {
 protected:
  StdoutFifo() { std::signal(SIGPIPE, SIG_DFL); }
};

TEST_F(StdoutFifo, AFifoWithoutAReaderIsUnavailableUntilOneComes) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  create();
  const auto tokens = deliver({{}});
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::destination_unavailable);
  EXPECT_EQ(error_code(tokens[0]), "stdout.reader_gone");
  std::filesystem::remove(path_);
  FifoReader reader(path_);
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  EXPECT_EQ(lines_of(reader.text()).size(), 1U);
  EXPECT_EQ(drain_.item(2).outcome->record_id, "");
}

TEST_F(StdoutFifo, AReaderThatGoesAwayDoesNotKillTheProcess) {
  {
    FifoReader reader(path_);
    create();
    EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
    reader.pause();
    reader.hang_up();
  }
  const auto tokens = deliver({{}, {}});
  EXPECT_EQ(drain_.kinds(tokens),
            std::vector<OutcomeKind>(2, OutcomeKind::destination_unavailable));
  EXPECT_EQ(error_code(tokens[0]), "stdout.reader_gone");
  std::filesystem::remove(path_);
  FifoReader next(path_);
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  EXPECT_EQ(lines_of(next.text()).size(), 1U);
}

// The reader takes nothing until the deadline, in the middle of a line: what it got whole is
// delivered, the torn line is in doubt and gets its rest first when the reader goes on.
TEST_F(StdoutFifo, AStuckReaderGetsTheRestOfTheTornLineFirst) {
  FifoReader reader(path_);
  reader.pause();
  create();
  std::vector<TestEntry> entries;
  for (int i = 0; i < 100; ++i) {
    entries.push_back({.key = std::to_string(i), .payload = "\"" + std::string(1500, 'z') + "\""});
  }
  const auto tokens = deliver(entries, system_clock().monotonic() + Milliseconds{100});
  const auto kinds = drain_.kinds(tokens);
  const auto delivered = static_cast<std::size_t>(
      std::ranges::find_if(kinds, [](OutcomeKind kind) { return kind != OutcomeKind::delivered; }) -
      kinds.begin());
  ASSERT_GT(delivered, 0U);
  ASSERT_LT(delivered, 100U);
  std::size_t rest = delivered;
  if (kinds[rest] == OutcomeKind::possibly_delivered) {
    EXPECT_TRUE(drain_.item(tokens[rest]).outcome->connection_lost);
    ++rest;
  }
  for (std::size_t i = rest; i < 100; ++i) {
    ASSERT_EQ(kinds[i], OutcomeKind::destination_unavailable) << i;
    EXPECT_EQ(error_code(tokens[i]), "stdout.stuck");
  }
  reader.resume();
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  const auto received = received_from_lines(reader.text());
  ASSERT_EQ(received.size(), rest + 1);
  for (std::size_t i = 0; i < rest; ++i) {
    EXPECT_EQ(received[i].envelope_id, drain_.item(tokens[i]).envelope_id);
  }
}

}  // namespace
}  // namespace outfall
