#include "tests/bench/producers.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "tests/bench/clock.h"
#include "tests/bench/server.h"
#include "tests/support/pg_client.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;

constexpr int kConnections = 8;
constexpr int kPayloadBytes = 450;

std::string payload_of(std::int64_t number) {
  std::string json = fmt::format("{{\"order\":{},\"lines\":\"", number);
  json.append(kPayloadBytes - 2 - json.size(), 'x');
  return json + "\"}";
}

class Producers {
 public:
  Producers(const std::string& dsn, const Load& load)
      : dsn_(dsn),
        load_(load),
        count_(static_cast<std::int64_t>(load.transactions_per_second * load.seconds)) {
    for (int i = 0; i < kConnections; ++i) threads_.emplace_back([this, i] { run(i); });
  }
  ~Producers() { join(); }
  Producers(const Producers&) = delete;
  Producers& operator=(const Producers&) = delete;

  [[nodiscard]] bool done() const { return running_ == 0; }

  std::vector<Commit> finish() {
    join();
    if (failure_) std::rethrow_exception(failure_);
    return std::move(commits_);
  }

 private:
  void join() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  [[nodiscard]] std::string put_statement() const {
    std::string rows;
    for (int i = 0; i < load_.entries; ++i) {
      rows += fmt::format("{}($3, 'order.created', $1, $2, nullif('{}', '')::jsonb)",
                          i == 0 ? "" : ", ", load_.headers);
    }
    return "PREPARE put (text, json, text) AS "
           "INSERT INTO outbox.entries (stream, type, key, payload, headers) VALUES " +
           rows + " RETURNING id, envelope_id";
  }

  void run(int connection) {
    std::vector<Commit> mine;
    try {
      test::PgClient client(dsn_);
      client.exec(put_statement());
      for (std::int64_t i = connection; i < count_; i += kConnections) {
        wait_until_time(begin_ +
                        std::chrono::nanoseconds(static_cast<std::int64_t>(
                            static_cast<double>(i) / load_.transactions_per_second * 1e9)));
        const auto key = static_cast<int>(i * 7919 % load_.keys);
        const test::PgRows rows =
            client.query(fmt::format("EXECUTE put ('customer-{}', '{}', '{}')", key, payload_of(i),
                                     stream_name(key % load_.streams, load_.streams)));
        const auto now = std::chrono::system_clock::now();
        for (const test::PgRow& row : rows)
          mine.push_back({std::stoll(*row[0]), *row[1], now, key});
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    commits_.insert(commits_.end(), mine.begin(), mine.end());
    --running_;
  }

  const std::string dsn_;
  const Load load_;
  const std::int64_t count_;  // transactions
  const steady_clock::time_point begin_ = steady_clock::now() + std::chrono::milliseconds(200);
  std::atomic<int> running_ = kConnections;
  std::mutex mutex_;
  std::vector<Commit> commits_;  // guarded by mutex_
  std::exception_ptr failure_;   // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace

std::vector<Commit> produce(
    const std::string& dsn, const Load& load,
    const std::function<void(const std::function<bool()>& done)>& meanwhile) {
  Producers producers(dsn, load);
  meanwhile([&] { return producers.done(); });
  return producers.finish();
}

}  // namespace outfall::bench
