// Histories that a program makes: good ones by a seed, with kills, rollbacks, doubtful commits,
// dead letters and replays; and bad ones by one change of a good one, which must be named as what
// it is.
#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_good_run.h"
#include "tests/faults/history_scene.h"

namespace outfall::test::history {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kSeeds = 25;

// Finds its way through the records of a scene, and changes them.
class Mutant {
 public:
  Mutant(const Scene& scene, std::uint64_t seed) : scene_(scene), engine_(seed) {}

  [[nodiscard]] Scene& scene() { return scene_; }
  [[nodiscard]] std::vector<json::object>& records() { return scene_.records; }

  static bool is(const json::object& record, std::string_view f) {
    return record.at("f").as_string() == f;
  }
  static std::string id(const json::object& record) {
    return std::string(record.at("id").as_string());
  }
  static std::int64_t at(const json::object& record) { return record.at("at_us").as_int64(); }

  // A random one of the records that `fits`.
  std::optional<std::size_t> pick(const std::function<bool(const json::object&)>& fits) {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < records().size(); ++i) {
      if (fits(records()[i])) found.push_back(i);
    }
    if (found.empty()) return std::nullopt;
    return found[engine_() % found.size()];
  }
  std::optional<std::size_t> pick(const std::string& f, const std::string& of) {
    return pick([&](const json::object& r) { return is(r, f) && id(r) == of; });
  }

  [[nodiscard]] std::size_t copies(const std::string& of) {
    return static_cast<std::size_t>(std::count_if(records().begin(), records().end(), [&](auto& r) {
      return is(r, "arrived") && id(r) == of;
    }));
  }
  // An arrival of a committed entry that arrived once and was not replayed.
  std::optional<std::size_t> lonely_arrival() {
    std::map<std::string, int> arrivals;
    std::set<std::string> committed;
    for (const json::object& r : records()) {
      if (is(r, "arrived")) ++arrivals[id(r)];
      if (is(r, "replayed")) arrivals[id(r)] += 2;
      if (is(r, "committed")) committed.insert(id(r));
    }
    return pick([&](const json::object& r) {
      return is(r, "arrived") && arrivals[id(r)] == 1 && committed.contains(id(r));
    });
  }
  [[nodiscard]] json::object& final() {
    return *std::find_if(records().begin(), records().end(),
                         [](const json::object& r) { return is(r, "final"); });
  }
  void erase(std::size_t record) {
    records().erase(records().begin() + static_cast<std::ptrdiff_t>(record));
  }
  void insert_after(std::size_t record, json::object added) {
    records().insert(records().begin() + static_cast<std::ptrdiff_t>(record) + 1, std::move(added));
  }
  static void remove(json::value& list, const std::string& id) {
    json::array& array = list.as_array();
    array.erase(std::find_if(array.begin(), array.end(), [&](const json::value& each) {
      return each.at("id") == json::value(id);
    }));
  }
  // The same arrival once more, right behind it.
  json::object copy_of(std::size_t arrival, std::int64_t later_us) {
    json::object copy = records()[arrival];
    copy["seq"] = copy.at("seq").as_int64() + 1;
    copy["at_us"] = at(copy) + later_us;
    return copy;
  }
  // No fault from a send timeout before until then.
  [[nodiscard]] bool quiet(std::int64_t from, std::int64_t until) {
    return std::none_of(records().begin(), records().end(), [&](const json::object& r) {
      return is(r, "fault") && at(r) >= from - 1'000'000 && at(r) <= until;
    });
  }
  // The lease that settled an entry, where only one held it.
  struct Story {
    std::string lease;
    std::int64_t settled = 0;
  };
  std::optional<Story> settled(const std::string& of) {
    std::optional<Story> story;
    for (const json::object& r : records()) {
      if (is(r, "settled") && contains(r.at("ids"), of))
        story = {std::string(r.at("lease").as_string()), at(r)};
    }
    return story;
  }
  // An element of one of the lists of the end.
  json::object& listed(const char* name, const std::string& of) {
    for (json::value& each : final()[name].as_array()) {
      if (each.at("id") == json::value(of)) return each.as_object();
    }
    throw std::out_of_range(of);
  }
  static bool contains(const json::value& list, const std::string& id) {
    const json::array& array = list.as_array();
    return std::find(array.begin(), array.end(), json::value(id)) != array.end();
  }
  [[nodiscard]] json::object committing(const std::string& of) {
    return records()[*pick("committing", of)];
  }

