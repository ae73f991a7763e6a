#include "tests/integration/worker_fixture.h"

#include <csignal>
#include <sstream>

#include "tests/integration/admin_client.h"
#include "tests/support/wait_until.h"

namespace outfall::test {

const std::string& migrated_database(TempPostgres& server) {
  static std::map<const TempPostgres*, std::string> names;
  std::string& name = names[&server];
  if (name.empty()) {
    name = "worker_template";
    const std::string dsn = server.create_database(name);
    const Finished migrated =
        run({OUTFALL_BINARY, "migrate"}, {.environment = {{"OUTFALL_DATABASE__URL", dsn}}});
    if (migrated.status.code != 0)
      throw std::runtime_error("outfall migrate: " + migrated.error_output);
  }
  return name;
}

WorkerProcess::WorkerProcess(Options options) : options_(std::move(options)), port_(free_port()) {
  std::string toml = "[database]\nurl = \"" + options_.dsn + "\"\n" + options_.database +
                     "\n[worker]\ninstance = \"" + options_.instance +
                     "\"\n[admin]\nlisten = \"127.0.0.1:" + std::to_string(port_) +
                     "\"\n[drain]\n" + options_.drain + "\n" + options_.streams;
  config_ = folder_.write("outfall.toml", toml);
  start();
}

void WorkerProcess::start() {
  std::vector<std::string> command = options_.before;
  command.insert(command.end(), {options_.program, "run", "--config", config_.string()});
  process_ = std::make_unique<ChildProcess>(
      command, ChildOptions{.environment = options_.environment, .working_folder = folder_.path()});
  process_->wait_for_output("started");
}

int WorkerProcess::stop() {
  process_->signal(SIGTERM);
  return process_->wait().code.value_or(-1);
}

void WorkerProcess::reload(const std::string& toml) {
  (void)folder_.write("outfall.toml", toml);
  process_->signal(SIGHUP);
}

std::string WorkerProcess::configuration() const {
  return read_file(config_);
}

boost::json::value WorkerProcess::status() {
  return boost::json::parse(http_get("http://127.0.0.1:" + std::to_string(port_) + "/status").body);
}

bool WorkerProcess::alive() {
  return http_get("http://127.0.0.1:" + std::to_string(port_) + "/livez").status == 200;
}

bool WorkerProcess::ready() {
  return http_get("http://127.0.0.1:" + std::to_string(port_) + "/readyz").status == 200;
}

double WorkerProcess::metric(const std::string& series) {
  std::istringstream lines(http_get("http://127.0.0.1:" + std::to_string(port_) + "/metrics").body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(series + " ")) return std::stod(line.substr(series.size() + 1));
  }
  throw std::runtime_error("there is no series " + series);
}

std::vector<boost::json::object> WorkerProcess::events(const std::string& name) const {
  std::vector<boost::json::object> result;
  if (!std::filesystem::exists(file(name))) return result;
  std::istringstream lines(read_file(file(name)));
  for (std::string line; std::getline(lines, line);) {
    // A line that is being written has no end yet.
    if (!line.empty() && line.back() == '}') result.push_back(boost::json::parse(line).as_object());
  }
  return result;
}

WorkerTest::WorkerTest(TempPostgres& server)
    : database_(migrated_database(server), server), sql_(database_.connect()) {
  sql_.exec("SET search_path = outbox");
}

std::int64_t WorkerTest::enqueue(const std::string& stream, const PgValue& key,
                                 const std::string& payload, const std::string& type) {
  return sql_.number(
      "INSERT INTO entries (stream, type, key, payload) VALUES ($1, $2, $3, $4) RETURNING id",
      {stream, type, key, payload});
}

void WorkerTest::enqueue_many(const std::string& stream, int count, int keys) {
  sql_.query(
      "INSERT INTO entries (stream, type, key, payload) "
      "SELECT $1, 'order.placed', 'key-' || (i % $3::int), json_build_object('n', i) FROM "
      "generate_series(1, $2::int) i",
      {stream, std::to_string(count), std::to_string(keys)});
}

std::int64_t WorkerTest::live(const std::string& stream) {
  return sql_.number("SELECT count(*) FROM entries WHERE stream = $1", {stream});
}

std::int64_t WorkerTest::dead_letters(const std::string& reason_code) {
  return sql_.number("SELECT count(*) FROM dead_letters WHERE reason_code = $1", {reason_code});
}

std::int64_t WorkerTest::delivered() {
  return sql_.number("SELECT coalesce(sum(entries), 0) FROM receipts");
}

void WorkerTest::wait_until_empty(const std::string& stream, std::chrono::milliseconds deadline) {
  wait_until([&] { return live(stream) == 0; }, "the stream " + stream + " is drained", deadline);
}

std::string to_file(const std::string& more_of_stream) {
  return "[streams.orders]\nemitter = \"out\"\nretry.initial = \"50ms\"\nretry.max = \"200ms\"\n" +
         more_of_stream + "\n[emitters.out]\nkind = \"stdout\"\npath = \"events\"\n";
}

}  // namespace outfall::test
