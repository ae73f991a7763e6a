#include "tests/faults/simulation_worker.h"

#include <algorithm>
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

void ModelWorker::later(MonotonicTime when, std::function<void()> handler) {
  world_.at(when, [this, handler = std::move(handler)]() mutable {
    if (!alive_) return;
    if (world_.now() < frozen_until_) return later(frozen_until_, std::move(handler));
    handler();
  });
}

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
  recover_leases();
}

void ModelWorker::poll() {
  if (polling_ || !may_send()) {
    look_at(stream_, world_.now() + (polling_ ? options_.poll_active : options_.poll_idle));
    return;
  }
  polling_ = true;
  auto due = std::make_shared<bool>(false);
  const auto finish = [this, due] {
    polling_ = false;
    if (*due) {
      start_claim();
    } else {
      stream_.nothing_due();
    }
  };
  submit({.urgency = DatabasePool::Urgency::poll,
          .run =
              [this, due, finish](StoreSession& session) {
                const std::vector<std::string> names = {stream_.name()};
                *due = !session.due_streams(names).empty();
                post(finish);
              },
          .failed = [this, finish](const StoreError&) { post(finish); }});
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

void ModelWorker::recover_leases() {
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
                  recover_leases();
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
  if (!present_) return;
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
  DatabasePool::Job job;
  // What the server does; it then calls the function that it was given.
  std::function<void(const CallPtr&, std::function<void()>)> at_server;
  bool answered = false;
  bool lost = false;  // its connection is gone
  MonotonicTime asked_at{};
  std::uint64_t floor_generation = 0;
  ModelDatabase::Claimed claimed;
  SettleResult settled;
  bool refused = false;
  std::vector<Uuid> kept;
  bool due = false;
  std::function<void(const LeasedSoon&)> leased;  // of a claim
  bool reported = false;                          // to the floor
};

// Each call of a job is asked twice: the first time it is sent and the job suspended by an
// exception, the second time its answer is there.
class ModelWorker::Session final : public StoreSession {
 public:
  Session(ModelWorker& worker, CallPtr call) : worker_(worker), call_(std::move(call)) {}

  void register_streams(std::span<const std::string>) override {}
  void forgive(std::span<const EntryId>) override {}
  bool park_destination(const std::string&, const std::string&, const std::string&) override {
    return true;
  }

  std::vector<std::string> due_streams(std::span<const std::string> streams) override {
    ask([w = &worker_, input = worker_.floor_.input()](const CallPtr& call, const auto& reply) {
      call->due = w->database_.due(input);
      reply();
    });
    return call_->due ? std::vector<std::string>(streams.begin(), streams.end())
                      : std::vector<std::string>{};
  }

  using StoreSession::claim;
  ClaimResult claim(const ClaimRequest& request,
                    const std::function<void(const LeasedSoon&)>& leased) override {
    if (!call_->answered) {
      if (worker_.leases_in_doubt_)
        throw StoreError(StoreErrorKind::conflict, "leases are in doubt");
      call_->floor_generation = worker_.floor_generation_;
      call_->leased = leased;
    }
    ask([w = &worker_, request, input = worker_.floor_.input()](const CallPtr& call,
                                                                const auto& reply) {
      w->database_.claim(w->number_, request, input,
                         [w, call, reply](ModelDatabase::Claimed claimed) {
                           call->claimed = std::move(claimed);
                           w->answer_soon(call, reply);
                         });
    });
    ClaimResult& result = call_->claimed.result;
    worker_.report(*call_);
    result.batch.asked_at = call_->asked_at;
    result.batch.valid_until = call_->asked_at + request.lease;
    return std::move(result);
  }

  SettleResult settle(const SettleRequest& request) override {
    if (!call_->answered && worker_.leases_in_doubt_ && worker_.world_.flaw != Flaw::restart)
      throw StoreError(StoreErrorKind::conflict, "leases are in doubt");
    ask([w = &worker_, request](const CallPtr& call, const auto& reply) {
      call->refused = w->database_.refuses(w->number_, request);
      if (!call->refused) call->settled = w->database_.settle(w->number_, request);
      reply();
    });
    if (call_->refused)
      throw StoreError(StoreErrorKind::defect, "an entry cannot be written", {}, "P0001");
    return call_->settled;
  }

  std::vector<Uuid> renew(std::span<const Uuid> leases, Milliseconds lease) override {
    ask([w = &worker_, asked = std::vector<Uuid>(leases.begin(), leases.end()), lease](
            const CallPtr& call, const auto& reply) {
      call->kept = w->database_.renew(w->number_, asked, lease);
      reply();
    });
    return call_->kept;
  }

  void release() override {
    ask([w = &worker_](const CallPtr&, const auto& reply) {
      w->database_.release(w->number_);
      reply();
    });
    worker_.leases_in_doubt_ = false;
  }

 private:
  // Nothing that the server is asked to do may refer to this session, which is gone by then.
  template <typename Effect>
  void ask(Effect effect) {
    if (std::exchange(call_->answered, false)) return;
    call_->at_server = std::move(effect);
    throw Suspended{};
  }

  ModelWorker& worker_;
  CallPtr call_;
};

void ModelWorker::submit(DatabasePool::Job job) {
  jobs_[static_cast<std::size_t>(job.urgency)].push_back(std::move(job));
  post([this] { take_jobs(); });
}

void ModelWorker::take_jobs() {
  if (!connected_) return reconnected();
  for (auto& queue : jobs_) {
    while (!queue.empty() && calls_.size() < connections_ && connected_) {
      auto call = std::make_shared<Call>();
      call->job = std::move(queue.front());
      queue.pop_front();
      calls_.push_back(call);
      run(call);
    }
  }
}

void ModelWorker::run(const CallPtr& call) {
  try {
    Session session(*this, call);
    call->job.run(session);
  } catch (const Suspended&) {
    return dispatch(call);
  } catch (const StoreError& error) {
    std::erase(calls_, call);
    call->job.failed(error);
    return post([this] { take_jobs(); });
  }
  std::erase(calls_, call);
  post([this] { take_jobs(); });
}

void ModelWorker::dispatch(const CallPtr& call) {
  call->asked_at = world_.now();
  if (!linked()) {
    later(world_.now() + world_.between(1000, 50'000),
          [this, call] { fail(call, StoreErrorKind::unavailable); });
    return;
  }
  world_.after(world_.between(50, 800), [this, call] { at_server(call); });
}

// The server does what has reached it, whatever has become of the worker.
void ModelWorker::at_server(const CallPtr& call) {
  if (call->lost || !linked()) return;
  const auto breaks = [this] { return world_.now() < flaky_until_ && world_.chance(kFlaky); };
  const auto lose = [this, call] {
    later(world_.now() + world_.between(100, 20'000),
          [this, call] { fail(call, StoreErrorKind::unavailable); });
  };
  if (breaks()) return lose();
  call->at_server(call, [this, call, breaks, lose] {
    if (breaks()) return lose();
    world_.after(world_.between(50, 800), [this, call] {
      if (!call->lost && linked()) later(world_.now(), [this, call] { answer(call); });
    });
  });
}

// What a claim has to say to the next one; its entries are read after that.
void ModelWorker::report(Call& call) {
  if (std::exchange(call.reported, true)) return;
  if (call.claimed.report && call.floor_generation == floor_generation_)
    floor_.completed(*call.claimed.report);
}

// The lease is told of first, and its entries follow, some time later and on the same connection.
void ModelWorker::answer_soon(const CallPtr& call, const std::function<void()>& reply) {
  const ClaimResult& result = call->claimed.result;
  if (result.status != ClaimStatus::batch || !call->claimed.report) return reply();
  std::map<std::string, std::int32_t> keys;
  LeasedSoon soon{.entries = static_cast<std::int32_t>(result.batch.entries.size()),
                  .largest_key = 0,
                  .more = result.more};
  for (const LeasedEntry& entry : result.batch.entries) {
    if (entry.envelope.key)
      soon.largest_key = std::max(soon.largest_key, ++keys[std::string(*entry.envelope.key)]);
  }
  world_.after(world_.between(50, 800), [this, call, soon] {
    if (call->lost || !linked()) return;
    later(world_.now(), [this, call, soon] {
      if (std::find(calls_.begin(), calls_.end(), call) == calls_.end()) return;
      if (leases_in_doubt_) return;
      report(*call);
      call->leased(soon);
    });
  });
  world_.after(world_.chance(0.3) ? world_.between(6000, 400'000) : world_.between(800, 6000),
               reply);
}

void ModelWorker::answer(const CallPtr& call) {
  if (std::find(calls_.begin(), calls_.end(), call) == calls_.end()) return;
  call->answered = true;
  run(call);
}

void ModelWorker::fail(const CallPtr& call, StoreErrorKind kind) {
  if (std::erase(calls_, call) == 0) return;
  call->lost = true;
  connected_ = false;
  call->job.failed(StoreError(kind, "connection lost"));
  post([this] { take_jobs(); });
}

// All calls under way fail as soon as their connections are seen to be gone.
void ModelWorker::cut_off(MonotonicTime until) {
  connected_ = false;
  cut_off_until_ = until;
  for (const CallPtr& call : calls_) {
    call->lost = true;
    later(world_.now() + world_.between(100, 400'000),
          [this, call] { fail(call, StoreErrorKind::unavailable); });
  }
  const auto noticed = world_.between(1000, 1'200'000);
  const auto unlocked = world_.between(0, noticed.count());
  world_.after(unlocked, [this] { database_.unlock(number_); });
  later(world_.now() + noticed, [this] { lose_presence(); });
}

void ModelWorker::database_crashed() {
  connected_ = false;
  for (const CallPtr& call : calls_) {
    call->lost = true;
    // Where a machine has died, nobody says so: one may wait while others are back at work.
    const auto noticed =
        world_.chance(0.7) ? world_.between(50'000, 3'000'000) : world_.between(100, 50'000);
    later(world_.now() + noticed, [this, call] { fail(call, StoreErrorKind::unavailable); });
  }
  database_.unlock(number_);
  later(world_.now() + world_.between(100, 50'000), [this] { lose_presence(); });
}

void ModelWorker::reconnected() {
  if (reconnecting_) return;
  reconnecting_ = true;
  if (!linked()) {
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
  if (known_starts_ != 0 && known_starts_ != database_.starts()) leases_in_doubt_ = true;
  known_starts_ = database_.starts();
  post([this] { recover_leases(); });
  // One connection after the other: a job that has waited may run after the leases are released.
  connections_ = 1;
  later(world_.now() + std::chrono::microseconds{world_.micros() % 60'000}, [this] {
    connections_ = kConnections;
    take_jobs();
  });
  post([this] { take_jobs(); });
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
