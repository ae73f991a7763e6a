#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define OUTFALL_LEAK_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OUTFALL_LEAK_SANITIZER 1
#endif
#endif

#ifdef OUTFALL_LEAK_SANITIZER
#include <sanitizer/lsan_interface.h>
#endif

namespace outfall::test {

// While one of these lives, what its thread allocates is not asked for by the sanitizer: a library
// is known to forget it. To be put around as little as possible, with the reason beside it.
class LeaksOfOthers {
#ifdef OUTFALL_LEAK_SANITIZER
  __lsan::ScopedDisabler disabler_;
#else
 public:
  LeaksOfOthers() {
  }  // not trivial, so that nobody takes it for unused
#endif
};

}  // namespace outfall::test