 private:
  Scene scene_;
  std::mt19937_64 engine_;
};

struct Mutation {
  std::string name;
  std::set<std::string> anomalies;
  std::function<bool(Mutant&)> apply;  // false: there is nothing to change in this run
};

void PrintTo(const Mutation& mutation, std::ostream* out) {
  *out << mutation.name;
}

// A copy of a restart, with the next one of its key behind it in the same restart, none before it.
bool leave_out_of_a_restart(Mutant& m) {
  const auto is_copy = [&](std::size_t i) {
    const std::string id = Mutant::id(m.records()[i]);
    for (std::size_t j = 0; j < i; ++j) {
      if (Mutant::is(m.records()[j], "arrived") && Mutant::id(m.records()[j]) == id) return true;
    }
    return false;
  };
  const auto key_of = [&](std::size_t i) -> std::string {
    const json::object committing = m.committing(Mutant::id(m.records()[i]));
    const bool judged = m.pick("committed", Mutant::id(m.records()[i])).has_value();
    return committing.at("key").is_null() || !judged
               ? std::string()
               : std::string(committing.at("key").as_string());
  };
  std::map<std::string, std::size_t> before;  // by key: the copy just before
  for (std::size_t i = 0; i < m.records().size(); ++i) {
    const json::object& record = m.records()[i];
    if (Mutant::is(record, "fault")) before.clear();
    if (!Mutant::is(record, "arrived") || m.pick("replayed", Mutant::id(record))) continue;
    const std::string key = key_of(i);
    if (key.empty()) continue;
    // Three in a row of which the first two are copies: without the middle one there is a gap.
    const auto first = before.find(key);
    if (first != before.end() && is_copy(i)) {
      for (std::size_t next = i + 1; next < m.records().size(); ++next) {
        if (Mutant::is(m.records()[next], "fault")) break;
        if (!Mutant::is(m.records()[next], "arrived") || key_of(next) != key) continue;
        if (m.pick("replayed", Mutant::id(m.records()[next]))) break;
        m.erase(i);
        return true;
      }
    }
    if (is_copy(i)) before[key] = i;
  }
  return false;
}

// Two neighbours of a key in one lease change places.
bool swap_arrivals(Mutant& m) {
  for (std::size_t tries = 0; tries < 50; ++tries) {
    const auto first = m.lonely_arrival();
    if (!first) return false;
    const json::object mine = m.committing(Mutant::id(m.records()[*first]));
    if (mine.at("key").is_null()) continue;
    for (std::size_t i = *first + 1; i < m.records().size(); ++i) {
      json::object& other = m.records()[i];
      if (!Mutant::is(other, "arrived")) break;
      const std::string id = Mutant::id(other);
      const json::object theirs = m.committing(id);
      if (theirs.at("key") != mine.at("key")) continue;
      if (m.copies(id) != 1 || !m.pick("committed", id) || m.pick("replayed", id)) break;
      std::swap(m.records()[*first]["id"], other["id"]);
      return true;
    }
  }
  return false;
}

// What the history says of an entry that arrived once, changed so that another lease had it too.
bool claim_again(Mutant& m, std::int64_t after_settle_us) {
  const auto arrival = m.lonely_arrival();
  if (!arrival) return false;
  const std::string id = Mutant::id(m.records()[*arrival]);
  const auto story = m.settled(id);
  if (!story) return false;
  m.scene().claim("another", {id}, 0, "w99");
  m.records().back()["at_us"] = story->settled + after_settle_us;
  return true;
}

