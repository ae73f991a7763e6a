// Several workers that append to one file: each has its turn, and finds a whole line before its
// own, whatever became of those before it.
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "emitters/stdout/output.h"
#include "emitters/stdout/stdout.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/temp_folder.h"
#include "tests/support/wait_until.h"

namespace outfall {
namespace {

using test::make_emitter;
using test::read_file;
using test::TempFolder;
using test::TestDrain;
using test::TestSettings;

// Ends after so many looks, and at each does what a test wants to happen in between.
class LooksLeft final : public Patience {
 public:
  explicit LooksLeft(
      int looks, std::function<void(int)> at = [](int) {})
      : looks_(looks), at_(std::move(at)) {}
  [[nodiscard]] int wake_descriptor() const noexcept override { return -1; }
  [[nodiscard]] MonotonicTime::duration left() noexcept override {
    at_(++made_);
    return Milliseconds{made_ < looks_ ? 1 : 0};
  }
  [[nodiscard]] int made() const { return made_; }

 private:
  const int looks_;
  const std::function<void(int)> at_;
  int made_ = 0;
};

// Another process at the same file.
class Other {
 public:
  explicit Other(const std::string& path)
      : descriptor_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) {
    EXPECT_GE(descriptor_, 0);
  }
  ~Other() { ::close(descriptor_); }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;

  void append(std::string_view text) const {
    EXPECT_EQ(::write(descriptor_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  [[nodiscard]] bool lock() const { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0; }
  void unlock() const { EXPECT_EQ(::flock(descriptor_, LOCK_UN), 0); }

 private:
  const int descriptor_;
};

class StdoutShared : public testing::Test {
 protected:
  // All of it, or the error's code.
  static std::string write(Output& output, std::string_view lines, Patience& patience) {
    const Output::Written written = output.write(lines, patience);
    if (written.error) return written.error->code;
    return written.whole == lines.size() ? "written" : "in part";
  }
  std::string write(Output& output, std::string_view lines) { return write(output, lines, none_); }

  TempFolder folder_;
  const std::string path_ = folder_ / "lines";
  LooksLeft none_{1};
};

TEST_F(StdoutShared, ALineThatAKilledWorkerHasTornIsEndedWhereTheFileWasOpenBefore) {
  for (const bool sync : {false, true}) {
    std::filesystem::remove(path_);
    Output killed(path_, sync);
    Output next(path_, sync);
    EXPECT_EQ(write(next, "one\n"), "written");
    EXPECT_EQ(write(killed, "two\nthree\n"), "written");
    ASSERT_EQ(::truncate(path_.c_str(), 10), 0);
    EXPECT_EQ(write(next, "four\nfive\n"), "written");
    Other(path_).append("si");
    EXPECT_EQ(write(next, "seven\n"), "written");
    EXPECT_EQ(read_file(path_), "one\ntwo\nth\nfour\nfive\nsi\nseven\n");
  }
}

TEST_F(StdoutShared, TheOffsetIsThatOfTheLineBehindATornOne) {
  Output output(path_, false);
  EXPECT_EQ(write(output, "one\n"), "written");
  Other(path_).append("tw");
  const Output::Written written = output.write("three\n", none_);
  EXPECT_EQ(written.offset, 7);
}

// A worker that is stopped (SIGSTOP) within its write keeps the lock for as long as it stands.
TEST_F(StdoutShared, AHolderThatDoesNotLetGoFailsTheWriteForNow) {
  const Other holder(path_);
  ASSERT_TRUE(holder.lock());
  Output output(path_, false);
  EXPECT_EQ(write(output, "one\n"), "stdout.locked");
  EXPECT_EQ(read_file(path_), "");
  holder.append("ze");
  holder.unlock();
  EXPECT_EQ(write(output, "one\n"), "written");
  EXPECT_EQ(read_file(path_), "ze\none\n");
}

TEST_F(StdoutShared, AWriteWaitsForItsTurn) {
  const Other holder(path_);
  ASSERT_TRUE(holder.lock());
  Output output(path_, false);
  LooksLeft patience(100, [&](int look) {
    if (look < 5) return;
    if (look == 5) holder.append("zero\n");
    holder.unlock();
  });
  EXPECT_EQ(write(output, "one\n", patience), "written");
  EXPECT_EQ(patience.made(), 5);
  EXPECT_EQ(read_file(path_), "zero\none\n");
}

TEST_F(StdoutShared, TheLockIsGivenBackWhateverBecameOfTheWrite) {
  const Other other(path_);
  for (const bool sync : {false, true}) {
    Output output(path_, sync);
    EXPECT_EQ(write(output, "one\n"), "written");
    EXPECT_TRUE(other.lock());
    EXPECT_EQ(write(output, "two\n"), "stdout.locked");
    other.unlock();
    EXPECT_EQ(write(output, "three\n"), "written");
    EXPECT_TRUE(other.lock());
    other.unlock();
  }
}

// Rotation: what holds the file that was moved away holds up nobody at the new one.
TEST_F(StdoutShared, AFileThatIsMovedAwayWhileItIsLockedIsNotWaitedFor) {
  Output output(path_, false);
  EXPECT_EQ(write(output, "one\n"), "written");
  const Other holder(path_);
  ASSERT_TRUE(holder.lock());
  LooksLeft patience(100, [&](int look) {
    if (look == 3) std::filesystem::rename(path_, path_ + ".1");
  });
  EXPECT_EQ(write(output, "two\n", patience), "written");
  EXPECT_EQ(patience.made(), 3);
  EXPECT_EQ(read_file(path_ + ".1"), "one\n");
  EXPECT_EQ(read_file(path_), "two\n");
}

TEST_F(StdoutShared, APipeIsNotLocked) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  const int reader = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  const Other holder(path_);
  ASSERT_TRUE(holder.lock());
  Output output(path_, false);
  EXPECT_EQ(write(output, "one\n"), "written");
  std::array<char, 8> text{};
  EXPECT_EQ(::read(reader, text.data(), text.size()), 4);
  ::close(reader);
}

class StdoutLocked : public StdoutShared {
 protected:
  StdoutLocked() { EXPECT_TRUE(holder_.lock()); }

  // Descriptors of the file in this process.
  [[nodiscard]] std::size_t opened() const {
    std::size_t count = 0;
    for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(each.path(), gone) == path_) ++count;
    }
    return count;
  }

