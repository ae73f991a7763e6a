#include "tests/faults/torture/load.h"

#include <algorithm>
#include <exception>

#include <fmt/format.h>

namespace outfall::torture {

using std::chrono::milliseconds;
using test::PgClient;
using test::PgError;

namespace {

std::string new_id(std::mt19937_64& engine) {
  const std::uint64_t high = engine();
  const std::uint64_t low = engine();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32U, (high >> 16U) & 0xFFFFU,
                     high & 0xFFFU, 0x8000U | (low >> 50U), low & 0xFFFFFFFFFFFFU);
}

// One to three, and one transaction of ten is rolled back.
constexpr double kCommittedByTransaction = 2 * 0.9;

bool one_in(std::mt19937_64& engine, std::uint64_t n) {
  return engine() % n == 0;
}

// Whether a COMMIT that failed in this way has certainly not taken effect. What ends the session
// may have come between the commit and its answer.
bool certainly_not_committed(const PgError& error) {
  const std::string& state = error.sqlstate();
  return !state.empty() && !state.starts_with("57") && !state.starts_with("08") &&
         !state.starts_with("58") && !state.starts_with("XX");
}

}  // namespace

Load::Load(Options options, History& history) : options_(std::move(options)), history_(history) {
  for (int i = 0; i < options_.producers; ++i) threads_.emplace_back([this, i] { run(i); });
}

Load::~Load() {
  stop();
}

void Load::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Load::poison(const std::string& type, int payload_bytes, bool once) {
  const std::lock_guard lock(mutex_);
  poison_ = type;
  poison_bytes_ = payload_bytes;
  poison_once_ = once;
}

bool Load::pause(std::chrono::steady_clock::duration duration) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, duration, [&] { return stopping_; });
}

// On a schedule that does not wait for a slow server. What could not be written for longer than a
// moment is not made up for.
bool Load::next_turn(Producer& producer) {
  if (options_.rate == 0) return pause(hurry ? std::chrono::milliseconds{1} : options_.pause);
  constexpr std::chrono::seconds kMakesUpFor{1};
  const auto now = std::chrono::steady_clock::now();
  producer.next = std::max(producer.next, now - kMakesUpFor);
  const bool goes_on =
      pause(std::max<std::chrono::steady_clock::duration>(producer.next - now, {}));
  producer.next += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(kCommittedByTransaction * options_.producers / options_.rate));
  return goes_on;
}

std::string Load::type_now(bool commits, std::string& padding) {
  const std::lock_guard lock(mutex_);
  if (poison_.empty() || (poison_once_ && !commits)) return "order.placed";
  padding = std::string(static_cast<std::size_t>(poison_bytes_), 'x');
  std::string type = poison_;
  if (poison_once_) poison_.clear();
  return type;
}

void Load::run(int number) {
  Producer producer;
  producer.number = number;
  producer.engine.seed(options_.seed * 1000 + static_cast<std::uint64_t>(number));
  producer.places.resize(static_cast<std::size_t>(options_.keys) + 1);
  while (next_turn(producer)) {
    try {
      if (!producer.client) connect(producer);
      transaction(producer);
    } catch (const PgError&) {
      // The database is away, takes no writes or has ended this session.
      producer.client.reset();
      if (!pause(milliseconds{50})) return;
    }
  }
}

void Load::connect(Producer& producer) {
  auto client = std::make_unique<PgClient>(options_.dsn);
  client->exec(
      "PREPARE put (uuid, text, text, text, bigint, text, jsonb) AS"
      " INSERT INTO outbox.entries (envelope_id, stream, type, key, payload, headers)"
      " VALUES ($1, $2, $3, nullif($4, ''), json_build_object('n', $5, 'pad', $6), $7)");
  producer.client = std::move(client);
}

// Key 0 is none: those entries have no order.
Place Load::insert(Producer& producer, int key, bool commits) {
  Place place;
  place.id = new_id(producer.engine);
  place.stream = options_.stream;
  if (key > 0) place.key = fmt::format("key-{}-{}", producer.number, key);
  place.n = ++producer.places[static_cast<std::size_t>(key)];
  std::string padding(static_cast<std::size_t>(options_.payload_bytes), 'x');
  const std::string type =
      one_in(producer.engine, 25) ? type_now(commits, padding) : "order.placed";
  const std::string headers =
      options_.tenants ? fmt::format(R"('{{"tenant": "t{}"}}')", key % 3) : "NULL";
  producer.client->exec(fmt::format("EXECUTE put ('{}', '{}', '{}', '{}', {}, '{}', {})", place.id,
                                    place.stream, type, place.key, place.n, padding, headers));
  const auto reason = options_.poison_reasons.find(type);
  if (reason != options_.poison_reasons.end())
    history_.add({{"f", "poison"},
                  {"id", place.id},
                  {"type", type},
                  {"reasons", boost::json::array{reason->second}}});
  return place;
}

void Load::insert_again(Producer& producer, const Place& place) {
  PgClient& client = *producer.client;
  client.exec("SAVEPOINT again");
  try {
    (void)client.query(
        "INSERT INTO outbox.entries (envelope_id, stream, type) VALUES ($1, $2, 'order.again')",
        {place.id, place.stream});
    ++accepted_duplicates_;
  } catch (const PgError& error) {
    if (error.sqlstate() != "23505") throw;
    ++refused_duplicates_;
  }
  client.exec("ROLLBACK TO again");
}

void Load::transaction(Producer& producer) {
  std::mt19937_64& engine = producer.engine;
  const int number = ++transactions_;
  End end = End::commit;
  if (one_in(engine, 10)) end = End::roll_back;
  const auto seldom = static_cast<std::uint64_t>(options_.seldom);
  const bool fourth = number % (4 * options_.seldom) == 0;
  if (one_in(engine, 20 * seldom) || (late && fourth)) end = End::late;
  if (prepared && fourth) end = End::two_phase;
  std::vector<Place> places;
  producer.client->exec("BEGIN");
  try {
    const auto count = 1 + engine() % 3;
    const auto keys = static_cast<std::uint64_t>(options_.keys);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t key = options_.unkeyed ? engine() % (keys + 1) : 1 + engine() % keys;
      places.push_back(insert(producer, static_cast<int>(key), end != End::roll_back));
    }
    if (duplicates && one_in(engine, 5)) insert_again(producer, places.back());
    if (end == End::late) pause(milliseconds(50 + engine() % (late ? 950 : 250)));
  } catch (const PgError&) {
    // Nothing of it is committed, and the sink must never see what it was.
    for (const Place& place : places) {
      history_.committing(place);
      history_.rolled_back(place.id);
    }
    throw;
  }
  commit(producer, end, places);
}

void Load::commit(Producer& producer, End end, const std::vector<Place>& places) {
  PgClient& client = *producer.client;
  for (const Place& place : places) history_.committing(place);
  if (end == End::roll_back) {
    for (const Place& place : places) history_.rolled_back(place.id);
    client.exec("ROLLBACK");
    return;
  }
  try {
    if (end == End::two_phase) {
      const std::string name = places.front().id;
      client.exec("PREPARE TRANSACTION '" + name + "'");
      pause(milliseconds(producer.engine() % 100));
      client.exec("COMMIT PREPARED '" + name + "'");
    } else {
      client.exec("COMMIT");
    }
  } catch (const PgError& error) {
    const bool certain = certainly_not_committed(error) && end != End::two_phase;
    for (const Place& place : places) {
      certain ? history_.rolled_back(place.id) : history_.commit_unknown(place.id);
    }
    throw;
  }
  for (const Place& place : places) history_.committed(place.id);
}

}  // namespace outfall::torture
