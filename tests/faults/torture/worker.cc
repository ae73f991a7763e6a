#include "tests/faults/torture/worker.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/faults/torture/counters.h"
#include "tests/integration/admin_client.h"
#include "tests/support/temp_folder.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds kStopDeadline{30'000};
constexpr std::int64_t kLongestSettleUs = 120'000'000;

std::string joined(const std::vector<int>& ports, const std::string& each) {
  std::string result;
  for (const int port : ports) {
    result += (result.empty() ? "" : ",") + (each.empty() ? std::to_string(port) : each);
  }
  return result;
}

// "2026-11-21T09:36:50.993Z"
std::optional<std::int64_t> parse_time(std::string_view text) {
  std::tm fields{};
  int ms = 0;
  const std::string copy(text);
  if (std::sscanf(copy.c_str(), "%d-%d-%dT%d:%d:%d.%dZ", &fields.tm_year, &fields.tm_mon,
                  &fields.tm_mday, &fields.tm_hour, &fields.tm_min, &fields.tm_sec, &ms) != 7)
    return std::nullopt;
  fields.tm_year -= 1900;
  fields.tm_mon -= 1;
  const auto time =
      std::chrono::system_clock::from_time_t(::timegm(&fields)) + std::chrono::milliseconds(ms);
  return monotonic_us(time);
}

std::int64_t number_in(const json::object& line, std::string_view name) {
  const json::value* value = line.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<std::int64_t>() : 0;
}

// What the checker wants to know of a line, or nothing.
std::optional<json::object> event_of(const json::object& line) {
  const std::string_view message = line.at("msg").as_string();
  json::object event;
  if (message == "outcome") {
    event = {{"f", "outcome"}, {"id", line.at("envelope_id")}, {"outcome", line.at("outcome")}};
  } else if (message == "claimed") {
    event = {{"f", "claimed"},
             {"lease_no", number_in(line, "lease_no")},
             {"count", number_in(line, "entries")}};
  } else if (message == "settled") {
    event = {{"f", "settled"},
             {"delivered", number_in(line, "delivered")},
             {"others", number_in(line, "others") + number_in(line, "returned")}};
  } else if (message.starts_with("the lease was taken over before")) {
    event = {{"f", "stale"}, {"count", number_in(line, "delivered")}};
  } else {
    return std::nullopt;
  }
  event["lease"] = line.at("lease_id");
  return event;
}

}  // namespace

Worker::Worker(Options options, History& history)
    : options_(std::move(options)), history_(history) {
  for (const int port : options_.server_ports)
    gates_.push_back(std::make_unique<test::TcpGate>(port));
}

Worker::~Worker() = default;

void Worker::start(const std::map<std::string, std::string>& environment) {
  std::vector<int> ports;
  for (const auto& gate : gates_) ports.push_back(gate->port());
  const std::string toml = fmt::format(
      "[database]\nurl = \"host={} port={} dbname={} user=torture_worker\"\n{}"
      // A partition is noticed within a few seconds instead of a dozen.
      "statement_timeout = \"2s\"\nclaim_timeout = \"1s\"\nconnect_timeout = \"2s\"\n"
      "[worker]\ninstance = \"{}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
      "[log]\nlevel = \"{}\"\nformat = \"json\"\n{}",
      joined(ports, "127.0.0.1"), joined(ports, ""), options_.database,
      options_.pooler ? "pooler = \"transaction\"\n" : "", instance(), options_.log_level,
      options_.settings);
  const std::filesystem::path config = options_.folder / (options_.name + ".toml");
  std::ofstream(config) << toml;
  log_ = options_.folder / (options_.name + ".log");
  log_start_ = std::filesystem::exists(log_) ? std::filesystem::file_size(log_) : 0;
  const std::vector<std::string> command = {options_.outfall, "run", "--config", config.string()};
  std::map<std::string, std::string> all = environment;
  all.insert(options_.environment.begin(), options_.environment.end());
  process_ = std::make_unique<test::ChildProcess>(
      command, test::ChildOptions{.environment = all,
                                  .working_folder = options_.folder,
                                  .output_file = options_.folder / (options_.name + ".out"),
                                  .error_file = log_});
  expected_ = false;
  admin_address_.clear();
  last_end_.reset();
  history_.worker(options_.name, "started");
}

pid_t Worker::pid() const {
  return process_ ? process_->pid() : 0;
}

void Worker::ended(test::ExitStatus status) {
  if (status.signal == SIGKILL) {
    history_.worker(options_.name, "killed", SIGKILL);
  } else {
    history_.worker(options_.name, "exited", status.code.value_or(-status.signal.value_or(0)));
  }
  // An orderly end, too, is none that a worker may come to by itself.
  if (!expected_ && status != tolerated_) crash_ = status.to_string();
  last_end_ = status;
  process_.reset();
}

void Worker::kill() {
  if (!process_) return;
  expected_ = true;
  ended(process_->kill());
}

void Worker::terminate() {
  if (!process_) return;
  expected_ = true;
  history_.worker(options_.name, "terminated");
  process_->signal(SIGTERM);
}

void Worker::pause() {
  if (process_) process_->signal(SIGSTOP);
}

void Worker::resume() {
  if (process_) process_->signal(SIGCONT);
}

void Worker::freeze() {
  if (!process_) return;
  process_->signal(SIGSTOP);
  history_.worker(options_.name, "frozen");
}

