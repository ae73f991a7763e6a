#include "daemon/job_progress.h"

#include <algorithm>
#include <cmath>
#include <sys/ioctl.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/job_text.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

constexpr Milliseconds kBarEvery{100};

int terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

double share(const JobStep& step) {
  if (!step.total || *step.total <= 0) return 0;
  return std::min(1.0,
                  static_cast<double>(step.done + step.skipped) / static_cast<double>(*step.total));
}

}  // namespace

std::string of_total(const std::optional<std::int64_t>& total) {
  return total ? " of " + grouped(*total) : std::string();
}

JobProgress::JobProgress(const Context& context, DeadLetterAction action, JobId job,
                         Milliseconds every)
    : context_(context),
      action_(action),
      job_(job),
      terminal_(!context.json && isatty(STDERR_FILENO) == 1),
      every_(terminal_ ? kBarEvery : every),
      started_(system_clock().monotonic()),
      shown_(started_) {
}

JobProgress::~JobProgress() {
  clear();
}

void JobProgress::show(const JobStep& step) {
  if (before_ < 0) before_ = step.done + step.skipped - step.moved;
  const MonotonicTime now = system_clock().monotonic();
  const bool waiting = !step.waits_for.empty();
  const bool begins_to_wait = waiting && !waiting_;
  waiting_ = waiting;
  if (now - shown_ < every_ && !begins_to_wait) return;
  shown_ = now;
  terminal_ ? write_bar(step) : write_line(step);
}

void JobProgress::clear() {
  if (bar_) context_.err << "\r\x1b[K" << std::flush;
  bar_ = false;
}

double JobProgress::per_second(const JobStep& step) const {
  const double seconds =
      std::chrono::duration<double>(system_clock().monotonic() - started_).count();
  return seconds <= 0 ? 0 : static_cast<double>(step.done + step.skipped - before_) / seconds;
}

std::string JobProgress::left(const JobStep& step) const {
  const double speed = per_second(step);
  if (!step.total || speed <= 0) return {};
  const std::int64_t rest = *step.total - step.done - step.skipped;
  return rest <= 0 ? std::string() : age_of_seconds(static_cast<double>(rest) / speed);
}

std::string JobProgress::pace(const JobStep& step) const {
  if (!step.waits_for.empty()) return ", waits: " + printable(step.waits_for);
  std::string text = fmt::format(", {:.0f}/s", per_second(step));
  if (const std::string rest = left(step); !rest.empty()) text += ", " + rest + " left";
  return text;
}

void JobProgress::write_bar(const JobStep& step) {
  std::string text = grouped(step.done + step.skipped) + of_total(step.total) + " ";
  text.append(past(action_)).append(pace(step));
  const int room = terminal_width() - static_cast<int>(text.size()) - 5;
  std::string bar;
  if (step.total && room >= 10) {
    const int width = std::min(room, 40);
    const int full = static_cast<int>(std::floor(share(step) * width));
    bar = fmt::format("[{}{}] ", std::string(static_cast<std::size_t>(full), '#'),
                      std::string(static_cast<std::size_t>(width - full), '.'));
  }
  context_.err << '\r' << bar << text << "\x1b[K" << std::flush;
  bar_ = true;
}

void JobProgress::write_line(const JobStep& step) {
  if (context_.json) {
    boost::json::object object{{"job_id", job_},
                               {"done", step.done},
                               {"skipped", step.skipped},
                               {"per_second", std::round(per_second(step))}};
    object["total"] = step.total ? boost::json::value(*step.total) : boost::json::value(nullptr);
    if (!step.waits_for.empty()) object["waits_for"] = step.waits_for;
    context_.err << boost::json::serialize(boost::json::object{{"progress", std::move(object)}})
                 << std::endl;
    return;
  }
  std::string text = fmt::format("job {}: {}{} {}", job_, grouped(step.done + step.skipped),
                                 of_total(step.total), past(action_));
  if (step.total) text += fmt::format(" ({:.0f} %)", std::floor(share(step) * 100));
  context_.err << text << pace(step) << std::endl;
}

}  // namespace outfall