// Something is wrong with the database that may undo what it has confirmed, or not.
void disturb_database(Mutant& m, std::int64_t at_us, bool undoes_commits) {
  m.scene().add({{"f", "fault"},
                 {"at_us", at_us - 1},
                 {"until_us", at_us},
                 {"kind", undoes_commits ? "F7-restart" : "F6-terminate"},
                 {"touches", {{"database", true}}},
                 {"undoes_commits", undoes_commits}});
}

// An earlier lease puts back an entry that is settled in the end, so long after its next claim.
bool put_back(Mutant& m, std::int64_t after_claim_us) {
  const std::size_t arrival = *m.lonely_arrival();
  const std::string id = Mutant::id(m.records()[arrival]);
  const auto story = m.settled(id);
  if (!story) return false;
  const auto claim = m.pick([&](const json::object& r) {
    return Mutant::is(r, "claimed") && r.at("lease") == json::value(story->lease);
  });
  const std::int64_t claimed = Mutant::at(m.records()[*claim]);
  m.scene().claim("earlier", {id}, 0, "w98");
  m.records().back()["at_us"] = claimed - 10;
  m.scene().settle("earlier", {id}, 0, "w98");
  m.records().back()["at_us"] = claimed + after_claim_us;
  m.records().back()["status"] = "retryable_failure";
  return true;
}

// A copy half a millisecond after the arrival, beside a fault of the database that ended so long
// before the entry was committed.
bool deliver_twice_after_a_fault(Mutant& m, std::int64_t before_us) {
  for (int tries = 0; tries < 50; ++tries) {
    const std::size_t arrival = *m.lonely_arrival();
    const std::int64_t at = Mutant::at(m.records()[arrival]);
    const std::int64_t over =
        Mutant::at(m.committing(Mutant::id(m.records()[arrival]))) - before_us;
    if (at - 1'000'000 > over || !m.quiet(at, at + 500)) continue;
    m.insert_after(arrival, m.copy_of(arrival, 500));
    disturb_database(m, over, false);
    return true;
  }
  return false;
}

// A copy half a millisecond after the settle, beside a fault of the sink that struck so long before
// or after it.
bool deliver_twice_beside_a_sink(Mutant& m, std::int64_t after_settle_us) {
  for (int tries = 0; tries < 50; ++tries) {
    const std::size_t arrival = *m.lonely_arrival();
    const auto story = m.settled(Mutant::id(m.records()[arrival]));
    const std::int64_t at = Mutant::at(m.records()[arrival]);
    if (!story || !m.quiet(at, story->settled + 500)) continue;
    m.scene().add(m.copy_of(arrival, story->settled + 500 - at));
    m.scene().add({{"f", "fault"},
                   {"at_us", story->settled + after_settle_us},
                   {"until_us", story->settled + 400},
                   {"kind", "F12-sink"},
                   {"touches", {{"sinks", "all"}}}});
    return true;
  }
  return false;
}

// The first of these, while something was wrong with the database.
bool claim_again_beside_a_fault(Mutant& m, bool undoes_commits) {
  if (!claim_again(m, 1)) return false;
  disturb_database(m, Mutant::at(m.records().back()), undoes_commits);
  return true;
}

struct Late {
  std::int64_t settled = 0;
  std::int64_t copied = 0;
};

// A copy that comes more than the send timeout after the settle.
std::optional<Late> deliver_long_after_its_settle(Mutant& m) {
  for (int tries = 0; tries < 50; ++tries) {
    const std::size_t arrival = *m.lonely_arrival();
    const auto story = m.settled(Mutant::id(m.records()[arrival]));
    if (!story) continue;
    const std::int64_t at = Mutant::at(m.records()[arrival]);
    const std::int64_t then = story->settled + 1'000'001;
    if (!m.quiet(at, then)) continue;
    m.scene().add(m.copy_of(arrival, then - at));
    return Late{.settled = story->settled, .copied = then};
  }
  return {};
}

