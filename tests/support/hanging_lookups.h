#pragma once

#include <cstddef>

namespace outfall::test {

// A name server that hangs: while one of these lives, lookups of names below hang.test do not end.
// The destructor ends them and waits until they have. For this the program's own getaddrinfo()
// stands before the C library's, so that hanging_lookups.cc is a source of such a test and none of
// the library. One at a time; all functions can be called from any thread.
class HangingLookups {
 public:
  HangingLookups();
  ~HangingLookups();
  HangingLookups(const HangingLookups&) = delete;
  HangingLookups& operator=(const HangingLookups&) = delete;

  // How many lookups hang now.
  [[nodiscard]] std::size_t waiting() const;
  // Lets those that hang and all that follow end.
  void end();
};

}  // namespace outfall::test
