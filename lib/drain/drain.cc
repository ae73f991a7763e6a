#include "drain/drain.h"

#include <algorithm>
#include <future>
#include <utility>

#include <boost/asio/post.hpp>

#include "drain/database_errors.h"

namespace outfall {

namespace {

constexpr Milliseconds kBeatEvery{500};
// Looks that are due within this share of the idle pause are made together, in one poll.
constexpr int kTogether = 2;

}  // namespace

void Drain::Sink::complete(std::span<Completion> completions) noexcept {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    first = completions_.empty();
    completions_.insert(completions_.end(), std::make_move_iterator(completions.begin()),
                        std::make_move_iterator(completions.end()));
  }
  if (first) boost::asio::post(drain_.loop_, [this] { drain_.take_completions(); });
}

void Drain::Sink::take(std::vector<Completion>& into) {
  into.clear();
  const MutexLock lock(mutex_);
  std::swap(into, completions_);
}

Drain::Drain(DrainOptions options, OutboxStore& store, Metrics& metrics, Heartbeat& heartbeat,
             Logger& log, const Clock& clock, Random& random)
    : options_(options),
      store_(store),
      metrics_(metrics),
      heartbeat_(heartbeat),
      log_(log),
      clock_(clock),
      random_(random),
      sink_(*this),
      keep_running_(loop_.get_executor()),
      look_timer_(loop_),
      beat_timer_(loop_),
      renewal_timer_(loop_) {
}

Drain::~Drain() {
  if (thread_.joinable()) stop();
}

void Drain::add_emitter(const std::string& name, std::unique_ptr<Emitter> emitter) {
  emitters_[name].emitter = std::move(emitter);
}

void Drain::add_stream(StreamOptions options) {
  Emitter& emitter = *emitters_.at(options.emitter).emitter;
  StreamMetrics& metrics = metrics_.stream(options.name);
  const std::string name = options.name;
  streams_[name] = std::make_unique<StreamDrain>(std::move(options), emitter, metrics,
                                                 static_cast<DrainHost&>(*this));
}

void Drain::start() {
  for (auto& [name, stream] : streams_) looks_[stream.get()] = now();
  std::vector<std::string> names;
  for (const auto& [name, stream] : streams_) names.push_back(name);
  pool_ = std::make_unique<DatabasePool>(
      options_.connections, options_.reconnect_max, [this] { return store_.open_session(); },
      DatabasePool::Observer{
          .connected =
              [this](bool again) {
                const MutexLock lock(state_mutex_);
                if (again) metrics_.counter(Metric::database_reconnects_total).Increment();
                if (!connected_) {
                  log_.limited(LogLevel::info, "database/connected", "connected to the database",
                               {});
                }
                connected_ = true;
                metrics_.gauge(Metric::database_connected).Set(1);
                unfit_ = false;
                problem_.clear();
                hint_.clear();
                post([this] { recover_leases(); });
              },
          .unavailable =
              [this](const StoreError& error) {
                connection_lost(error);
                post([this] { doubt_presence(); });
              },
          .failed = [this](const StoreError& error,
                           bool connecting) { count_database_error(metrics_, error, connecting); }},
      random_);
  presence_ = std::make_unique<PresenceWatch>(
      [this] { return store_.open_presence(); },
      PresenceWatch::Observer{.held = [this] { post([this] { presence_held(); }); },
                              .lost =
                                  [this](const StoreError& error, bool connecting) {
                                    // Without a presence nothing is asked of the database but this.
                                    count_database_error(metrics_, error, connecting);
                                    post([this, error] { presence_lost(error); });
                                  },
                              .failed =
                                  [this](std::uint64_t looks, const StoreError& error) {
                                    look_failed(error);
                                    post([this, looks] {
                                      dead_workers_.clear();
                                      presence_seen(looks);  // the session has answered
                                    });
                                  },
                              .looked =
                                  [this](std::uint64_t looks, std::vector<Uuid> dead) {
                                    post([this, looks, dead = std::move(dead)]() mutable {
                                      dead_workers_ = std::move(dead);
                                      presence_seen(looks);
                                    });
                                  }});
  arm_beat();
  arm_renewal(options_.lease / 3);
  pool_->submit(
      {.urgency = DatabasePool::Urgency::renew,
       .run = [names](StoreSession& session) { session.register_streams(names); },
       .failed =
           [](const StoreError&) { /* a claim registers its stream where this could not */ }});
  thread_ = std::thread([this] { loop_.run(); });
}