  const EmitterKind kind_ = stdout_emitter_kind();
  const Other holder_{path_};
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_ =
      make_emitter(kind_, TestSettings(kind_).text("path", path_), drain_);
};

TEST_F(StdoutLocked, AnEntryIsTriedAgainWhereTheLockOutlastsItsLease) {
  const auto tokens =
      drain_.emit(*emitter_, {{.key = "a"}}, system_clock().monotonic() + Milliseconds{50});
  drain_.wait_for_all();
  const Outcome& outcome = *drain_.item(tokens[0]).outcome;
  EXPECT_EQ(outcome.kind, OutcomeKind::destination_unavailable);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code, "stdout.locked");
  EXPECT_EQ(outcome.error->message, path_ + ": another process keeps the file locked");
  EXPECT_EQ(read_file(path_), "");
  holder_.unlock();
  drain_.new_runs();
  const auto again = drain_.emit(*emitter_, {{.key = "a"}});
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(again[0]), OutcomeKind::delivered);
}

TEST_F(StdoutLocked, AStopDoesNotWaitForTheLock) {
  const auto tokens = drain_.emit(*emitter_, {{.key = "a"}, {.key = "b"}});
  test::wait_until([this] { return opened() == 2; }, "it is at the file, as the holder is");
  emitter_->stop(Milliseconds{0});
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(2, OutcomeKind::shutdown));
  EXPECT_EQ(read_file(path_), "");
}

}  // namespace
}  // namespace outfall
