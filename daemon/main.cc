#include <csignal>
#include <iostream>

#include "daemon/command_line.h"

int main(int argc, char** argv) {
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