void Drain::connection_lost(const StoreError& error) {
  {
    const MutexLock lock(state_mutex_);
    connected_ = false;
    metrics_.gauge(Metric::database_connected).Set(0);
    unfit_ = error.kind() == StoreErrorKind::schema || error.kind() == StoreErrorKind::denied;
    problem_ = error.what();
    hint_ = error.hint();
  }
  log_.limited(
      LogLevel::warning, "database/" + std::string(to_string(error.kind())),
      "waiting for the database",
      {{"kind", to_string(error.kind())}, {"error", error.what()}, {"hint", error.hint()}});
}

void Drain::look_failed(const StoreError& error) {
  count_database_error(metrics_, error, false);
  log_.limited(LogLevel::error, "presence", "the look for other workers failed, trying again",
               {{"error", error.what()}, {"hint", error.hint()}});
}

std::string Drain::why_not_ready() {
  const MutexLock lock(state_mutex_);
  if (!connected_ && problem_.empty()) return "the database has not answered yet";
  return unfit_ ? problem_ + "; " + hint_ : std::string{};
}

void Drain::submit(DatabasePool::Job job) {
  pool_->submit(std::move(job));
}

void Drain::run_on_database(std::function<void(StoreSession&)> call,
                            std::function<void(const StoreError&)> failed) {
  pool_->submit({.urgency = DatabasePool::Urgency::poll,
                 .run = std::move(call),
                 .failed = std::move(failed)});
}

void Drain::post(std::function<void()> handler) {
  boost::asio::post(loop_, std::move(handler));
}

void Drain::post_at(MonotonicTime when, std::function<void()> handler) {
  auto timer = std::make_shared<boost::asio::steady_timer>(loop_, when);
  timer->async_wait([timer, handler = std::move(handler)](const boost::system::error_code& error) {
    if (!error) handler();
  });
}

void Drain::take_completions() {
  sink_.take(taken_);
  std::set<StreamDrain*> touched;
  StreamDrain* last = nullptr;
  for (Completion& completion : taken_) {
    auto& entry = *reinterpret_cast<HeldEntry*>(completion.token);
    StreamDrain* stream = entry.lease->stream;
    stream->completed(entry, completion);
    if (stream != last) touched.insert(stream);
    last = stream;
  }
  for (StreamDrain* stream : touched) stream->end_of_turn();
}

DrainHost::Amount Drain::allowance(const StreamDrain& stream) const {
  const EmitterUse& use = emitters_.at(stream.options().emitter);
  const Capabilities& capabilities = use.emitter->capabilities();
  const Amount of_all = held_ + claimed_ + unwritten_;
  const Amount of_emitter = use.held + use.claimed;
  return {.entries =
              std::min(options_.max_in_flight - of_all.entries,
                       static_cast<std::int32_t>(capabilities.max_in_flight) - of_emitter.entries),
          .bytes = std::min(
              options_.max_in_flight_bytes - of_all.bytes,
              static_cast<std::int64_t>(capabilities.max_in_flight_bytes) - of_emitter.bytes)};
}

Drain::EmitterUse& Drain::use_of(const StreamDrain& stream) {
  return emitters_.find(stream.options().emitter)->second;
}

void Drain::claim_begins(const StreamDrain& stream, Amount most) {
  EmitterUse& use = use_of(stream);
  use.claimed = use.claimed + most;
  claimed_ = claimed_ + most;
}

void Drain::claim_brings(const StreamDrain& stream, Amount most, Amount came) {
  EmitterUse& use = use_of(stream);
  use.claimed = use.claimed - most;
  claimed_ = claimed_ - most;
  use.held = use.held + came;
  held_ = held_ + came;
  if (came.entries < most.entries) look_at_those_without_room();
}

