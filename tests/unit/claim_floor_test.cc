// The claim floors alone: tables of reports, and a model of transactions that take ids and end at
// any moment between the steps of a claim.
#include "store/postgres/claim_floor.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "store/postgres/due_floor.h"
#include "tests/faults/claim_torture_floor.h"
#include "tests/support/random.h"

namespace outfall::postgres {
namespace {

using test::SeededRandom;
using test::torture::FlawedFloor;
using test::torture::FloorFlaw;
using Tracked = std::map<std::string, std::int64_t>;

using Names = std::vector<std::string>;

ClaimFloor::Report reported(std::int64_t sequence_last, Names shown = {}, Names used = {},
                            std::optional<std::int64_t> live_min = std::nullopt) {
  ClaimFloor::Report report;
  report.sequence_last = sequence_last;
  report.shown = std::move(shown);
  report.used = std::move(used);
  report.live_min = live_min;
  return report;
}

struct Step {
  const char* what;
  ClaimFloor::Report report;
  std::int64_t start;
  Tracked tracked;
};

Tracked tracked(const ClaimFloor::Input& input) {
  Tracked result;
  for (std::size_t i = 0; i < input.tracked.size(); ++i) result[input.tracked[i]] = input.bounds[i];
  return result;
}

void play(const std::vector<Step>& steps) {
  ClaimFloor floor;
  for (const Step& step : steps) {
    floor.completed(step.report);
    EXPECT_EQ(floor.start(), step.start) << step.what;
    EXPECT_EQ(floor.input().start, step.start) << step.what;
    EXPECT_EQ(tracked(floor.input()), step.tracked) << step.what;
    EXPECT_EQ(floor.tracked(), step.tracked.size()) << step.what;
    EXPECT_EQ(floor.sequence_last(), step.report.sequence_last) << step.what;
  }
}

TEST(ClaimFloor, BeginsAtTheStart) {
  const ClaimFloor floor;
  EXPECT_EQ(floor.start(), 0);
  EXPECT_EQ(floor.input().epoch, 0);
  EXPECT_EQ(floor.input().lease_floor, 0);
  EXPECT_TRUE(floor.input().tracked.empty());
}

TEST(ClaimFloor, FollowsTheProbeBeforeThePick) {
  play({{"the first probe bounds nothing yet", reported(100), 1, {}},
        {"from here on above the probe before", reported(150), 101, {}},
        {"again", reported(150), 151, {}},
        {"and again", reported(150), 151, {}}});
}

TEST(ClaimFloor, StaysAtTheLowestEntryLeftBehind) {
  play({{"first", reported(100, {}, {}, 40), 1, {}},
        {"entry 40 is still there", reported(120, {}, {}, 40), 40, {}},
        {"one above the probe before does not count", reported(140, {}, {}, 130), 121, {}},
        {"nothing is left", reported(140), 141, {}}});
}

TEST(ClaimFloor, TracksWhatRuns) {
  play({{"a is new: its ids are above nothing", reported(10, {"a"}), 1, {{"a", 1}}},
        {"b is new: above 10", reported(20, {"a", "b"}), 11, {{"a", 1}, {"b", 11}}},
        {"both still run", reported(30, {"b", "a"}), 21, {{"a", 1}, {"b", 11}}},
        {"a ended, perhaps after the pick: read from its bound",
         reported(30, {"b"}),
         1,
         {{"b", 11}}},
        {"b ended before the pick, which read from its bound", reported(30, {}, {"b"}), 31, {}}});
}

TEST(ClaimFloor, KeepsTheBoundOfOneThatIsVisibleAndStillShown) {
  play({{"new", reported(10, {"a"}), 1, {{"a", 1}}},
        {"visible, and shown", reported(20, {"a"}), 11, {{"a", 1}}},
        {"gone", reported(20), 1, {}},
        {"read again", reported(20), 21, {}}});
}

TEST(ClaimFloor, CarriesEpochAndLeaseFloor) {
  ClaimFloor floor;
  ClaimFloor::Report report = reported(1);
  report.epoch = 7;
  report.next_lease_floor = 42;
  floor.completed(report);
  EXPECT_EQ(floor.input().epoch, 7);
  EXPECT_EQ(floor.input().lease_floor, 42);
  report.epoch = 8;
  report.next_lease_floor.reset();
  floor.completed(report);
  EXPECT_EQ(floor.input().epoch, 8);
  EXPECT_EQ(floor.input().lease_floor, 42) << "no lease is live: the lowest known one stays";
}

// Producers' transactions and one stream's entries. Everything happens one step at a time.
class Outbox {
 public:
  explicit Outbox(SeededRandom& random) : random_(random) {}

