#pragma once

#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

#include <gtest/gtest.h>

#include "emitters/exec/conversation.h"
#include "emitters/exec/exec.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {

// Whether a process runs; one that nobody has reaped yet does not.
[[nodiscard]] bool is_running(pid_t pid);

// An exec emitter whose program is a real Python script of the test. The script runs in folder_ and
// has `events()`, which reads entries one by one, and `answer(event, outcome, **more)`.
class ExecTest : public testing::Test {
 protected:
  ExecTest();

  void create(const std::string& script);
  std::vector<std::uint64_t> deliver(const std::vector<TestEntry>& entries);
  // One entry without a key.
  OutcomeKind deliver_one(const std::string& type = "test.entry");
  // Again and again until it is delivered; fails where something else than the program's absence
  // keeps it from that.
  void deliver_in_the_end();

  [[nodiscard]] const Outcome& outcome(std::uint64_t token);
  [[nodiscard]] std::string error_code(std::uint64_t token);
  [[nodiscard]] std::string error_message(std::uint64_t token);
  [[nodiscard]] double metric(Conversation::Metric metric);
  [[nodiscard]] bool has_logged(const std::string& text);
  // The number that the script has written to a file of folder_, once it is there.
  [[nodiscard]] pid_t pid_in(const std::string& file);
  void wait_until_ended(pid_t pid);
  // Entries without a key, of these types.
  [[nodiscard]] static std::vector<TestEntry> entries(std::size_t count,
                                                      const std::string& type = "test.entry");

  EmitterKind kind_ = exec_emitter_kind();
  TestSettings settings_{kind_};
  TempFolder folder_;
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

}  // namespace outfall::test