void Drain::let_go(const StreamDrain& stream, std::int64_t bytes) {
  EmitterUse& use = use_of(stream);
  use.held = use.held - Amount{1, bytes};
  held_ = held_ - Amount{1, bytes};
  look_at_those_without_room();
}

void Drain::written(Amount amount) {
  unwritten_ = unwritten_ - amount;
  look_at_those_without_room();
}

void Drain::look_at_those_without_room() {
  if (without_room_.empty()) return;
  for (StreamDrain* waiting : std::exchange(without_room_, {})) look_at(*waiting, now());
}

void Drain::look_at(StreamDrain& stream, MonotonicTime when) {
  const auto [it, added] = looks_.try_emplace(&stream, when);
  if (!added && it->second <= when) return;
  it->second = when;
  arm_look();
}

void Drain::arm_look() {
  if (looks_.empty() || stopping_) return;
  MonotonicTime first = MonotonicTime::max();
  for (const auto& [stream, when] : looks_) first = std::min(first, when);
  look_timer_.expires_at(first);
  look_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look();
  });
}

// Streams that just had entries claim at once; the idle ones ask first, all in one query: those
// that are due, and with them those that soon would be.
void Drain::look() {
  if (stopping_) return;
  const MonotonicTime horizon = now();
  const bool ask = std::any_of(looks_.begin(), looks_.end(), [&](const auto& look) {
    return look.second <= horizon && !look.first->expects_entries();
  });
  const MonotonicTime soon = horizon + options_.poll_idle / kTogether;
  std::vector<StreamDrain*> quiet;
  for (auto it = looks_.begin(); it != looks_.end();) {
    StreamDrain* stream = it->first;
    if (stream->expects_entries() && it->second <= horizon) {
      claim_queue_.push_back(stream);
      it = looks_.erase(it);
    } else if (!stream->expects_entries() && ask && it->second <= soon) {
      quiet.push_back(stream);
      it = looks_.erase(it);
    } else {
      ++it;
    }
  }
  if (!quiet.empty()) poll(quiet);
  start_claims();
  arm_look();
}

void Drain::poll(const std::vector<StreamDrain*>& streams) {
  if (polling_ || !may_claim()) {
    const Milliseconds pause = polling_ ? options_.poll_active : options_.poll_idle;
    for (StreamDrain* stream : streams) look_at(*stream, now() + pause);
    return;
  }
  polling_ = true;
  auto names = std::make_shared<std::vector<std::string>>();
  for (const StreamDrain* stream : streams) names->push_back(stream->name());
  auto due = std::make_shared<std::set<std::string>>();
  auto finish = [this, streams, due] {
    polling_ = false;
    for (StreamDrain* stream : streams) {
      if (due->contains(stream->name())) {
        claim_queue_.push_back(stream);
      } else {
        stream->nothing_due();
      }
    }
    start_claims();
  };
  submit({.urgency = DatabasePool::Urgency::poll,
          .run =
              [this, names, due, finish](StoreSession& session) {
                for (std::string& name : session.due_streams(*names)) due->insert(std::move(name));
                post(finish);
              },
          .failed = [this, finish](const StoreError&) { post(finish); }});
}

// One connection is left to the settles.
void Drain::start_claims() {
  const std::int32_t slots = std::max(1, options_.connections - 1);
  while (claims_running_ < slots && !claim_queue_.empty()) {
    StreamDrain* stream = claim_queue_.front();
    claim_queue_.erase(claim_queue_.begin());
    // Where several streams claim, each has its entries read while others claim, and reading ahead
    // besides would only take their connections.
    const bool others_claim = claims_running_ > 1 || !claim_queue_.empty();
    if (!stream->may_begin_claim() || (stream->claim_under_way() && others_claim)) continue;
    ++claims_running_;
    if (stream->claim()) continue;
    --claims_running_;
    // No room, or its destination is closed: what changes that looks at the stream, and this is for
    // what nobody foresaw.
    look_at(*stream, now() + options_.poll_idle);
  }
}

