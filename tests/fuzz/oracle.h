#pragma once

#include <stdexcept>
#include <string>

namespace outfall::fuzz {

// An input for which the code does not do what its header promises. Thrown by targets, also out of
// what they call, so that the input is saved by libFuzzer and named by the test of the corpora.
class Finding : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

inline void require(bool holds, const char* promise) {
  if (!holds) throw Finding(promise);
}

// What secrets hold in the corpora, and nothing else does, so that a leak is seen.
inline constexpr const char* kMarker = "s3cr3t";

}  // namespace outfall::fuzz
