// Faults that other sessions of the database cause: transactions left open, locks, connections that
// are used up, another version of the schema.
#include "tests/faults/torture/faults.h"

namespace outfall::torture {

namespace {

using test::PgClient;
using test::PgError;

// F19: the xmin horizon stands still, and a transaction that has written is idle.
class OpenTransactionsFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    reader_ = std::make_unique<PgClient>(scene_.servers.dsn(scene_.database));
    reader_->exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.entries");
    writer_ = std::make_unique<PgClient>(scene_.servers.dsn(scene_.database));
    writer_->exec(
        "BEGIN; INSERT INTO outbox.entries (stream, type) VALUES ('orders', 'order.never')");
    return true;
  }
  void heal() override {
    reader_.reset();
    writer_.reset();  // rolled back with its session
    ended();
  }

 private:
  std::unique_ptr<PgClient> reader_;
  std::unique_ptr<PgClient> writer_;
};

// F20: a prepared transaction that nobody ends, transactions in two phases beside it, and another
// database of the server that is busy.
class PreparedFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    PgClient client = scene_.servers.connect(scene_.database);
    client.exec(
        "BEGIN; INSERT INTO outbox.entries (stream, type) VALUES ('orders', 'order.never');"
        " PREPARE TRANSACTION 'left-behind-" +
        scene_.database + "'");
    other_ = std::make_unique<PgClient>(scene_.servers.primary().connect("postgres"));
    other_->exec("CREATE TABLE IF NOT EXISTS busy (n int)");
    scene_.load.prepared = true;
    return true;
  }
  void tick() override { other_->exec("INSERT INTO busy SELECT generate_series(1, 200)"); }
  void heal() override {
    scene_.load.prepared = false;
    other_.reset();
    scene_.servers.connect(scene_.database)
        .exec("ROLLBACK PREPARED 'left-behind-" + scene_.database + "'");
    ended();
  }

 private:
  std::unique_ptr<PgClient> other_;
};

// F22: the workers lose their connections, and somebody else has all that the server has.
class ConnectionsFault final : public Fault {
 public:
  ConnectionsFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_database();
  }
  bool inject() override {
    begun();
    limit("0");
    (void)scene_.servers.primary().connect().query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'torture_worker'");
    return true;
  }
  void heal() override {
    limit("-1");
    ended();
  }

 private:
  void limit(const std::string& connections) {
    scene_.servers.primary().connect().exec("ALTER ROLE torture_worker CONNECTION LIMIT " +
                                            connections);
  }
};

// F23: locks what settles lock, in the opposite order, so that one of both has to give way.
class DeadlockFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    client_ = std::make_unique<PgClient>(scene_.servers.dsn(scene_.database));
    client_->exec("SET search_path = outbox; SET lock_timeout = '500ms'");
    return true;
  }
  void tick() override {
    try {
      client_->exec(
          "BEGIN; SELECT id FROM entries ORDER BY random() LIMIT 20 FOR UPDATE;"
          " SELECT lease_id FROM leases ORDER BY random() LIMIT 2 FOR UPDATE; COMMIT");
    } catch (const PgError& error) {
      if (error.sqlstate() == "40P01") ++deadlocks_;
      client_->exec("ROLLBACK");
    }
  }
  void heal() override {
    client_.reset();
    more_["deadlocks"] = deadlocks_;
    ended();
  }

 private:
  std::unique_ptr<PgClient> client_;
  int deadlocks_ = 0;
};

// F24: the schema becomes one that bears these workers no more, and they must connect anew.
class SchemaFault final : public Fault {
 public:
  SchemaFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_database();
  }
  bool inject() override {
    begun();
    PgClient client = scene_.servers.connect(scene_.database);
    client.exec(
        "INSERT INTO outbox.schema_version (version, name, min_worker)"
        " VALUES (999, '0999_future', 999)");
    (void)client.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = $1 AND usename = 'torture_worker'",
        {scene_.database});
    return true;
  }
  void heal() override {
    scene_.servers.connect(scene_.database)
        .exec("DELETE FROM outbox.schema_version WHERE version = 999");
    ended();
  }
};

}  // namespace

std::unique_ptr<Fault> make_session_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F19-xmin") return std::make_unique<OpenTransactionsFault>(scene, injection);
  if (kind == "F20-prepared") return std::make_unique<PreparedFault>(scene, injection);
  if (kind == "F22-connections") return std::make_unique<ConnectionsFault>(scene, injection);
  if (kind == "F23-deadlock") return std::make_unique<DeadlockFault>(scene, injection);
  if (kind == "F24-schema") return std::make_unique<SchemaFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
