#include "store/postgres/postgres_store.h"

#include "store/postgres/migrator.h"
#include "store/postgres/sampling.h"
#include "store/postgres/session.h"

namespace outfall::postgres {

ClaimFloors::Input ClaimFloors::input(const std::string& stream) {
  const MutexLock lock(mutex_);
  return {.floor = floors_[stream].input(), .server = server_, .generation = generation_};
}

std::vector<std::int64_t> ClaimFloors::starts(std::span<const std::string> streams) {
  const MutexLock lock(mutex_);
  std::vector<std::int64_t> result;
  result.reserve(streams.size());
  for (const std::string& stream : streams) result.push_back(floors_[stream].start());
  return result;
}

ClaimFloors::Poll ClaimFloors::poll(std::span<const std::string> streams) {
  const MutexLock lock(mutex_);
  Poll poll;
  poll.server = server_;
  for (const std::string& stream : streams) {
    ClaimFloor::Input input = floors_[stream].input();
    poll.starts.push_back(input.start);
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
                                    const ClaimFloor::Report& report, WallTime server_since) {
  saw_server(server_since);
  const MutexLock lock(mutex_);
  if (generation != generation_) return 0;
  ClaimFloor& floor = floors_[stream];
  floor.completed(report);
  return std::max<std::int64_t>(0, floor.sequence_last() + 1 - floor.start());
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

std::unique_ptr<SamplingSession> PostgresStore::open_sampling(std::vector<std::string> streams) {
  return std::make_unique<PostgresSampling>(options_, std::move(streams), floors_);
}

SchemaState PostgresStore::schema_state() {
  Connection connection(options_);
  SchemaState state = read_schema_state(connection);
  if (state.fit == SchemaFit::fits) check_may_work(connection);
  return state;
}

}  // namespace outfall::postgres
