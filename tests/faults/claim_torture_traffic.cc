#include "tests/faults/claim_torture_traffic.h"

#include <algorithm>

namespace outfall::test::torture {

namespace {

using Kind = Event::Kind;
using std::chrono::milliseconds;

constexpr std::int64_t kPlacesATransaction = 8;

// What the SQL API refuses because of the entry's state; everything else is a defect.
bool refused(const PgError& error) {
  return error.sqlstate().starts_with("OF") || error.sqlstate() == "40P01";
}

}  // namespace

void Halt::request() {
  const std::lock_guard lock(mutex_);
  requested_ = true;
  changed_.notify_all();
}

void Halt::pause(milliseconds at_most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, at_most, [this] { return requested_.load(); });
}

Producer::Producer(const TortureDatabase& database, History& history, Halt& halt, Options options,
                   std::uint64_t seed, int number)
    : history_(history),
      halt_(halt),
      options_(options),
      random_(seed),
      number_(number),
      sql_(database.connect()) {
}

void Producer::run() {
  while (!halt_.requested()) {
    const auto settled = static_cast<std::int64_t>(history_.count(Kind::settled));
    if (static_cast<std::int64_t>(history_.count(Kind::committed)) - settled > options_.backlog) {
      halt_.pause(milliseconds(5));
      continue;
    }
    try {
      transaction();
    } catch (const PgError& error) {
      history_.defect(std::string("producer: ") + error.what());
      return;
    }
    halt_.pause(milliseconds(up_to(2)));
  }
}

void Producer::transaction() {
  taken_.clear();
  sql_.exec("BEGIN");
  const std::uint64_t kind = up_to(99);
  if (kind < 60) {
    // One or two keys, in the order of their names so that nobody deadlocks.
    std::vector<std::uint64_t> keys{up_to(static_cast<std::uint64_t>(options_.ordered_keys - 1))};
    if (up_to(4) == 0) keys.push_back(up_to(static_cast<std::uint64_t>(options_.ordered_keys - 1)));
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    for (const std::uint64_t number : keys) {
      const std::string key = "k" + std::to_string(number);
      const std::int64_t turn = sql_.number(
          "INSERT INTO business AS b VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = b.n + 1 "
          "RETURNING n",
          {key});
      insert(key, turn * kPlacesATransaction);
    }
  } else if (kind < 85) {
    insert("s" + std::to_string(up_to(static_cast<std::uint64_t>(options_.shared_keys - 1))), 0);
  } else {
    insert("", 0);
  }
  end("p" + std::to_string(number_));
}

void Producer::insert(const std::string& key, std::int64_t first_place) {
  const std::uint64_t entries = 1 + up_to(2);
  for (std::uint64_t i = 0; i < entries; ++i) {
    const bool scheduled = up_to(19) == 0;
    counts_.scheduled += scheduled ? 1 : 0;
    const std::string lane =
        options_.lanes == 0
            ? ""
            : "lane" + std::to_string(up_to(static_cast<std::uint64_t>(options_.lanes - 1)));
    const EntryId id = sql_.number(
        "INSERT INTO entries (stream, type, key, headers, available_at) VALUES ('s', 't', "
        "nullif($1, ''),"
        " jsonb_build_object('lane', $2::text), clock_timestamp() + $3 * interval '1 millisecond') "
        "RETURNING id",
        {key, lane, scheduled ? PgValue{std::to_string(up_to(300))} : PgValue{}});
    taken_.push_back(
        {id, key, scheduled, first_place == 0 ? 0 : first_place + static_cast<std::int64_t>(i)});
  }
}

void Producer::end(const std::string& prepared_name) {
  ++counts_.transactions;
  if (number_ < 2 && up_to(99) < options_.slow_percent) {
    ++counts_.slow;
    halt_.pause(milliseconds(up_to(static_cast<std::uint64_t>(options_.slow.count()))));
  }
  const std::uint64_t how = up_to(99);
  if (how < 85) {
    sql_.exec("COMMIT");
    note(true);
  } else if (how < 92) {
    sql_.exec("ROLLBACK");
    note(false);
  } else {
    ++counts_.prepared;
    sql_.exec("PREPARE TRANSACTION '" + prepared_name + "'");
    halt_.pause(milliseconds(up_to(60)));
    const bool commit = up_to(3) != 0;
    sql_.exec((commit ? "COMMIT PREPARED '" : "ROLLBACK PREPARED '") + prepared_name + "'");
    note(commit);
  }
}

