#include "tests/bench/server.h"

#include <fmt/format.h>

#include "store/postgres/migrator.h"
#include "tests/bench/usage.h"

namespace outfall::bench {

namespace {

constexpr auto kSchemaDatabase = "outfall_schema";

test::PostgresOptions server_options(const Options& options) {
  if (options.scale == Scale::smoke) return {};
  return {.settings = {{"shared_buffers", "512MB"}, {"max_wal_size", "4GB"}}, .fsync = true};
}

}  // namespace

Database::Database(Server& server, std::string name) : server_(server), name_(std::move(name)) {
}

Database::~Database() {
  try {
    server_.postgres().connect().exec("DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)");
  } catch (const test::PgError&) {
    // The server is gone, and all of it with it.
  }
}

std::string Database::dsn() const {
  return server_.postgres().socket_dsn(name_);
}

Server::Server(const Options& options) : postgres_(server_options(options)) {
  postgres_.connect().exec(fmt::format("CREATE DATABASE {}", kSchemaDatabase));
  static_cast<void>(
      postgres::Migrator(postgres::ConnectOptions{.url = postgres_.socket_dsn(kSchemaDatabase)})
          .run());
}

std::unique_ptr<Database> Server::create() {
  return create_from(kSchemaDatabase);
}

std::unique_ptr<Database> Server::copy(const Database& from) {
  return create_from(from.name());
}

std::unique_ptr<Database> Server::create_from(const std::string& from) {
  const std::string name = fmt::format("bench_{}", ++databases_);
  postgres_.connect().exec(
      fmt::format("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, from));
  return std::make_unique<Database>(*this, name);
}

std::string stream_name(int number, int streams) {
  return streams == 1 ? "orders" : fmt::format("orders-{}", number);
}

double Server::cpu_seconds() const {
  return tree_cpu_seconds(postgres_.pid());
}

void preload(Database& database, const Preload& what) {
  Report::progress(fmt::format("loading {} entries of {} bytes", what.entries, what.payload_bytes));
  test::PgClient client = database.connect();
  client.exec("SET synchronous_commit = off");
  static_cast<void>(
      client.query("SELECT outbox.register_streams(CASE WHEN $2::int = 1 THEN ARRAY[$1] ELSE "
                   "ARRAY(SELECT $1 || '-' || i FROM generate_series(0, $2::int - 1) i) END)",
                   {what.stream, std::to_string(what.streams)}));
  // Keys in random order; the payload is cut to its size, whatever the numbers in it take.
  client.change(
      "INSERT INTO outbox.entries (stream, type, key, payload, available_at, headers) "
      "SELECT CASE WHEN $8::int = 1 THEN $1 ELSE $1 || '-' || i % $8::int END, "
      "       'order.created', $6 || abs(hashint8(i)::bigint) % $2::int, "
      "       (left(format('{\"order\":%s,\"customer\":%s,\"lines\":\"', i, i % 977) "
      "             || repeat(md5(i::text), $3::int / 32 + 1), $3::int - 2) || '\"}')::json, "
      "       CASE WHEN i = 1 AND $4 THEN now() + interval '1 day' END, "
      "       nullif($7, '')::jsonb "
      "  FROM generate_series(1, $5::bigint) i",
      {what.stream, std::to_string(what.keys), std::to_string(what.payload_bytes),
       what.scheduled_head ? "true" : "false", std::to_string(what.entries), what.key_prefix,
       what.headers, std::to_string(what.streams)});
  client.exec("VACUUM (ANALYZE) outbox.entries");
  client.exec("CHECKPOINT");
}

}  // namespace outfall::bench
