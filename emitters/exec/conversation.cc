#include "emitters/exec/conversation.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <poll.h>
#include <stdexcept>
#include <utility>

#include <climits>

#include "core/quantity.h"
#include "core/retry.h"
#include "emitter/guard.h"

namespace outfall {
namespace {

constexpr std::size_t kMaxErrorLineBytes = 1024;
// A program that writes without an end, in a child that outlives it, is not read without one.
constexpr int kReadsAfterTheEnd = 64;
constexpr std::size_t kDoneAtOnce = 256;

constexpr auto kMetrics = std::to_array<EmitterMetricSpec>({
    {.name = "running", .help = "Whether the program runs"},
    {.name = "in_flight_entries", .help = "Entries that the program has got and not answered"},
    {.name = "starts_total", .counter = true, .help = "Times that the program was started"},
    {.name = "timeouts_total",
     .counter = true,
     .help = "Entries that were not answered within the time limit"},
    {.name = "unknown_answers_total",
     .counter = true,
     .help = "Answers for an id that is not in flight, or was answered before"},
    {.name = "bad_answers_total", .counter = true, .help = "Lines of output that are no answer"},
    {.name = "stderr_lines_total", .counter = true, .help = "Lines written to standard error"},
});

}  // namespace

std::span<const EmitterMetricSpec> Conversation::metrics() {
  return kMetrics;
}

Conversation::Conversation(ExecSettings settings, CompletionSink& sink, const Clock& clock,
                           EmitterReporter& reporter)
    : settings_(std::move(settings)),
      sink_(sink),
      clock_(clock),
      reporter_(reporter),
      errors_(kMaxErrorLineBytes) {
  done_.reserve(kDoneAtOnce);
  done_owners_.reserve(kDoneAtOnce);
}

void Conversation::take(EmitBatch&& batch) {
  queue_.emplace_back();  // The only step that can throw.
  queue_.back().batch = std::move(batch);
}

void Conversation::work() {
  if (stop_) reject_queue(OutcomeKind::shutdown, nullptr);
  expire();
  if (program_ && ending_) advance_ending();
  if (drop_unsendable() && !program_) ensure_started();
  if (program_) write();
  if (program_ && stop_) stop_step();
  flush();
  reporter_.set(kInFlight, static_cast<double>(flights_.size()));
}

void Conversation::wait(int wake) {
  // A negative descriptor is skipped.
  std::array<pollfd, 5> polled{
      {{wake, POLLIN, 0}, {-1, 0, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}}};
  auto& [woken, input, output, errors, exit] = polled;
  if (program_) {
    // Without POLLOUT it still tells that nobody reads any more.
    input.fd = program_->input();
    input.events = pipe_is_full_ ? POLLOUT : 0;
    output.fd = program_->output();
    errors.fd = program_->errors();
    exit.fd = program_->exit();
  }
  if (::poll(polled.data(), polled.size(), wait_milliseconds()) <= 0) return;
  if (errors.revents != 0) read_errors();
  if (output.revents != 0) read_answers();
  // A line that is no answer has ended it here already.
  if (program_ && exit.revents != 0) return program_has_ended();
  if (program_ && !ending_ && (input.revents & POLLERR) != 0) {
    begin_ending(clock_.monotonic() + settings_.stop_grace);
  }
}

int Conversation::wait_milliseconds() const {
  MonotonicTime until = MonotonicTime::max();
  if (!flights_.empty()) until = std::min(until, flights_.oldest().begun + settings_.timeout);
  if (program_ && ending_) {
    until = std::min(until, ending_->is_terminated ? ending_->kill_at : ending_->terminate_at);
  }
  if (program_ && stop_) until = std::min(until, ending_ ? stop_->at : stop_->terminate_at);
  if (until == MonotonicTime::max()) return -1;
  const auto left = std::chrono::ceil<Milliseconds>(until - clock_.monotonic());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX));
}

// The caller has an entry to send.
void Conversation::ensure_started() {
  if (clock_.monotonic() >= next_start_) return start();
  const auto left = std::chrono::ceil<Milliseconds>(next_start_ - clock_.monotonic());
  const DeliveryError why{"exec.not_running",
                          last_end_.message + "; it is started again in " + format_duration(left)};
  reject_queue(OutcomeKind::destination_unavailable, &why);
}

void Conversation::start() {
  try {
    program_ = std::make_unique<Program>(settings_);
  } catch (const std::runtime_error& error) {
    reporter_.log(ReportLevel::error, "start_failed", "the program could not be started",
                  error.what());
    return after_the_end({"exec.start_failed", error.what()}, true);
  }
  reporter_.add(kStarts, 1);
  reporter_.set(kRunning, 1);
  reporter_.log(ReportLevel::info, "started", "the program was started",
                "process " + std::to_string(program_->pid()));
  lines_read_ = 0;
}

void Conversation::begin_ending(MonotonicTime terminate_at) {
  program_->close_input();
  pipe_is_full_ = false;
  line_.clear();
  line_out_ = 0;
  ending_ = Ending{terminate_at};
}

