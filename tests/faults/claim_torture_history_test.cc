// The checker must reject every kind of bad history, and accept what faults explain.
#include "tests/faults/claim_torture_history.h"

#include <gtest/gtest.h>

namespace outfall::test::torture {
namespace {

using Kind = Event::Kind;

// Builds histories of one key whose transactions committed one after the other.
class Story {
 public:
  Story& committed(EntryId id, const std::string& key = "k", bool one_by_one = true) {
    return add({.kind = Kind::committed, .id = id, .number = one_by_one ? id : 0, .key = key});
  }
  Story& claims(const std::string& lease, const std::vector<EntryId>& ids, int attempts = 0) {
    add({.kind = Kind::claim_begun, .lease = lease});
    ++number_;
    for (const EntryId id : ids)
      add({.kind = Kind::claimed,
           .id = id,
           .lease = lease,
           .number = number_,
           .attempts = attempts});
    return *this;
  }
  Story& delivers(const std::string& lease, const std::vector<EntryId>& ids) {
    for (const EntryId id : ids) add({.kind = Kind::delivered, .id = id, .lease = lease});
    return *this;
  }
  Story& settles(const std::string& lease, const std::vector<EntryId>& ids, bool delivered = true) {
    for (const EntryId id : ids)
      add({.kind = Kind::settle_begun, .id = id, .lease = lease, .flag = delivered});
    for (const EntryId id : ids)
      add({.kind = Kind::settled, .id = id, .lease = lease, .flag = delivered});
    return *this;
  }
  Story& drains(const std::string& lease, const std::vector<EntryId>& ids) {
    return claims(lease, ids).delivers(lease, ids).settles(lease, ids);
  }
  Story& dies(const std::string& lease) { return add({.kind = Kind::died, .lease = lease}); }
  Story& add(Event event) {
    events_.push_back(std::move(event));
    return *this;
  }
  [[nodiscard]] std::string verdict() const { return to_string(check(events_, final_)); }
  FinalState final_;

