// stdout writing to descriptor 1 as it finds it: a file, a pipe, a socket, or closed at its other
// end.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "emitters/stdout/stdout.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/temp_folder.h"

namespace outfall {
namespace {

using test::make_emitter;
using test::TempFolder;
using test::TestDrain;
using test::TestEntry;
using test::TestSettings;

// Puts another file in the place of standard output; failures of the test go to the old one again
// when it ends.
class StandardOutput {
 public:
  explicit StandardOutput(int descriptor) {
    std::fflush(stdout);
    saved_ = ::dup(STDOUT_FILENO);
    EXPECT_EQ(::dup2(descriptor, STDOUT_FILENO), STDOUT_FILENO);
    ::close(descriptor);
  }
  ~StandardOutput() {
    ::dup2(saved_, STDOUT_FILENO);
    ::close(saved_);
  }

 private:
  int saved_ = -1;
};

std::size_t lines_in(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

// Reads `count` lines or to the end.
std::string read_lines(int descriptor, std::size_t count) {
  std::string text;
  char buffer[65'536];
  while (lines_in(text) < count) {
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

class StandardOutputTest : public testing::Test {
 protected:
  StandardOutputTest() { std::signal(SIGPIPE, SIG_DFL); }

  std::vector<OutcomeKind> deliver(std::size_t count, std::size_t bytes = 10) {
    emitter_ = make_emitter(kind_, settings_, drain_);
    const auto tokens = drain_.emit(
        *emitter_,
        std::vector<TestEntry>(count, {.payload = "\"" + std::string(bytes, 'x') + "\""}));
    drain_.wait_for_all();
    for (const std::uint64_t token : tokens) {
      EXPECT_EQ(drain_.item(token).outcome->record_id, "");
    }
    return drain_.kinds(tokens);
  }

  const EmitterKind kind_ = stdout_emitter_kind();
  const TestSettings settings_{kind_};
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

const auto kThreeDelivered = std::vector<OutcomeKind>(3, OutcomeKind::delivered);

TEST_F(StandardOutputTest, GoesToAFileBehindWhatIsThere) {
  const TempFolder folder;
  const std::string path = folder.write("out", "before\n");
  {
    const int descriptor = ::open(path.c_str(), O_WRONLY);
    ASSERT_EQ(::lseek(descriptor, 0, SEEK_END), 7);
    const StandardOutput output(descriptor);
    EXPECT_EQ(deliver(3), kThreeDelivered);
  }
  const std::string text = test::read_file(path);
  EXPECT_TRUE(text.starts_with("before\n{"));
  EXPECT_EQ(lines_in(text), 4U);
}

// As a shell's `>>` or a unit's `append:` has it, where the next start or another worker finds what
// a killed one has torn.
TEST_F(StandardOutputTest, EndsATornLineOfAFileThatIsAppendedTo) {
  const TempFolder folder;
  const std::string path = folder.write("out", "before\nto");
  {
    const StandardOutput output(::open(path.c_str(), O_WRONLY | O_APPEND));
    EXPECT_EQ(deliver(3), kThreeDelivered);
  }
  const std::string text = test::read_file(path);
  EXPECT_TRUE(text.starts_with("before\nto\n{")) << text;
  EXPECT_EQ(lines_in(text), 5U);
}

TEST_F(StandardOutputTest, GoesToAPipeAndLeavesItsModeAlone) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  {
    const StandardOutput output(ends[1]);
    EXPECT_EQ(deliver(3), kThreeDelivered);
    EXPECT_EQ(::fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
  }
  EXPECT_EQ(lines_in(read_lines(ends[0], 3)), 3U);
  ::close(ends[0]);
}

TEST_F(StandardOutputTest, GoesToASocket) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  {
    const StandardOutput output(ends[1]);
    EXPECT_EQ(deliver(3), kThreeDelivered);
  }
  EXPECT_EQ(lines_in(read_lines(ends[0], 3)), 3U);
  ::close(ends[0]);
}

// More than a buffer takes, while nobody reads.
TEST_F(StandardOutputTest, AFullPipeOrSocketDoesNotHoldUpAStop) {
  for (const bool socket : {false, true}) {
    std::array<int, 2> ends{};
    ASSERT_EQ(socket ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data())
                     : ::pipe2(ends.data(), O_CLOEXEC),
              0);
    const StandardOutput output(ends[1]);
    emitter_ = make_emitter(kind_, settings_, drain_);
    drain_.emit(*emitter_,
                std::vector<TestEntry>(1000, {.payload = "\"" + std::string(2000, 'x') + "\""}));
    const auto start = std::chrono::steady_clock::now();
    emitter_->stop(Milliseconds{100});
    EXPECT_LT(std::chrono::steady_clock::now() - start, Milliseconds{1100});
    EXPECT_EQ(drain_.completed(), drain_.emitted());
    emitter_.reset();
    ::close(ends[0]);
  }
}

TEST_F(StandardOutputTest, AGoneReaderIsAnOutcomeAndNotASignal) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  ::close(ends[0]);
  const StandardOutput output(ends[1]);
  EXPECT_EQ(deliver(2), std::vector<OutcomeKind>(2, OutcomeKind::destination_unavailable));
  EXPECT_EQ(drain_.item(1).outcome->error->code, "stdout.reader_gone");
  EXPECT_FALSE(emitter_->check(Milliseconds{100}).ok);
}

}  // namespace
}  // namespace outfall
