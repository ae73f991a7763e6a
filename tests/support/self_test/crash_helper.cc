// A test that crashes while it has a server and a child process: prints what must be gone
// afterwards.

#include <cstdlib>
#include <iostream>

#include "tests/support/temp_postgres.h"

int main() {
  const outfall::test::TempPostgres server;
  const outfall::test::ChildProcess child({"sleep", "600"});
  std::cout << server.pid() << "\n" << server.folder().string() << "\n" << child.pid() << std::endl;
  std::abort();
}