 private:
  std::vector<Event> events_;
  std::int64_t number_ = 0;
};

// The name of the only kind of anomaly, or all of the text.
std::string only_kind(const Story& story) {
  const std::string verdict = story.verdict();
  std::string name;
  std::istringstream lines(verdict);
  for (std::string line; std::getline(lines, line);) {
    const std::string kind = line.substr(0, line.find(':'));
    if (!name.empty() && kind != name) return verdict;
    name = kind;
  }
  return name;
}

Story three() {
  return Story().committed(1).committed(2).committed(3);
}

TEST(ClaimTortureHistory, AcceptsAFaultlessDrain) {
  EXPECT_EQ(three().drains("a", {1, 2, 3}).verdict(), "");
}

TEST(ClaimTortureHistory, AcceptsARedeliveryAfterADeath) {
  EXPECT_EQ(three()
                .claims("a", {1, 2})
                .delivers("a", {1, 2})
                .dies("a")
                .drains("b", {1, 2})
                .drains("c", {3})
                .verdict(),
            "");
}

TEST(ClaimTortureHistory, AcceptsARedeliveryAfterAStaleSettle) {
  Story story = three();
  story.claims("a", {1}).delivers("a", {1}).drains("b", {1, 2, 3});
  EXPECT_EQ(only_kind(story), "duplicate");
  story.add({.kind = Kind::stale, .lease = "a"});
  EXPECT_EQ(story.verdict(), "");
}

TEST(ClaimTortureHistory, AcceptsAReplayAfterTheKeyWentOn) {
  Story story = three();
  story.claims("a", {1, 2, 3}).add({.kind = Kind::dead_lettered, .id = 1, .lease = "a"});
  story.settles("a", {1}, false).delivers("a", {2, 3}).settles("a", {2, 3});
  story.add({.kind = Kind::replay_begun, .id = 1}).drains("b", {1});
  EXPECT_EQ(story.verdict(), "");
}

TEST(ClaimTortureHistory, AcceptsIdsOutOfOrderThatCommittedLate) {
  Story story;
  story.committed(2, "k", false).claims("a", {2}).committed(1, "k", false);
  story.delivers("a", {2}).settles("a", {2}).drains("b", {1});
  EXPECT_EQ(story.verdict(), "");
}

TEST(ClaimTortureHistory, RejectsLost) {
  EXPECT_EQ(only_kind(three().drains("a", {1, 2})), "lost");
  Story unsettled = three().drains("a", {1, 2}).claims("b", {3}).delivers("b", {3});
  EXPECT_EQ(only_kind(unsettled), "lost");
  unsettled.final_.dead_letters.insert(3);
  EXPECT_EQ(unsettled.verdict(), "");
}

TEST(ClaimTortureHistory, RejectsPhantom) {
  EXPECT_EQ(only_kind(three().add({.kind = Kind::rolled_back, .id = 4}).drains("a", {1, 2, 3, 4})),
            "phantom");
}

TEST(ClaimTortureHistory, RejectsDuplicates) {
  EXPECT_EQ(
      only_kind(three().claims("a", {1, 2, 3}).delivers("a", {1, 1, 2, 3}).settles("a", {1, 2, 3})),
      "duplicate");
  EXPECT_EQ(only_kind(three().drains("a", {1, 2, 3}).claims("b", {3}).delivers("b", {3})),
            "resurrected");
  EXPECT_EQ(only_kind(three().drains("a", {1, 2, 3}).dies("a").drains("b", {3})), "resurrected");
}

TEST(ClaimTortureHistory, RejectsReorder) {
  EXPECT_EQ(only_kind(three().drains("a", {1}).drains("b", {3}).drains("c", {2})), "reorder");
  Story at_once;
  at_once.committed(1, "k", false).committed(2, "k", false).drains("a", {2}).drains("b", {1});
  EXPECT_EQ(only_kind(at_once), "reorder");
  Story never = Story().committed(1).committed(2).drains("a", {2});
  EXPECT_NE(never.verdict().find("reorder"), std::string::npos);
}

TEST(ClaimTortureHistory, RejectsAGap) {
  EXPECT_EQ(only_kind(three()
                          .claims("a", {1})
                          .claims("b", {2})
                          .delivers("a", {1})
                          .delivers("b", {2})
                          .settles("b", {2})
                          .dies("a")
                          .drains("c", {1})
                          .drains("d", {3})),
            "gap");
}

TEST(ClaimTortureHistory, RejectsABrokenHold) {
  Story story = three();
  story.drains("a", {1}).claims("b", {2}).add(
      {.kind = Kind::dead_lettered, .id = 2, .lease = "b", .flag = true});
  story.settles("b", {2}, false)
      .drains("c", {3})
      .add({.kind = Kind::replay_begun, .id = 2})
      .drains("d", {2});
  EXPECT_NE(story.verdict().find("hold_broken"), std::string::npos);
}

TEST(ClaimTortureHistory, RejectsFewerAttempts) {
  EXPECT_EQ(only_kind(three()
                          .drains("a", {1, 2})
                          .claims("b", {3}, 2)
                          .settles("b", {3}, false)
                          .claims("c", {3}, 1)
                          .delivers("c", {3})
                          .settles("c", {3})),
            "attempts_decreased");
}

TEST(ClaimTortureHistory, RejectsAZombiesWrite) {
  EXPECT_EQ(only_kind(three()
                          .drains("a", {1, 2})
                          .claims("b", {3})
                          .claims("c", {3})
                          .settles("b", {3}, false)
                          .delivers("c", {3})
                          .settles("c", {3})),
            "zombie_write");
}

TEST(ClaimTortureHistory, RejectsWhatIsLeft) {
  Story story = three().drains("a", {1, 2, 3});
  story.final_.leases = 1;
  EXPECT_EQ(only_kind(story), "stuck");
  story.final_ = {.entries = {}, .dead_letters = {}, .leases = 0, .holds = 1};
  EXPECT_EQ(only_kind(story), "stuck");
  story.final_ = {.entries = {7}, .dead_letters = {}, .leases = 0, .holds = 0};
  EXPECT_EQ(only_kind(story), "stuck");
}

TEST(ClaimTortureHistory, RejectsADefect) {
  EXPECT_EQ(only_kind(three().drains("a", {1, 2, 3}).add({.kind = Kind::defect, .text = "x"})),
            "defect");
}

}  // namespace
}  // namespace outfall::test::torture
