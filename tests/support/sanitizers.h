#pragma once

// Which sanitizer this is compiled with: g++ says it by a macro of each, clang by a feature.

#if defined(__SANITIZE_ADDRESS__)
#define OUTFALL_ADDRESS_SANITIZER 1
#elif defined(__SANITIZE_THREAD__)
#define OUTFALL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OUTFALL_ADDRESS_SANITIZER 1
#elif __has_feature(thread_sanitizer)
#define OUTFALL_THREAD_SANITIZER 1
#endif
#endif

namespace outfall::test {

#ifdef OUTFALL_ADDRESS_SANITIZER
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

#ifdef OUTFALL_THREAD_SANITIZER
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

}  // namespace outfall::test
