#include "tests/unit/drain_fixture.h"

#include <algorithm>

namespace outfall::test {

// The database.

void ModelStore::check(int start) {
  if (start == start_) return;
  ++lost_calls_;
  throw StoreError(StoreErrorKind::unavailable, "the database has restarted");
}

void ModelStore::refuse_leases_in_doubt() const {
  if (in_doubt_) throw StoreError(StoreErrorKind::conflict, "leases must be released first");
}

ClaimResult ModelStore::claim(const ClaimRequest& request) {
  refuse_leases_in_doubt();
  ClaimResult result;
  LeasedBatch& batch = result.batch;
  for (Row& row : rows_) {
    if (row.delivered || row.lease != Uuid{}) continue;
    row.lease = request.lease_id;
    LeasedEntry& leased = batch.entries.emplace_back();
    leased.envelope.entry_id = row.id;
    leased.envelope.stream = kStream;
    leased.envelope.type = "placed";
  }
  if (batch.entries.empty()) return result;
  if (!seen_) ++leased_unseen_;
  result.status = ClaimStatus::batch;
  batch.lease_id = request.lease_id;
  batch.asked_at = system_clock().monotonic();
  batch.valid_until = batch.asked_at + request.lease;
  batch.claimed_at = system_clock().wall();
  for (LeasedEntry& leased : batch.entries)
    leased.limits_from = leased.envelope.created_at = batch.claimed_at;
  return result;
}

SettleResult ModelStore::settle(const SettleRequest& request) {
  in_doubt_ = in_doubt_ || std::exchange(restarted_unseen_, false);
  refuse_leases_in_doubt();
  deferred_ += static_cast<int>(request.others.size());
  for (Row& row : rows_) {
    if (row.lease != request.lease_id) continue;
    const auto among = [&row](const std::vector<EntryId>& ids) {
      return std::find(ids.begin(), ids.end(), row.id) != ids.end();
    };
    row.delivered = row.delivered || among(request.delivered);
    const bool other = std::any_of(request.others.begin(), request.others.end(),
                                   [&row](const SettledOther& o) { return o.id == row.id; });
    if (other || among(request.returned)) row.lease = {};
  }
  return {.stale = false, .repeated = false, .settled_at = system_clock().wall()};
}

// Its sessions.

class ModelStore::Session final : public StoreSession {
 public:
  Session(ModelStore& store, int start) : store_(store), start_(start) {}
  void register_streams(std::span<const std::string>) override { (void)locked(); }
  std::vector<std::string> due_streams(std::span<const std::string>) override {
    const MutexLock lock(store_.mutex_);
    store_.check(start_);
    for (const Row& row : store_.rows_)
      if (!row.delivered && row.lease == Uuid{}) return {kStream};
    return {};
  }
  ClaimResult claim(const ClaimRequest& request,
                    const std::function<void(const LeasedSoon&)>&) override {
    const MutexLock lock(store_.mutex_);
    store_.check(start_);
    return store_.claim(request);
  }
  SettleResult settle(const SettleRequest& request) override {
    const MutexLock lock(store_.mutex_);
    store_.check(start_);
    return store_.settle(request);
  }
  std::vector<Uuid> renew(std::span<const Uuid> leases, Milliseconds) override {
    (void)locked();
    return {leases.begin(), leases.end()};
  }
  void release() override {
    const MutexLock lock(store_.mutex_);
    store_.check(start_);
    store_.in_doubt_ = false;
    for (Row& row : store_.rows_) row.lease = {};
  }
  void forgive(std::span<const EntryId>) override {}
  bool park_destination(const std::string&, const std::string&, const std::string&) override {
    return false;
  }

 private:
  bool locked() const {
    const MutexLock lock(store_.mutex_);
    store_.check(start_);
    return true;
  }
  ModelStore& store_;
  const int start_;
};

// The session that shows the worker alive. What a look says is decided when it begins.
class ModelStore::Seen final : public Presence {
 public:
  Seen(ModelStore& store, int start) : store_(store), start_(start) {}
  std::vector<Uuid> absent(std::span<const Uuid>) override {
    MutexLock lock(store_.mutex_);
    const bool lost = start_ != store_.start_;
    ++store_.looks_waiting_;
    while (store_.looks_held_ && store_.looks_to_go_ == 0) store_.looks_.wait(lock);
    --store_.looks_waiting_;
    if (store_.looks_held_) --store_.looks_to_go_;
    if (lost) throw StoreError(StoreErrorKind::unavailable, "the database has restarted");
    return {};
  }
  [[nodiscard]] bool held() const noexcept override { return true; }

