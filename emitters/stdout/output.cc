#include "emitters/stdout/output.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <climits>

namespace outfall {
namespace {

constexpr mode_t kFileMode = 0644;

// errno as text, safe in any thread.
std::string describe(int error) {
  return std::generic_category().message(error);
}

// Whether a file does not end with a line break: a crash left a torn line.
bool ends_torn(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return false;
  char last = '\n';
  const off_t size = ::lseek(descriptor, 0, SEEK_END);
  if (size > 0 && ::pread(descriptor, &last, 1, size - 1) != 1) last = '\n';
  ::close(descriptor);
  return last != '\n';
}

std::string_view code_of(int error) {
  switch (error) {
    case EPIPE:
    case ENXIO:
    case ECONNRESET:
      return "stdout.reader_gone";
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "stdout.disk_full";
    default:
      return {};
  }
}

}  // namespace

Output::~Output() {
  close();
}

void Output::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void Output::fail(Written& result, std::string_view what, int error) const {
  const std::string_view known = code_of(error);
  result.error =
      DeliveryError{std::string(known.empty() ? what : known),
                    (path_.empty() ? "standard output" : path_) + ": " + describe(error)};
}

Output::Written Output::write(std::string_view lines, Patience& patience) {
  Written result;
  if (!opened(result)) return result;
  if (!owed_.empty()) {
    owed_.erase(0, push(owed_, patience, result));
    if (!owed_.empty()) return result;
  }
  const std::size_t out = push(lines, patience, result);
  if (kind_ == Kind::file && !path_.empty() && out > 0) {
    result.offset = ::lseek(descriptor_, 0, SEEK_CUR) - static_cast<std::int64_t>(out);
  }
  result.whole = out;
  result.uncertain = out;
  if (out < lines.size()) settle_torn_line(lines, out, result);
  if (sync_ && kind_ == Kind::file && result.whole > 0) sync(result);
  return result;
}

void Output::settle_torn_line(std::string_view lines, std::size_t out, Written& result) {
  const std::size_t last_break = lines.substr(0, out).rfind('\n');
  result.whole = last_break == std::string_view::npos ? 0 : last_break + 1;
  result.uncertain = result.whole;
  if (out > result.whole) {
    if (kind_ == Kind::file) {
      if (!take_back(out - result.whole)) owed_ = "\n";
    } else if (result.gave_up) {
      const std::size_t end = lines.find('\n', out);
      owed_ = lines.substr(out, end + 1 - out);
      result.uncertain = out;
    }
  }
  // The next reader of a pipe is another one, to whom nothing is owed.
  if (kind_ != Kind::file && result.error) {
    owed_.clear();
    close();
  }
}

void Output::sync(Written& result) {
  while (::fdatasync(descriptor_) != 0) {
    if (errno == EINTR) continue;
    fail(result, "stdout.write_failed", errno);
    // After a failed sync nobody knows what is on the disk, so all of it must go or be in doubt.
    if (take_back(result.whole)) result.uncertain = 0;
    result.whole = 0;
    return;
  }
}

bool Output::take_back(std::size_t bytes) const {
  const off_t end = ::lseek(descriptor_, 0, SEEK_CUR);
  struct stat now {};
  if (end < 0 || ::fstat(descriptor_, &now) != 0 || now.st_size != end) return false;
  const off_t start = end - static_cast<off_t>(bytes);
  return ::ftruncate(descriptor_, start) == 0 && ::lseek(descriptor_, start, SEEK_SET) == start;
}

std::size_t Output::push(std::string_view data, Patience& patience, Written& result) {
  std::size_t out = 0;
  while (out < data.size()) {
    if (kind_ == Kind::shared && !wait(patience)) {
      result.gave_up = true;
      return out;
    }
    const std::int64_t written = write_some(data.substr(out));
    if (written > 0) {
      out += static_cast<std::size_t>(written);
      continue;
    }
    const int error = written == 0 ? EIO : errno;
    if (error == EINTR) continue;
    if (error != EAGAIN && error != EWOULDBLOCK) {
      fail(result, "stdout.write_failed", error);
      return out;
    }
    if (!wait(patience)) {
      result.gave_up = true;
      return out;
    }
  }
  return out;
}

std::int64_t Output::write_some(std::string_view data) const {
  switch (kind_) {
    case Kind::socket:
      return ::send(descriptor_, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    case Kind::shared:
      return ::write(descriptor_, data.data(), std::min<std::size_t>(data.size(), PIPE_BUF));
    case Kind::file:
    case Kind::nonblocking:
      break;
  }
  return ::write(descriptor_, data.data(), data.size());
}

bool Output::wait(Patience& patience) const {
  while (true) {
    const auto left = std::chrono::ceil<Milliseconds>(patience.left());
    std::array<pollfd, 2> polled{
        {{descriptor_, POLLOUT, 0}, {patience.wake_descriptor(), POLLIN, 0}}};
    if (left.count() <= 0) return false;
    const auto timeout = static_cast<int>(std::min<std::int64_t>(left.count(), INT_MAX));
    const int ready = ::poll(polled.data(), polled.size(), timeout);
    // An error of the descriptor is left for the write to find.
    if (ready > 0 && polled[0].revents != 0) return true;
  }
}

bool Output::opened(Written& result) {
  if (path_.empty()) return descriptor_ >= 0 || open_standard_output(result);
  if (descriptor_ >= 0 && is_replaced()) close();
  return descriptor_ >= 0 || open_path(result);
}

bool Output::is_replaced() const {
  struct stat named {};
  struct stat open {};
  return ::stat(path_.c_str(), &named) != 0 || ::fstat(descriptor_, &open) != 0 ||
         named.st_ino != open.st_ino || named.st_dev != open.st_dev;
}

bool Output::open_path(Written& result) {
  // Without a reader a FIFO refuses with ENXIO instead of blocking.
  descriptor_ =
      ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, kFileMode);
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    fail(result, "stdout.open_failed", errno);
    close();
    return false;
  }
  kind_ = S_ISREG(status.st_mode) ? Kind::file : Kind::nonblocking;
  owed_ = kind_ == Kind::file && ends_torn(path_) ? "\n" : "";
  return true;
}

