#include "tests/integration/sql_fixture.h"

#include "core/ids.h"
#include "store/postgres/migrator.h"

namespace outfall::test {

const std::string& migrated_template() {
  static const std::string name = [] {
    postgres::ConnectOptions options;
    options.url = shared_postgres().create_database("sql_template");
    postgres::Migrator(options).run();
    return std::string("sql_template");
  }();
  return name;
}

namespace {
postgres::ConnectOptions options_for(const std::string& dsn) {
  postgres::ConnectOptions options;
  options.url = dsn;
  return options;
}

PgClient outbox_session(const std::string& dsn) {
  PgClient client(dsn);
  client.exec("SET search_path = outbox");
  return client;
}
}  // namespace

Worker::Worker(const std::string& dsn, const std::string& instance, const Clock& clock)
    : store_(options_for(dsn), system_random().uuid(), instance, clock),
      session_(store_.open_session()) {
}

ClaimRequest Worker::request(const std::string& stream, int limit, Milliseconds lease) {
  session_->register_streams(std::vector{stream});
  ClaimRequest request;
  request.stream = stream;
  request.lease_id = system_random().uuid();
  request.lease = lease;
  request.max_entries = limit;
  request.lane = lane;
  return request;
}

ClaimResult Worker::try_claim(const std::string& stream, int limit, Milliseconds lease) {
  return session_->claim(request(stream, limit, lease));
}

LeasedBatch Worker::claim(const std::string& stream, int limit, Milliseconds lease) {
  return try_claim(stream, limit, lease).batch;
}

void Worker::deliver(const LeasedBatch& batch, std::vector<std::string> record_ids) {
  SettleRequest request;
  request.lease_id = batch.lease_id;
  request.provider = "noop";
  request.delivered = ids_of(batch);
  request.record_ids = std::move(record_ids);
  ASSERT_FALSE(session_->settle(request).stale);
}

void Worker::settle_all(const LeasedBatch& batch, EntryStatus status, Milliseconds delay,
                        const std::string& code, bool hold_key) {
  SettleRequest request;
  request.lease_id = batch.lease_id;
  request.provider = "noop";
  request.hold_key = hold_key;
  for (const EntryId id : ids_of(batch)) {
    request.others.push_back(
        {id, status, status != EntryStatus::deferred, delay, code, "it said no"});
  }
  ASSERT_FALSE(session_->settle(request).stale);
}

void Worker::give_back(const LeasedBatch& batch) {
  SettleRequest request;
  request.lease_id = batch.lease_id;
  request.returned = ids_of(batch);
  ASSERT_FALSE(session_->settle(request).stale);
}

std::vector<EntryId> Worker::drain(const std::string& stream, bool hold_key) {
  std::vector<EntryId> order;
  session_->register_streams(std::vector{stream});
  while (true) {
    ClaimRequest request;
    request.stream = stream;
    request.lease_id = system_random().uuid();
    request.hold_key = hold_key;
    request.lane = lane;
    const ClaimResult result = session_->claim(request);
    const std::vector<EntryId> ids = ids_of(result.batch);
    order.insert(order.end(), ids.begin(), ids.end());
    if (!ids.empty()) {
      deliver(result.batch);
    } else if (!result.more) {
      return order;
    }
  }
}

std::vector<EntryId> ids_of(const LeasedBatch& batch) {
  std::vector<EntryId> ids;
  for (const LeasedEntry& entry : batch.entries) ids.push_back(entry.envelope.entry_id);
  return ids;
}

Refusal refusal(PgClient& client, const std::string& sql, const std::vector<PgValue>& parameters) {
  try {
    client.query(sql, parameters);
  } catch (const PgError& error) {
    return {error.sqlstate(), error.what()};
  }
  return {"", "it was not refused"};
}

SqlTest::SqlTest(const std::string& from) : database_(from), sql_(outbox_session(database_.dsn())) {
}

PgClient SqlTest::connect() const {
  return outbox_session(database_.dsn());
}

EntryId SqlTest::enqueue(const std::string& stream, const PgValue& key, const std::string& type) {
  return sql_.number(
      "INSERT INTO entries (stream, type, key, payload) VALUES ($1, $2, $3, '{}') RETURNING id",
      {stream, type, key});
}

std::string SqlTest::envelope_of(EntryId id) {
  return sql_.value("SELECT envelope_id FROM all_entries WHERE entry_id = $1",
                    {std::to_string(id)});
}

std::string SqlTest::status_of(EntryId id) {
  return sql_.value("SELECT status FROM all_entries WHERE entry_id = $1", {std::to_string(id)});
}

std::string SqlTest::explained(const std::string& envelope_id, const std::string& path) {
  const PgRows rows = sql_.query(
      "SELECT e -> 'entries' -> 0 #>> string_to_array($2, '.') FROM explain_entry($1) e "
      "WHERE jsonb_array_length(e -> 'entries') = 1",
      {envelope_id, path});
  return rows.empty() ? "not one entry" : rows[0][0].value_or("null");
}

}  // namespace outfall::test
