// What a receipt costs when it is written, against one plain row an entry, and how long it takes to
// find a delivery among those of a week.
#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point begun) {
  return std::chrono::duration<double>(steady_clock::now() - begun).count();
}

// Writing.

// The same facts as a receipt, a row an entry, indexed for the same questions.
constexpr auto kPlainTable = R"(
CREATE SCHEMA bench;
CREATE TABLE bench.delivered (
  delivered_at timestamptz NOT NULL, entry_id bigint NOT NULL, envelope_id uuid NOT NULL,
  stream text NOT NULL, key text, type text NOT NULL, attempts int NOT NULL,
  created_at timestamptz NOT NULL, provider text NOT NULL, record_id text);
CREATE INDEX ON bench.delivered (delivered_at);
CREATE INDEX ON bench.delivered (entry_id);
CREATE INDEX ON bench.delivered (envelope_id);
CREATE FUNCTION bench.settle_rows(p_leased int8multirange, p_ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
  v_count bigint;
BEGIN
  WITH gone AS (
    DELETE FROM outbox.entries e
     WHERE e.id BETWEEN p_ids[1] AND p_ids[cardinality(p_ids)] AND e.id <@ p_leased
    RETURNING e.id, e.envelope_id, e.stream, e.key, e.type, e.attempts, e.created_at)
  INSERT INTO bench.delivered
  SELECT clock_timestamp(), g.id, g.envelope_id, g.stream, g.key, g.type, g.attempts + 1, g.created_at, 'noop', NULL
    FROM gone g;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END;
$$;
)";

enum class Way : std::uint8_t { nothing, rows, receipt };

// $1: the lease's ids, $2: the delivered ones.
std::string_view settle_call(Way way) {
  switch (way) {
    case Way::nothing:
      return "SELECT outbox.settle_delivered('orders', $1, 'noop', false, $2, NULL, "
             "clock_timestamp())";
    case Way::rows:
      return "SELECT bench.settle_rows($1, $2)";
    case Way::receipt:
      return "SELECT outbox.settle_delivered('orders', $1, 'noop', true, $2, NULL, "
             "clock_timestamp())";
  }
  return {};
}

struct Cost {
  double microseconds = 0;  // per entry
  double bytes = 0;         // per entry, with indexes
};

class SettleCosts {
 public:
  SettleCosts(const Options& options, Server& server, Report& report)
      : options_(options), report_(report), database_(server.create()) {}

  void run() {
    const std::int64_t scale = options_.pick(4, 1, 0);
    const std::array cases{std::pair{1, 2000 * scale}, std::pair{10, 800 * scale},
                           std::pair{100, 200 * scale}, std::pair{1000, 50 * scale}};
    std::int64_t entries = 0;
    for (const auto& [size, settles] : cases)
      entries += 3 * size * std::max<std::int64_t>(settles, 1);
    preload(*database_, {.entries = entries * options_.rounds()});
    client_.exec(kPlainTable);
    client_.exec("SET synchronous_commit = off");
    std::map<int, std::vector<Measurement>> times, bytes;
    for (int round = 0; round < options_.rounds(); ++round) {
      for (const auto& [size, count] : cases) {
        const std::int64_t settles = std::max<std::int64_t>(count, 1);
        const Cost nothing = measure(Way::nothing, size, settles);
        const Cost rows = measure(Way::rows, size, settles);
        const Cost receipt = measure(Way::receipt, size, settles);
        times[size].push_back({.benchmark = "receipts",
                               .name = fmt::format("settle of {}, receipt to rows", size),
                               .value = receipt.microseconds,
                               .unit = "us/entry",
                               .floor = rows.microseconds,
                               .note = fmt::format("{:.2f} without either", nothing.microseconds)});
        bytes[size].push_back({.benchmark = "receipts",
                               .name = fmt::format("size at {} a settle, receipt to rows", size),
                               .value = receipt.bytes,
                               .unit = "bytes/entry",
                               .floor = rows.bytes});
      }
    }
    for (auto& [size, rounds] : times) report_.add(median_by_ratio(std::move(rounds)));
    for (auto& [size, rounds] : bytes) report_.add(median_by_ratio(std::move(rounds)));
  }

 private:
  std::int64_t stored_bytes() {
    return client_.number(
        "SELECT sum(pg_total_relation_size(r)) FROM (SELECT 'bench.delivered'::regclass AS r "
        "UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.receipts'::regclass) "
        "t");
  }

