#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "core/mutex.h"
#include "drain/database_pool.h"
#include "drain/drain_host.h"
#include "drain/options.h"
#include "drain/presence_watch.h"
#include "drain/stream_drain.h"
#include "telemetry/heartbeat.h"
#include "telemetry/metrics.h"

namespace outfall {

// One worker: its loop, its database connections, its streams and their emitters.
//
// Life: construct, add_emitter() and add_stream() for each, start(); then stop(), once, from any
// thread but the loop's, which returns when everything is settled or given back, or the timeout is
// over. Emitters complete into sink(), from any thread. snapshot() and reconfigure() may be called
// from any thread between start() and stop(). Errors of the database never end the worker: it
// waits.
class Drain final : private DrainHost {
 public:
  Drain(DrainOptions options, OutboxStore& store, Metrics& metrics, Heartbeat& heartbeat,
        Logger& log, const Clock& clock, Random& random);
  ~Drain() override;

  // Where emitters complete; lives as long as the drain.
  [[nodiscard]] CompletionSink& sink() { return sink_; }
  void add_emitter(const std::string& name, std::unique_ptr<Emitter> emitter);
  void add_stream(StreamOptions options);
  void start();

  // Gives back what was not sent, waits for what was, for options().shutdown_timeout at most, and
  // releases the leases. True when nothing was left open.
  bool stop();

  // New policies for streams that are there, and the options that can change at run time.
  void reconfigure(DrainOptions options, std::vector<StreamOptions> streams);

  struct Snapshot {
    bool connected = false;
    bool present = false;
    bool stopping = false;
    std::string problem;  // why not connected, for people
    std::string hint;
    std::int32_t held_entries = 0;
    std::int64_t held_bytes = 0;
    std::vector<StreamDrain::Report> streams;
  };
  [[nodiscard]] Snapshot snapshot();
  // Why this worker is not ready to work; empty: it is. Its first attempt to reach the database has
  // not ended, or the schema does not suit it; an outage is no reason. Any thread.
  [[nodiscard]] std::string why_not_ready();

  // Runs a database call of the daemon's own (the sampler, maintenance) on the pool, least urgent.
  void run_on_database(std::function<void(StoreSession&)> call,
                       std::function<void(const StoreError&)> failed);

 private:
  class Sink final : public CompletionSink {
   public:
    explicit Sink(Drain& drain) : drain_(drain) {}
    void complete(std::span<Completion> completions) noexcept override;
    // On the loop thread: what has come in since the last call.
    void take(std::vector<Completion>& into);

   private:
    Drain& drain_;
    Mutex mutex_;
    std::vector<Completion> completions_ OUTFALL_GUARDED_BY(mutex_);
  };

  // DrainHost
  [[nodiscard]] const DrainOptions& options() const override { return options_; }
  [[nodiscard]] MonotonicTime now() const override { return clock_.monotonic(); }
  [[nodiscard]] Random& random() override { return random_; }
  [[nodiscard]] Logger& log() override { return log_; }
  void submit(DatabasePool::Job job) override;
  void post(std::function<void()> handler) override;
  void post_at(MonotonicTime when, std::function<void()> handler) override;
  [[nodiscard]] Amount allowance(const StreamDrain& stream) const override;
  void claim_begins(const StreamDrain& stream, Amount most) override;
  void claim_brings(const StreamDrain& stream, Amount most, Amount came) override;
  void let_go(const StreamDrain& stream, std::int64_t bytes) override;
  void unwritten(Amount more) override { unwritten_ = unwritten_ + more; }
  void written(Amount amount) override;
  void wants_room(StreamDrain& stream) override { without_room_.insert(&stream); }
  void look_at(StreamDrain& stream, MonotonicTime when) override;
  void claim_ended() override;
  void recover_leases() override;
  [[nodiscard]] bool may_send() const override { return present_ && !stopping_; }
  [[nodiscard]] std::uint64_t presence() const override { return presences_; }
  [[nodiscard]] bool may_claim() const override { return may_send() && presence_doubts_ == 0; }
  [[nodiscard]] std::vector<Uuid> dead_workers() const override { return dead_workers_; }
  void saw_workers(const StreamDrain& stream, const std::vector<Uuid>& workers) override;

  void take_completions();
  void look_at_those_without_room();
  void arm_look();
  void look();
  void poll(const std::vector<StreamDrain*>& streams);
  void start_claims();
  void arm_beat();
  void arm_renewal(Milliseconds after);
  void renew();
  void renewed(const std::vector<Uuid>& asked, const std::vector<Uuid>& kept,
               MonotonicTime valid_until, std::uint64_t presence);
  void presence_held();
  void presence_lost(const StoreError& error);
  void look_failed(const StoreError& error);
  void doubt_presence();
  void presence_seen(std::uint64_t looks);
  void connection_lost(const StoreError& error);
  bool all_idle() const;
  bool wait_until_idle(MonotonicTime deadline);

  DrainOptions options_;
  OutboxStore& store_;
  Metrics& metrics_;
  Heartbeat& heartbeat_;
  Logger& log_;
  const Clock& clock_;
  Random& random_;
  Sink sink_;

  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_running_;
  boost::asio::steady_timer look_timer_;
  boost::asio::steady_timer beat_timer_;
  boost::asio::steady_timer renewal_timer_;

  // Used by the loop thread only, once started.
  struct EmitterUse {
    std::unique_ptr<Emitter> emitter;
    Amount held;
    Amount claimed;  // what the claims under way may bring
  };
  EmitterUse& use_of(const StreamDrain& stream);
  std::map<std::string, EmitterUse> emitters_;
  std::map<std::string, std::unique_ptr<StreamDrain>> streams_;
  std::map<StreamDrain*, MonotonicTime> looks_;
  std::set<StreamDrain*> without_room_;
  std::vector<StreamDrain*> claim_queue_;  // streams that wait for a claim slot, in turn
  std::map<const StreamDrain*, std::vector<Uuid>> seen_workers_;
  std::vector<Uuid> dead_workers_;
  std::vector<Completion> taken_;
  std::int32_t claims_running_ = 0;
  Amount held_;       // by all streams
  Amount claimed_;    // what the claims under way may bring
  Amount unwritten_;  // what has an outcome that is not written
  bool polling_ = false;
  bool renewing_ = false;
  bool recovering_ = false;
  bool present_ = false;
  std::uint64_t presences_ = 0;  // so far; the last may be over
  bool stopping_ = false;

  Mutex state_mutex_;
  bool connected_ OUTFALL_GUARDED_BY(state_mutex_) = false;
  bool unfit_ OUTFALL_GUARDED_BY(state_mutex_) = false;
  std::string problem_ OUTFALL_GUARDED_BY(state_mutex_);
  std::string hint_ OUTFALL_GUARDED_BY(state_mutex_);

  std::unique_ptr<DatabasePool> pool_;
  std::unique_ptr<PresenceWatch> presence_;
  std::uint64_t presence_doubts_ = 0;  // the look that has to end well; 0: none
  std::thread thread_;
};

}  // namespace outfall
