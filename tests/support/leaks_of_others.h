#pragma once

#include "tests/support/sanitizers.h"

#ifdef OUTFALL_ADDRESS_SANITIZER
#include <sanitizer/lsan_interface.h>
#endif

namespace outfall::test {

// While one of these lives, what its thread allocates is not asked for by the sanitizer: a library
// is known to forget it. To be put around as little as possible, with the reason beside it.
class LeaksOfOthers {
#ifdef OUTFALL_ADDRESS_SANITIZER
  __lsan::ScopedDisabler disabler_;
#else
 public:
  LeaksOfOthers() {
  }  // not trivial, so that nobody takes it for unused
#endif
};

}  // namespace outfall::test
