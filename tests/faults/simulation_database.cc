#include "tests/faults/simulation_database.h"

#include <algorithm>
#include <array>
#include <utility>

namespace outfall::test::simulation {

namespace {

constexpr Milliseconds kAbsentLongEnough{1500};
constexpr Milliseconds kWrittenByThen{600};  // three times wal_writer_delay

bool holds(const std::vector<EntryId>& ids, EntryId id) {
  return std::binary_search(ids.begin(), ids.end(), id);
}

void take_out(std::vector<EntryId>& ids, EntryId id) {
  const auto found = std::lower_bound(ids.begin(), ids.end(), id);
  if (found != ids.end() && *found == id) ids.erase(found);
}

}  // namespace

const std::string& ModelDatabase::key_name(int key) {
  static const std::array<std::string, kKeys> kNames = {"k0", "k1", "k2", "k3", "k4", "k5"};
  return kNames[static_cast<std::size_t>(key)];
}

const std::string& ModelDatabase::lane_name(int lane) {
  static const std::array<std::string, kLanes> kNames = {"lane0", "lane1"};
  return kNames[static_cast<std::size_t>(lane)];
}

int ModelDatabase::begin() {
  const std::size_t number = transactions_.size();
  transactions_.push_back({.name = "3/" + std::to_string(number), .ids = {}});
  open_transactions_.push_back(number);
  return static_cast<int>(number);
}

EntryId ModelDatabase::insert(int transaction, Row row) {
  row.id = static_cast<EntryId>(rows_.size()) + 1;
  row.created = world_.now();
  rows_.push_back(row);
  transactions_[static_cast<std::size_t>(transaction)].ids.push_back(row.id);
  return row.id;
}

void ModelDatabase::commit(int transaction) {
  close(static_cast<std::size_t>(transaction), Row::State::live);
  synchronous();
}

void ModelDatabase::roll_back(int transaction) {
  close(static_cast<std::size_t>(transaction), Row::State::rolled_back);
}

void ModelDatabase::close(std::size_t transaction, Row::State rows_become) {
  Transaction& t = transactions_[transaction];
  t.open = false;
  std::erase(open_transactions_, transaction);
  for (const EntryId id : t.ids) row(id).state = rows_become;
}

void ModelDatabase::replay(EntryId id) {
  Row& dead = row(id);
  dead.state = Row::State::live;
  dead.holds_key = false;
  dead.fresh = false;
  dead.due = world_.now();
  dead.attempts_base = dead.attempts;
  synchronous();
}

// The claim.

void ModelDatabase::claim(int worker, const ClaimRequest& request,
                          const postgres::ClaimFloor::Input& floor, int server,
                          std::function<void(Claimed)> done) {
  auto claim = std::make_shared<Claim>();
  claim->worker = worker;
  claim->request = request;
  if (server == starts_) claim->floor = floor;
  claim->done = std::move(done);
  claim->start_count = starts_;
  if (stream_locked_) {
    claim->result.status = ClaimStatus::busy;
    claim->done({std::move(claim->result), std::nullopt, starts_});
    return;
  }
  stream_locked_ = true;
  if (ModelLease* lease = find(request.lease_id); lease != nullptr && !lease->released) {
    claim->result.status = ClaimStatus::batch;
    claim->result.more = true;
    claim->result.repeated = true;
    lease->expires = world_.now() + request.lease;
    fill(*claim, *lease, claim->result.batch);
    stream_locked_ = false;
    claim->done({std::move(claim->result), std::nullopt, starts_});
    return;
  }
  take_over(*claim);
  next(claim, &ModelDatabase::read_leases);
}

// The next statement of the claim, a moment later; nothing when the database has crashed meanwhile.
void ModelDatabase::next(const ClaimPtr& claim, void (ModelDatabase::*step)(const ClaimPtr&)) {
  const auto pause = world_.chance(0.05) ? world_.between(500, 5000) : world_.between(1, 200);
  world_.after(pause, [this, claim = claim, step] {
    if (claim->start_count == starts_ && up_) (this->*step)(claim);
  });
}

void ModelDatabase::take_over(Claim& claim) {
  std::vector<int> workers;
  for (const ModelLease& lease : leases_) {
    const bool known = std::find(workers.begin(), workers.end(), lease.worker) != workers.end();
    if (!known) workers.push_back(lease.worker);
  }
  for (const int worker : workers) {
    Uuid name{};
    name.bytes[15] = static_cast<std::uint8_t>(worker);
    const std::vector<Uuid>& dead = claim.request.dead_workers;
    // Whoever is back is not dead: it may have been seen long ago.
    const bool seen_dead =
        std::find(dead.begin(), dead.end(), name) != dead.end() && absent_since_.contains(worker);
    const auto is_free = [&](const ModelLease& lease) {
      if (worker == claim.worker) return lease.released;
      return seen_dead || lease.expires < world_.now();
    };
    const auto is_theirs = [&](const ModelLease& lease) { return lease.worker == worker; };
    const bool all = std::all_of(leases_.begin(), leases_.end(), [&](const ModelLease& lease) {
      return !is_theirs(lease) || is_free(lease);
    });
    if (!all) continue;
    const std::size_t before = leases_.size();
    std::erase_if(leases_, is_theirs);
    claim.result.taken_over += static_cast<std::int32_t>(before - leases_.size());
    world_.trace("db    leases of worker {} taken over by {}", worker, claim.worker);
    synchronous();
  }
}

void ModelDatabase::read_leases(const ClaimPtr& claim) {
  claim->active.assign(rows_.size() + 1, false);
  claim->busy = {};
  std::vector<Uuid>& others = claim->result.other_workers.emplace();
  for (const ModelLease& lease : leases_) {
    for (const EntryId id : lease.ids) claim->active[static_cast<std::size_t>(id)] = true;
    if (lease.worker == claim->worker) continue;
    Uuid name{};
    name.bytes[15] = static_cast<std::uint8_t>(lease.worker);
    if (std::find(others.begin(), others.end(), name) == others.end()) others.push_back(name);
    for (const int key : lease.keys) claim->busy[static_cast<std::size_t>(key)] = true;
  }
  claim->start = claim->floor.start;
  next(claim, &ModelDatabase::pick);
}

bool ModelDatabase::ended(const std::string& transaction) const {
  return std::none_of(open_transactions_.begin(), open_transactions_.end(),
                      [&](std::size_t t) { return transactions_[t].name == transaction; });
}

void ModelDatabase::pick(const ClaimPtr& claim) {
  claim->picked = eligible(*claim);
  claim->used.clear();
  for (const std::string& transaction : claim->floor.tracked) {
    if (ended(transaction)) claim->used.push_back(transaction);
  }
  next(claim, &ModelDatabase::probe);
}

// Per key a prefix of what is not finished, by id, within the room of lanes and keys.
std::vector<EntryId> ModelDatabase::eligible(const Claim& claim) const {
  const ClaimRequest& request = claim.request;
  std::array<bool, kKeys> blocked{};
  for (const Room& room : request.keys) {
    for (int key = 0; key < kKeys; ++key) {
      if (key_name(key) == room.name && room.room <= 0)
        blocked[static_cast<std::size_t>(key)] = true;
    }
  }
  std::array<std::int32_t, kLanes> room{};
  room.fill(request.lane.empty() ? request.max_entries : request.lane_room);
  for (const Room& lane : request.lanes) {
    for (int i = 0; i < kLanes; ++i) {
      if (lane_name(i) == lane.name) room[static_cast<std::size_t>(i)] = lane.room;
    }
  }
  std::vector<EntryId> picked;
  for (const Row& row : rows_) {
    if (static_cast<std::int32_t>(picked.size()) >= request.max_entries) break;
    bool no_key = false;
    bool& key_blocked =
        row.key >= 0 && request.by_key ? blocked[static_cast<std::size_t>(row.key)] : no_key;
    if (row.state == Row::State::dead && row.holds_key) key_blocked = true;
    if (row.state != Row::State::live) continue;
    if (static_cast<std::size_t>(row.id) < claim.active.size() &&
        claim.active[static_cast<std::size_t>(row.id)])
      continue;
    if (row.fresh && row.id < claim.start) continue;  // not read
    const bool waits = !row.fresh && row.due > world_.now();
    const bool busy =
        row.key >= 0 && request.by_key && claim.busy[static_cast<std::size_t>(row.key)];
    const auto lane = static_cast<std::size_t>(row.lane);
    if (waits || busy || key_blocked || (!request.lane.empty() && room[lane] <= 0)) {
      key_blocked = true;
      continue;
    }
    --room[lane];
    picked.push_back(row.id);
  }
  return picked;
}

// Whether a transaction has ended meanwhile whose entries the pick should have read; then again.
void ModelDatabase::probe(const ClaimPtr& claim) {
  for (std::size_t i = 0; i < claim->floor.tracked.size(); ++i) {
    const std::string& transaction = claim->floor.tracked[i];
    if (claim->floor.bounds[i] < claim->start && ended(transaction)) {
      claim->start = claim->floor.bounds[i];
      ++claim->result.repicks;
      return next(claim, &ModelDatabase::pick);
    }
  }
  finish(claim);
}

void ModelDatabase::finish(const ClaimPtr& claim) {
  postgres::ClaimFloor::Report report;
  for (const Row& row : rows_) {
    if (row.state != Row::State::live || !row.fresh || row.id < claim->start) continue;
    report.live_min = row.id;
    break;
  }
  report.sequence_last = static_cast<std::int64_t>(rows_.size());
  if (world_.flaw != Flaw::late_commits) {
    for (const std::size_t t : open_transactions_) report.shown.push_back(transactions_[t].name);
  }
  report.used = std::move(claim->used);
  claim->result.more =
      static_cast<std::int32_t>(claim->picked.size()) >= claim->request.max_entries;
  if (!claim->picked.empty()) insert_lease(*claim);
  stream_locked_ = false;
  claim->done({std::move(claim->result), std::move(report), starts_});
}

void ModelDatabase::insert_lease(Claim& claim) {
  ModelLease lease{.id = claim.request.lease_id,
                   .number = ++last_lease_,
                   .worker = claim.worker,
                   .expires = world_.now() + claim.request.lease,
                   .ids = claim.picked,
                   .keys = {}};
  const std::string name = "L" + std::to_string(lease.number);
  const history::Index index = world_.history.lease(name, "w" + std::to_string(claim.worker));
  world_.history.lease_facts[index].number = lease.number;
  world_.history.lease_facts[index].claimed_at = world_.micros();
  lease_names_.push_back(index);
  lease_ids_.push_back(lease.id);
  for (const EntryId id : lease.ids) {
    const Row& held = row(id);
    if (held.key >= 0) lease.keys.push_back(held.key);
    world_.history.holdings.push_back({held.entry, index, world_.micros()});
    world_.history.counted_attempts.push_back({held.entry, world_.micros(), held.attempts});
  }
  world_.trace("db    {} of worker {}: {}", name, claim.worker, fmt::join(lease.ids, " "));
  claim.result.status = ClaimStatus::batch;
  fill(claim, lease, claim.result.batch);
  asynchronous([this, id = lease.id] { drop(id); });
  leases_.push_back(std::move(lease));
}

void ModelDatabase::fill(const Claim& claim, const ModelLease& lease, LeasedBatch& batch) {
  static const auto kOwner = std::make_shared<int>(0);
  batch.lease_id = claim.request.lease_id;
  batch.lease_no = lease.number;
  batch.claimed_at = WallTime(
      std::chrono::duration_cast<std::chrono::microseconds>(world_.now().time_since_epoch()));
  batch.owner = kOwner;
  batch.entries.reserve(lease.ids.size());
  for (const EntryId id : lease.ids) {
    const Row& held = row(id);
    LeasedEntry leased;
    leased.envelope.entry_id = id;
    leased.envelope.stream = "orders";
    if (held.key >= 0) leased.envelope.key = key_name(held.key);
    leased.envelope.type = lane_name(held.lane);
    leased.envelope.attempts = held.attempts;
    leased.envelope.created_at = WallTime(
        std::chrono::duration_cast<std::chrono::microseconds>(held.created.time_since_epoch()));
    leased.key_hash = held.key;
    leased.attempts_base = held.attempts_base;
    leased.limits_from = leased.envelope.created_at;
    batch.entries.push_back(leased);
  }
}

// The others.

SettleResult ModelDatabase::settle(int worker, const SettleRequest& request) {
  SettleResult result;
  result.settled_at = WallTime(
      std::chrono::duration_cast<std::chrono::microseconds>(world_.now().time_since_epoch()));
  ModelLease* lease = find(request.lease_id);
  if (lease == nullptr || lease->worker != worker) {
    result.stale = true;
    ++world_.history.stale;
    if (world_.flaw != Flaw::fencing) return result;
    result.stale = false;
    const auto its = std::find(lease_ids_.rbegin(), lease_ids_.rend(), request.lease_id);
    write(request, lease_ids_.rend() - its);
    return result;
  }
  std::vector<EntryId> done = request.delivered;
  for (const SettledOther& other : request.others) done.push_back(other.id);
  done.insert(done.end(), request.returned.begin(), request.returned.end());
  if (request.in_doubt && !holds(lease->ids, done.front())) {
    result.repeated = true;
    return result;
  }
  ModelLease before = *lease;
  for (const EntryId id : done) {
    if (!holds(lease->ids, id) && world_.flaw != Flaw::fencing)
      world_.defect(fmt::format("lease L{} settles {}, which it does not hold", lease->number, id));
    take_out(lease->ids, id);
  }
  std::vector<Row> rows;
  for (const EntryId id : done) rows.push_back(row(id));
  lease->keys.clear();
  for (const std::int32_t key : request.busy_keys) lease->keys.push_back(key);
  write(request, before.number);
  if (lease->ids.empty()) drop(request.lease_id);
  const bool dead = std::any_of(request.others.begin(), request.others.end(), [](const auto& o) {
    return o.status == EntryStatus::dead_lettered;
  });
  if (dead) {
    synchronous();
  } else {
    asynchronous([this, before = std::move(before), rows = std::move(rows)] {
      for (const Row& undone : rows) {
        const int chargeable = row(undone.id).chargeable;
        row(undone.id) = undone;
        row(undone.id).chargeable = chargeable;
      }
      drop(before.id);
      leases_.push_back(before);
      std::sort(leases_.begin(), leases_.end(),
                [](const ModelLease& a, const ModelLease& b) { return a.number < b.number; });
    });
  }
  return result;
}

bool ModelDatabase::refuses(int worker, const SettleRequest& request) {
  const ModelLease* lease = find(request.lease_id);
  if (lease == nullptr || lease->worker != worker) return false;
  const auto refused = [&](EntryId id) {
    return holds(lease->ids, id) && row(id).writable > world_.now();
  };
  return std::any_of(request.delivered.begin(), request.delivered.end(), refused) ||
         std::any_of(request.others.begin(), request.others.end(),
                     [&](const SettledOther& other) { return refused(other.id); });
}

void ModelDatabase::write(const SettleRequest& request, std::int64_t lease_number) {
  const history::Index lease = lease_names_.at(static_cast<std::size_t>(lease_number - 1));
  for (const EntryId id : request.delivered) {
    Row& done = row(id);
    if (done.state != Row::State::live) continue;
    done.state = Row::State::delivered;
    ++done.attempts;
    world_.history.settles.push_back(
        {done.entry, lease, world_.micros(), history::Settled::delivered});
  }
  for (const SettledOther& other : request.others) {
    if (row(other.id).state != Row::State::live) continue;
    write_other(other, request);
    const bool dead = other.status == EntryStatus::dead_lettered;
    world_.history.settles.push_back(
        {row(other.id).entry, lease, world_.micros(),
         dead ? history::Settled::dead_lettered : history::Settled::other});
  }
  world_.trace("db    L{} settled: {} delivered, {} others, {} returned", lease_number,
               fmt::join(request.delivered, " "), request.others.size(),
               fmt::join(request.returned, " "));
}

void ModelDatabase::write_other(const SettledOther& other, const SettleRequest& request) {
  Row& done = row(other.id);
  if (other.counted) ++done.attempts;
  if (other.status == EntryStatus::dead_lettered) {
    done.state = Row::State::dead;
    done.holds_key = request.hold_key && done.key >= 0;
    if (done.nature != Row::Nature::poison && done.nature != Row::Nature::stubborn)
      world_.defect(fmt::format("entry {} was dead-lettered for no fault of its own: {}", other.id,
                                other.code));
    return;
  }
  done.fresh = false;
  done.due = world_.now() + other.delay;
}

std::vector<Uuid> ModelDatabase::renew(int worker, std::span<const Uuid> leases,
                                       Milliseconds lease) {
  std::vector<Uuid> kept;
  for (const Uuid& id : leases) {
    ModelLease* held = find(id);
    if (world_.flaw == Flaw::renewal) {
      kept.push_back(id);
      continue;
    }
    if (held == nullptr || held->worker != worker || held->released) continue;
    asynchronous([this, id, before = held->expires] {
      if (ModelLease* again = find(id)) again->expires = before;
    });
    held->expires = world_.now() + lease;
    kept.push_back(id);
  }
  return kept;
}

void ModelDatabase::release(int worker) {
  for (ModelLease& lease : leases_) {
    if (lease.worker != worker) continue;
    lease.expires = MonotonicTime::min();
    lease.released = true;
  }
  synchronous();
}

bool ModelDatabase::due(const postgres::ClaimFloor::Input& floor, int server) const {
  std::int64_t start = server == starts_ ? floor.start : 0;
  for (std::size_t i = 0; i < floor.tracked.size(); ++i) {
    if (ended(floor.tracked[i])) start = std::min(start, floor.bounds[i]);
  }
  return std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) {
    if (row.state != Row::State::live) return false;
    return row.fresh ? row.id >= start : row.due <= world_.now();
  });
}

