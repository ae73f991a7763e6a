#include "store/postgres/postgres_store.h"

#include "store/postgres/migrator.h"
#include "store/postgres/sampling.h"
#include "store/postgres/session.h"

namespace outfall::postgres {

ClaimFloors::Input ClaimFloors::input(const std::string& stream, MonotonicTime now) {
  const MutexLock lock(mutex_);
  const Floors& floors = floors_[stream];
  return {.floor = floors.fresh.input(),
          .due_floor = floors.due.at(now),
          .server = server_,
          .generation = generation_};
}

ClaimFloors::Sample ClaimFloors::sample(std::span<const std::string> streams) {
  const MutexLock lock(mutex_);
  Sample sample;
  for (const std::string& stream : streams) {
    const ClaimFloor::Input input = floors_[stream].fresh.input();
    sample.starts.push_back(input.start);
    sample.lease_floors.push_back(input.lease_floor);
  }
  return sample;
}

ClaimFloors::Poll ClaimFloors::poll(std::span<const std::string> streams, MonotonicTime now) {
  const MutexLock lock(mutex_);
  Poll poll;
  poll.server = server_;
  for (const std::string& stream : streams) {
    const Floors& floors = floors_[stream];
    ClaimFloor::Input input = floors.fresh.input();
    poll.starts.push_back(input.start);
    poll.due_floors.push_back(floors.due.at(now));
    for (std::size_t i = 0; i < input.tracked.size(); ++i) {
      if (input.bounds[i] >= input.start) continue;
      poll.tracking.push_back(stream);
      poll.transactions.push_back(std::move(input.tracked[i]));
      poll.bounds.push_back(input.bounds[i]);
    }
  }
  return poll;
}

std::int64_t ClaimFloors::completed(const std::string& stream, std::uint64_t generation,
                                    const Completed& claim) {
  saw_server(claim.server);
  const MutexLock lock(mutex_);
  if (generation != generation_) return 0;
  Floors& floors = floors_[stream];
  floors.fresh.completed(claim.report);
  floors.due.learned(claim.due_floor, claim.asked_at);
  return std::max<std::int64_t>(0, floors.fresh.sequence_last() + 1 - floors.fresh.start());
}

void ClaimFloors::saw_server(WallTime since) {
  const MutexLock lock(mutex_);
  if (server_ && *server_ != since) {
    floors_.clear();
    ++generation_;
    leases_in_doubt_ = true;
  }
  server_ = since;
}

std::optional<WallTime> ClaimFloors::server() {
  const MutexLock lock(mutex_);
  return server_;
}

bool ClaimFloors::leases_in_doubt() {
  const MutexLock lock(mutex_);
  return leases_in_doubt_;
}

void ClaimFloors::leases_released() {
  const MutexLock lock(mutex_);
  leases_in_doubt_ = false;
}

void ClaimFloors::forget() {
  const MutexLock lock(mutex_);
  floors_.clear();
  ++generation_;
}

PostgresStore::PostgresStore(ConnectOptions options, Uuid worker, std::string instance,
                             const Clock& clock)
    : options_(std::move(options)), worker_(worker), instance_(std::move(instance)), clock_(clock) {
}

std::unique_ptr<StoreSession> PostgresStore::open_session() {
  auto session = std::make_unique<PostgresSession>(options_, worker_, instance_, clock_, floors_);
  // A session that is opened later than the first replaces one that was lost: the server behind the
  // new connection may be a promoted standby.
  floors_.forget();
  return session;
}

std::unique_ptr<Presence> PostgresStore::open_presence() {
  if (options_.pooler) return nullptr;
  return std::make_unique<PostgresPresence>(options_, worker_, clock_);
}

std::unique_ptr<SamplingSession> PostgresStore::open_sampling(std::vector<std::string> streams,
                                                              Milliseconds longest_silence) {
  ConnectOptions options = options_;
  options.idle_session_timeout = longest_silence;
  return std::make_unique<PostgresSampling>(options, std::move(streams), floors_);
}

SchemaState PostgresStore::schema_state() {
  Connection connection(options_);
  SchemaState state = read_schema_state(connection);
  if (state.fit == SchemaFit::fits) check_may_work(connection);
  return state;
}

}  // namespace outfall::postgres
