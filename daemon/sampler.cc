#include "daemon/sampler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "drain/database_errors.h"

namespace outfall {
namespace {

// A count that reaches it means "at least so many"; so many index entries are read in milliseconds.
constexpr std::int32_t kCountLimit = 10'000;
constexpr Milliseconds kMaintainEvery{10 * 60'000};
// What did not get its lock, and what a pass left over, is tried again sooner.
constexpr Milliseconds kMaintainAgain{60'000};

DatabaseSample sample_of(const DatabaseLook& look) {
  DatabaseSample sample;
  sample.taken_at = look.taken_at;
  sample.entries_count_limit = look.count_limit;
  for (const StreamLook& stream : look.streams) {
    sample.streams.push_back({.name = stream.name,
                              .paused = stream.paused,
                              .paused_destinations = stream.paused_destinations,
                              .pending = stream.pending,
                              .deferred = stream.deferred,
                              .retryable_failure = stream.retryable_failure,
                              .held = stream.held,
                              .dead_letters = stream.dead_letters,
                              .oldest_due_age = stream.oldest_due,
                              .oldest_blocked_age = stream.oldest_blocked,
                              .oldest_retried_age = stream.oldest_retried,
                              .oldest_deferred_age = stream.oldest_deferred,
                              .oldest_created_age = stream.oldest_created});
    sample.leases_active += stream.leases_active;
    sample.leases_expired += stream.leases_expired;
  }
  for (const UnboundStream& stream : look.unbound) {
    sample.unbound_entries[stream.name] = stream.entries;
  }
  sample.oldest_xmin_age_transactions = look.oldest_xmin_age_transactions;
  sample.oldest_transaction_age = look.oldest_transaction;
  sample.dead_tuples = {{"entries", look.dead_tuples_entries}, {"leases", look.dead_tuples_leases}};
  sample.receipts_partitions = look.receipts_partitions;
  return sample;
}

}  // namespace

Sampler::Sampler(Options options, Open open, Metrics& metrics, Logger& log)
    : options_(options),
      open_(std::move(open)),
      metrics_(metrics),
      log_(log),
      retention_(options.retention) {
}

Sampler::~Sampler() {
  stop();
}

void Sampler::start() {
  maintenance_due_ = system_clock().monotonic();
  thread_ = std::thread([this] { work(); });
}

void Sampler::ask_to_stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
}

void Sampler::stop() {
  ask_to_stop();
  if (thread_.joinable()) thread_.join();
}

void Sampler::set_retention(Milliseconds retention) {
  const MutexLock lock(mutex_);
  retention_ = retention;
}

std::shared_ptr<const DatabaseLook> Sampler::looked() const {
  const MutexLock lock(mutex_);
  return looked_;
}

void Sampler::work() {
  std::unique_ptr<SamplingSession> session;
  while (true) {
    try {
      if (session == nullptr) {
        session = open_();
        metrics_.gauge(Metric::schema_version).Set(session->schema_version());
      }
      turn(*session);
      if (std::exchange(failing_, false)) log_.info("the backlog is sampled again", {});
    } catch (const StoreError& error) {
      count_database_error(metrics_, error, session == nullptr);
      // Also after an error that the session survives: a new one costs little and leaves no doubt.
      session.reset();
      failing_ = true;
      withdraw();
      log_.limited(
          LogLevel::warning, fmt::format("sampler/{}", to_string(error.kind())),
          "the backlog cannot be sampled",
          {{"kind", to_string(error.kind())}, {"error", error.what()}, {"hint", error.hint()}});
    } catch (const std::exception& error) {
      session.reset();
      failing_ = true;
      withdraw();
      log_.limited(LogLevel::error, "sampler", "the backlog cannot be sampled",
                   {{"error", error.what()}});
    }
    MutexLock lock(mutex_);
    const MonotonicTime until = std::chrono::steady_clock::now() + options_.interval;
    while (!stopping_ && wake_.wait_until(lock, until)) {
    }
    if (stopping_) return;
  }
}

void Sampler::turn(SamplingSession& session) {
  publish(session.look(kCountLimit));
  if (system_clock().monotonic() >= maintenance_due_) maintain(session);
}

void Sampler::publish(std::optional<DatabaseLook> look) {
  if (!look) {
    withdraw();
    return;
  }
  metrics_.publish(sample_of(*look));
  log_unbound(*look);
  const MutexLock lock(mutex_);
  looked_ = std::make_shared<const DatabaseLook>(std::move(*look));
}

// Once for each stream that comes to be unbound: a lasting one shows in the metrics.
void Sampler::log_unbound(const DatabaseLook& look) {
  std::set<std::string> unbound;
  for (const UnboundStream& stream : look.unbound) {
    unbound.insert(stream.name);
    if (unbound_.contains(stream.name)) continue;
    log_.warning("entries wait in a stream that no worker serves",
                 {{"stream", stream.name}, {"entries", stream.entries}});
  }
  unbound_ = std::move(unbound);
}

void Sampler::maintain(SamplingSession& session) {
  Milliseconds retention{};
  {
    const MutexLock lock(mutex_);
    retention = retention_;
  }
  // Before the call: one that fails every time must not come with every turn.
  maintenance_due_ = system_clock().monotonic() + kMaintainAgain;
  const ReceiptsMaintenance done = session.maintain_receipts(retention);
  if (done.postponed.empty() && !done.more) {
    maintenance_due_ = system_clock().monotonic() + kMaintainEvery;
  }
  log_maintenance(done);
}

void Sampler::log_maintenance(const ReceiptsMaintenance& done) {
  if (!done.created.empty() || !done.dropped.empty() || done.deleted > 0) {
    log_.info("receipts maintained", {{"created", fmt::format("{}", fmt::join(done.created, " "))},
                                      {"dropped", fmt::format("{}", fmt::join(done.dropped, " "))},
                                      {"deleted", done.deleted}});
  }
  if (done.postponed != postponed_ && !done.postponed.empty()) {
    log_.warning("some maintenance of the receipts has to wait",
                 {{"postponed", fmt::format("{}", fmt::join(done.postponed, "; "))}});
  }
  postponed_ = done.postponed;
}

void Sampler::withdraw() {
  metrics_.withdraw();
  const MutexLock lock(mutex_);
  looked_.reset();
}

}  // namespace outfall
