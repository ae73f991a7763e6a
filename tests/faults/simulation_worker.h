#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "drain/drain_host.h"
#include "drain/stream_drain.h"
#include "tests/faults/simulation_fiber.h"
#include "tests/faults/simulation_sink.h"

namespace outfall::test::simulation {

class ModelWorker;

// An emitter that sends to the model sink, one message of a key at a time, and keeps the contract
// of lib/emitter/README.md.
class ModelEmitter final : public Emitter {
 public:
  ModelEmitter(World& world, ModelDatabase& database, ModelSink& sink, ModelWorker& worker,
               std::int32_t key_window);

  [[nodiscard]] const Capabilities& capabilities() const noexcept override { return capabilities_; }
  void emit(EmitBatch batch) noexcept override;
  void stop(Milliseconds) noexcept override { stopping_ = true; }
  [[nodiscard]] Health check(Milliseconds) noexcept override { return {}; }

 private:
  struct Job {
    EmitItem item;
    std::shared_ptr<const EmitBatch> batch;  // keeps what the item points to
    bool sending = false;
    bool done = false;
  };
  using JobPtr = std::shared_ptr<Job>;
  // What goes to one destination: so many at a time, and the others in line.
  struct Line {
    int sending = 0;
    std::deque<JobPtr> waiting;
  };
  // The first is on its way or in line.
  struct Run {
    KeyRun* key;
    std::vector<JobPtr> jobs;
  };

  void line_up(const JobPtr& job);
  void serve(Line& line);
  [[nodiscard]] Line& line_of(const Job& job);
  [[nodiscard]] bool blocked(const EmitItem& item);
  void start(const JobPtr& job);
  void send(const JobPtr& job);
  void complete(const JobPtr& job, Outcome outcome);
  [[nodiscard]] std::vector<Run>::iterator run_of(const KeyRun* key);
  void next_of(KeyRun* run);

  World& world_;
  ModelDatabase& database_;
  ModelSink& sink_;
  ModelWorker& worker_;
  Capabilities capabilities_;
  std::vector<Run> runs_;
  std::array<Line, kLanes> lines_;
  int at_a_time_;
  bool stops_this_ = false;  // see Flaw::gate
  bool stopping_ = false;
};

// One worker process: the production's StreamDrain, and a model of the loop, the database
// connections and the presence that lib/drain/drain.cc gives it. A call of the database is played
// in three parts, there, at the server, and back, each of which a fault may cut off.
class ModelWorker final : public DrainHost {
 public:
  ModelWorker(World& world, ModelDatabase& database, ModelSink& sink, int number,
              const DrainOptions& options, const StreamOptions& stream, std::int32_t key_window,
              StreamMetrics& metrics);
  ~ModelWorker() override;

  void start();
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] bool alive() const { return alive_; }
  // Whether others see it alive, as far as it knows.
  [[nodiscard]] bool present() const { return present_; }

  // Faults.
  void kill();
  void freeze(MonotonicTime until);
  void cut_off(MonotonicTime until);                         // from the database
  void flaky(MonotonicTime until) { flaky_until_ = until; }  // some calls lose their connection
  void terminate();                                          // SIGTERM
  void database_crashed();

  // Runs `handler` in the worker, if it lives then, and not before it has thawed.
  template <typename Handler>
  void later(MonotonicTime when, Handler handler) {
    world_.at(when, [this, handler = std::move(handler)]() mutable {
      if (!alive_) return;
      if (world_.now() < frozen_until_) return later(frozen_until_, std::move(handler));
      handler();
    });
  }
  void complete(Completion completion);