// With a fault all the while.
bool deliver_again_beside(Mutant& m, const std::string& kind, const json::object& touches,
                          const json::object& more = {}) {
  const auto late = deliver_long_after_its_settle(m);
  if (late) m.scene().fault(kind, late->settled / 1000, late->copied / 1000, touches, more);
  return late.has_value();
}

std::size_t any_settle(Mutant& m) {
  return *m.pick([](const json::object& r) {
    return Mutant::is(r, "settled") && !r.at("ids").as_array().empty();
  });
}

// By another lease of the same worker.
bool settle_by(Mutant& m, const std::string& lease) {
  m.records()[any_settle(m)]["lease"] = lease;
  return true;
}

bool settle_twice(Mutant& m) {
  json::object again = m.records()[any_settle(m)];
  again["at_us"] = Mutant::at(again) + 10;
  m.scene().add(again);
  return true;
}

bool settle_twice_beside_a_fault(Mutant& m, bool undoes_commits) {
  settle_twice(m);
  disturb_database(m, Mutant::at(m.records().back()), undoes_commits);
  return true;
}

std::vector<Mutation> of_loss() {
  return {
      {"drop an arrival",
       {"lost"},
       [](Mutant& m) {
         const auto arrival = m.lonely_arrival();
         m.erase(*arrival);
         return true;
       }},
      {"drop an arrival and its receipt",
       {"lost"},
       [](Mutant& m) {
         const auto arrival = m.lonely_arrival();
         Mutant::remove(m.final()["delivered"], Mutant::id(m.records()[*arrival]));
         m.erase(*arrival);
         return true;
       }},
      {"drop a receipt",
       {"lost"},
       [](Mutant& m) {
         Mutant::remove(m.final()["delivered"], Mutant::id(m.records()[*m.lonely_arrival()]));
         return true;
       }},
      {"drop a dead letter",
       {"lost"},
       [](Mutant& m) {
         json::array& dead = m.final()["dead_letters"].as_array();
         const auto committed =
             std::find_if(dead.begin(), dead.end(), [&](const json::value& each) {
               const std::string id(each.at("id").as_string());
               return m.pick("committed", id).has_value();
             });
         if (committed == dead.end()) return false;
         dead.erase(committed);
         return true;
       }},
  };
}

std::vector<Mutation> of_phantoms() {
  return {
      {"deliver what was rolled back",
       {"phantom"},
       [](Mutant& m) {
         const auto gone =
             m.pick([](const json::object& r) { return Mutant::is(r, "rolled_back"); });
         if (!gone) return false;
         m.scene().arrive(Mutant::id(m.records()[*gone]), 1);
         m.records().back()["seq"] = 1;
         return true;
       }},
      {"deliver what nobody wrote",
       {"phantom"},
       [](Mutant& m) {
         m.scene().arrive("nobody's", 1);
         m.records().back()["seq"] = 1;
         return true;
       }},
      {"arrive before the commit",
       {"phantom"},
       [](Mutant& m) {
         json::object& arrival = m.records()[*m.lonely_arrival()];
         arrival["at_us"] = Mutant::at(m.committing(Mutant::id(arrival))) - 1;
         return true;
       }},
      {"arrive with another place",
       {"phantom"},
       [](Mutant& m) {
         json::object& arrival = m.records()[*m.lonely_arrival()];
         arrival["stream"] = "orders";
         arrival["key"] = m.committing(Mutant::id(arrival)).at("key");
         arrival["n"] = 4711;
         return true;
       }},
  };
}

