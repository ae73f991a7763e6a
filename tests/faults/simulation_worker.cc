#include "tests/faults/simulation_worker.h"

#include <algorithm>
#include <span>
#include <utility>

namespace outfall::test::simulation {

namespace {

constexpr Milliseconds kPresenceLook{250};
constexpr Milliseconds kReconnectPause{50};
constexpr double kFlaky = 0.15;

}  // namespace

ModelWorker::ModelWorker(World& world, ModelDatabase& database, ModelSink& sink, int number,
                         const DrainOptions& options, const StreamOptions& stream,
                         std::int32_t key_window, StreamMetrics& metrics)
    : world_(world),
      database_(database),
      number_(number),
      options_(options),
      emitter_(world, database, sink, *this, key_window),
      stream_(stream, emitter_, metrics, *this) {
}

ModelWorker::~ModelWorker() = default;

void ModelWorker::start() {
  reconnected();
  regain_presence();
  watch_presence();
  look_at(stream_, world_.now());
  arm_renewal(options_.lease / 3);
}

// The loop, as in lib/drain/drain.cc.

void ModelWorker::complete(Completion completion) {
  completions_.push_back(std::move(completion));
  if (completions_.size() > 1) return;
  post([this] {
    for (Completion& done : std::exchange(completions_, {}))
      stream_.completed(*reinterpret_cast<HeldEntry*>(done.token), done);
    stream_.end_of_turn();
  });
}

DrainHost::Amount ModelWorker::allowance(const StreamDrain&) const {
  return {.entries = options_.max_in_flight - claimed_entries_ - held_entries_ - unwritten_entries_,
          .bytes = 1 << 20};
}

void ModelWorker::claim_begins(const StreamDrain&, Amount most) {
  claimed_entries_ += most.entries;
}

void ModelWorker::claim_brings(const StreamDrain&, Amount most, Amount came) {
  claimed_entries_ -= most.entries;
  held_entries_ += came.entries;
  if (came.entries < most.entries && std::exchange(without_room_, false))
    look_at(stream_, world_.now());
}

void ModelWorker::let_go(const StreamDrain&, std::int64_t) {
  --held_entries_;
  if (std::exchange(without_room_, false)) look_at(stream_, world_.now());
}

void ModelWorker::written(Amount amount) {
  unwritten_entries_ -= amount.entries;
  if (std::exchange(without_room_, false)) look_at(stream_, world_.now());
}

void ModelWorker::look_at(StreamDrain&, MonotonicTime when) {
  if (look_at_ && *look_at_ <= when) return;
  look_at_ = when;
  later(when, [this, number = ++look_number_] {
    if (number == look_number_) look();
  });
}

void ModelWorker::look() {
  look_at_.reset();
  if (stopping_) return;
  if (stream_.expects_entries()) {
    start_claim();
  } else {
    poll();
  }
}

void ModelWorker::start_claim() {
  if (!stream_.may_begin_claim()) return;
  ++claims_running_;
  if (stream_.claim()) return;
  --claims_running_;
  look_at(stream_, world_.now() + options_.poll_idle);
}

void ModelWorker::claim_ended() {
  --claims_running_;
  give_up_leases_in_doubt();
}

void ModelWorker::poll() {
  if (polling_ || !may_send()) {
    look_at(stream_, world_.now() + (polling_ ? options_.poll_active : options_.poll_idle));
    return;
  }
  polling_ = true;
  submit({.urgency = DatabasePool::Urgency::poll,
          .run =
              [this](StoreSession& session) {
                const std::span<const std::string> only(&stream_.name(), 1);
                const bool due = !session.due_streams(only).empty();
                post([this, due] { polled(due); });
              },
          .failed = [this](const StoreError&) { post([this] { polled(false); }); }});
}

void ModelWorker::polled(bool due) {
  polling_ = false;
  if (due) {
    start_claim();
  } else {
    stream_.nothing_due();
  }
}

void ModelWorker::arm_renewal(Milliseconds after) {
  later(world_.now() + after, [this, number = ++renewal_number_] {
    if (number == renewal_number_) renew();
  });
}

void ModelWorker::renew() {
  if (renewing_) return;
  std::vector<Uuid> leases;
  const MonotonicTime asked_at = world_.now();
  stream_.collect_leases(present_ ? asked_at + options_.lease * 2 / 3 : MonotonicTime::max(),
                         leases);
  const Milliseconds pause = std::min<Milliseconds>(options_.lease / 6, Milliseconds{1000});
  if (leases.empty()) return arm_renewal(pause);
  renewing_ = true;
  const std::uint64_t presence = present_ ? presences_ : 0;
  auto kept = std::make_shared<std::vector<Uuid>>();
  submit({.urgency = DatabasePool::Urgency::renew,
          .run =
              [this, leases, kept, asked_at, pause, presence](StoreSession& session) {
                *kept = session.renew(leases, options_.lease);
                post([this, leases, kept, asked_at, pause, presence] {
                  renewing_ = false;
                  const bool same_presence = present_ && presence == presences_;
                  stream_.renewed(leases, *kept, asked_at + options_.lease, same_presence);
                  stream_.end_of_turn();
                  if (present_ && !same_presence) return renew();
                  arm_renewal(pause);
                });
              },
          .failed =
              [this](const StoreError&) {
                post([this] {
                  renewing_ = false;
                  arm_renewal(Milliseconds{200});
                });
              }});
}

void ModelWorker::give_up_leases_in_doubt() {
  if (recovering_ || !leases_in_doubt_) return;
  recovering_ = true;
  world_.trace("w{}    gives up all leases", number_);
  stream_.lose_all();
  submit({.urgency = DatabasePool::Urgency::settle,
          .run =
              [this](StoreSession& session) {
                session.release();
                post([this] {
                  recovering_ = false;
                  look_at(stream_, world_.now());
                });
              },
          .failed =
              [this](const StoreError&) {
                post_at(world_.now() + Milliseconds{100}, [this] {
                  recovering_ = false;
                  give_up_leases_in_doubt();
                });
              }});
}

// Presence.

void ModelWorker::watch_presence() {
  if (present_ && linked()) {
    dead_workers_.clear();
    for (const Uuid& worker : seen_workers_) {
      if (database_.absent(worker.bytes[15], present_since_)) dead_workers_.push_back(worker);
    }
  }
  later(world_.now() + kPresenceLook, [this] { watch_presence(); });
}

void ModelWorker::lose_presence() {
  if (!present_ || database_.pooled()) return;
  present_ = false;
  world_.trace("w{}    has no presence", number_);
  stream_.withhold_unsent();
  later(world_.now() + world_.between(1000, 250'000), [this] { regain_presence(); });
}

void ModelWorker::regain_presence() {
  if (present_) return;
  if (!linked()) {
    later(world_.now() + world_.between(10'000, 250'000), [this] { regain_presence(); });
    return;
  }
  database_.lock(number_);
  world_.trace("w{}    is present again", number_);
  present_since_ = world_.now();
  present_ = true;
  ++presences_;
  look_at(stream_, world_.now());
  renew();
}

// The pool.

struct ModelWorker::Call {
  explicit Call(DatabasePool::Job job_in) : job(std::move(job_in)) {}

  DatabasePool::Job job;
  std::function<void(const CallPtr&)> at_server;  // what is done there
  bool lost = false;                              // its connection is gone
  bool served = false;                            // the server is at it, or was
  bool replied = false;                           // and has said all
  MonotonicTime asked_at{};
  std::uint64_t floor_generation = 0;
  ModelDatabase::Claimed claimed;
  SettleResult settled;
  bool refused = false;
  bool restarted = false;
  int server = 0;  // that answered
  std::vector<Uuid> kept;
  bool due = false;
  const std::function<void(const LeasedSoon&)>* leased = nullptr;  // of a claim
  bool reported = false;                                           // to the floor
  std::optional<StoreError> error;
  // Runs the job, and waits for each answer. Last, as what it holds is destroyed before the job.
  std::optional<Fiber> fiber;
};

// Where a pointer to a call is caught it is by `call = call`, which can be moved on: what is caught
// of a constant reference by its name is constant, and is copied again wherever it goes.

// What a request refers to is the job's, which waits for the answer as long as there is the call.
class ModelWorker::Session final : public StoreSession {
 public:
  Session(ModelWorker& worker, Call& call) : worker_(worker), call_(call) {}

  void register_streams(std::span<const std::string>) override {}
  void forgive(std::span<const EntryId>) override {}
  bool park_destination(const std::string&, const std::string&, const std::string&) override {
    return true;
  }

  std::vector<std::string> due_streams(std::span<const std::string> streams) override {
    ask([w = &worker_, input = worker_.floor_.input(),
         server = worker_.server_](const CallPtr& call) {
      call->due = w->database_.due(input, server);
      w->reply(call);
    });
    return call_.due ? std::vector<std::string>(streams.begin(), streams.end())
                     : std::vector<std::string>{};
  }

  using StoreSession::claim;
  ClaimResult claim(const ClaimRequest& request,
                    const std::function<void(const LeasedSoon&)>& leased) override {
    worker_.refuse_leases_in_doubt();
    call_.floor_generation = worker_.floor_generation_;
    call_.leased = &leased;
    ask([w = &worker_, &request, input = worker_.floor_.input(),
         server = worker_.server_](const CallPtr& call) {
      w->database_.claim(w->number_, request, input, server,
                         [w, call = call](ModelDatabase::Claimed claimed) {
                           call->claimed = std::move(claimed);
                           w->claimed(call);
                         });
    });
    ClaimResult& result = call_.claimed.result;
    worker_.report(call_);
    // It may be the first to meet another server: its lease is given up with all the others.
    if (result.status != ClaimStatus::busy) worker_.refuse_leases_in_doubt();
    result.batch.asked_at = call_.asked_at;
    result.batch.valid_until = call_.asked_at + request.lease;
    return std::move(result);
  }

  SettleResult settle(const SettleRequest& request) override {
    if (worker_.world_.flaw != Flaw::restart) worker_.refuse_leases_in_doubt();
    ask([w = &worker_, &request, server = worker_.server_](const CallPtr& call) {
      ModelDatabase& database = w->database_;
      call->server = database.starts();
      call->restarted = database.restarted_since(server);
      call->refused = !call->restarted && database.refuses(w->number_, request);
      if (!call->restarted && !call->refused) call->settled = database.settle(w->number_, request);
      w->reply(call);
    });
    if (call_.restarted) {
      worker_.saw_server(call_.server);
      worker_.refuse_leases_in_doubt();
      call_.settled = {};
      call_.settled.stale = true;  // they have been released meanwhile
    }
    if (call_.refused)
      throw StoreError(StoreErrorKind::defect, "an entry cannot be written", {}, "P0001");
    return call_.settled;
  }

  std::vector<Uuid> renew(std::span<const Uuid> leases, Milliseconds lease) override {
    ask([w = &worker_, leases, lease](const CallPtr& call) {
      call->kept = w->database_.renew(w->number_, leases, lease);
      w->reply(call);
    });
    return call_.kept;
  }

  void release() override {
    ask([w = &worker_](const CallPtr& call) {
      w->database_.release(w->number_);
      w->reply(call);
    });
    worker_.leases_in_doubt_ = false;
  }

 private:
  template <typename Effect>
  void ask(Effect effect) {
    call_.at_server = std::move(effect);
    call_.served = call_.replied = false;
    call_.fiber->wait();
  }

  ModelWorker& worker_;
  Call& call_;
};

void ModelWorker::submit(DatabasePool::Job job) {
  jobs_[static_cast<std::size_t>(job.urgency)].push_back(std::move(job));
  post([this] { take_jobs(); });
}

void ModelWorker::take_jobs() {
  if (!connected_) return reconnected();
  for (auto& queue : jobs_) {
    while (!queue.empty() && connected_) {
      if (calls_.size() >= connections_) return reopen();
      auto call = std::make_shared<Call>(std::move(queue.front()));
      queue.pop_front();
      calls_.push_back(call);
      call->fiber.emplace([this, &its = *call] {
        try {
          Session session(*this, its);
          its.job.run(session);
        } catch (const StoreError& error) {
          its.error = error;
        }
      });
      run(call);
    }
  }
}

// The job, until it has asked for something or ended.
void ModelWorker::run(const CallPtr& call) {
  if (!call->fiber->resume()) return dispatch(call);
  std::erase(calls_, call);
  if (call->error) call->job.failed(*call->error);
  post([this] { take_jobs(); });
}

void ModelWorker::dispatch(const CallPtr& call) {
  call->asked_at = world_.now();
  if (!linked()) {
    later(world_.now() + world_.between(1000, 50'000),
          [this, call = call] { fail(call, StoreErrorKind::unavailable); });
    return;
  }
  world_.after(world_.between(50, 800), [this, call = call] { at_server(call); });
}

// The server does what has reached it, whatever has become of the worker.
void ModelWorker::at_server(const CallPtr& call) {
  if (call->lost || !linked()) return;
  if (breaks()) return lose(call);
  if (!database_.up()) return wait_in_pooler(call);
  call->served = true;
  call->at_server(call);
}

// A query waits there for a server, and goes when its client does.
void ModelWorker::wait_in_pooler(const CallPtr& call) {
  if (!alive_) return;
  if (world_.chance(0.05)) return lose(call);
  world_.after(world_.between(1000, 60'000), [this, call = call] { at_server(call); });
}

bool ModelWorker::breaks() {
  return world_.now() < flaky_until_ && world_.chance(kFlaky);
}

void ModelWorker::lose(const CallPtr& call) {
  later(world_.now() + world_.between(100, 20'000),
        [this, call = call] { fail(call, StoreErrorKind::unavailable); });
}

void ModelWorker::reply(const CallPtr& call) {
  if (breaks()) return lose(call);
  call->replied = true;
  world_.after(world_.between(50, 800), [this, call = call] {
    if (!call->lost && linked()) later(world_.now(), [this, call = call] { answer(call); });
  });
}

// What a claim has to say to the next one; its entries are read after that.
void ModelWorker::report(Call& call) {
  if (std::exchange(call.reported, true)) return;
  if (call.claimed.report) saw_server(call.claimed.server);
  if (call.claimed.report && call.floor_generation == floor_generation_)
    floor_.completed(*call.claimed.report);
}

// The lease is told of first, and its entries follow, some time later and on the same connection.
void ModelWorker::claimed(const CallPtr& call) {
  const ClaimResult& result = call->claimed.result;
  if (result.status != ClaimStatus::batch || !call->claimed.report) return reply(call);
  std::array<std::int32_t, kKeys> keys{};
  LeasedSoon soon{.entries = static_cast<std::int32_t>(result.batch.entries.size()),
                  .largest_key = 0,
                  .more = result.more};
  for (const LeasedEntry& entry : result.batch.entries) {
    if (entry.envelope.key)
      soon.largest_key =
          std::max(soon.largest_key, ++keys[static_cast<std::size_t>(entry.key_hash)]);
  }
  world_.after(world_.between(50, 800), [this, call = call, soon] {
    if (call->lost || !linked()) return;
    later(world_.now(), [this, call = call, soon] {
      if (std::find(calls_.begin(), calls_.end(), call) == calls_.end()) return;
      if (leases_in_doubt_) return;
      report(*call);
      if (!leases_in_doubt_) (*call->leased)(soon);
    });
  });
  world_.after(world_.chance(0.3) ? world_.between(6000, 400'000) : world_.between(800, 6000),
               [this, call = call] { reply(call); });
}

void ModelWorker::answer(const CallPtr& call) {
  if (std::find(calls_.begin(), calls_.end(), call) == calls_.end()) return;
  run(call);
}

void ModelWorker::fail(const CallPtr& call, StoreErrorKind kind) {
  if (std::erase(calls_, call) == 0) return;
  call->lost = true;
  if (database_.pooled()) {
    --connections_;
  } else {
    connected_ = false;
  }
  call->job.failed(StoreError(kind, "connection lost"));
  post([this] { take_jobs(); });
}

// All calls under way fail as soon as their connections are seen to be gone.
void ModelWorker::cut_off(MonotonicTime until) {
  if (database_.pooled()) {
    connections_ = calls_.size();
  } else {
    connected_ = false;
  }
  cut_off_until_ = until;
  for (const CallPtr& call : calls_) {
    call->lost = true;
    later(world_.now() + world_.between(100, 400'000),
          [this, call = call] { fail(call, StoreErrorKind::unavailable); });
  }
  const auto noticed = world_.between(1000, 1'200'000);
  const auto unlocked = world_.between(0, noticed.count());
  world_.after(unlocked, [this] { database_.unlock(number_); });
  later(world_.now() + noticed, [this] { lose_presence(); });
}

// A session that a pooler gave out ends with the server only while that is at work for it, and of
// an answer that is under way nobody knows how far it has come.
bool ModelWorker::outlives_server(const Call& call) {
  return !call.served || (call.replied && world_.chance(0.5));
}

void ModelWorker::database_crashed() {
  if (!database_.pooled()) connected_ = false;
  for (const CallPtr& call : calls_) {
    if (database_.pooled() && (call->lost || outlives_server(*call))) continue;
    call->lost = true;
    // Where a machine has died, nobody says so: one may wait while others are back at work.
    const auto noticed =
        world_.chance(0.7) ? world_.between(50'000, 3'000'000) : world_.between(100, 50'000);
    later(world_.now() + noticed, [this, call = call] { fail(call, StoreErrorKind::unavailable); });
  }
  database_.unlock(number_);
  later(world_.now() + world_.between(100, 50'000), [this] { lose_presence(); });
}

void ModelWorker::reconnected() {
  if (reconnecting_) return;
  reconnecting_ = true;
  if (!linked() || !database_.up()) {
    later(world_.now() + kReconnectPause, [this] {
      reconnecting_ = false;
      reconnected();
    });
    return;
  }
  reconnecting_ = false;
  connected_ = true;
  floor_ = {};
  ++floor_generation_;
  saw_server(database_.starts());
  post([this] { give_up_leases_in_doubt(); });
  // One connection after the other: a job that has waited may run after the leases are released.
  connections_ = 1;
  later(world_.now() + std::chrono::microseconds{world_.micros() % 60'000}, [this] {
    connections_ = kConnections;
    take_jobs();
  });
  post([this] { take_jobs(); });
}

// Behind a pooler one connection is lost by itself, and opened again when a job finds none free.
void ModelWorker::reopen() {
  if (!database_.pooled() || reconnecting_ || connections_ >= kConnections) return;
  reconnecting_ = true;
  later(world_.now() + world_.between(500, 60'000), [this] {
    reconnecting_ = false;
    if (!linked() || !database_.up()) return reopen();
    ++connections_;
    floor_ = {};
    ++floor_generation_;
    saw_server(database_.starts());
    post([this] { give_up_leases_in_doubt(); });
    take_jobs();
  });
}

// As in lib/store/postgres/postgres_store.cc: another server than before knows nothing of floors,
// and may have undone what was confirmed under a lease.
void ModelWorker::saw_server(int server) {
  if (server_ != 0 && server_ != server) {
    leases_in_doubt_ = true;
    floor_ = {};
    ++floor_generation_;
  }
  server_ = server;
}

void ModelWorker::refuse_leases_in_doubt() const {
  if (leases_in_doubt_) throw StoreError(StoreErrorKind::conflict, "leases are in doubt");
}

// Faults.

void ModelWorker::end() {
  alive_ = false;
  calls_.clear();
  for (auto& queue : jobs_) queue.clear();
}

void ModelWorker::kill() {
  world_.trace("w{}    killed", number_);
  end();
  world_.after(world_.between(0, 100'000), [this] { database_.unlock(number_); });
}

void ModelWorker::freeze(MonotonicTime until) {
  world_.trace("w{}    frozen", number_);
  frozen_until_ = until;
}

void ModelWorker::terminate() {
  post([this] {
    world_.trace("w{}    terminated", number_);
    stopping_ = true;
    stream_.stop();
    stop_when_idle(world_.now() + Milliseconds{2500});
  });
}

void ModelWorker::stop_when_idle(MonotonicTime deadline) {
  if (!stream_.idle() && world_.now() < deadline) {
    if (world_.now() + Milliseconds{500} > deadline) emitter_.stop(Milliseconds{0});
    later(world_.now() + Milliseconds{20}, [this, deadline] { stop_when_idle(deadline); });
    return;
  }
  const auto gone = [this] {
    end();
    world_.after(world_.between(0, 1000), [this] { database_.unlock(number_); });
  };
  submit({.urgency = DatabasePool::Urgency::settle,
          .run =
              [this, gone](StoreSession& session) {
                session.release();
                post(gone);
              },
          .failed = [this, gone](const StoreError&) { post(gone); }});
  post_at(world_.now() + Milliseconds{1000}, gone);
}

}  // namespace outfall::test::simulation