void Drain::claim_ended() {
  --claims_running_;
  recover_leases();
  start_claims();
}

void Drain::saw_workers(const StreamDrain& stream, const std::vector<Uuid>& workers) {
  std::vector<Uuid>& seen = seen_workers_[&stream];
  if (seen == workers) return;
  seen = workers;
  std::set<Uuid> all;
  for (const auto& [of_stream, list] : seen_workers_) all.insert(list.begin(), list.end());
  presence_->watch({all.begin(), all.end()});
}

void Drain::arm_beat() {
  heartbeat_.beat();
  beat_timer_.expires_after(kBeatEvery);
  beat_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) arm_beat();
  });
}

void Drain::reconfigure(DrainOptions options, std::vector<StreamOptions> streams) {
  post([this, options, streams = std::move(streams)]() mutable {
    options.connections = options_.connections;
    options_ = options;
    for (StreamOptions& changed : streams) {
      const auto it = streams_.find(changed.name);
      if (it != streams_.end()) it->second->set_options(std::move(changed));
    }
  });
}

Drain::Snapshot Drain::snapshot() {
  auto promise = std::make_shared<std::promise<Snapshot>>();
  std::future<Snapshot> future = promise->get_future();
  post([this, promise] {
    Snapshot snapshot;
    for (const auto& [name, stream] : streams_) snapshot.streams.push_back(stream->report());
    snapshot.present = present_;
    snapshot.stopping = stopping_;
    snapshot.held_entries = held_.entries;
    snapshot.held_bytes = held_.bytes;
    promise->set_value(std::move(snapshot));
  });
  Snapshot snapshot;
  // A loop that does not turn must not hang those who ask why.
  if (future.wait_for(Milliseconds{1000}) == std::future_status::ready) snapshot = future.get();
  const MutexLock lock(state_mutex_);
  snapshot.connected = connected_;
  snapshot.problem = problem_;
  snapshot.hint = hint_;
  return snapshot;
}

bool Drain::all_idle() const {
  return std::all_of(streams_.begin(), streams_.end(),
                     [](const auto& stream) { return stream.second->idle(); });
}

bool Drain::wait_until_idle(MonotonicTime deadline) {
  while (clock_.monotonic() < deadline) {
    std::promise<bool> idle;
    post([&] { idle.set_value(all_idle()); });
    if (idle.get_future().get()) return true;
    std::this_thread::sleep_for(Milliseconds{2});
  }
  return false;
}

bool Drain::stop() {
  const MonotonicTime asked_at = clock_.monotonic();
  std::promise<Milliseconds> begun;
  post([&] {
    stopping_ = true;
    look_timer_.cancel();
    for (const auto& [name, stream] : streams_) stream->stop();
    begun.set_value(options_.shutdown_timeout);  // which a reload may have changed just now
  });
  const Milliseconds shutdown_timeout = begun.get_future().get();
  const MonotonicTime deadline = asked_at + shutdown_timeout;
  const auto emitters_deadline = deadline - shutdown_timeout / 5;
  wait_until_idle(emitters_deadline);
  for (auto& [name, use] : emitters_) {
    const auto left =
        std::chrono::duration_cast<Milliseconds>(emitters_deadline - clock_.monotonic());
    use.emitter->stop(std::max(left, Milliseconds{0}));
  }
  const bool clean = wait_until_idle(deadline);
  // Leases that are left are marked as released, so that the next claimer need not wait for them.
  std::promise<void> released;
  std::future<void> done = released.get_future();
  pool_->submit({.urgency = DatabasePool::Urgency::settle,
                 .run =
                     [&](StoreSession& session) {
                       session.release();
                       released.set_value();
                     },
                 .failed = [&](const StoreError&) { released.set_value(); }});
  done.wait_for(Milliseconds{1000});
  pool_->stop();
  presence_->stop();
  keep_running_.reset();
  loop_.stop();
  if (thread_.joinable()) thread_.join();
  return clean;
}

}  // namespace outfall
