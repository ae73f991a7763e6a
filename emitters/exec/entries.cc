// The way of an entry through a Conversation: from the queue into the pipe, and out by an answer or
// by the end of the program.

#include <array>
#include <cerrno>
#include <unistd.h>
#include <utility>

#include "core/cloudevents.h"
#include "core/crash_point.h"
#include "core/error_text.h"
#include "emitter/guard.h"
#include "emitters/exec/conversation.h"

namespace outfall {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kLineKeptBytes = std::size_t{1} << 20;
// Entries that other workers have finished are never taken out again, so that all are forgotten now
// and then; the price is one more crash in company.
constexpr std::size_t kMaxSuspects = 20'000;

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

const EmitItem& Conversation::front() const {
  return queue_.front().batch.items[queue_.front().next];
}

void Conversation::pop_front() noexcept {
  Queued& first = queue_.front();
  if (++first.next == first.batch.items.size()) queue_.pop_front();
}

bool Conversation::drop_unsendable() {
  while (!queue_.empty()) {
    if (queue_.front().batch.items.empty()) {
      queue_.pop_front();
      continue;
    }
    const bool is_late = clock_.monotonic() >= queue_.front().batch.send_until();
    if (!is_late && !front().blocked()) return true;
    Outcome outcome;
    outcome.kind = front().blocked() ? OutcomeKind::blocked : OutcomeKind::shutdown;
    finish(front(), queue_.front().batch.owner, clock_.monotonic(), std::move(outcome));
    if (line_out_ == 0) line_.clear();
    pop_front();
  }
  return false;
}

bool Conversation::may_send(const EmitItem& item) const {
  const Uuid& id = item.envelope->envelope_id;
  if (flights_.empty()) return true;
  return flights_.size() < settings_.max_in_flight && !suspect_in_flight_ &&
         !suspects_.contains(id) && !flights_.contains(id);
}

void Conversation::write() {
  pipe_is_full_ = false;
  if (program_->input() < 0) return;
  if (line_out_ > 0) {
    const Push pushed = push_line();
    if (pushed == Push::broken) return begin_ending(clock_.monotonic() + settings_.stop_grace);
    if (pushed == Push::full) return;
  }
  while (begin_next()) {
  }
}

// Whether to go on with the next one.
bool Conversation::begin_next() {
  if (!drop_unsendable() || !may_send(front())) return false;
  const EmitItem item = front();
  const MonotonicTime now = clock_.monotonic();
  if (line_.empty()) {
    Outcome formatted = guarded([&] {
      append_cloudevent_json(line_, *item.envelope);
      line_ += '\n';
      return Outcome{};
    });
    if (formatted.kind != OutcomeKind::delivered) {
      line_.clear();
      finish(item, queue_.front().batch.owner, now, std::move(formatted));
      pop_front();
      return true;
    }
  }
  flights_.add({item, queue_.front().batch.owner, now, answered_});
  const Push pushed = push_line();
  if (pushed != Push::done && line_out_ == 0) {
    flights_.undo_add();
  } else {
    pop_front();
    suspect_in_flight_ = suspects_.contains(item.envelope->envelope_id);
  }
  if (pushed == Push::done) OUTFALL_CRASH_POINT("exec", "written");
  if (pushed == Push::broken) begin_ending(clock_.monotonic() + settings_.stop_grace);
  return pushed == Push::done;
}

Conversation::Push Conversation::push_line() {
  while (line_out_ < line_.size()) {
    const ssize_t written =
        ::write(program_->input(), line_.data() + line_out_, line_.size() - line_out_);
    if (written > 0) {
      line_out_ += static_cast<std::size_t>(written);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return Push::broken;
    pipe_is_full_ = true;
    return Push::full;
  }
  line_out_ = 0;
  line_.clear();
  if (line_.capacity() > kLineKeptBytes) std::string().swap(line_);
  return Push::done;
}

bool Conversation::read_answers() {
  std::array<char, kReadBytes> buffer{};
  const ssize_t got = ::read(program_->output(), buffer.data(), buffer.size());
  if (got < 0) return errno == EINTR;
  if (got == 0) {
    program_->close_output();
    if (!ending_) begin_ending(clock_.monotonic() + settings_.stop_grace);
    return false;
  }
  const std::string_view data(buffer.data(), static_cast<std::size_t>(got));
  if (answers_.feed(data, [this](auto line, bool whole) { return on_line(line, whole); })) {
    return true;
  }
  kill_program("exec.bad_answer", "line " + std::to_string(lines_read_) +
                                      " of the program's output is no answer: " + nonsense_);
  return false;
}

bool Conversation::on_line(std::string_view line, bool is_whole) {
  ++lines_read_;
  if (is_whole && is_blank(line)) return true;
  auto parsed = is_whole ? parse_answer(line)
                         : "it is longer than " + std::to_string(kMaxAnswerBytes) + " bytes";
  if (auto* answer = std::get_if<Answer>(&parsed)) {
    on_answer(std::move(*answer));
    return true;
  }
  nonsense_ = std::get<std::string>(parsed);
  reporter_.add(kBadAnswers, 1);
  reporter_.log(ReportLevel::error, "bad_answer", "the program wrote a line that is no answer",
                "line " + std::to_string(lines_read_) + ": " + nonsense_ + ": " + excerpt(line));
  return false;
}

void Conversation::on_answer(Answer answer) {
  const auto id = Uuid::parse(answer.id);
  auto flight = id ? flights_.take(*id) : std::nullopt;
  if (!flight) {
    reporter_.add(kUnknownAnswers, 1);
    reporter_.log(ReportLevel::warning, "unknown_answer",
                  "the program answered an entry that is not in flight",
                  "line " + std::to_string(lines_read_) + ", id " + excerpt(answer.id));
    return;
  }
  OUTFALL_CRASH_POINT("exec", "answered");
  ++answered_;
  suspects_.erase(*id);
  finish(flight->item, std::move(flight->owner), flight->begun, std::move(answer.outcome));
}

bool Conversation::read_errors() {
  std::array<char, kReadBytes> buffer{};
  const ssize_t got = ::read(program_->errors(), buffer.data(), buffer.size());
  if (got < 0) return errno == EINTR;
  if (got == 0) program_->close_errors();
  errors_.feed({buffer.data(), static_cast<std::size_t>(got)}, [this](auto line, bool) {
    log_error_line(line);
    return true;
  });
  return got > 0;
}

void Conversation::log_error_line(std::string_view line) {
  if (is_blank(line)) return;
  reporter_.add(kStderrLines, 1);
  reporter_.log(ReportLevel::warning, "stderr", "the program wrote to standard error",
                storable_error_message(line));
}

void Conversation::lose_flights(const DeliveryError& why) {
  if (suspects_.size() > kMaxSuspects) suspects_.clear();
  const bool is_alone = flights_.size() == 1;
  while (!flights_.empty()) {
    const Uuid& id = flights_.oldest().item.envelope->envelope_id;
    const auto suspect = suspects_.find(id);
    const bool is_to_blame = is_alone && suspect != suspects_.end() && answered_ > suspect->second;
    Outcome outcome = Outcome::of(OutcomeKind::possibly_delivered, why.code, why.message);
    outcome.connection_lost = !is_to_blame;
    suspects_.insert_or_assign(id, answered_);
    const Flight flight = flights_.take_oldest();
    finish(flight.item, flight.owner, flight.begun, std::move(outcome));
  }
}

void Conversation::reject_queue(OutcomeKind kind, const DeliveryError* why) {
  while (drop_unsendable()) {
    Outcome outcome;
    outcome.kind = kind;
    if (why != nullptr) outcome = Outcome::of(kind, why->code, why->message);
    finish(front(), queue_.front().batch.owner, clock_.monotonic(), std::move(outcome));
    if (line_out_ == 0) line_.clear();
    pop_front();
  }
}

void Conversation::finish(const EmitItem& item, std::shared_ptr<const void> owner,
                          MonotonicTime begun, Outcome outcome) noexcept {
  if (outcome.kind != OutcomeKind::delivered) item.break_run();
  const auto took =
      std::chrono::duration_cast<std::chrono::microseconds>(clock_.monotonic() - begun);
  // Room was reserved, so that nothing is allocated here.
  done_.push_back({item.token, std::move(outcome), took});
  done_owners_.push_back(std::move(owner));
  if (done_.size() == done_.capacity()) flush();
}

void Conversation::flush() noexcept {
  if (!done_.empty()) sink_.complete(done_);
  done_.clear();
  done_owners_.clear();
}

}  // namespace outfall
