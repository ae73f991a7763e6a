#include "tests/support/temp_pgbouncer.h"

#include <sstream>
#include <stdexcept>

#include <libpq-fe.h>

namespace outfall::test {

TempPgBouncer::TempPgBouncer(const TempPostgres& server,
                             const std::map<std::string, std::string>& settings,
                             const std::vector<std::string>& users)
    : server_(server), port_(free_port()) {
  settings_ = {
      {"listen_addr", "127.0.0.1"},
      {"listen_port", std::to_string(port_)},
      {"unix_socket_dir", ""},
      {"auth_type", "trust"},
      {"auth_file", (folder_ / "users.txt").string()},
      {"admin_users", "postgres"},
      {"pool_mode", "transaction"},
      {"default_pool_size", "20"},
      {"max_client_conn", "500"},
  };
  for (const auto& [name, value] : settings) {
    settings_[name] = value;
  }
  write_settings(server.port());
  std::ostringstream list;
  for (const std::string& user : users) {
    list << '"' << user << "\" \"\"\n";
  }
  folder_.write("users.txt", list.str());
  start();
}

void TempPgBouncer::write_settings(int server_port) const {
  std::ostringstream file;
  file << "[databases]\n* = host=127.0.0.1 port=" << server_port << "\n\n[pgbouncer]\n";
  for (const auto& [name, value] : settings_) {
    file << name << " = " << value << "\n";
  }
  folder_.write("pgbouncer.ini", file.str());
}

void TempPgBouncer::lead_to(int server_port) {
  write_settings(server_port);
  PgClient(dsn("pgbouncer")).exec("RELOAD");
}

void TempPgBouncer::start() {
  ChildOptions options;
  options.user = "postgres";
  options.working_folder = folder_.path();
  process_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{"/usr/sbin/pgbouncer", folder_ / "pgbouncer.ini"}, options);
  const std::string dsn = this->dsn("pgbouncer");
  bool ended = false;
  const bool answers = holds_within(
      [&] {
        ended = !process_->running();
        return ended || PQping(dsn.c_str()) == PQPING_OK;
      },
      kDefaultDeadline);
  if (ended || !answers) {
    throw std::runtime_error("PgBouncer did not start: " + log());
  }
}

void TempPgBouncer::stop() {
  if (process_) {
    process_->signal(SIGTERM);  // immediate: client connections end at once
    process_->wait();
    process_.reset();
  }
}

std::string TempPgBouncer::dsn(const std::string& database, const std::string& user) const {
  return server_.dsn_at(port_, database, user);
}

}  // namespace outfall::test
