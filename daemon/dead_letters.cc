#include "daemon/dead_letters.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <limits>

#include <fmt/format.h>

#include "daemon/text_output.h"
#include "daemon/time_arguments.h"

namespace outfall {
namespace {

// One chunk is one transaction, which locks the stream against claims while it lasts.
constexpr std::int64_t kChunk = 1000;
constexpr std::int64_t kDryRunChunk = 10'000;
// With a rate, a chunk is no more than this much of it.
constexpr double kChunkSeconds = 0.25;

// Blocks SIGINT and SIGTERM and says whether one has come.
class Interruption {
 public:
  Interruption() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~Interruption() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // Waits until then, or until a signal has come; true for the latter.
  [[nodiscard]] bool wait_until(MonotonicTime when) const {
    while (true) {
      const auto left = std::max(std::chrono::nanoseconds(0),
                                 std::chrono::nanoseconds(when - system_clock().monotonic()));
      const timespec time{.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                          .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
      if (sigtimedwait(&signals_, nullptr, &time) > 0) return true;
      if (errno != EINTR) return false;
    }
  }

 private:
  sigset_t signals_{};
  sigset_t before_{};
};

std::int32_t chunk_size(const DeadLetterChange& change, std::int64_t used) {
  std::int64_t size = change.requester ? kChunk : kDryRunChunk;
  if (change.per_second && change.requester) {
    const double share = std::floor(*change.per_second * kChunkSeconds);
    size = std::clamp<std::int64_t>(static_cast<std::int64_t>(share), 1, size);
  }
  if (change.limit) size = std::min(size, *change.limit - used);
  return static_cast<std::int32_t>(size);
}

}  // namespace

void add_filter_options(CLI::App& command, DeadLetterOptions& options) {
  command.add_option("ENVELOPE_ID", options.envelope_ids, "These envelopes only")->type_name("");
  command.add_option("--id", options.ids, "These entry ids only")->type_name("N");
  command.add_option("--stream", options.stream, "Of this stream")->type_name("NAME");
  command.add_option("--type", options.type, "Of this CloudEvents type")->type_name("TYPE");
  command.add_option("--key", options.key, "With this key")->type_name("KEY");
  command.add_option("--reason-code", options.reason_code, "With this reason code")
      ->type_name("CODE");
  command
      .add_option("--since", options.since, "Dead-lettered at or after this time, or \"2h\" ago")
      ->type_name("TIME");
  command.add_option("--until", options.until, "Dead-lettered before this time, or \"2h\" ago")
      ->type_name("TIME");
  command.add_option("--after", options.after, "Only those with a higher entry id")->type_name("N");
  command.add_option("--limit", options.limit, "No more than this many")
      ->type_name("N")
      ->check(CLI::Range(1, std::numeric_limits<std::int32_t>::max()).description(""));
}

DeadLetterFilter dead_letter_filter(const DeadLetterOptions& options, WallTime now) {
  DeadLetterFilter filter{.ids = options.ids,
                          .envelope_ids = {},
                          .stream = options.stream,
                          .type = options.type,
                          .key = options.key,
                          .reason_code = options.reason_code,
                          .since = {},
                          .until = {},
                          .after = options.after};
  for (const std::string& id : options.envelope_ids) {
    filter.envelope_ids.push_back(parse_envelope_id(id));
  }
  if (!options.since.empty()) filter.since = parse_moment("--since", options.since, now);
  if (!options.until.empty()) filter.until = parse_moment("--until", options.until, now);
  return filter;
}

std::string filter_arguments(const DeadLetterFilter& filter) {
  std::string text;
  const auto add = [&text](std::string_view option, const std::string& value) {
    text += fmt::format(" {} {}", option, shell_quoted(value));
  };
  for (const Uuid& id : filter.envelope_ids) text += " " + id.to_string();
  for (const EntryId id : filter.ids) add("--id", std::to_string(id));
  if (filter.stream) add("--stream", *filter.stream);
  if (filter.type) add("--type", *filter.type);
  if (filter.key) add("--key", *filter.key);
  if (filter.reason_code) add("--reason-code", *filter.reason_code);
  if (filter.since) add("--since", utc(*filter.since));
  if (filter.until) add("--until", utc(*filter.until));
  if (filter.after) add("--after", std::to_string(*filter.after));
  return text;
}

void change_dead_letters(OperatorStore& store, const DeadLetterChange& change,
                         DeadLetterProgress& progress) {
  const Interruption interruption;
  const MonotonicTime started = system_clock().monotonic();
  DeadLetterFilter filter = change.filter;
  progress.more = true;
  while (progress.more) {
    const std::int64_t used = progress.done + progress.skipped;
    if (change.limit && used >= *change.limit) return;
    MonotonicTime due = started;
    if (change.per_second && change.requester) {
      due += std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::chrono::duration<double>(static_cast<double>(progress.done) / *change.per_second));
    }
    if (interruption.wait_until(due)) {
      progress.interrupted = true;
      return;
    }
    const std::int32_t size = chunk_size(change, used);
    const DeadLetterChunk chunk = change.action == DeadLetterAction::replay
                                      ? store.replay(filter, size, change.requester)
                                      : store.discard(filter, size, change.requester);
    progress.done += chunk.done;
    progress.skipped += chunk.skipped;
    if (chunk.last_id) filter.after = progress.last_id = chunk.last_id;
    progress.more = chunk.more;
  }
}

}  // namespace outfall