bool ModelDatabase::absent(int worker, MonotonicTime watched_since) const {
  const auto found = absent_since_.find(worker);
  return found != absent_since_.end() &&
         world_.now() - std::max(found->second, watched_since) >= kAbsentLongEnough;
}

void ModelDatabase::asynchronous(std::function<void()> undo) {
  while (!undo_.empty() && undo_.front().at + kWrittenByThen < world_.now()) undo_.pop_front();
  undo_.push_back({world_.now(), std::move(undo)});
}

void ModelDatabase::crash() {
  up_ = false;
  ++starts_;
  stream_locked_ = false;
  while (!undo_.empty() && undo_.front().at + kWrittenByThen < world_.now()) undo_.pop_front();
  for (auto lost = world_.up_to(undo_.size()); lost > 0; --lost) {
    undo_.back().run();
    undo_.pop_back();
  }
  undo_.clear();
  while (!open_transactions_.empty()) close(open_transactions_.back(), Row::State::rolled_back);
}

void ModelDatabase::restart() {
  up_ = true;
}

bool ModelDatabase::drained() const {
  return leases_.empty() && std::none_of(rows_.begin(), rows_.end(), [](const Row& row) {
           return row.state == Row::State::live || row.state == Row::State::open;
         });
}

ModelLease* ModelDatabase::find(const Uuid& id) {
  const auto found = std::find_if(leases_.begin(), leases_.end(),
                                  [&](const ModelLease& lease) { return lease.id == id; });
  return found == leases_.end() ? nullptr : &*found;
}

void ModelDatabase::drop(const Uuid& id) {
  std::erase_if(leases_, [&](const ModelLease& lease) { return lease.id == id; });
}

}  // namespace outfall::test::simulation