  // DrainHost.
  [[nodiscard]] const DrainOptions& options() const override { return options_; }
  [[nodiscard]] MonotonicTime now() const override { return world_.now(); }
  [[nodiscard]] Random& random() override { return world_.random; }
  [[nodiscard]] Logger& log() override { return Logger::null(); }
  void submit(DatabasePool::Job job) override;
  void post(std::function<void()> handler) override { later(world_.now(), std::move(handler)); }
  void post_at(MonotonicTime when, std::function<void()> handler) override {
    later(when, std::move(handler));
  }
  [[nodiscard]] Amount allowance(const StreamDrain&) const override;
  void claim_begins(const StreamDrain&, Amount most) override;
  void claim_brings(const StreamDrain&, Amount, Amount came) override;
  void let_go(const StreamDrain&, std::int64_t) override;
  void unwritten(Amount more) override { unwritten_entries_ += more.entries; }
  void written(Amount amount) override;
  void wants_room(StreamDrain&) override { without_room_ = true; }
  void look_at(StreamDrain&, MonotonicTime when) override;
  void claim_ended() override;
  void recover_leases() override {  // the drain asks for it where a settle has failed
    if (world_.flaw != Flaw::refusal) give_up_leases_in_doubt();
  }
  [[nodiscard]] std::uint64_t presence() const override { return presences_; }
  [[nodiscard]] bool may_send() const override { return present_ && !stopping_; }
  [[nodiscard]] bool may_claim() const override { return may_send(); }
  [[nodiscard]] std::vector<Uuid> dead_workers() const override { return dead_workers_; }
  void saw_workers(const StreamDrain&, const std::vector<Uuid>& workers) override {
    seen_workers_ = workers;
  }

 private:
  struct Call;
  class Session;
  using CallPtr = std::shared_ptr<Call>;

  void look();
  void start_claim();
  void poll();
  void polled(bool due);
  void arm_renewal(Milliseconds after);
  void renew();
  void give_up_leases_in_doubt();
  void watch_presence();
  void lose_presence();
  void regain_presence();
  void reconnected();
  void reopen();
  void saw_server(int server);
  void refuse_leases_in_doubt() const;
  void stop_when_idle(MonotonicTime deadline);
  void end();

  void take_jobs();
  void run(const CallPtr& call);
  void dispatch(const CallPtr& call);
  void at_server(const CallPtr& call);
  void wait_in_pooler(const CallPtr& call);
  [[nodiscard]] bool outlives_server(const Call& call);
  [[nodiscard]] bool breaks();
  void lose(const CallPtr& call);
  void reply(const CallPtr& call);
  void answer(const CallPtr& call);
  void report(Call& call);
  void claimed(const CallPtr& call);
  void fail(const CallPtr& call, StoreErrorKind kind);
  // To the database, or to the pooler before it.
  [[nodiscard]] bool linked() const {
    return (database_.up() || database_.pooled()) && world_.now() >= cut_off_until_;
  }

  World& world_;
  ModelDatabase& database_;
  const int number_;
  const DrainOptions options_;
  ModelEmitter emitter_;
  StreamDrain stream_;

  bool alive_ = true;
  MonotonicTime frozen_until_{};
  MonotonicTime cut_off_until_{};
  MonotonicTime flaky_until_{};

  // The loop.
  std::vector<Completion> completions_;
  std::optional<MonotonicTime> look_at_;
  std::uint64_t look_number_ = 0;
  std::uint64_t renewal_number_ = 0;
  bool without_room_ = false;
  std::int32_t claims_running_ = 0;
  std::int32_t claimed_entries_ = 0;  // that claims under way may bring
  std::int32_t held_entries_ = 0;
  std::int32_t unwritten_entries_ = 0;
  bool polling_ = false;
  bool renewing_ = false;
  bool recovering_ = false;
  bool stopping_ = false;

  // The presence.
  bool present_ = false;
  std::uint64_t presences_ = 0;
  MonotonicTime present_since_{};
  std::vector<Uuid> seen_workers_;
  std::vector<Uuid> dead_workers_;

  // The pool.
  std::array<std::deque<DatabasePool::Job>, 4> jobs_;
  std::vector<CallPtr> calls_;  // one for each connection that is in use
  bool connected_ = false;
  static constexpr std::size_t kConnections = 3;
  std::size_t connections_ = kConnections;  // that are open
  bool reconnecting_ = false;
  int server_ = 0;  // that was seen last
  bool leases_in_doubt_ = false;
  postgres::ClaimFloor floor_;
  std::uint64_t floor_generation_ = 0;
};

}  // namespace outfall::test::simulation