  // Settles the next entries of the table, `size` at a time, a round trip and transaction each.
  Cost measure(Way way, int size, std::int64_t settles) {
    const std::string call(settle_call(way));
    const std::int64_t before = stored_bytes();
    const auto begun = steady_clock::now();
    for (std::int64_t i = 0; i < settles; ++i) {
      std::string ids;
      for (int j = 0; j < size; ++j) ids += fmt::format("{}{}", j == 0 ? "{" : ",", next_ + j);
      const std::string leased = fmt::format("{{[{},{}]}}", next_, next_ + size - 1);
      if (client_.number(call, {leased, ids + "}"}) != size) {
        throw std::runtime_error("a settle did not find its entries");
      }
      next_ += size;
    }
    const double entries = static_cast<double>(settles * size);
    return {seconds_since(begun) / entries * 1e6,
            static_cast<double>(stored_bytes() - before) / entries};
  }

  const Options& options_;
  Report& report_;
  std::unique_ptr<Database> database_;
  test::PgClient client_ = database_->connect();
  std::int64_t next_ = 1;
};

// Finding.

constexpr int kDays = 7;

// One day's deliveries, spread evenly over it, each created 5 ms to a few seconds before: a third
// each in receipts of 10, 100 and 1,000 entries. Nine of ten envelope ids are time-ordered, the
// tenth is a random one that the producer made.
constexpr auto kFillDay = R"(
INSERT INTO outbox.receipts (delivered_at, first_id, last_id, first_created, last_created, entries, stream, provider,
                             id_offsets, envelope_ids, created_offsets, attempts, types, keys, record_ids)
SELECT b.delivered_at, a.first_id, a.last_id, a.first_created, a.last_created, a.entries, 'orders', 'kafka',
       a.id_offsets, a.envelope_ids, a.created_offsets, a.attempts, a.types, a.keys, a.record_ids
  FROM (SELECT s.first, s.first + s.size - 1 AS last,
               $1::timestamptz + (s.first + s.size) * $3::float8 * interval '1 second' AS delivered_at
          FROM (SELECT block * 3000 + CASE WHEN n = 0 THEN 0 WHEN n <= 10 THEN 1000 + (n - 1) * 100
                                           ELSE 2000 + (n - 11) * 10 END AS first,
                       CASE WHEN n = 0 THEN 1000 WHEN n <= 10 THEN 100 ELSE 10 END AS size
                  FROM generate_series(0, $2::bigint / 3000 - 1) block, generate_series(0, 110) n) s) b
 CROSS JOIN LATERAL (
   SELECT min(e.id) AS first_id, max(e.id) AS last_id, min(e.created) AS first_created, max(e.created) AS last_created,
          count(*) AS entries, array_agg((e.id - $4::bigint - b.first)::int) AS id_offsets,
          array_agg(CASE WHEN e.id % 10 = 0
                         THEN substr(e.h, 1, 12) || '4' || substr(e.h, 14, 3) || 'a' || substr(e.h, 18)
                         ELSE lpad(to_hex((date_part('epoch', e.created) * 1000)::bigint), 12, '0')
                              || '7' || substr(e.h, 14, 3) || 'a' || substr(e.h, 18) END::uuid) AS envelope_ids,
          array_agg((date_part('epoch', b.delivered_at - e.created) * 1000)::int) AS created_offsets,
          array_agg(1) AS attempts, array_agg('order.created'::text) AS types,
          array_agg('customer-' || e.id * 7919 % 10000) AS keys,
          array_agg(e.id % 4 || ':' || e.id / 4) AS record_ids
     FROM (SELECT $4::bigint + i AS id, md5(($4::bigint + i)::text) AS h,
                  $1::timestamptz + i * $3::float8 * interval '1 second' - interval '5 milliseconds' AS created
             FROM generate_series(b.first, b.last) i) e) a
)";

