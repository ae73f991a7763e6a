#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "emitter/emitter.h"
#include "emitters/exec/answer.h"
#include "emitters/exec/flights.h"
#include "emitters/exec/program.h"
#include "emitters/exec/settings.h"

namespace outfall {

// What the thread of an exec emitter does: it starts the program when there is an entry for it,
// writes entries, reads answers and what the program says on standard error, watches the time limit
// of each entry, and starts the program again when it ended.
//
// Used by one thread; takes no lock, so completions are made under none. Waits only inside wait().
// The sink, clock and reporter outlive it. Throws only std::bad_alloc (and what the standard
// library throws instead), upon which give_up() completes everything.
//
// An entry that was in flight when the program ended may be what made it end. Such entries are
// suspects: they are sent again alone, so that one that kills its program takes no other with it.
// Its attempt counts when it did so alone and the program has answered others in between; otherwise
// the program may be down for everybody, which is nobody's fault.
class Conversation {
 public:
  Conversation(ExecSettings settings, CompletionSink& sink, const Clock& clock,
               EmitterReporter& reporter);

  void take(EmitBatch&& batch);  // leaves the batch as it is when it throws

  // Does what can be done now, then waits until there is more to do, or `wake` is readable.
  void work();
  void wait(int wake);

  // From now on nothing new is sent; what is in flight is awaited until `at`.
  void stop(MonotonicTime at);
  // Whether all is complete and the program has ended, after stop().
  [[nodiscard]] bool is_over() const noexcept;

  // Completes everything with the exception that is being handled, and kills the program.
  void give_up() noexcept;

  // Places in exec_metrics().
  enum Metric : std::size_t {
    kRunning,
    kInFlight,
    kStarts,
    kTimeouts,
    kUnknownAnswers,
    kBadAnswers,
    kStderrLines,
  };
  [[nodiscard]] static std::span<const EmitterMetricSpec> metrics();

 private:
  struct Queued {
    EmitBatch batch;
    std::size_t next = 0;  // the first item that was not begun
  };
  struct Ending {  // the program is to end, and its input is closed
    MonotonicTime terminate_at;
    MonotonicTime kill_at = MonotonicTime::max();
    bool is_terminated = false;
  };
  struct Stop {
    MonotonicTime at;            // everything is complete by then
    MonotonicTime terminate_at;  // leaves the program time to answer to SIGTERM
  };
  enum class Push : std::uint8_t { done, full, broken };

  // Starting and ending, in conversation.cc.
  void ensure_started();
  void start();
  void begin_ending(MonotonicTime terminate_at);
  void advance_ending();
  void program_has_ended();
  // Ends it at once: everything in flight may be delivered.
  void kill_program(std::string code, std::string message);
  void after_the_end(const DeliveryError& why, bool pause);
  void forget_program() noexcept;  // kills it if it still runs
  void expire();
  void stop_step();
  [[nodiscard]] int wait_milliseconds() const;

  // The way of the entries, in entries.cc.
  void write();
  bool begin_next();
  bool drop_unsendable();  // completes entries at the front; whether one is left
  [[nodiscard]] bool may_send(const EmitItem& item) const;
  [[nodiscard]] Push push_line();
  [[nodiscard]] const EmitItem& front() const;
  void pop_front() noexcept;
  bool read_answers();  // whether there may be more to read
  bool on_line(std::string_view line, bool is_whole);
  void on_answer(Answer answer);
  bool read_errors();  // whether there may be more to read
  void log_error_line(std::string_view line);
  void lose_flights(const DeliveryError& why);
  void reject_queue(OutcomeKind kind, const DeliveryError* why);
  void finish(const EmitItem& item, std::shared_ptr<const void> owner, MonotonicTime begun,
              Outcome outcome) noexcept;
  void flush() noexcept;

  const ExecSettings settings_;
  CompletionSink& sink_;
  const Clock& clock_;
  EmitterReporter& reporter_;

  std::deque<Queued> queue_;
  Flights flights_;
  std::vector<Completion> done_;  // room is made beforehand, so that finishing cannot fail
  std::vector<std::shared_ptr<const void>> done_owners_;

  std::unique_ptr<Program> program_;
  std::string line_;          // of the entry that is being written, or of the front of the queue
  std::size_t line_out_ = 0;  // bytes of it that are in the pipe; above 0 its entry is in flight
  bool pipe_is_full_ = false;
  LineSplitter answers_{kMaxAnswerBytes};
  LineSplitter errors_;
  std::uint64_t lines_read_ = 0;  // of the program's output
  std::string nonsense_;          // what is wrong with the last of them
  std::optional<Ending> ending_;
  std::optional<Stop> stop_;

  std::uint64_t answered_ = 0;           // entries, by all programs so far
  std::uint64_t answered_at_start_ = 0;  // of this program, or at the end of the last
  std::int64_t failures_ = 0;            // of programs in a row without an answer
  MonotonicTime next_start_{};
  DeliveryError last_end_;                            // why there is no program
  std::unordered_map<Uuid, std::uint64_t> suspects_;  // answered_ when the program ended with it
  bool suspect_in_flight_ = false;                    // and nothing else is
};

}  // namespace outfall
