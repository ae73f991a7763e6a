#pragma once

#include <filesystem>
#include <sys/types.h>

namespace outfall::test {

// Cleans up behind a test binary that crashed, was killed or timed out. A small process of its own,
// started with the first use, reads what there is to clean up from a pipe; when the pipe closes
// because the test binary is gone, it ends the processes that are still listed and removes the
// folders. It has left the binary's process tree, so that ctest's timeout does not take it along.
//
// Used by ChildProcess and TempFolder only. Safe to call from any thread; never blocks.
namespace reaper {

// `signal` asks the process to end; what is still there five seconds later gets SIGKILL, with its
// process group.
void watch_process(pid_t pid, int signal);
void forget_process(pid_t pid);

void watch_folder(const std::filesystem::path& folder);
void forget_folder(const std::filesystem::path& folder);

}  // namespace reaper

}  // namespace outfall::test
