// Goal: a worker of the torture that ends although nobody asked it to fails its run, with whatever
// code it ended. Method: programs in its place that end by themselves.

#include "tests/faults/torture/worker.h"

#include <csignal>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {
namespace {

class TortureWorker : public testing::Test {
 protected:
  // One whose process does what this line of a shell says.
  std::unique_ptr<Worker> worker(const std::string& line) {
    const std::filesystem::path program = folder_ / "program";
    std::ofstream(program) << "#!/bin/sh\n" << line << "\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    return std::make_unique<Worker>(Worker::Options{.outfall = program.string(),
                                                    .name = "worker-0",
                                                    .folder = folder_.path(),
                                                    .server_ports = {},
                                                    .database = "none",
                                                    .settings = ""},
                                    history_);
  }
  static void wait_for_end(Worker& worker) {
    test::wait_until([&] { return worker.gone(); }, "the end of the worker");
  }

  test::TempFolder folder_;
  History history_;
};

// The run passed where that was an orderly end.
TEST_F(TortureWorker, OneThatEndsByItselfHasCrashedWithWhateverCode) {
  for (const char* line : {"exit 0", "exit 1", "exit 78", "kill -KILL $$"}) {
    const auto one = worker(line);
    one->start();
    wait_for_end(*one);
    EXPECT_NE(one->crash(), "") << line;
  }
}

TEST_F(TortureWorker, OneThatIsAskedToEndHasNot) {
  const auto one = worker("exec sleep 600");
  one->start();
  one->terminate();
  wait_for_end(*one);
  EXPECT_EQ(one->crash(), "");
  one->start();
  one->kill();
  EXPECT_EQ(one->crash(), "");
}

// A point that kills it, and no other end than that.
TEST_F(TortureWorker, OneMayEndAsItsFaultSaysAndInNoOtherWay) {
  const test::ExitStatus killed{.code = std::nullopt, .signal = SIGKILL};
  for (const bool as_said : {true, false}) {
    const auto one = worker(as_said ? "kill -KILL $$" : "exit 0");
    one->tolerate(killed);
    one->start();
    wait_for_end(*one);
    EXPECT_EQ(one->crash().empty(), as_said);
  }
}

// It was asked for what it counts while it was stopped, and everything waited for it.
TEST_F(TortureWorker, OneThatIsStoppedOrNotUpTellsNoMetrics) {
  const auto one = worker("exec sleep 600");
  EXPECT_EQ(one->metrics(), std::nullopt);
  one->start();
  EXPECT_EQ(one->metrics(), std::nullopt);
  one->freeze();
  test::wait_until([&] { return one->frozen(); }, "the worker to stop");
  EXPECT_EQ(one->metrics(), std::nullopt);
  one->thaw();
  one->kill();
}

}  // namespace
}  // namespace outfall::torture
