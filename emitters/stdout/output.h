#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/outcome.h"
#include "emitter/emitter.h"

namespace outfall {

// Decides how long a write waits for a slow reader. Asked again after each wake-up.
class Patience {
 public:
  virtual ~Patience() = default;
  // A descriptor that becomes readable when the answer below may have changed.
  [[nodiscard]] virtual int wake_descriptor() const noexcept = 0;
  // How much longer to wait; zero or less: give up. Consumes the wake-up.
  [[nodiscard]] virtual MonotonicTime::duration left() noexcept = 0;
};

// Where the lines go: standard output, a file or a FIFO. Opens on the first write and whenever the
// path names another file than before. Keeps the line structure whole over errors: see write().
//
// Used by one thread. Blocks only as long as Patience allows, except inside the kernel's own file
// systems. Never throws but std::bad_alloc. That thread must block SIGPIPE and SIGXFSZ.
class Output {
 public:
  // An empty path is standard output. `sync`: a file is synced to disk with every write.
  Output(std::string path, bool sync) : path_(std::move(path)), sync_(sync) {}
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  struct Written {
    std::size_t whole = 0;      // bytes of lines that are out
    std::size_t uncertain = 0;  // lines that begin below this and end above `whole` may be out
    std::int64_t offset = -1;   // of the first byte in a file named by path; else -1
    bool gave_up = false;       // Patience ended before everything was out
    std::optional<DeliveryError> error;
  };

  // Writes lines, each ended by its only line break. A line that got out in part is taken back from
  // a file; where that cannot be, the next write first ends it (a file) or sends the rest of it (a
  // pipe whose reader was too slow), so that every line is read whole or stands alone. A file that
  // is appended to is locked meanwhile (flock), and a torn end of it, whoever left it, ended first.
  [[nodiscard]] Written write(std::string_view lines, Patience& patience);

  // Whether a write could succeed, without writing.
  [[nodiscard]] Emitter::Health check() const;

 private:
  // How a write is kept from blocking without an end: not needed, by O_NONBLOCK on a file
  // description of our own, by MSG_DONTWAIT, or by poll() and writes no larger than PIPE_BUF.
  enum class Kind : std::uint8_t { file, nonblocking, socket, shared };

  [[nodiscard]] bool opened(Written& result);
  [[nodiscard]] bool open_path(Written& result);
  [[nodiscard]] bool open_standard_output(Written& result);
  [[nodiscard]] bool is_replaced() const;
  void append_anew(int descriptor);
  void close();
  class Turn;
  // Opens what is to be opened, and locks a file that others append to as well.
  [[nodiscard]] bool wait_for_turn(Patience& patience, Written& result);
  void unlock();
  void look_at_end();
  void put(std::string_view lines, Patience& patience, Written& result);
  // Writes `data` as far as it goes; returns how many bytes are out.
  std::size_t push(std::string_view data, Patience& patience, Written& result);
  [[nodiscard]] std::int64_t write_some(std::string_view data) const;
  [[nodiscard]] bool wait(Patience& patience) const;
  void settle_torn_line(std::string_view lines, std::size_t out, Written& result);
  void sync(Written& result);
  // Truncates the file by its last bytes, if they are ours.
  [[nodiscard]] bool take_back(std::size_t bytes) const;
  void fail(Written& result, std::string_view what, int error) const;
  void fail(Written& result, std::string_view code, const std::string& why) const;

  const std::string path_;
  const bool sync_;
  int descriptor_ = -1;
  Kind kind_ = Kind::file;
  bool shared_file_ = false;  // a regular file that is appended to, which others may do as well
  std::string owed_;  // goes out before the next line: the rest of a torn line, or its line break
};

}  // namespace outfall
