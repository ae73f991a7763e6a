#pragma once

#include <csignal>
#include <string>
#include <termios.h>
#include <vector>

#include "core/clock.h"

namespace outfall {

// Where a command writes one picture after another: on a terminal each in the place of the one
// before, elsewhere one below the other.
//
// While it lives, SIGINT, SIGTERM, SIGHUP and SIGWINCH come to wait() and nowhere else, and a
// terminal is in its second screen, without a cursor or an echo; the destructor puts everything
// back. One thread.
class Screen {
 public:
  // What ended a wait.
  enum class Event { timeout, quit, resized, refresh };

  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Standard input and output are both one, and one that obeys.
  [[nodiscard]] bool is_terminal() const noexcept { return terminal_; }
  // On a terminal, what does not fit is cut off: columns at the right, lines at the end. Throws
  // std::runtime_error where it cannot be written; `true` while there is somebody to read it.
  [[nodiscard]] bool draw(const std::vector<std::string>& lines);
  // Until `time` has passed, a signal or, on a terminal, a key has come: q ends, space refreshes.
  [[nodiscard]] Event wait(Milliseconds time);

 private:
  [[nodiscard]] Event read_signal();

  bool terminal_ = false;
  bool drawn_ = false;
  int signals_ = -1;  // a signalfd
  sigset_t mask_before_{};
  termios settings_before_{};
};

}  // namespace outfall