void Producer::note(bool committed) {
  counts_.rolled_back += committed ? 0 : 1;
  for (const Taken& taken : taken_) {
    if (committed) {
      history_.add({.kind = Kind::committed,
                    .id = taken.id,
                    .number = taken.place,
                    .flag = taken.scheduled,
                    .key = taken.key});
    } else {
      history_.add({.kind = Kind::rolled_back, .id = taken.id});
    }
  }
}

Operator::Operator(const TortureDatabase& database, History& history, Halt& halt, Options options,
                   std::uint64_t seed)
    : history_(history), halt_(halt), options_(options), random_(seed), sql_(database.connect()) {
}

void Operator::run() {
  try {
    while (!halt_.requested()) {
      try {
        act();
      } catch (const PgError& error) {
        if (!refused(error)) throw;
      }
      halt_.pause(milliseconds(20 + random_.up_to(60)));
    }
    for (const std::string& lane : parked_)
      (void)sql_.query("SELECT resume_destination('s', $1, 'test', 'the end')", {lane});
  } catch (const PgError& error) {
    history_.defect(std::string("operator: ") + error.what());
  }
}

void Operator::act() {
  const std::uint64_t what = random_.up_to(99);
  if (what < 50) {
    replay(1 + static_cast<int>(random_.up_to(10)));
  } else if (what < 70) {
    retry_one();
  } else if (what < 76) {
    dead_letter_one();
  } else if (what < 80) {
    pause_stream();
  } else if (options_.lanes > 0) {
    toggle_lane();
  }
}

// Notes what was dead-lettered by takeovers and not replayed.
void Operator::note_abandoned() {
  for (const PgRow& row :
       sql_.query("SELECT id FROM dead_letters WHERE reason_code = 'worker.abandoned'"))
    history_.add({.kind = Kind::abandoned, .id = std::stoll(*row[0])});
}

void Operator::replay(int at_most) {
  std::string ids = "{";
  for (const PgRow& row :
       sql_.query("SELECT id, reason_code FROM dead_letters ORDER BY random() LIMIT $1",
                  {std::to_string(at_most)})) {
    const EntryId id = std::stoll(*row[0]);
    if (row[1] == "worker.abandoned") history_.add({.kind = Kind::abandoned, .id = id});
    history_.add({.kind = Kind::replay_begun, .id = id});
    ids += (ids.size() > 1 ? "," : "") + *row[0];
  }
  if (ids.size() == 1) return;
  counts_.replayed += sql_.number(
      "SELECT replayed FROM replay_dead_letters(p_ids => $1, p_actor => 'test', p_reason => "
      "'torture')",
      {ids + "}"});
}

void Operator::retry_one() {
  const PgRows rows = sql_.query(
      "SELECT id FROM entries WHERE status IN ('retryable_failure', 'deferred', 'held') ORDER BY "
      "random() LIMIT 1");
  if (rows.empty()) return;
  (void)sql_.query("SELECT retry_entry(p_entry_id => $1, p_actor => 'test', p_reason => 'torture')",
                   {rows[0][0]});
  ++counts_.retried;
}

void Operator::dead_letter_one() {
  const PgRows rows = sql_.query("SELECT id FROM entries ORDER BY random() LIMIT 1");
  if (rows.empty()) return;
  (void)sql_.query(
      "SELECT dead_letter_entry(p_entry_id => $1, p_actor => 'test', p_reason => 'torture')",
      {rows[0][0]});
  history_.add({.kind = Kind::abandoned, .id = std::stoll(*rows[0][0])});
  ++counts_.dead_lettered;
}

void Operator::pause_stream() {
  (void)sql_.query("SELECT pause_stream('s', 'test', 'torture')");
  halt_.pause(milliseconds(random_.up_to(80)));
  (void)sql_.query("SELECT resume_stream('s', 'test', 'torture')");
  ++counts_.pauses;
}

void Operator::toggle_lane() {
  const std::string lane =
      "lane" + std::to_string(random_.up_to(static_cast<std::uint64_t>(options_.lanes - 1)));
  if (std::erase(parked_, lane) > 0) {
    (void)sql_.query("SELECT resume_destination('s', $1, 'test', 'torture')", {lane});
  } else if (parked_.size() < 2) {
    (void)sql_.query("SELECT pause_destination('s', $1, 'test', 'torture')", {lane});
    parked_.push_back(lane);
    ++counts_.pauses;
  }
}

}  // namespace outfall::test::torture
