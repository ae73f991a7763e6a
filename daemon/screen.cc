#include "daemon/screen.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <poll.h>
#include <stdexcept>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/text.h"

namespace outfall {
namespace {

// As xterm and all that follow it understand them: the other screen, no cursor, and lines that are
// too long end at the margin, since a character may be wider than a column.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H";
constexpr std::string_view kClearLine = "\x1b[K";
constexpr std::string_view kClearBelow = "\x1b[J";

struct Size {
  std::size_t columns = 80;
  std::size_t lines = 24;
};

Size terminal_size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    return {};
  return {size.ws_col, size.ws_row};
}

// The first so many characters.
std::string_view cut(std::string_view line, std::size_t columns) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < columns && at < line.size(); ++i) {
    at += std::max<std::size_t>(1, utf8_length(line.substr(at)));
  }
  return line.substr(0, at);
}

// False where nobody reads any more.
bool write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE || errno == EIO) return false;
      throw std::runtime_error("the result cannot be written to standard output");
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

bool obeys() {
  const char* kind = std::getenv("TERM");
  return kind != nullptr && std::string_view(kind) != "dumb" && *kind != '\0';
}

}  // namespace

Screen::Screen() {
  sigset_t mask{};
  sigemptyset(&mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH}) sigaddset(&mask, signal);
  pthread_sigmask(SIG_BLOCK, &mask, &mask_before_);
  signals_ = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  terminal_ = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && obeys() &&
              tcgetattr(STDIN_FILENO, &settings_before_) == 0;
  if (!terminal_) return;
  termios settings = settings_before_;
  settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  tcsetattr(STDIN_FILENO, TCSANOW, &settings);
  write_all(kEnter);
}

Screen::~Screen() {
  if (terminal_) {
    try {
      write_all(kLeave);
    } catch (const std::runtime_error&) {  // nobody is left to see it
    }
    tcsetattr(STDIN_FILENO, TCSANOW, &settings_before_);
  }
  if (signals_ >= 0) close(signals_);
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

bool Screen::draw(const std::vector<std::string>& lines) {
  std::string picture;
  if (!terminal_) {
    if (drawn_) picture += '\n';
    for (const std::string& line : lines) picture += line + '\n';
    drawn_ = true;
    return write_all(picture);
  }
  const Size size = terminal_size();
  picture += kHome;
  // One write, and nothing is cleared before it is written again, so that nothing flickers.
  for (std::size_t i = 0; i < lines.size() && i < size.lines; ++i) {
    if (i > 0) picture += "\r\n";
    picture += cut(lines[i], size.columns);
    picture += kClearLine;
  }
  if (lines.size() < size.lines) {
    picture += "\r\n";
    picture += kClearBelow;
  }
  return write_all(picture);
}

Screen::Event Screen::read_signal() {
  signalfd_siginfo signal{};
  bool resized = false;
  while (read(signals_, &signal, sizeof signal) == sizeof signal) {
    if (signal.ssi_signo != SIGWINCH) return Event::quit;
    resized = true;
  }
  return resized ? Event::resized : Event::timeout;
}

Screen::Event Screen::wait(Milliseconds time) {
  pollfd sources[] = {{.fd = signals_, .events = POLLIN, .revents = 0},
                      {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0}};
  const MonotonicTime until = system_clock().monotonic() + time;
  while (true) {
    const auto left = std::chrono::ceil<Milliseconds>(until - system_clock().monotonic());
    if (left.count() <= 0) return Event::timeout;
    if (poll(sources, terminal_ ? 2 : 1, static_cast<int>(left.count())) < 0) continue;
    if ((sources[0].revents & POLLIN) != 0) {
      const Event event = read_signal();
      if (event != Event::timeout) return event;
    }
    if (!terminal_ || sources[1].revents == 0) continue;
    char key = 0;
    if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q') return Event::quit;
    if (key == ' ') return Event::refresh;
  }
}

}  // namespace outfall
