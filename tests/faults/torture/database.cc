#include "tests/faults/torture/database.h"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/support/wait_until.h"

namespace outfall::torture {

using test::TempPostgres;

SmallDisk::SmallDisk(int mebibytes) : path_(folder_ / "disk") {
  std::filesystem::create_directory(path_);
  const std::string options = "size=" + std::to_string(mebibytes) + "m";
  mounted_ = ::mount("outfall", path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  if (!mounted_) return;
  const auto owner = test::account_for_child("postgres");
  if (owner && ::chown(path_.c_str(), owner->user, owner->group) != 0)
    throw std::runtime_error("cannot give " + path_.string() + " to the user postgres");
}

SmallDisk::~SmallDisk() {
  if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
}

void SmallDisk::fill() {
  std::ofstream out(path_ / "filler", std::ios::binary);
  const std::string block(1 << 16, 'x');
  while (out.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
  }
}

void SmallDisk::empty() {
  std::filesystem::remove(path_ / "filler");
}

Servers::Servers(bool standbys, const std::map<std::string, std::string>& settings) {
  test::PostgresOptions options;
  options.settings = settings;
  options.settings.emplace("deadlock_timeout", "100ms");
  options.settings.emplace("max_connections", "80");
  servers_.push_back(std::make_unique<TempPostgres>(options));
  if (!standbys) return;
  TempPostgres& first = *servers_.front();
  stream_ = std::make_unique<test::TcpGate>(first.port());
  front_ = std::make_unique<test::TcpGate>(first.port());
  servers_.push_back(std::make_unique<TempPostgres>(first, "near", first.port(), options));
  servers_.push_back(std::make_unique<TempPostgres>(first, "far", stream_->port(), options));
  first.set("synchronous_standby_names", "near");
  first.reload();
  test::wait_until(
      [&] {
        return first.connect().number(
                   "SELECT count(*) FROM pg_stat_replication"
                   " WHERE state = 'streaming' AND"
                   " (sync_state = 'sync') = (application_name = 'near')") == 2;
      },
      "both standbys to stream");
}

std::vector<int> Servers::ports() const {
  std::vector<int> ports;
  for (const auto& server : servers_) ports.push_back(server->port());
  return ports;
}

void Servers::cut_asynchronous() {
  stream_->traffic(test::Traffic::stall);
}

void Servers::hide_first() {
  front_->admit(test::Admission::refuse);
  front_->end_connections(test::Ending::reset);
}

void Servers::promote(bool synchronous) {
  primary_ = synchronous ? 1 : 2;
  // Of several hosts libpq does not try the next one where a connection is taken and then ended.
  hide_first();
  primary().promote();
  if (pooler_) lead_pooler();
}

void Servers::lead_pooler() {
  pooler_gate_ = std::make_unique<test::TcpGate>(primary().port());
  pooler_->lead_to(pooler_gate_->port());
}

void Servers::create_database(const std::string& name, const std::string& outfall,
                              const SmallDisk* disk) {
  test::PgClient admin = primary().connect();
  std::string space;
  if (disk != nullptr) {
    admin.exec("CREATE TABLESPACE " + name + "_disk LOCATION '" + disk->path().string() + "'");
    space = " TABLESPACE " + name + "_disk";
  }
  admin.exec("CREATE DATABASE " + name + space);
  const std::string dsn = primary().dsn(name);
  const test::Finished migrated =
      test::run({outfall, "migrate"}, {.environment = {{"OUTFALL_DATABASE__URL", dsn}}});
  if (migrated.status.code != 0)
    throw std::runtime_error("outfall migrate: " + migrated.error_output);
  admin.exec(
      "DO $$ BEGIN CREATE ROLE torture_worker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; "
      "END $$; GRANT outbox_worker TO torture_worker; ALTER ROLE torture_worker SET "
      "statement_timeout = '2s'");
}

void Servers::drop_database(const std::string& name) {
  test::PgClient admin = primary().connect();
  for (const test::PgRow& row :
       admin.query("SELECT gid FROM pg_prepared_xacts WHERE database = $1", {name}))
    connect(name).exec("ROLLBACK PREPARED '" + *row[0] + "'");
  admin.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)");
  admin.exec("DROP TABLESPACE IF EXISTS " + name + "_disk");
}

std::string Servers::dsn(const std::string& database) const {
  return url(database) + " connect_timeout=2 target_session_attrs=read-write";
}

std::string Servers::url(const std::string& database) const {
  std::string hosts;
  std::string ports;
  for (const auto& server : servers_) {
    hosts += (hosts.empty() ? "" : ",") + std::string("127.0.0.1");
    const bool gated = ports.empty() && front_ != nullptr;
    ports += (ports.empty() ? "" : ",") + std::to_string(gated ? front_->port() : server->port());
  }
  return "host=" + hosts + " port=" + ports + " dbname=" + database + " user=postgres";
}

test::PgClient Servers::connect(const std::string& database) const {
  return test::PgClient(dsn(database));
}

std::int64_t Servers::delivered(const std::string& database) const {
  return connect(database).number("SELECT coalesce(sum(entries), 0) FROM outbox.receipts");
}

std::int64_t Servers::left(const std::string& database) const {
  return connect(database).number(
      "SELECT (SELECT count(*) FROM outbox.entries) + (SELECT count(*) FROM outbox.leases)"
      // An empty hold goes with the next claim that looks at it.
      " + (SELECT count(*) FROM outbox.holds WHERE due_at < 'infinity')");
}

test::TempPgBouncer& Servers::pooler() {
  if (!pooler_) {
    // Of themselves they wait for a quarter of a minute before they ask a server again that was
    // away, and for one that says nothing.
    pooler_ = std::make_unique<test::TempPgBouncer>(
        primary(),
        std::map<std::string, std::string>{{"server_login_retry", "1"},
                                           {"server_connect_timeout", "2"}},
        std::vector<std::string>{"postgres", "torture_worker"});
    lead_pooler();
  }
  return *pooler_;
}

}  // namespace outfall::torture