std::vector<Mutation> of_copies_and_order() {
  return {
      {"deliver twice in quiet times",
       {"dup-unexplained"},
       [](Mutant& m) {
         for (int tries = 0; tries < 20; ++tries) {
           const std::size_t arrival = *m.lonely_arrival();
           const std::int64_t at = Mutant::at(m.records()[arrival]);
           if (!m.quiet(at, at + 500)) continue;
           m.insert_after(arrival, m.copy_of(arrival, 500));
           return true;
         }
         return false;
       }},
      {"move a fault away from its copies",
       {"dup-unexplained"},
       [](Mutant& m) {
         const auto fault = m.pick([](const json::object& r) { return Mutant::is(r, "fault"); });
         if (!fault) return false;
         m.records()[*fault]["at_us"] = std::int64_t{1} << 50;
         m.records()[*fault]["until_us"] = std::int64_t{1} << 50;
         return true;
       }},
      {"let the fault touch another worker",
       {"dup-unexplained"},
       [](Mutant& m) {
         const auto fault = m.pick([](const json::object& r) { return Mutant::is(r, "fault"); });
         if (!fault) return false;
         m.records()[*fault]["touches"] = {{"workers", json::array{"w98"}}};
         return true;
       }},
      {"deliver twice what came after the fault",
       {"dup-unexplained"},
       [](Mutant& m) { return deliver_twice_after_a_fault(m, 201'000); }},
      {"deliver twice what came while the fault had its last effects",
       {},
       [](Mutant& m) { return deliver_twice_after_a_fault(m, 1000); }},
      {"deliver twice what was settled before the sink's fault",
       {"dup-unexplained"},
       [](Mutant& m) { return deliver_twice_beside_a_sink(m, 100); }},
      {"deliver twice what the sink's fault kept from being settled",
       {},
       [](Mutant& m) { return deliver_twice_beside_a_sink(m, -100); }},
      {"swap two arrivals of a key", {"reorder"}, swap_arrivals},
      {"leave one out of a restart", {"gap"}, leave_out_of_a_restart},
  };
}

std::vector<Mutation> of_ends() {
  return {
      {"add a receipt",
       {"double-terminal"},
       [](Mutant& m) {
         const std::string id = Mutant::id(m.records()[*m.lonely_arrival()]);
         m.final()["delivered"].as_array().push_back(json::object{{"id", id}});
         return true;
       }},
      {"dead-letter what was delivered",
       {"double-terminal"},
       [](Mutant& m) {
         m.final()["dead_letters"].as_array().emplace_back(
             Mutant::id(m.records()[*m.lonely_arrival()]));
         return true;
       }},
      {"settle twice", {"double-terminal"}, settle_twice},
      {"settle twice beside a fault that undoes nothing",
       {"double-terminal"},
       [](Mutant& m) { return settle_twice_beside_a_fault(m, false); }},
      {"settle again what a crash has undone",
       {},
       [](Mutant& m) { return settle_twice_beside_a_fault(m, true); }},
      {"keep what was delivered",
       {"resurrect", "stuck"},
       [](Mutant& m) {
         m.final()["entries"].as_array().emplace_back(Mutant::id(m.records()[*m.lonely_arrival()]));
         return true;
       }},
      {"claim what was settled", {"resurrect"}, [](Mutant& m) { return claim_again(m, 1); }},
      {"claim what was settled beside a fault that undoes nothing",
       {"resurrect"},
       [](Mutant& m) { return claim_again_beside_a_fault(m, false); }},
      {"claim again what a crash has undone",
       {},
       [](Mutant& m) { return claim_again_beside_a_fault(m, true); }},
  };
}

std::vector<Mutation> of_fencing() {
  return {
      {"deliver what was settled long ago",
       {"resurrect"},
       [](Mutant& m) { return deliver_long_after_its_settle(m).has_value(); }},
      {"deliver what was settled long ago beside a database that takes no writes",
       {"resurrect"},
       [](Mutant& m) {
         return deliver_again_beside(m, "F10-read-only", {{"database", true}});
       }},
      {"deliver what was settled long ago beside a kill",
       {"resurrect"},
       [](Mutant& m) {
         return deliver_again_beside(m, "F1-sigkill", {{"workers", "all"}});
       }},
      {"deliver late what a frozen worker had",
       {},
       [](Mutant& m) {
         return deliver_again_beside(m, "F3-freeze", {{"workers", "all"}});
       }},
      {"deliver again what a crash has undone",
       {},
       [](Mutant& m) {
         return deliver_again_beside(m, "F7-restart", {{"database", true}},
                                     {{"undoes_commits", true}});
       }},
      {"settle by a lease that was never claimed",
       {"zombie-write"},
       [](Mutant& m) { return settle_by(m, "nobody's"); }},
      {"settle by the lease of others",
       {"zombie-write"},
       [](Mutant& m) {
         const auto claim = m.pick([](const json::object& r) { return Mutant::is(r, "claimed"); });
         m.scene().claim("others", {"a stranger"}, 0, "w1");
         m.records().back()["at_us"] = Mutant::at(m.records()[*claim]);
         return settle_by(m, "others");
       }},
      {"settle what another lease has",
       {"zombie-write"},
       [](Mutant& m) { return claim_again(m, -1); }},
      {"put back what another lease has",
       {"zombie-write"},
       [](Mutant& m) { return put_back(m, 1); }},
      {"put back what another lease claims then", {}, [](Mutant& m) { return put_back(m, -1); }},
  };
}

// A dead letter of the end, or nothing.
json::object* a_dead_letter(Mutant& m) {
  json::array& dead = m.final()["dead_letters"].as_array();
  return dead.empty() ? nullptr : &dead.front().as_object();
}

// Takes an entry that arrived once from those that were delivered; the settle of it stays.
std::string give_up(Mutant& m) {
  const auto arrival = m.lonely_arrival();
  const std::string id = Mutant::id(m.records()[*arrival]);
  Mutant::remove(m.final()["delivered"], id);
  m.final()["dead_letters"].as_array().push_back(
      json::object{{"id", id}, {"reason_code", "outbox.max_retry_attempts_exceeded"}});
  return id;
}

void spend(Mutant& m) {
  json::value& attempts =
      m.listed("delivered", Mutant::id(m.records()[*m.lonely_arrival()]))["attempts"];
  attempts = attempts.as_int64() + 1;
}

// During the whole run.
void disturb_sink(Mutant& m, int attempts) {
  m.scene().fault(attempts > 0 ? "F15-http" : "F14-away", 0, std::int64_t{1} << 40,
                  {{"sinks", "all"}}, {{"attempts", attempts}});
}

std::vector<Mutation> of_blame() {
  return {
      {"give up what is healthy",
       {"given-up"},
       [](Mutant& m) {
         m.erase(*m.pick("arrived", give_up(m)));
         return true;
       }},
      {"give up what had arrived",
       {"given-up"},
       [](Mutant& m) {
         give_up(m);
         return true;
       }},
      {"give up what was marked for it",
       {},
       [](Mutant& m) {
         m.scene().poison(give_up(m));
         return true;
       }},
      {"give up what is healthy during an outage",
       {"given-up"},
       [](Mutant& m) {
         m.erase(*m.pick("arrived", give_up(m)));
         m.scene().fault("F14-away", 0, 1, {{"sinks", "all"}, {"workers", "all"}});
         return true;
       }},
      {"give up poison for another reason",
       {"given-up"},
       [](Mutant& m) {
         json::object* dead = a_dead_letter(m);
         if (dead == nullptr) return false;
         (*dead)["reason_code"] = "worker.abandoned";
         return true;
       }},
      {"replay what is healthy",
       {"given-up"},
       [](Mutant& m) {
         const json::object arrival = m.records()[*m.lonely_arrival()];
         m.scene().add(
             {{"f", "replayed"}, {"at_us", Mutant::at(arrival) - 1}, {"id", Mutant::id(arrival)}});
         return true;
       }},
  };
}

std::vector<Mutation> of_attempts() {
  return {
      {"spend an attempt more",
       {"attempt-spent"},
       [](Mutant& m) {
         spend(m);
         return true;
       }},
      {"count no attempt",
       {"miscounted"},
       [](Mutant& m) {
         m.listed("delivered", Mutant::id(m.records()[*m.lonely_arrival()]))["attempts"] = 0;
         return true;
       }},
      {"spend an attempt on an outage",
       {"attempt-spent"},
       [](Mutant& m) {
         spend(m);
         disturb_sink(m, 0);
         return true;
       }},
      {"spend an attempt on a fault that may cost it",
       {},
       [](Mutant& m) {
         spend(m);
         disturb_sink(m, 1);
         return true;
       }},
      {"lose a refusal",
       {"attempt-spent"},
       [](Mutant& m) {
         const auto refusal = m.pick([](const json::object& r) {
           return Mutant::is(r, "refused") && !Mutant::id(r).ends_with("7");
         });
         if (refusal) m.erase(*refusal);
         return refusal.has_value();
       }},
  };
}

std::vector<Mutation> of_liveness() {
  return {
      {"do not deliver it at all",
       {"stuck"},
       [](Mutant& m) {
         const auto arrival = m.lonely_arrival();
         const std::string id = Mutant::id(m.records()[*arrival]);
         Mutant::remove(m.final()["delivered"], id);
         m.final()["entries"].as_array().emplace_back(id);
         m.erase(*arrival);
         return true;
       }},
      {"leave a lease",
       {"stuck"},
       [](Mutant& m) {
         m.final()["leases"] = 1;
         return true;
       }},
      {"demand a quick recovery",
       {"stuck"},
       [](Mutant& m) {
         const auto fault = m.pick([](const json::object& r) { return Mutant::is(r, "fault"); });
         if (!fault) return false;
         m.records()[*fault]["recover_within_us"] = 1000;
         return true;
       }},
      {"use too much",
       {"unbounded"},
       [](Mutant& m) {
         m.scene().add({{"f", "gauge"}, {"at_us", 1}, {"worker", "w2"}, {"connections", 6}});
         return true;
       }},
      {"count too much",
       {"miscounted"},
       [](Mutant& m) {
         m.scene().add({{"f", "counter"},
                        {"at_us", 1},
                        {"worker", "w2"},
                        {"name", "outfall_attempts_total"},
                        {"outcome", "delivered"},
                        {"stream", "orders"},
                        {"value", 100'000}});
         return true;
       }},
  };
}

std::vector<Mutation> mutations() {
  std::vector<Mutation> all;
  for (const auto& some : {of_loss(), of_phantoms(), of_copies_and_order(), of_ends(), of_fencing(),
                           of_blame(), of_attempts(), of_liveness()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

class GoodRuns : public testing::TestWithParam<int> {};

TEST_P(GoodRuns, AreAccepted) {
  const Verdict verdict = good_run(static_cast<std::uint64_t>(GetParam())).judged();
  EXPECT_THAT(names(verdict), IsEmpty())
      << (verdict.samples.empty() ? "" : verdict.samples.front().text);
}

INSTANTIATE_TEST_SUITE_P(Seeds, GoodRuns, testing::Range(0, kSeeds));

TEST(GoodRun, HasEverythingInIt) {
  std::size_t copies = 0;
  std::size_t replayed = 0;
  std::size_t dead = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Verdict verdict = good_run(seed).judged();
    copies += verdict.dup_explained;
    replayed += verdict.replayed;
    dead += verdict.dead_letters;
    EXPECT_GT(verdict.rolled_back + verdict.in_doubt, 0U);
  }
  EXPECT_GT(copies, 50U);
  EXPECT_GT(replayed, 10U);
  EXPECT_GT(dead, 10U);
}

class Mutations : public testing::TestWithParam<Mutation> {};

TEST_P(Mutations, AreCaughtByName) {
  int applied = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Mutant mutant(good_run(seed), seed + 1000);
    if (!GetParam().apply(mutant)) continue;
    ++applied;
    const Verdict verdict = mutant.scene().judged();
    ASSERT_EQ(names(verdict), GetParam().anomalies)
        << GetParam().name << ", seed " << seed << ": "
        << (verdict.samples.empty() ? "" : verdict.samples.front().text);
  }
  EXPECT_GE(applied, kSeeds / 4);
}

INSTANTIATE_TEST_SUITE_P(All, Mutations, testing::ValuesIn(mutations()), [](const auto& mutation) {
  std::string name = mutation.param.name;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
});

}  // namespace
}  // namespace outfall::test::history
