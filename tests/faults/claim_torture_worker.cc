#include "tests/faults/claim_torture_worker.h"

#include <algorithm>
#include <sstream>

namespace outfall::test::torture {

namespace {

using Kind = Event::Kind;

template <typename List, typename Text>
std::string array(const List& list, Text text) {
  std::string result = "{";
  for (const auto& item : list) {
    if (result.size() > 1) result += ',';
    result += text(item);
  }
  return result + "}";
}

template <typename Number>
std::string array(const std::vector<Number>& list) {
  return array(list, [](Number number) { return std::to_string(number); });
}

std::string array(const std::vector<std::string>& list) {
  return array(list, [](const std::string& text) { return text; });
}

std::vector<std::string> split(const PgValue& array_text) {
  std::vector<std::string> result;
  if (!array_text) return result;
  std::istringstream items(array_text->substr(1, array_text->size() - 2));
  for (std::string item; std::getline(items, item, ',');) result.push_back(item);
  return result;
}

PgValue boolean(bool value) {
  return value ? "true" : "false";
}

// What the claim answers, in this order.
enum ClaimColumn : std::size_t {
  kStatus,
  kEntries,
  kLeaseNo,
  kMore,
  kSuspect,
  kLiveMin,
  kEpoch,
  kNextLeaseFloor,
  kNextHoldFloor,
  kNextDueFloor,
  kSequenceLast,
  kShown,
  kUsed,
  kTakenOver,
  kParked,
  kRepicks
};
constexpr const char* kClaimCall =
    "SELECT status, entries, lease_no, more, suspect, live_min, epoch, next_lease_floor,"
    " next_hold_floor, next_due_floor,"
    " sequence_last, shown, used, taken_over, parked, repicks FROM outbox.claim("
    "$1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,"
    "NULL,$25)";
constexpr const char* kSettleCall =
    "SELECT result FROM outbox.settle($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)";

bool worth_another_try(const PgError& error) {
  return error.sqlstate() == "40P01" || error.sqlstate() == "40001" || error.sqlstate() == "57014";
}

}  // namespace

WorkerCounts& WorkerCounts::operator+=(const WorkerCounts& other) {
  leases += other.leases, busy += other.busy, taken_over += other.taken_over;
  repicks += other.repicks, parked += other.parked, suspects += other.suspects;
  repeated += other.repeated, deliveries += other.deliveries, settles += other.settles;
  stale += other.stale, repeated_settles += other.repeated_settles, deaths += other.deaths;
  zombies += other.zombies, stops += other.stops, given_back += other.given_back;
  return *this;
}

TortureWorker::TortureWorker(const TortureDatabase& database, History& history,
                             WorkerOptions options, Random& random)
    : database_(database),
      history_(history),
      options_(std::move(options)),
      random_(random),
      claims_(database.connect()),
      settles_(database.connect()),
      flawed_floor_(options_.floor_flaw) {
  be_born();
}

void TortureWorker::be_born() {
  id_ = random_.uuid().to_string();
  floor_ = {};
  due_floor_ = {};
  flawed_floor_ = FlawedFloor(options_.floor_flaw);
  leases_.clear();
  keys_.clear();
  held_ = 0;
  lost_lease_.reset();
  claiming_ = false;
  claims_begun_ = 0;
  claims_ended_ = 0;
  expects_more_ = true;
}

std::vector<PgValue> TortureWorker::claim_parameters() const {
  const FlawedFloor::Input floor =
      options_.floor_flaw == FloorFlaw::none ? floor_.input() : flawed_floor_.input();
  std::vector<std::string> lanes, full_keys;
  std::vector<int> lane_rooms, key_rooms;
  for (const auto& [lane, room] : options_.lanes) {
    lanes.push_back(lane);
    lane_rooms.push_back(room);
  }
  for (const auto& [hash, key] : keys_) {
    const int room = options_.key_room - static_cast<int>(key.waiting.size());
    if (room > options_.key_room / 2) continue;
    full_keys.push_back(key.name);
    key_rooms.push_back(std::max(room, 0));
  }
  return {options_.stream,
          id_,
          "torture",
          claimed_lease_,
          std::to_string(options_.lease_ms),
          std::to_string(options_.limit),
          std::to_string(options_.max_bytes),
          boolean(options_.by_key),
          boolean(options_.hold_key),
          options_.lane,
          std::to_string(options_.max_abandoned),
          std::to_string(floor.start),
          std::to_string(floor.epoch),
          std::to_string(floor.lease_floor),
          std::to_string(floor.hold_floor),
          array(floor.tracked),
          array(floor.bounds),
          array(options_.dead),
          array(lanes),
          array(lane_rooms),
          std::to_string(options_.lane_room),
          array(full_keys),
          array(key_rooms),
          std::to_string(options_.key_room),
          due_floor()};
}

PgValue TortureWorker::due_floor() const {
  return std::chrono::steady_clock::now() < due_floor_until_ ? due_floor_ : std::nullopt;
}

void TortureWorker::begin_claim() {
  claimed_lease_ = lost_lease_ ? *lost_lease_ : random_.uuid().to_string();
  history_.add({.kind = Kind::claim_begun, .lease = claimed_lease_});
  asked_at_ = std::chrono::steady_clock::now();
  claims_.start(kClaimCall, claim_parameters());
  claiming_ = true;
  // One that is asked again began when it was asked first: its pick may be that old.
  if (!lost_lease_ || options_.flaw == WorkerFlaw::trusts_repeated_claims) ++claims_begun_;
}

std::string TortureWorker::end_claim() {
  claiming_ = false;
  PgRows rows;
  try {
    rows = claims_.finish();
  } catch (const PgError& error) {
    if (!lost_lease_) ++claims_ended_;
    clear_keys();
    if (!worth_another_try(error)) history_.defect(error.what());
    return "failed";
  }
  const PgRow& row = rows.at(0);
  const std::string status = *row[kStatus];
  const bool leased = status == "batch" || status == "repeated";
  if (status == "batch" || status == "empty") report_to_floor(row);
  const bool in_doubt = lost_lease_ && status == "busy";
  if (!in_doubt) lost_lease_.reset();
  if (leased) {
    const PgRows entries = claims_.query(
        "SELECT id, key, key_hash, attempts FROM outbox.leased_entries($1)", {claimed_lease_});
    // None at all: the lease was short and is somebody else's already.
    if (!entries.empty() && entries.size() != std::stoul(*row[kEntries])) {
      history_.defect("lease " + claimed_lease_ + " holds " + *row[kEntries] + " entries but " +
                      std::to_string(entries.size()) + " could be read");
    }
    counts_.leases += 1;
    counts_.suspects += *row[kSuspect] == "t" ? 1 : 0;
    counts_.repeated += status == "repeated" ? 1 : 0;
    arrive(claimed_lease_, std::stoll(*row[kLeaseNo]), entries,
           asked_at_ + milliseconds(options_.lease_ms));
  }
  counts_.busy += status == "busy" ? 1 : 0;
  expects_more_ = leased || status == "busy" || *row[kMore] == "t";
  if (!in_doubt) ++claims_ended_;
  clear_keys();
  return status;
}

void TortureWorker::report_to_floor(const PgRow& row) {
  FlawedFloor::Report report;
  if (row[kLiveMin]) report.live_min = std::stoll(*row[kLiveMin]);
  if (row[kNextLeaseFloor]) report.next_lease_floor = std::stoll(*row[kNextLeaseFloor]);
  report.next_hold_floor = std::stoll(*row[kNextHoldFloor]);
  if (row[kNextDueFloor]) {
    due_floor_ = row[kNextDueFloor];
    due_floor_until_ = asked_at_ + options_.full_look;
  }
  report.epoch = std::stoll(*row[kEpoch]);
  report.sequence_last = std::stoll(*row[kSequenceLast]);
  report.shown = split(row[kShown]);
  report.used = split(row[kUsed]);
  floor_.completed(report);
  flawed_floor_.completed(report);
  counts_.taken_over += std::stoi(*row[kTakenOver]);
  counts_.parked += std::stoi(*row[kParked]);
  counts_.repicks += std::stoi(*row[kRepicks]);
}

void TortureWorker::stop_claims_at(const std::string& place) {
  (void)claims_.query("SELECT set_config('torture.stop', $1, false)", {place});
}

std::string TortureWorker::claim() {
  begin_claim();
  return end_claim();
}

void TortureWorker::lose_claim() {
  claiming_ = false;
  try {
    (void)claims_.finish();
  } catch (const PgError& error) {
    if (!worth_another_try(error)) history_.defect(error.what());
  }
  floor_ = {};  // a lost answer is a lost connection
  due_floor_ = {};
  flawed_floor_ = FlawedFloor(options_.floor_flaw);
  if (options_.flaw != WorkerFlaw::forgets_lost_claims) lost_lease_ = claimed_lease_;
  if (!lost_lease_ || options_.flaw == WorkerFlaw::trusts_repeated_claims) ++claims_ended_;
  expects_more_ = true;
  clear_keys();
}

bool TortureWorker::due() {
  const FlawedFloor::Input floor =
      options_.floor_flaw == FloorFlaw::none ? floor_.input() : flawed_floor_.input();
  const std::vector<std::string> of_stream(floor.tracked.size(), options_.stream);
  return settles_.number(
             "SELECT count(*) FROM outbox.due_streams($1, $2, $3, $4, $5, NULL, $6)",
             {array(std::vector<std::string>{options_.stream}),
              array(std::vector<std::int64_t>{floor.start}), array(of_stream), array(floor.tracked),
              array(floor.bounds), due_floor() ? "{\"" + *due_floor() + "\"}" : "{}"}) > 0;
}

void TortureWorker::arrive(const std::string& lease_id, std::int64_t number, const PgRows& rows,
                           SteadyTime valid_until) {
  for (const PgRow& row : rows) {
    history_.add({.kind = Kind::claimed,
                  .id = std::stoll(*row[0]),
                  .lease = lease_id,
                  .number = number,
                  .attempts = std::stoi(*row[3])});
  }
  if (rows.empty()) return;
  Lease& lease = leases_.emplace_back();
  lease.id = lease_id;
  lease.valid_until = valid_until;
  lease.open = rows.size();
  held_ += rows.size();
  lease.items.resize(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Item& item = lease.items[i];
    item.id = std::stoll(*rows[i][0]);
    item.name = rows[i][1];
    item.lease = &lease;
    if (!options_.by_key || !item.name) continue;
    item.hash = std::stoi(*rows[i][2]);
    item.key = &keys_[item.hash];
    item.key->name = *item.name;
    item.key->waiting.push_back(&item);
  }
  for (Item& item : lease.items) {
    if (item.key != nullptr && item.key->blocked) give_back(item);
  }
}

// The first entry that no earlier one of its key waits before.
TortureWorker::Item* TortureWorker::next_item(bool of_any_lease) {
  std::vector<Lease*> open;
  for (Lease& lease : leases_) {
    if (lease.open > 0 && !(lease.lost && options_.flaw != WorkerFlaw::ignores_lost_leases))
      open.push_back(&lease);
  }
  if (open.empty()) return nullptr;
  Lease& lease = *open[of_any_lease ? random_.up_to(open.size() - 1) : 0];
  for (Item& item : lease.items) {
    if (item.done) continue;
    return item.key == nullptr || item.key->waiting.empty() ? &item : item.key->waiting.front();
  }
  return nullptr;
}

bool TortureWorker::send_next(Verdict verdict, bool of_any_lease) {
  Item* item = next_item(of_any_lease);
  if (item == nullptr) return false;
  const auto alive = [&] {
    return std::chrono::steady_clock::now() + options_.margin < item->lease->valid_until;
  };
  if (verdict.result == SendResult::not_sent || !alive()) {
    give_back(*item);
  } else if (verdict.result == SendResult::delivered) {
    if (history_.add_if({.kind = Kind::delivered, .id = item->id, .lease = item->lease->id},
                        alive)) {
      item->lease->delivered.push_back(item->id);
      ++counts_.deliveries;
      close(*item);
    } else {
      give_back(*item);
    }
  } else {
    decide(*item, verdict);
  }
  return true;
}

void TortureWorker::send_all(Verdict verdict) {
  while (send_next(verdict)) {
  }
}

std::vector<EntryId> TortureWorker::unsent() const {
  std::vector<EntryId> ids;
  for (const Lease& lease : leases_) {
    for (const Item& item : lease.items) {
      if (!item.done) ids.push_back(item.id);
    }
  }
  return ids;
}

void TortureWorker::close(Item& item) {
  item.done = true;
  --item.lease->open;
  --held_;
  if (item.key != nullptr) std::erase(item.key->waiting, &item);
}

void TortureWorker::decide(Item& item, const Verdict& verdict) {
  Lease& lease = *item.lease;
  const bool dead = verdict.result == SendResult::dead_lettered;
  if (dead) {
    history_.add({.kind = Kind::dead_lettered,
                  .id = item.id,
                  .lease = lease.id,
                  .flag = options_.hold_key && item.key != nullptr});
  }
  const char* status = dead                                     ? "dead_lettered"
                       : verdict.result == SendResult::deferred ? "deferred"
                                                                : "retryable_failure";
  lease.others.push_back(
      {item.id, status, verdict.result != SendResult::deferred, verdict.delay_ms});
  close(item);
  if (item.key == nullptr || (dead && !options_.hold_key)) return;
  lease.failed_keys.push_back(item.key);
  block(*item.key, true);
}

// Not sent: later entries of its key must follow it.
void TortureWorker::give_back(Item& item) {
  close(item);
  ++counts_.given_back;
  Lease& lease = *item.lease;
  if (!lease.lost) {
    lease.returned.push_back(item.id);
    if (item.key != nullptr) lease.failed_keys.push_back(item.key);
  }
  if (item.key != nullptr) block(*item.key, !lease.lost);
}

void TortureWorker::block(Key& key, bool unsettled) {
  key.clear_after = 0;
  if (unsettled) ++key.unsettled;
  if (key.blocked) return;
  if (options_.flaw == WorkerFlaw::keeps_later_entries) return;
  key.blocked = true;
  while (!key.waiting.empty()) give_back(*key.waiting.front());
}

// A key goes on when its failures are written and every claim has returned that began before.
void TortureWorker::clear_keys() {
  for (auto it = keys_.begin(); it != keys_.end();) {
    Key& key = it->second;
    if (key.blocked && key.unsettled == 0) {
      if (key.clear_after == 0) key.clear_after = claims_begun_;
      if (claims_ended_ >= key.clear_after || options_.flaw == WorkerFlaw::trusts_claims_under_way)
        key.blocked = false;
    }
    const bool idle = !key.blocked && key.unsettled == 0 && key.waiting.empty();
    it = idle ? keys_.erase(it) : std::next(it);
  }
}

void TortureWorker::lose(Lease& lease) {
  if (lease.lost) return;
  history_.add({.kind = Kind::stale, .lease = lease.id});
  lease.lost = true;
  for (Key* key : lease.failed_keys) --key->unsettled;
  lease.failed_keys.clear();
  lease.delivered.clear();
  lease.returned.clear();
  lease.others.clear();
  if (options_.flaw == WorkerFlaw::ignores_lost_leases) return;
  // Later leases with these keys went the same way, at least.
  for (Item& item : lease.items) {
    const auto key = keys_.find(item.hash);
    if (item.name && key != keys_.end()) block(key->second, false);
    if (!item.done) give_back(item);
  }
}

void TortureWorker::forget_done_leases() {
  leases_.remove_if([](const Lease& lease) { return lease.open == 0 && !lease.unsettled(); });
}

std::vector<PgValue> TortureWorker::settle_parameters(const Lease& lease, bool in_doubt) const {
  std::vector<EntryId> delivered = lease.delivered;
  std::sort(delivered.begin(), delivered.end());
  std::set<std::int32_t> busy;
  for (const Item& item : lease.items) {
    if (!item.done && item.key != nullptr) busy.insert(item.hash);
  }
  const auto of_others = [&](auto text) { return array(lease.others, text); };
  return {lease.id,
          id_,
          "torture",
          boolean(true),
          array(delivered),
          std::nullopt,
          of_others([](const Other& other) { return std::to_string(other.id); }),
          of_others([](const Other& other) { return other.status; }),
          of_others([](const Other& other) { return std::string(other.counted ? "t" : "f"); }),
          of_others([](const Other& other) { return std::to_string(other.delay_ms); }),
          of_others([](const Other&) { return std::string("torture.failed"); }),
          of_others([](const Other&) { return std::string("failed"); }),
          boolean(options_.hold_key),
          array(lease.returned),
          lease.open == 0 ? PgValue{} : array(std::vector<std::int32_t>(busy.begin(), busy.end())),
          boolean(in_doubt)};
}

std::string TortureWorker::settle(Lease& lease, bool lost_answer) {
  const auto note = [&](Kind kind) {
    for (const EntryId id : lease.delivered)
      history_.add({.kind = kind, .id = id, .lease = lease.id, .flag = true});
    for (const Other& other : lease.others)
      history_.add({.kind = kind, .id = other.id, .lease = lease.id});
  };
  note(Kind::settle_begun);
  std::string result;
  for (int attempt = 0; result.empty(); ++attempt) {
    try {
      result = settles_.value(kSettleCall, settle_parameters(lease, false));
      if (!lost_answer) break;
      const std::string again = settles_.value(kSettleCall, settle_parameters(lease, true));
      if (again != "repeated" && again != "stale") history_.defect("a settle took effect twice");
      counts_.repeated_settles += 1;
    } catch (const PgError& error) {
      if (worth_another_try(error) && attempt < 20) continue;
      history_.defect(error.what());
      result = "stale";
    }
  }
  ++counts_.settles;
  if (result == "stale") {
    ++counts_.stale;
    lose(lease);
    return result;
  }
  note(Kind::settled);
  for (Key* key : lease.failed_keys) --key->unsettled;
  lease.failed_keys.clear();
  lease.delivered.clear();
  lease.returned.clear();
  lease.others.clear();
  return result;
}

void TortureWorker::settle(std::size_t leases, bool lost_answer) {
  std::vector<Lease*> order;
  for (Lease& lease : leases_) {
    if (lease.unsettled() && order.size() < leases) order.push_back(&lease);
  }
  if (options_.flaw == WorkerFlaw::settles_out_of_order) {
    order.clear();
    for (Lease& lease : leases_) {
      if (lease.unsettled()) order.insert(order.begin(), &lease);
    }
    if (order.size() > leases) order.resize(leases);
  }
  for (Lease* lease : order) {
    if (lease->unsettled()) (void)settle(*lease, lost_answer);
  }
  forget_done_leases();
  clear_keys();
}

std::string TortureWorker::settle_lease(std::size_t index, bool lost_answer) {
  auto lease = leases_.begin();
  std::advance(lease, static_cast<std::ptrdiff_t>(index));
  if (!lease->unsettled()) return "";
  std::string result = settle(*lease, lost_answer);
  forget_done_leases();
  clear_keys();
  return result;
}

void TortureWorker::renew() {
  std::vector<std::string> ids;
  for (const Lease& lease : leases_) {
    if (!lease.lost) ids.push_back(lease.id);
  }
  if (ids.empty()) return;
  const SteadyTime asked_at = std::chrono::steady_clock::now();
  const PgRows rows = settles_.query("SELECT * FROM outbox.renew($1, $2, $3)",
                                     {id_, array(ids), std::to_string(options_.lease_ms)});
  std::set<std::string> kept;
  for (const PgRow& row : rows) kept.insert(*row[0]);
  for (Lease& lease : leases_) {
    if (lease.lost) continue;
    if (kept.contains(lease.id)) {
      lease.valid_until = asked_at + milliseconds(options_.lease_ms);
    } else {
      lose(lease);
    }
  }
  forget_done_leases();
  clear_keys();
}

void TortureWorker::release_all() {
  if (claiming_) (void)end_claim();
  while (send_next({.result = SendResult::not_sent})) {
  }
  settle();
  (void)settles_.query("SELECT outbox.release($1)", {id_});
  ++counts_.stops;
  be_born();
}

void TortureWorker::die(bool reconnect) {
  for (const Lease& lease : leases_) {
    if (!lease.lost) history_.add({.kind = Kind::died, .lease = lease.id});
  }
  if (claiming_) {
    if (reconnect) {
      claims_ = database_.connect();
    } else {
      try {
        (void)claims_.finish();
      } catch (const PgError& error) {
        if (!worth_another_try(error)) history_.defect(error.what());
      }
    }
  }
  ++counts_.deaths;
  be_born();
}

void TortureWorker::sleep_over_leases(milliseconds deadline) {
  ++counts_.zombies;
  std::vector<std::string> ids;
  for (const Lease& lease : leases_) ids.push_back(lease.id);
  (void)holds_within(
      [&] {
        return settles_.number("SELECT count(*) FROM outbox.leases WHERE lease_id = ANY ($1)",
                               {array(ids)}) == 0;
      },
      deadline);
}

}  // namespace outfall::test::torture