 private:
  ModelStore& store_;
  const int start_;
};

std::unique_ptr<StoreSession> ModelStore::open_session() {
  const MutexLock lock(mutex_);
  return std::make_unique<Session>(*this, start_);
}

std::unique_ptr<Presence> ModelStore::open_presence() {
  const MutexLock lock(mutex_);
  seen_ = true;
  return std::make_unique<Seen>(*this, start_);
}

bool ModelStore::leases_in_doubt() {
  const MutexLock lock(mutex_);
  return in_doubt_;
}

// For the test.

void ModelStore::insert(EntryId id) {
  const MutexLock lock(mutex_);
  rows_.emplace_back().id = id;
}

void ModelStore::restart() {
  const MutexLock lock(mutex_);
  ++start_;
  lost_calls_ = 0;
  in_doubt_ = true;
  seen_ = false;
}

void ModelStore::restart_behind_a_pooler() {
  const MutexLock lock(mutex_);
  restarted_unseen_ = true;
}

void ModelStore::hold_looks() {
  const MutexLock lock(mutex_);
  looks_held_ = true;
}

void ModelStore::let_looks_go(bool one) {
  {
    const MutexLock lock(mutex_);
    looks_held_ = one;
    looks_to_go_ = one ? 1 : 0;
  }
  looks_.notify_all();
}

bool ModelStore::delivered(EntryId id) const {
  const MutexLock lock(mutex_);
  return std::any_of(rows_.begin(), rows_.end(),
                     [id](const Row& row) { return row.id == id && row.delivered; });
}

int ModelStore::deferred() const {
  const MutexLock lock(mutex_);
  return deferred_;
}

int ModelStore::leased_unseen() const {
  const MutexLock lock(mutex_);
  return leased_unseen_;
}

int ModelStore::lost_calls() const {
  const MutexLock lock(mutex_);
  return lost_calls_;
}

bool ModelStore::a_look_waits() const {
  const MutexLock lock(mutex_);
  return looks_waiting_ > 0 && looks_to_go_ == 0;
}

// The worker.

void ScriptedEmitter::emit(EmitBatch batch) noexcept {
  std::vector<Completion> completions;
  for (const EmitItem& item : batch.items) {
    const std::size_t n = emitted_++;
    Outcome outcome = n >= script_.size() || script_[n] == OutcomeKind::delivered
                          ? Outcome::delivered()
                          : Outcome::of(script_[n], "test.scripted", "as the test says");
    completions.push_back({.token = item.token, .outcome = std::move(outcome)});
  }
  sink_.complete(completions);
}

namespace {
DrainOptions options() {
  DrainOptions options;
  options.poll_idle = Milliseconds{10};
  options.connections = 1;
  options.reconnect_max = Milliseconds{20};
  return options;
}
}  // namespace

ModelWorker::ModelWorker(ModelStore& store, std::vector<OutcomeKind> script)
    : store_(store),
      metrics_({}, system_clock()),
      heartbeat_(system_clock(), metrics_.gauge(Metric::heartbeat_timestamp_seconds)),
      drain_(options(), store, metrics_, heartbeat_, Logger::null(), system_clock(),
             system_random()) {
  drain_.add_emitter("sink", std::make_unique<ScriptedEmitter>(drain_.sink(), std::move(script)));
  StreamOptions stream;
  stream.name = kStream;
  stream.emitter = "sink";
  stream.provider = "test";
  stream.breaker.probe_initial = Milliseconds{10};
  stream.breaker.probe_max = Milliseconds{20};
  drain_.add_stream(stream);
  drain_.start();
}

ModelWorker::~ModelWorker() {
  store_.let_looks_go();  // which the end of the worker waits for
  (void)drain_.stop();
}

}  // namespace outfall::test