void Conversation::advance_ending() {
  const MonotonicTime now = clock_.monotonic();
  if (!ending_->is_terminated && now >= ending_->terminate_at) {
    program_->signal(SIGTERM);
    ending_->is_terminated = true;
    ending_->kill_at = now + settings_.stop_grace;
    if (stop_) ending_->kill_at = std::min(ending_->kill_at, stop_->at);
  }
  if (!ending_->is_terminated || now < ending_->kill_at) return;
  kill_program(stop_ ? "exec.stopped" : "exec.program_ended",
               stop_ ? "the worker stopped before the program had answered"
                     : "the program closed its input or output, did not end, and was killed");
}

void Conversation::program_has_ended() {
  const bool was_asked = ending_ && ending_->is_terminated;
  const ProgramEnd end = program_->reap();
  // Its last answers count; what its children write is read as far as it is there.
  for (int i = 0; i < kReadsAfterTheEnd && program_->errors() >= 0 && read_errors(); ++i) {
  }
  for (int i = 0; i < kReadsAfterTheEnd && program_->output() >= 0 && read_answers(); ++i) {
  }
  if (!program_) return;  // Its last words were nonsense.
  const bool is_clean = end.success && flights_.empty() && answered_ > answered_at_start_;
  if (!stop_ || (!is_clean && !was_asked)) {
    reporter_.log(is_clean ? ReportLevel::info : ReportLevel::warning, "ended", "the program ended",
                  end.text + ", unanswered entries: " + std::to_string(flights_.size()));
  }
  after_the_end({"exec.program_ended", "the program ended with " + end.text}, !is_clean);
}

void Conversation::kill_program(std::string code, std::string message) {
  reporter_.log(ReportLevel::error, "killed", "the program is killed",
                message + ", unanswered entries: " + std::to_string(flights_.size()));
  after_the_end({std::move(code), std::move(message)}, true);
}

// With a pause, what is queued does not wait for the next start.
void Conversation::after_the_end(const DeliveryError& why, bool pause) {
  const bool has_worked = answered_ > answered_at_start_;
  log_error_line(errors_.rest());
  forget_program();
  last_end_ = why;
  lose_flights(why);
  failures_ = pause ? (has_worked ? 1 : failures_ + 1) : 0;
  answered_at_start_ = answered_;
  next_start_ = clock_.monotonic();
  if (!pause) return;
  next_start_ += doubled(settings_.restart_initial, settings_.restart_max, failures_);
  reject_queue(OutcomeKind::destination_unavailable, &why);
}

void Conversation::forget_program() noexcept {
  program_.reset();
  ending_.reset();
  answers_.clear();
  errors_.clear();
  line_.clear();
  line_out_ = 0;
  pipe_is_full_ = false;
  reporter_.set(kRunning, 0);
}

void Conversation::expire() {
  const MonotonicTime now = clock_.monotonic();
  while (!flights_.empty() && flights_.oldest().begun + settings_.timeout <= now) {
    reporter_.add(kTimeouts, 1);
    const std::string limit = format_duration(settings_.timeout);
    if (flights_.oldest().answers_before == answered_) {
      return kill_program("exec.stuck", "the program answered nothing for " + limit);
    }
    Outcome outcome = Outcome::of(OutcomeKind::possibly_delivered, "exec.timeout",
                                  "the program answered others, but not this entry, for " + limit);
    const Flight flight = flights_.take_oldest();
    suspects_.erase(flight.item.envelope->envelope_id);
    finish(flight.item, flight.owner, flight.begun, std::move(outcome));
  }
}

void Conversation::stop(MonotonicTime at) {
  const auto left = std::max(at - clock_.monotonic(), MonotonicTime::duration::zero());
  stop_ = Stop{at, at - std::min<MonotonicTime::duration>(settings_.stop_grace, left / 4)};
}

void Conversation::stop_step() {
  const MonotonicTime now = clock_.monotonic();
  if (now >= stop_->at) {
    return kill_program("exec.stopped", "the worker stopped before the program had answered");
  }
  // A line that is half out is completed first, if the program reads.
  if (!ending_ && (line_out_ == 0 || now >= stop_->terminate_at)) {
    begin_ending(stop_->terminate_at);
  }
  if (ending_ && !ending_->is_terminated && flights_.empty()) {
    ending_->terminate_at = std::min(ending_->terminate_at, now + settings_.stop_grace);
  }
}

bool Conversation::is_over() const noexcept {
  return !program_ && queue_.empty() && flights_.empty() && done_.empty();
}

void Conversation::give_up() noexcept {
  forget_program();
  next_start_ = clock_.monotonic() + settings_.restart_initial;
  flush();
  while (!flights_.empty()) {
    const Flight flight = flights_.take_oldest();
    Outcome outcome;
    outcome.kind = OutcomeKind::possibly_delivered;
    outcome.connection_lost = true;
    finish(flight.item, flight.owner, flight.begun, std::move(outcome));
  }
  suspect_in_flight_ = false;
  for (; !queue_.empty(); queue_.pop_front()) {
    complete_with_current_exception(queue_.front().batch, sink_, queue_.front().next);
  }
  flush();
}

}  // namespace outfall