void Worker::thaw() {
  if (!process_) return;
  process_->signal(SIGCONT);
  history_.worker(options_.name, "thawed");
}

bool Worker::gone() {
  if (!process_) return true;
  if (process_->running()) return false;
  ended(process_->wait());
  return true;
}

int Worker::stop() {
  if (!process_) return 0;
  if (!expected_) terminate();
  return await_end();
}

int Worker::await_end() {
  if (!process_) return 0;
  try {
    const test::ExitStatus status = process_->wait(kStopDeadline);
    ended(status);
    return status.code.value_or(-1);
  } catch (const test::TimedOut&) {
    kill();
    return -1;
  }
}

bool Worker::logged(const std::string& text) const {
  return std::filesystem::exists(log_) &&
         test::read_file(log_).find(text, log_start_) != std::string::npos;
}

bool Worker::logged_since(std::size_t length, const std::string& text) const {
  std::ifstream in(log_, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(length));
  return std::string(std::istreambuf_iterator<char>(in), {}).find(text) != std::string::npos;
}

std::size_t Worker::log_length() const {
  std::error_code missing;
  const auto length = std::filesystem::file_size(log_, missing);
  return missing ? 0 : length;
}

// It takes any port that is free, and logs which as soon as it is up.
const std::string& Worker::admin_address() {
  static const std::string kNone;
  if (!admin_address_.empty()) return admin_address_;
  const std::string text = test::read_file(log_);
  const std::size_t line = text.find("\"admin server listens\"", log_start_);
  if (line == std::string::npos) return kNone;
  const std::string name = "\"address\":\"";
  const std::size_t begin = text.find(name, line);
  const std::size_t end = text.find('\n', line);
  if (begin == std::string::npos || end == std::string::npos || begin > end) return kNone;
  const std::size_t value = begin + name.size();
  return admin_address_ = text.substr(value, text.find('"', value) - value);
}

void Worker::tell_counters() {
  if (gone()) return;
  // One that has just been started may not be that far.
  std::string address;
  test::wait_until([&] { return !(address = admin_address()).empty(); },
                   options_.name + " to log the address of its admin server");
  const test::AdminAnswer answer = test::http_get("http://" + address + "/metrics");
  if (answer.status != 200) throw std::runtime_error(options_.name + " does not tell its metrics");
  for (json::object& counter : counters_in(answer.body)) {
    counter["worker"] = options_.name;
    history_.add(std::move(counter));
  }
}

std::optional<std::string> Worker::metrics() {
  constexpr std::chrono::milliseconds kAnswersWithin{1000};
  if (!process_ || frozen() || !std::filesystem::exists(log_) || admin_address().empty())
    return std::nullopt;
  try {
    const test::AdminAnswer answer = test::http_call(
        {.url = "http://" + admin_address() + "/metrics", .deadline = kAnswersWithin});
    return answer.status == 200 ? std::optional(answer.body) : std::nullopt;
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
}

bool Worker::frozen() const {
  if (!process_) return false;
  std::ifstream stat("/proc/" + std::to_string(process_->pid()) + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end + 2, 1, "T") == 0;
}

// A clock that jumped was right for some of the time. All that is logged happened a moment ago, and
// a time that lies minutes off is of the wrong clock.
std::int64_t Worker::by_right_clock(std::int64_t at_us) const {
  const std::int64_t ahead_us = std::chrono::microseconds(clock_ahead_).count();
  const std::int64_t now = now_us();
  return std::abs(at_us - ahead_us - now) < std::abs(at_us - now) ? at_us - ahead_us : at_us;
}

bool Worker::logs_by_wrong_clock() const {
  const std::string text = test::read_file(log_);
  const std::string name = "\"ts\":\"";
  const std::size_t last = text.rfind(name);
  if (last == std::string::npos) return false;
  const std::size_t begin = last + name.size();
  const auto at = parse_time(std::string_view(text).substr(begin, text.find('"', begin) - begin));
  return at && by_right_clock(*at) != *at;
}

void Worker::collect_log() {
  if (log_.empty() || !std::filesystem::exists(log_)) return;
  const std::string text = test::read_file(log_);
  while (true) {
    const std::size_t end = text.find('\n', log_read_);
    if (end == std::string::npos) return;
    const std::string_view line = std::string_view(text).substr(log_read_, end - log_read_);
    log_read_ = end + 1;
    json::error_code error;
    const json::value value = json::parse(line, error);
    if (error || !value.is_object()) continue;
    auto event = event_of(value.as_object());
    const auto at = parse_time(value.at("ts").as_string());
    if (!event || !at) continue;
    // Milliseconds are cut off; nothing of it happened before that.
    constexpr std::int64_t kRestOfMillisecondUs = 999;
    const std::int64_t at_us = by_right_clock(*at);
    (*event)["at_us"] = at_us + kRestOfMillisecondUs;
    // Nothing of a settle happened before its outcomes were taken. A clock that jumps, or one that
    // is bent, tells nonsense.
    const std::int64_t took_us = number_in(value.get_object(), "took_us");
    if (event->at("f") == "settled" && took_us > 0 && took_us < kLongestSettleUs &&
        clock_ahead_.count() == 0)
      (*event)["begun_us"] = at_us - took_us;
    (*event)["worker"] = options_.name;
    history_.add(std::move(*event));
  }
}

}  // namespace outfall::torture
