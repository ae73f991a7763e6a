#include "emitters/stdout/output.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <climits>

namespace outfall {
namespace {

constexpr mode_t kFileMode = 0644;
// Between two tries to lock a file: a write of others takes about a millisecond.
constexpr Milliseconds kFirstLockPause{1};
constexpr Milliseconds kLongestLockPause{16};

// errno as text, safe in any thread.
std::string describe(int error) {
  return std::generic_category().message(error);
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

// Ends with the scope, whatever happens in it.
class Output::Turn {
 public:
  explicit Turn(Output& output) : output_(output) {}
  ~Turn() { output_.unlock(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Output& output_;
};

Output::~Output() {
  close();
}

void Output::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void Output::fail(Written& result, std::string_view what, int error) const {
  const std::string_view known = code_of(error);
  fail(result, known.empty() ? what : known, describe(error));
}

void Output::fail(Written& result, std::string_view code, const std::string& why) const {
  result.error =
      DeliveryError{std::string(code), (path_.empty() ? "standard output" : path_) + ": " + why};
}

Output::Written Output::write(std::string_view lines, Patience& patience) {
  Written result;
  if (!wait_for_turn(patience, result)) return result;
  {
    const Turn turn(*this);
    put(lines, patience, result);
  }
  if (sync_ && kind_ == Kind::file && result.whole > 0) sync(result);
  return result;
}

// The path is looked at before each try, since whoever has the lock may have it for long: a file
// that was moved away meanwhile belongs to whoever moved it.
bool Output::wait_for_turn(Patience& patience, Written& result) {
  for (Milliseconds pause = kFirstLockPause;; pause = std::min(2 * pause, kLongestLockPause)) {
    if (!opened(result)) return false;
    if (!shared_file_) return true;
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
      look_at_end();
      return true;
    }
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) {
      fail(result, "stdout.lock_failed", "cannot be locked: " + describe(errno));
      return false;
    }
    const auto left = std::chrono::ceil<Milliseconds>(patience.left());
    if (left.count() <= 0) {
      result.gave_up = true;
      fail(result, "stdout.locked", std::string("another process keeps the file locked"));
      return false;
    }
    pollfd wake{patience.wake_descriptor(), POLLIN, 0};
    ::poll(&wake, 1, static_cast<int>(std::min(left, pause).count()));
  }
}

void Output::unlock() {
  if (!shared_file_ || descriptor_ < 0) return;
  // A lock that cannot be given back ends with the descriptor.
  if (::flock(descriptor_, LOCK_UN) != 0) close();
}

// A worker that is killed within its write leaves a torn line, at any time. What cannot be read
// is known from our own writes only.
void Output::look_at_end() {
  struct stat now {};
  char last = '\n';
  if (::fstat(descriptor_, &now) != 0) return;
  if (now.st_size > 0 && ::pread(descriptor_, &last, 1, now.st_size - 1) != 1) return;
  owed_ = last == '\n' ? "" : "\n";
}

void Output::put(std::string_view lines, Patience& patience, Written& result) {
  if (!owed_.empty()) {
    owed_.erase(0, push(owed_, patience, result));
    if (!owed_.empty()) return;
  }
  const std::size_t out = push(lines, patience, result);
  if (kind_ == Kind::file && !path_.empty() && out > 0) {
    result.offset = ::lseek(descriptor_, 0, SEEK_CUR) - static_cast<std::int64_t>(out);
  }
  result.whole = out;
  result.uncertain = out;
  if (out < lines.size()) settle_torn_line(lines, out, result);
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
    if (!shared_file_ || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
      const Turn turn(*this);
      if (take_back(result.whole)) result.uncertain = 0;
    }
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
  owed_.clear();
  shared_file_ = kind_ == Kind::file;
  if (shared_file_) append_anew(descriptor_);
  return true;
}

// A lock is the file description's, which must be our own, and the end of a file is read. A file
// that may not be read, or was opened for us by somebody with more rights, stays as it is.
void Output::append_anew(int descriptor) {
  const std::string name = "/proc/self/fd/" + std::to_string(descriptor);
  const int own = ::open(name.c_str(), O_RDWR | O_APPEND | O_NONBLOCK | O_CLOEXEC);
  if (own < 0) return;
  close();
  descriptor_ = own;
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
  // Without O_APPEND the position in the file is the description's, so that this must be kept.
  shared_file_ = kind_ == Kind::file && (::fcntl(STDOUT_FILENO, F_GETFL) & O_APPEND) != 0;
  if (shared_file_) append_anew(STDOUT_FILENO);
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
