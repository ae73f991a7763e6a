#include <csignal>
#include <fcntl.h>
#include <iostream>
#include <malloc.h>
#include <unistd.h>

#include "daemon/command_line.h"

namespace {

// A standard descriptor that is closed would go to the next socket, and what is written for people
// would go to the database. In its place comes one that refuses its use, as the closed one did.
void occupy_closed_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) >= 0) continue;
    (void)open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

// glibc keeps more and more of what is freed, on the heap of each thread, once a batch was larger
// than this. So it goes back, for 0.2 us an entry (docs/internals/performance.md).
void give_back_large_blocks() {
  (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

}  // namespace

int main(int argc, char** argv) {
  give_back_large_blocks();
  occupy_closed_descriptors();
  // A reader that goes away is an error of that write, not the end of the worker.
  std::signal(SIGPIPE, SIG_IGN);
  outfall::EmitterRegistry registry;
  outfall::register_emitters(registry);
  outfall::Context context{.registry = registry,
                           .environment = outfall::outfall_environment(),
                           .out = std::cout,
                           .err = std::cerr};
  return outfall::run_command_line(argc, argv, context);
}