  // A transaction takes its lock, then ids, then becomes visible or not, and then loses its lock.
  void something_happens() {
    const std::uint64_t what = random_.up_to(9);
    if (what < 2 && transactions_.size() < 6) {
      transactions_.emplace_back().name = std::to_string(++names_);
      return;
    }
    if (transactions_.empty()) return;
    Transaction& one = transactions_[random_.up_to(transactions_.size() - 1)];
    if (what < 6) {
      if (!one.ended) one.ids.push_back(++last_);
    } else if (!one.ended) {
      end(one);
    } else if (!one.two_phase || random_.up_to(3) == 0) {
      std::erase_if(transactions_, [&](const Transaction& t) { return t.name == one.name; });
    }
  }

  void things_happen() {
    for (std::uint64_t i = random_.up_to(4); i > 0; --i) something_happens();
  }

  [[nodiscard]] std::int64_t last() const { return last_; }
  [[nodiscard]] std::vector<std::string> shown() const {
    std::vector<std::string> names;
    for (const Transaction& one : transactions_) names.push_back(one.name);
    return names;
  }
  // Whether a transaction had ended for whoever took a snapshot at this moment.
  [[nodiscard]] std::set<std::string> ended() const { return ended_; }
  [[nodiscard]] const std::set<std::int64_t>& live() const { return live_; }
  void settle(std::int64_t id) { live_.erase(id); }
  void end_all() {
    for (Transaction& one : transactions_) {
      if (!one.ended) end(one);
    }
    transactions_.clear();
  }

 private:
  struct Transaction {
    std::string name;
    std::vector<std::int64_t> ids = {};
    bool ended = false;
    bool two_phase = false;  // stays shown for long after it ended
  };
  void end(Transaction& one) {
    one.ended = true;
    one.two_phase = random_.up_to(2) == 0;
    ended_.insert(one.name);
    if (random_.up_to(4) != 0) live_.insert(one.ids.begin(), one.ids.end());
  }