bool Output::open_standard_output(Written& result) {
  struct stat status {};
  if (::fstat(STDOUT_FILENO, &status) != 0) {
    fail(result, "stdout.open_failed", errno);
    return false;
  }
  kind_ = S_ISREG(status.st_mode)    ? Kind::file
          : S_ISSOCK(status.st_mode) ? Kind::socket
                                     : Kind::shared;
  if (S_ISFIFO(status.st_mode)) {
    // O_NONBLOCK belongs to the file description, which other processes share; this is our own.
    descriptor_ = ::open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor_ >= 0) kind_ = Kind::nonblocking;
  }
  if (descriptor_ < 0) descriptor_ = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  if (descriptor_ >= 0) return true;
  fail(result, "stdout.open_failed", errno);
  return false;
}

Emitter::Health Output::check() const {
  if (path_.empty()) {
    pollfd polled{STDOUT_FILENO, POLLOUT, 0};
    const int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
    // Open for reading alone: something stands in the place of one that was closed.
    const bool writable = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
    if (!writable || (::poll(&polled, 1, 0) >= 0 && (polled.revents & (POLLERR | POLLNVAL)) != 0)) {
      return {false, "standard output is closed"};
    }
    return {true, "standard output"};
  }
  struct stat status {};
  if (::stat(path_.c_str(), &status) != 0) {
    const std::size_t slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    if (errno == ENOENT && ::access(folder.c_str(), W_OK | X_OK) == 0) return {true, path_};
    return {false, path_ + ": cannot be created: " + describe(errno)};
  }
  const int descriptor = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return {false, path_ + ": " + describe(errno)};
  ::close(descriptor);
  return {true, path_};
}

}  // namespace outfall
