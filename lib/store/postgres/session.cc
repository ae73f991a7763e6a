#include "store/postgres/session.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "core/crash_point.h"
#include "store/postgres/leased_entries.h"
#include "store/postgres/migrator.h"

namespace outfall::postgres {

namespace {

// A call of a function of the SQL API: "SELECT * FROM schema.name($1, …)".
std::string call(const Connection& connection, std::string_view function, int parameters,
                 std::string_view columns = "*") {
  std::string sql = "SELECT " + std::string(columns) + " FROM ";
  sql += connection.qualified(function) + "(";
  for (int i = 1; i <= parameters; ++i) {
    if (i > 1) sql += ", ";
    sql += "$" + std::to_string(i);
  }
  return sql + ")";
}

std::pair<std::vector<std::string>, std::vector<std::int32_t>> split(
    const std::vector<Room>& rooms) {
  std::pair<std::vector<std::string>, std::vector<std::int32_t>> result;
  for (const Room& room : rooms) {
    result.first.push_back(room.name);
    result.second.push_back(room.room);
  }
  return result;
}

ConnectOptions by_index(ConnectOptions options) {
  options.by_index = true;
  return options;
}

}  // namespace

PostgresSession::PostgresSession(const ConnectOptions& options, const Uuid& worker,
                                 const std::string& instance, const Clock& clock,
                                 ClaimFloors& floors)
    : connection_(by_index(options)),
      worker_(worker),
      instance_(instance),
      clock_(clock),
      floors_(floors) {
  check_schema(connection_);
  check_encoding(connection_);  // also of one that was restored into another database
  check_may_work(connection_);
  floors_.saw_server(
      connection_.query("SELECT " + connection_.qualified("server_since") + "()", Params())
          .timestamp(0, 0));
  calls_ = {.claim = call(connection_, "claim", 26),
            .leased_entries = call(connection_, "leased_entries", 1),
            .settle = call(connection_, "settle", 17),
            .renew = call(connection_, "renew", 3),
            .release = call(connection_, "release", 1),
            .forgive = call(connection_, "forgive", 1),
            .park_destination =
                call(connection_, "pause_destination", 4, "(detail->>'was_paused')::boolean"),
            .register_streams = call(connection_, "register_streams", 1),
            .due_streams = call(connection_, "due_streams", 7)};
}

void PostgresSession::register_streams(std::span<const std::string> streams) {
  (void)connection_.query(calls_.register_streams, Params().text_array(streams));
}

std::vector<std::string> PostgresSession::due_streams(std::span<const std::string> streams) {
  const ClaimFloors::Poll poll = floors_.poll(streams, clock_.monotonic());
  const Result rows =
      connection_.query(calls_.due_streams, Params()
                                                .text_array(streams)
                                                .int8_array(poll.starts)
                                                .text_array(poll.tracking)
                                                .text_array(poll.transactions)
                                                .int8_array(poll.bounds)
                                                .timestamp_or_null(poll.server)
                                                .timestamp_array_with_nulls(poll.due_floors));
  std::vector<std::string> due;
  for (int row = 0; row < rows.rows(); ++row) due.emplace_back(rows.bytes(row, 0));
  return due;
}

Params PostgresSession::claim_params(const ClaimRequest& request,
                                     const ClaimFloors::Input& input) const {
  const ClaimFloor::Input& floor = input.floor;
  const auto [lanes, lane_rooms] = split(request.lanes);
  const auto [keys, key_rooms] = split(request.keys);
  Params params;
  params.text(request.stream)
      .uuid(worker_)
      .text(instance_)
      .uuid(request.lease_id)
      .int4(static_cast<std::int32_t>(request.lease.count()))
      .int4(request.max_entries)
      .int8(request.max_bytes)
      .boolean(request.by_key)
      .boolean(request.hold_key)
      .text_or_null(request.lane)
      .int4(request.max_abandoned)
      .int8(floor.start)
      .int8(floor.epoch)
      .int8(floor.lease_floor)
      .int8(floor.hold_floor)
      .text_array(floor.tracked)
      .int8_array(floor.bounds)
      .uuid_array(request.dead_workers)
      .text_array(lanes)
      .int4_array(lane_rooms)
      .int4(request.lane_room)
      .text_array(keys)
      .int4_array(key_rooms)
      .int4(request.key_room)
      .timestamp_or_null(input.server)
      .timestamp_or_null(input.due_floor);
  return params;
}

void PostgresSession::refuse_leases_in_doubt() const {
  if (floors_.leases_in_doubt()) {
    throw StoreError(StoreErrorKind::conflict,
                     "the server has restarted; leases must be released first");
  }
}

ClaimResult PostgresSession::claim(const ClaimRequest& request,
                                   const std::function<void(const LeasedSoon&)>& leased) {
  refuse_leases_in_doubt();
  const MonotonicTime asked_at = clock_.monotonic();
  const ClaimFloors::Input input = floors_.input(request.stream, asked_at);
  ClaimResult result;
  OUTFALL_CRASH_POINT("claim", "begun");
  // Not a structured binding: clang 14 cannot capture one in a lambda.
  const std::pair<Result, Result> both = connection_.query_both(
      calls_.claim, claim_params(request, input), calls_.leased_entries,
      Params().uuid(request.lease_id), [&](const Result& first) {
        take_answer(first, request.stream, input.generation, asked_at, result);
        if (result.status == ClaimStatus::batch && leased && !floors_.leases_in_doubt()) {
          leased({.entries = first.int4(0, first.column("entries")),
                  .largest_key = first.int4(0, first.column("largest_key")),
                  .more = result.more});
        }
      });
  OUTFALL_CRASH_POINT("claim", "committed");
  const Result& answer = both.first;
  const std::string_view status = answer.bytes(0, answer.column("status"));
  if (status == "unregistered") {
    const std::string streams[] = {request.stream};
    register_streams(streams);
    result.more = true;
  }
  // The claim may be the first to meet another server: its lease is given up with all the others.
  if (status == "batch" || status == "repeated" || status == "empty") refuse_leases_in_doubt();
  if (status != "batch" && status != "repeated") return result;

  result.status = ClaimStatus::batch;
  result.repeated = status == "repeated";
  result.batch.valid_until = asked_at + request.lease;
  result.batch.asked_at = asked_at;
  fill_lease(request, answer, both.second, result.batch);
  return result;
}

void PostgresSession::fill_lease(const ClaimRequest& request, const Result& answer,
                                 const Result& rows, LeasedBatch& batch) {
  const auto column = [&](const char* name) { return answer.column(name); };
  batch.lease_id = request.lease_id;
  batch.lease_no = answer.int8(0, column("lease_no"));
  batch.claimed_at = answer.timestamp(0, column("claimed_at"));
  batch.suspect = answer.boolean(0, column("suspect"));
  fill_batch(batch, rows, request.stream);
  const std::int32_t entries = answer.int4(0, column("entries"));
  if (rows.rows() != entries) {
    throw StoreError(StoreErrorKind::defect, "lease " + request.lease_id.to_string() + " holds " +
                                                 std::to_string(entries) + " entries but " +
                                                 std::to_string(rows.rows()) + " could be read");
  }
}

// All that a claim answers but for the lease itself. It runs before the entries are read, so that
// the next claim of the stream starts where this one has told.
void PostgresSession::take_answer(const Result& answer, const std::string& stream,
                                  std::uint64_t generation, MonotonicTime asked_at,
                                  ClaimResult& result) {
  const std::string_view status = answer.bytes(0, answer.column("status"));
  if (status == "busy") result.status = ClaimStatus::busy;
  if (status == "paused") {
    result.status = ClaimStatus::paused;
    take_takeover(answer, result);
  }
  if (status == "batch") result.status = ClaimStatus::batch;
  if (status != "batch" && status != "repeated" && status != "empty") return;
  result.more = answer.boolean(0, answer.column("more"));
  // A claim that was made before and is only repeated has nothing to report.
  if (status != "repeated") take_report(answer, stream, generation, asked_at, result);
}

// What a claim that picked reports to the floor, and what it met on its way.
void PostgresSession::take_report(const Result& answer, const std::string& stream,
                                  std::uint64_t generation, MonotonicTime asked_at,
                                  ClaimResult& result) {
  const auto column = [&](const char* name) { return answer.column(name); };
  ClaimFloors::Completed claim{.report = {},
                               .due_floor = {},
                               .asked_at = asked_at,
                               .server = answer.timestamp(0, column("server_since"))};
  ClaimFloor::Report& report = claim.report;
  if (!answer.is_null(0, column("live_min"))) report.live_min = answer.int8(0, column("live_min"));
  if (!answer.is_null(0, column("next_lease_floor"))) {
    report.next_lease_floor = answer.int8(0, column("next_lease_floor"));
  }
  report.next_hold_floor = answer.int8(0, column("next_hold_floor"));
  report.epoch = answer.int8(0, column("epoch"));
  report.sequence_last = answer.int8(0, column("sequence_last"));
  report.shown = answer.text_array(0, column("shown"));
  report.used = answer.text_array(0, column("used"));
  if (!answer.is_null(0, column("next_due_floor"))) {
    claim.due_floor = answer.timestamp(0, column("next_due_floor"));
  }
  result.floor_lag = floors_.completed(stream, generation, claim);
  take_takeover(answer, result);
  result.parked = answer.int4(0, column("parked"));
  result.repicks = answer.int4(0, column("repicks"));
}

// Who else is there, and what of the leases of those that are not.
void PostgresSession::take_takeover(const Result& answer, ClaimResult& result) {
  const int others = answer.column("others");
  result.other_workers =
      answer.is_null(0, others) ? std::vector<Uuid>{} : answer.uuid_array(0, others);
  result.taken_over = answer.int4(0, answer.column("taken_over"));
  result.abandoned = answer.int8_array(0, answer.column("abandoned"));
}

SettleResult PostgresSession::settle(const SettleRequest& request) {
  // An earlier settle of the same keys may be undone, and this one would count. The server is asked
  // for first: seen anew in between, it puts the leases in doubt.
  const std::optional<WallTime> server = floors_.server();
  refuse_leases_in_doubt();
  const std::size_t n = request.others.size();
  std::vector<std::int64_t> ids, delays_ms;
  std::vector<std::string> statuses, codes, messages;
  const auto counted = std::make_unique<bool[]>(n);
  for (std::size_t i = 0; i < n; ++i) {
    const SettledOther& other = request.others[i];
    ids.push_back(other.id);
    delays_ms.push_back(other.delay.count());
    statuses.emplace_back(to_string(other.status));
    codes.push_back(other.code);
    messages.push_back(other.message);
    counted[i] = other.counted;
  }
  Params params;
  params.uuid(request.lease_id)
      .uuid(worker_)
      .text(request.provider)
      .boolean(request.receipts)
      .int8_array(request.delivered);
  if (request.record_ids.empty()) {
    params.null(1009);
  } else {
    params.text_array_with_nulls(request.record_ids);
  }
  params.int8_array(ids)
      .text_array(statuses)
      .bool_array({counted.get(), n})
      .int8_array(delays_ms)
      .text_array_with_nulls(codes)
      .text_array_with_nulls(messages)
      .boolean(request.hold_key)
      .int8_array(request.returned)
      .int4_array(request.busy_keys)
      .boolean(request.in_doubt)
      .timestamp_or_null(server);
  OUTFALL_CRASH_POINT("settle", "begun");
  const Result answer = connection_.query(calls_.settle, params);
  OUTFALL_CRASH_POINT("settle", "committed");
  const std::string_view result = answer.bytes(0, 0);
  if (result == "restarted") {
    floors_.saw_server(answer.timestamp(0, 2));
    refuse_leases_in_doubt();
  }
  // Not in doubt any more, the leases have been released meanwhile.
  return {.stale = result == "stale" || result == "restarted",
          .repeated = result == "repeated",
          .settled_at = answer.timestamp(0, 1)};
}

std::vector<Uuid> PostgresSession::renew(std::span<const Uuid> leases, Milliseconds lease) {
  const Result rows = connection_.query(
      calls_.renew,
      Params().uuid(worker_).uuid_array(leases).int4(static_cast<std::int32_t>(lease.count())));
  std::vector<Uuid> kept;
  for (int row = 0; row < rows.rows(); ++row) kept.push_back(rows.uuid(row, 0));
  return kept;
}

void PostgresSession::release() {
  OUTFALL_CRASH_POINT("release", "begun");
  (void)connection_.query(calls_.release, Params().uuid(worker_));
  OUTFALL_CRASH_POINT("release", "committed");
  floors_.leases_released();
}

void PostgresSession::forgive(std::span<const EntryId> entries) {
  (void)connection_.query(calls_.forgive, Params().int8_array(entries));
}

bool PostgresSession::park_destination(const std::string& stream, const std::string& lane,
                                       const std::string& reason) {
  const std::string actor = "worker " + instance_;
  return !connection_
              .query(calls_.park_destination,
                     Params().text(stream).text(lane).text(actor).text(reason))
              .boolean(0, 0);
}

PostgresPresence::PostgresPresence(const ConnectOptions& options, const Uuid& worker,
                                   const Clock& clock)
    : connection_(options),
      worker_(worker),
      clock_(clock),
      hold_call_(call(connection_, "hold_presence", 1)),
      present_call_(call(connection_, "present_workers", 1)) {
  check_schema(connection_);  // says more than the call that fails
  hold();
}

// False while an earlier connection of ours, which the server has not noticed to be gone, still has
// the lock. Others see this worker present all the same; it is taken as soon as that one lets go.
void PostgresPresence::hold() {
  if (!held_) held_ = connection_.query(hold_call_, Params().uuid(worker_)).boolean(0, 0);
}

std::vector<Uuid> PostgresPresence::absent(std::span<const Uuid> workers) {
  // After a look that fails nobody is known to be absent without a break.
  const auto before = std::exchange(absent_since_, {});
  hold();
  const Result rows = connection_.query(present_call_, Params().uuid_array(workers));
  std::unordered_set<Uuid> present;
  for (int row = 0; row < rows.rows(); ++row) present.insert(rows.uuid(row, 0));
  const MonotonicTime now = clock_.monotonic();
  std::vector<Uuid> dead;
  for (const Uuid& worker : workers) {
    if (present.contains(worker)) continue;
    const auto known = before.find(worker);
    const MonotonicTime since = known == before.end() ? now : known->second;
    absent_since_[worker] = since;
    if (now - since >= kAbsentLongEnough) dead.push_back(worker);
  }
  return dead;
}

}  // namespace outfall::postgres