  SeededRandom& random_;
  std::vector<Transaction> transactions_;
  std::set<std::string> ended_;
  std::set<std::int64_t> live_;  // committed and not settled
  std::int64_t last_ = 0;
  int names_ = 0;
};

enum class SqlFlaw : std::uint8_t { none, no_probe_after_the_pick, shown_means_running };

// What claim() does with the floor's input. Returns a live entry that its last pick should have
// seen and that lies below where it read, if there is one.
template <typename Floor>
std::optional<std::int64_t> claim(Outbox& outbox, Floor& floor, SeededRandom& random,
                                  SqlFlaw flaw) {
  const ClaimFloor::Input input = floor.input();
  ClaimFloor::Report report;
  std::int64_t start = input.start;
  std::set<std::int64_t> seen;
  std::set<std::int64_t> snapshot;
  for (;;) {
    outbox.things_happen();
    snapshot = outbox.live();
    const std::set<std::string> ended = outbox.ended();
    seen = {snapshot.lower_bound(start), snapshot.end()};
    outbox.things_happen();
    report.sequence_last = outbox.last();
    outbox.things_happen();
    report.shown = outbox.shown();
    if (flaw == SqlFlaw::no_probe_after_the_pick) break;
    std::optional<std::int64_t> restart;
    for (std::size_t i = 0; i < input.tracked.size(); ++i) {
      const std::string& name = input.tracked[i];
      const bool shown =
          std::find(report.shown.begin(), report.shown.end(), name) != report.shown.end();
      const bool used =
          std::find(report.used.begin(), report.used.end(), name) != report.used.end();
      const bool visible = flaw != SqlFlaw::shown_means_running && ended.contains(name);
      if (input.bounds[i] >= start || used || (shown && !visible)) continue;
      restart = std::min(restart.value_or(input.bounds[i]), input.bounds[i]);
    }
    if (!restart) break;
    for (std::size_t i = 0; i < input.tracked.size(); ++i) {
      const std::string& name = input.tracked[i];
      const bool shown =
          std::find(report.shown.begin(), report.shown.end(), name) != report.shown.end();
      if (input.bounds[i] < start && !shown) report.used.push_back(name);
    }
    start = *restart;
  }
  if (!seen.empty()) report.live_min = *seen.begin();
  floor.completed(report);
  std::optional<std::int64_t> missed;
  if (!snapshot.empty() && *snapshot.begin() < start) missed = *snapshot.begin();
  for (const std::int64_t id : seen) {
    if (random.up_to(2) != 0) outbox.settle(id);
  }
  return missed;
}

// Plays a random run; returns the first entry that a pick should have read and did not.
template <typename Floor>
std::optional<std::int64_t> first_missed(std::uint64_t seed, Floor floor,
                                         SqlFlaw flaw = SqlFlaw::none) {
  SeededRandom random(seed);
  Outbox outbox(random);
  for (int i = 0; i < 60; ++i) {
    outbox.things_happen();
    if (const auto missed = claim(outbox, floor, random, flaw)) return missed;
  }
  outbox.end_all();
  return claim(outbox, floor, random, flaw);
}

TEST(ClaimFloorModel, NoPickStartsAboveAVisibleEntry) {
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    ASSERT_EQ(first_missed(seed, ClaimFloor()), std::nullopt) << "seed " << seed;
  }
}

TEST(ClaimFloorModel, TheFlawedFloorWithoutAFlawIsTheSame) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SeededRandom random(seed);
    Outbox outbox(random);
    ClaimFloor floor;
    FlawedFloor twin(FloorFlaw::none);
    struct Both {
      ClaimFloor& one;
      FlawedFloor& other;
      [[nodiscard]] ClaimFloor::Input input() const { return one.input(); }
      void completed(const ClaimFloor::Report& report) {
        one.completed(report);
        other.completed(report);
      }
    } both{floor, twin};
    for (int i = 0; i < 60; ++i) {
      (void)claim(outbox, both, random, SqlFlaw::none);
      ASSERT_EQ(floor.input().start, twin.input().start) << "seed " << seed;
      ASSERT_EQ(tracked(floor.input()), tracked(twin.input())) << "seed " << seed;
    }
  }
}

bool caught(FloorFlaw floor_flaw, SqlFlaw sql_flaw) {
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    if (first_missed(seed, FlawedFloor(floor_flaw), sql_flaw)) return true;
  }
  return false;
}

TEST(ClaimFloorModel, EveryRuleLeftOutIsCaught) {
  EXPECT_FALSE(caught(FloorFlaw::none, SqlFlaw::none));
  EXPECT_TRUE(caught(FloorFlaw::never_looks_back, SqlFlaw::none));
  EXPECT_TRUE(caught(FloorFlaw::bound_of_this_probe, SqlFlaw::none));
  EXPECT_TRUE(caught(FloorFlaw::start_of_this_probe, SqlFlaw::none));
  EXPECT_TRUE(caught(FloorFlaw::forgets_ended, SqlFlaw::none));
  EXPECT_TRUE(caught(FloorFlaw::none, SqlFlaw::no_probe_after_the_pick));
  EXPECT_TRUE(caught(FloorFlaw::none, SqlFlaw::shown_means_running));
}

TEST(DueFloor, HoldsForASecondFromWhenItWasAsked) {
  using std::chrono::milliseconds;
  const MonotonicTime asked(std::chrono::hours(1));
  const WallTime floor(std::chrono::microseconds(1'000'000));
  DueFloor due;
  EXPECT_EQ(due.at(asked), std::nullopt);
  due.learned(floor, asked);
  EXPECT_EQ(due.at(asked + milliseconds(999)), floor);
  EXPECT_EQ(due.at(asked + milliseconds(1000)), std::nullopt);
  due.learned(std::nullopt, asked + milliseconds(500));
  EXPECT_EQ(due.at(asked + milliseconds(999)), floor) << "a claim that did not look at all";
  EXPECT_EQ(due.at(asked + milliseconds(1000)), std::nullopt);
}

}  // namespace
}  // namespace outfall::postgres
