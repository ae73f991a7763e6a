// A shop that places orders from several sessions at once; see README.md.
#include <atomic>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <libpq-fe.h>

namespace {

struct Options {
  std::string url;
  std::string ledger;
  int sessions = 8;
  int orders = 10000;
  int customers = 500;
  int rollback_percent = 10;
};

// What became of every order: one line `committed|rolled_back <customer> <number> <envelope id>`,
// written after the server has confirmed it.
class Ledger {
 public:
  explicit Ledger(const std::string& path) : file_(path, std::ios::app) {
    if (!file_) throw std::runtime_error("cannot write to " + path);
  }

  void add(bool committed, const std::string& customer, const std::string& number,
           const std::string& envelope_id) {
    const std::lock_guard lock(mutex_);
    file_ << (committed ? "committed" : "rolled_back") << '\t' << customer << '\t' << number << '\t'
          << envelope_id << '\n';
    ++(committed ? committed_ : rolled_back_);
  }

  void close() {
    file_.close();
    if (!file_) throw std::runtime_error("the ledger is not complete");
  }

  [[nodiscard]] int committed() const { return committed_; }
  [[nodiscard]] int rolled_back() const { return rolled_back_; }

 private:
  std::mutex mutex_;
  std::ofstream file_;
  int committed_ = 0;
  int rolled_back_ = 0;
};

class Session {
 public:
  explicit Session(const std::string& url) : connection_(PQconnectdb(url.c_str()), PQfinish) {
    if (PQstatus(connection_.get()) != CONNECTION_OK) fail();
  }

  // The first column of the first row; empty where there is none.
  std::string run(const char* sql, const std::vector<std::string>& values = {}) {
    std::vector<const char*> pointers;
    for (const std::string& value : values) pointers.push_back(value.c_str());
    const std::unique_ptr<PGresult, decltype(&PQclear)> result(
        PQexecParams(connection_.get(), sql, static_cast<int>(values.size()), nullptr,
                     pointers.data(), nullptr, nullptr, 0),
        PQclear);
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) fail();
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

 private:
  [[noreturn]] void fail() { throw std::runtime_error(PQerrorMessage(connection_.get())); }

  std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
};

// The business change and its outbox entry, in one transaction.
void place_order(Session& session, const std::string& customer, int cents, bool commit,
                 Ledger& ledger) {
  session.run("BEGIN");
  const std::string number = session.run(
      "UPDATE customers SET orders = orders + 1 WHERE name = $1 RETURNING orders", {customer});
  session.run("INSERT INTO orders (customer, number, cents) VALUES ($1, $2, $3)",
              {customer, number, std::to_string(cents)});
  const std::string payload =
      fmt::format(R"({{"customer":"{}","number":{},"cents":{}}})", customer, number, cents);
  const std::string envelope_id = session.run(
      "SELECT outbox.enqueue('orders', 'order.placed', $1, p_key => $2, p_source => '/shop')",
      {payload, customer});
  session.run(commit ? "COMMIT" : "ROLLBACK");
  ledger.add(commit, customer, number, envelope_id);
}

void work(const Options& options, std::atomic<int>& left, Ledger& ledger) {
  Session session(options.url);
  std::mt19937 random(std::random_device{}());
  std::uniform_int_distribution<int> customer(1, options.customers);
  std::uniform_int_distribution<int> cents(100, 99999);
  std::uniform_int_distribution<int> percent(1, 100);
  while (left.fetch_sub(1) > 0) {
    place_order(session, fmt::format("customer-{}", customer(random)), cents(random),
                percent(random) > options.rollback_percent, ledger);
  }
}

void make_customers(const Options& options) {
  Session session(options.url);
  session.run(
      "INSERT INTO customers (name) SELECT 'customer-' || n FROM generate_series(1, $1::int) n "
      "ON CONFLICT DO NOTHING",
      {std::to_string(options.customers)});
}

void run_shop(const Options& options) {
  make_customers(options);
  Ledger ledger(options.ledger);
  std::atomic<int> left{options.orders};
  std::mutex mutex;
  std::exception_ptr failure;
  std::vector<std::thread> threads;
  for (int i = 0; i < options.sessions; ++i) {
    threads.emplace_back([&] {
      try {
        work(options, left, ledger);
      } catch (...) {
        left = 0;
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  ledger.close();
  fmt::print("{{\"committed\":{},\"rolled_back\":{}}}\n", ledger.committed(), ledger.rolled_back());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("A shop that places orders with their outbox entries from several sessions at once");
  app.add_option("--url", options.url, "The shop's database")->required();
  app.add_option("--ledger", options.ledger, "Where every order's end is appended")->required();
  app.add_option("--sessions", options.sessions)->check(CLI::Range(1, 100));
  app.add_option("--orders", options.orders)->check(CLI::Range(1, 10'000'000));
  app.add_option("--customers", options.customers)->check(CLI::Range(1, 1'000'000));
  app.add_option("--rollback-percent", options.rollback_percent)->check(CLI::Range(0, 100));
  CLI11_PARSE(app, argc, argv);
  try {
    run_shop(options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "outfall_sample_orders: {}\n", error.what());
    return 1;
  }
}
