#include "tests/support/temp_postgres.h"

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <unistd.h>

#include <libpq-fe.h>

namespace outfall::test {

namespace {

std::map<std::string, std::string> default_settings(const PostgresOptions& options) {
  std::map<std::string, std::string> settings{
      {"listen_addresses", "127.0.0.1"},
      {"max_connections", "200"},
      {"max_prepared_transactions", "10"},
      {"shared_buffers", "128MB"},
      {"max_wal_size", "4GB"},
      {"log_line_prefix", "%m [%p] %q%u@%d "},
      {"timezone", "UTC"},
      {"lc_messages", "C"},
  };
  if (!options.fsync) {
    settings["fsync"] = "off";
    settings["full_page_writes"] = "off";
  }
  for (const auto& [name, value] : options.settings) {
    settings[name] = value;
  }
  return settings;
}

// The pids of a process and all that descend from it.
void append_tree(pid_t pid, std::vector<pid_t>& pids) {
  pids.push_back(pid);
  const std::string task = std::to_string(pid);
  std::ifstream children("/proc/" + task + "/task/" + task + "/children");
  for (pid_t child = 0; children >> child;) {
    append_tree(child, pids);
  }
}

std::string quoted(const std::string& value) {
  std::string result = "'";
  for (const char c : value) {
    result += c == '\'' ? "''" : std::string(1, c);
  }
  return result + "'";
}

}  // namespace

std::filesystem::path postgres_program(const std::string& name) {
  const char* folder = std::getenv("OUTFALL_TEST_POSTGRES_BIN");
  return std::filesystem::path(folder != nullptr ? folder : "/usr/lib/postgresql/15/bin") / name;
}

TempPostgres::TempPostgres(const PostgresOptions& options)
    : settings_(default_settings(options)), port_(free_port()) {
  settings_["port"] = std::to_string(port_);
  settings_["unix_socket_directories"] = folder_.path().string();
  initialise();
  start();
}

TempPostgres::TempPostgres(const TempPostgres& primary, const std::string& name, int port,
                           const PostgresOptions& options)
    : settings_(default_settings(options)), port_(free_port()) {
  settings_["port"] = std::to_string(port_);
  settings_["unix_socket_directories"] = folder_.path().string();
  settings_["primary_conninfo"] =
      "host=127.0.0.1 port=" + std::to_string(port) + " user=postgres application_name=" + name;
  give_to_server_user();
  copy_from(primary, port);
  start();
}

TempPostgres::~TempPostgres() {
  if (server_) {
    thaw();
    server_->signal(SIGQUIT);
    // What does not end by itself is killed by ~ChildProcess.
    static_cast<void>(
        holds_within([this] { return !server_->running(); }, std::chrono::seconds(10)));
  }
}

void TempPostgres::give_to_server_user() const {
  const std::filesystem::path data = folder_ / "data";
  std::filesystem::create_directory(data);
  std::filesystem::permissions(data, std::filesystem::perms::owner_all);
  const auto owner = account_for_child("postgres");
  if (!owner) return;
  for (const auto& path : {folder_.path(), data}) {
    if (::chown(path.c_str(), owner->user, owner->group) != 0) {
      throw std::runtime_error("cannot give " + path.string() + " to the user postgres");
    }
  }
}

void TempPostgres::copy_from(const TempPostgres& primary, int port) const {
  ChildOptions options;
  options.user = "postgres";
  options.working_folder = folder_.path();
  const Finished copied =
      run({postgres_program("pg_basebackup"), "-D", folder_ / "data", "-d",
           primary.dsn_at(port, "replication"), "-X", "stream", "-c", "fast", "--no-sync"},
          options, std::chrono::minutes(1));
  if (copied.status.code != 0) {
    throw std::runtime_error("pg_basebackup failed: " + copied.output + copied.error_output);
  }
  folder_.write("data/standby.signal", "");
}

void TempPostgres::initialise() {
  const std::filesystem::path data = folder_ / "data";
  give_to_server_user();
  ChildOptions options;
  options.user = "postgres";
  options.working_folder = folder_.path();
  const Finished initdb =
      run({postgres_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
           "--locale=C.UTF-8", "--no-sync", "--no-instructions"},
          options, std::chrono::minutes(2));
  if (initdb.status.code != 0) {
    throw std::runtime_error("initdb failed: " + initdb.output + initdb.error_output);
  }
  std::ofstream(data / "postgresql.conf", std::ios::app) << "include 'outfall_test.conf'\n";
}

void TempPostgres::write_settings() const {
  std::ostringstream lines;
  for (const auto& [name, value] : settings_) {
    lines << name << " = " << quoted(value) << "\n";
  }
  folder_.write("data/outfall_test.conf", lines.str());
}

void TempPostgres::start() {
  write_settings();
  ChildOptions options;
  options.user = "postgres";
  options.working_folder = folder_.path();
  options.output_file = folder_ / "server.log";
  options.error_file = folder_ / "server.log";
  options.crash_signal = SIGQUIT;
  server_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{postgres_program("postgres"), "-D", folder_ / "data"}, options);
  const std::string dsn = this->dsn() + " connect_timeout=5";
  bool ended = false;
  const bool answers = holds_within(
      [&] {
        ended = !server_->running();
        return ended || PQping(dsn.c_str()) == PQPING_OK;
      },
      std::chrono::minutes(1));
  if (ended || !answers) {
    throw std::runtime_error("PostgreSQL did not start: " + log());
  }
}