class Lookups {
 public:
  Lookups(const Options& options, Server& server, Report& report)
      : options_(options),
        report_(report),
        per_day_(options.pick<std::int64_t>(9'999'000, 999'000, 3000)),
        database_(server.create()) {}

  void run() {
    fill();
    const std::string week = fmt::format("{} x {}", kDays, per_day_);
    add(fmt::format("an hour of {}", week), slowest([this] {
          const std::int64_t hour = draw(0, kDays * 24 - 1);
          expect(per_day_ / 24,
                 client_.number("SELECT count(d.entry_id) FROM (SELECT * FROM outbox.delivered "
                                " WHERE delivered_at >= $1::timestamptz + $2 * interval '1 hour' "
                                "   AND delivered_at < $1::timestamptz + ($2 + 1) * interval '1 "
                                "hour' OFFSET 0) d",
                                {first_day_, std::to_string(hour)}),
                 1100);
        }));
    add(fmt::format("an entry id of {}", week), slowest([this] {
          find("SELECT count(*) FROM outbox.find_delivered(p_entry_id => $1)",
               std::to_string(draw(1, kDays * per_day_)));
        }));
    add(fmt::format("a time-ordered envelope id of {}", week), slowest([this] {
          find("SELECT count(*) FROM outbox.find_delivered(p_envelope_id => $1)",
               envelope_of(draw(0, kDays * per_day_ / 10 - 1) * 10 + 3));
        }));
    add(fmt::format("a foreign envelope id of {}", week), slowest([this] {
          find("SELECT count(*) FROM outbox.find_delivered(p_envelope_id => $1)",
               envelope_of(draw(1, kDays * per_day_ / 10) * 10));
        }));
    add(fmt::format("a foreign envelope id that is not there, of {}", week), time_of([this] {
          expect(0,
                 client_.number("SELECT count(*) FROM outbox.find_delivered(p_envelope_id => "
                                "'00000000-0000-4000-8000-000000000000')"),
                 0);
        }));
  }

 private:
  void fill() {
    Report::progress(fmt::format("writing receipts of {} days, {} entries each", kDays, per_day_));
    client_.exec("SET synchronous_commit = off; SET timezone = 'UTC'; SET jit = off");
    first_day_ = client_.value(
        fmt::format("SELECT (date_trunc('day', now()) - interval '{} days')::text", kDays));
    for (int day = 0; day < kDays; ++day) {
      const std::string from =
          client_.value("SELECT ($1::timestamptz + $2 * interval '1 day')::text",
                        {first_day_, std::to_string(day)});
      client_.exec(
          fmt::format("CREATE TABLE outbox.receipts_day_{0} PARTITION OF outbox.receipts "
                      "FOR VALUES FROM ('{1}') TO ('{1}'::timestamptz + interval '1 day')",
                      day, from));
      client_.change(kFillDay, {from, std::to_string(per_day_),
                                fmt::format("{:.9f}", 86'400.0 / static_cast<double>(per_day_ + 1)),
                                std::to_string(day * per_day_ + 1)});
    }
    client_.exec("VACUUM (ANALYZE) outbox.receipts");
    client_.exec("CHECKPOINT");
    const std::int64_t bytes = client_.number(
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits "
        " WHERE inhparent = 'outbox.receipts'::regclass");
    report_.add({.benchmark = "receipts",
                 .name = fmt::format("size of {} days of {}", kDays, per_day_),
                 .value = static_cast<double>(bytes) / static_cast<double>(kDays * per_day_),
                 .unit = "bytes/entry",
                 .note = fmt::format("{} MiB", bytes >> 20)});
  }

  std::int64_t draw(std::int64_t from, std::int64_t to) {
    return std::uniform_int_distribution<std::int64_t>(from, to)(random_);
  }

  std::string envelope_of(std::int64_t entry_id) {
    return client_.value(
        "SELECT r.envelope_ids[array_position(r.id_offsets, ($1 - r.first_id)::int)]::text "
        "  FROM outbox.receipts r WHERE r.first_id <= $1 AND r.last_id >= $1 "
        "   AND r.last_id < $1::bigint + 1000",
        {std::to_string(entry_id)});
  }

  static void expect(std::int64_t wanted, std::int64_t found, std::int64_t slack) {
    if (std::abs(wanted - found) > slack) {
      throw std::runtime_error(fmt::format("{} deliveries found instead of {}", found, wanted));
    }
  }

  // The clock runs for the search alone: what is searched for has been looked up before.
  void find(const std::string& query, const std::string& id) {
    begun_ = steady_clock::now();
    expect(1, client_.number(query, {id}), 0);
  }

  template <typename Search>
  double time_of(Search search) {
    begun_ = steady_clock::now();
    search();
    return seconds_since(begun_);
  }

  template <typename Search>
  double slowest(Search search) {
    double worst = 0;
    for (int i = 0; i < options_.pick(10, 5, 2); ++i) worst = std::max(worst, time_of(search));
    return worst;
  }

  void add(const std::string& name, double seconds) {
    report_.add({.benchmark = "receipts", .name = name, .value = seconds, .unit = "s"});
  }

  const Options& options_;
  Report& report_;
  const std::int64_t per_day_;
  std::unique_ptr<Database> database_;
  test::PgClient client_ = database_->connect();
  std::string first_day_;
  steady_clock::time_point begun_;
  std::mt19937_64 random_{20240229};
};

}  // namespace

void run_receipts(const Options& options, Report& report) {
  Server server(options);
  SettleCosts(options, server, report).run();
  Lookups(options, server, report).run();
}

}  // namespace outfall::bench
