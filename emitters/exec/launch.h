#pragma once

#include <string>
#include <sys/types.h>

#include "emitters/exec/settings.h"

namespace outfall {

// A file descriptor that is closed by its owner's end.
class OwnedDescriptor {
 public:
  OwnedDescriptor() = default;
  explicit OwnedDescriptor(int descriptor) noexcept : descriptor_(descriptor) {}
  ~OwnedDescriptor() { reset(); }
  OwnedDescriptor(OwnedDescriptor&& other) noexcept : descriptor_(other.release()) {}
  OwnedDescriptor& operator=(OwnedDescriptor&& other) noexcept;

  [[nodiscard]] int get() const noexcept { return descriptor_; }
  [[nodiscard]] bool is_open() const noexcept { return descriptor_ >= 0; }
  int release() noexcept;
  void reset() noexcept;

 private:
  int descriptor_ = -1;
};

// A program that was started, and the worker's ends of its pipes, which do not block.
struct Launched {
  pid_t pid = 0;
  OwnedDescriptor input;
  OwnedDescriptor output;
  OwnedDescriptor errors;
};

// Starts the program in a process group of its own, with default signal dispositions, no signal
// blocked and no descriptor of the worker but its three pipes. The kernel kills it when the calling
// thread ends, however that happens, so call it from one that lives as long as the program is to.
//
// Returns once the program itself runs, or throws std::runtime_error with a message for the
// operator that names the command; waits for at most kLaunchPatience, which only a file system that
// hangs uses up.
[[nodiscard]] Launched launch(const ExecSettings& settings);
inline constexpr Milliseconds kLaunchPatience{3'000};

}  // namespace outfall