void TempPostgres::stop(StopMode mode) {
  if (!server_) {
    return;
  }
  server_->signal(mode == StopMode::fast ? SIGINT : SIGQUIT);
  server_->wait(std::chrono::minutes(1));
  server_.reset();
}

void TempPostgres::restart(StopMode mode) {
  stop(mode);
  start();
}

void TempPostgres::set(const std::string& setting, const std::string& value) {
  if (value.empty()) {
    settings_.erase(setting);
  } else {
    settings_[setting] = value;
  }
}

void TempPostgres::reload() {
  write_settings();
  PgClient admin = connect();
  const std::string before = admin.value("SELECT pg_conf_load_time()::text");
  admin.exec("SELECT pg_reload_conf()");
  wait_until([&] { return connect().value("SELECT pg_conf_load_time()::text") != before; },
             "PostgreSQL to reload its settings");
}

void TempPostgres::restart_read_only(bool read_only) {
  set("default_transaction_read_only", read_only ? "on" : "");
  restart();
}

void TempPostgres::promote() {
  PgClient admin = connect();
  if (admin.value("SELECT pg_promote(true, 60)") != "t") {
    throw std::runtime_error("PostgreSQL was not promoted: " + log());
  }
  settings_.erase("primary_conninfo");
}

void TempPostgres::signal_all(int number) const {
  std::vector<pid_t> pids;
  append_tree(server_->pid(), pids);
  for (const pid_t pid : pids) {
    ::kill(pid, number);
  }
}

void TempPostgres::freeze() {
  // The postmaster first, so that it starts nothing while its children are being stopped.
  server_->signal(SIGSTOP);
  signal_all(SIGSTOP);
}

void TempPostgres::thaw() {
  if (server_ && server_->running()) {
    signal_all(SIGCONT);
  }
}

std::string TempPostgres::dsn(const std::string& database, const std::string& user) const {
  return dsn_at(port_, database, user);
}

std::string TempPostgres::dsn_at(int port, const std::string& database,
                                 const std::string& user) const {
  return "host=127.0.0.1 port=" + std::to_string(port) + " dbname=" + database + " user=" + user;
}

std::string TempPostgres::socket_dsn(const std::string& database, const std::string& user) const {
  return "host=" + folder_.path().string() + " port=" + std::to_string(port_) +
         " dbname=" + database + " user=" + user;
}

PgClient TempPostgres::connect(const std::string& database) const {
  return PgClient(socket_dsn(database));
}

std::string TempPostgres::log(std::size_t from) const {
  std::ifstream in(folder_ / "server.log", std::ios::binary);
  in.seekg(static_cast<std::streamoff>(from));
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string TempPostgres::create_database(const std::string& name, const std::string& from) {
  connect().exec("CREATE DATABASE \"" + name + "\" TEMPLATE \"" + from + "\"");
  return dsn(name);
}

TempPostgres& shared_postgres() {
  static TempPostgres server;
  return server;
}

TestDatabase::TestDatabase(const std::string& from, TempPostgres& server) : server_(server) {
  static std::atomic<int> count{0};
  name_ = "test_" + std::to_string(++count);
  dsn_ = server_.create_database(name_, from);
}

TestDatabase::~TestDatabase() {
  try {
    server_.connect().exec("DROP DATABASE IF EXISTS \"" + name_ + "\" WITH (FORCE)");
  } catch (const PgError&) {
    // A test may end with the server stopped; then the database goes with its folder.
  }
}

}  // namespace outfall::test
