#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/faults/torture/history.h"

namespace outfall::torture {

// A history of millions of entries in bounded memory, for a soak: in place of every line it keeps
// for each key what is under way, what was rolled back, and what has arrived of late; a copy costs
// a few bytes. Each entry must have a key whose places count from 1. It knows less than the history
// checker (nothing of leases), and judges lost, phantom, dup-unexplained, reorder and gap by the
// same rules; a copy further back than two minutes counts as unexplained.
//
// Lines of workers and faults are kept as by any history. Any thread.
class Tally final : public History {
 public:
  void committing(const Place& place) override;
  void committed(const std::string& id) override;
  void rolled_back(const std::string& id) override;
  void commit_unknown(const std::string& id) override;
  void arrived(const std::string& sink, const Place& place) override;

  // What explains copies: of one entry so many, those that overlap the time from its first arrival,
  // minus the send timeout, to the copy.
  struct Disturbance {
    std::int64_t from_us = 0;
    std::int64_t until_us = 0;
    int copies = 1;
    bool late = false;  // a send from before may arrive after its repetition
  };

  struct Findings {
    std::int64_t committed = 0;
    std::int64_t rolled_back = 0;
    std::int64_t in_doubt = 0;   // commits whose fate their producer never learned
    std::int64_t arrivals = 0;   // copies included
    std::int64_t delivered = 0;  // entries that arrived
    std::int64_t lost = 0;
    std::int64_t phantom = 0;
    std::int64_t reorder = 0;
    std::int64_t gap = 0;
    std::int64_t explained = 0;  // copies
    std::int64_t unexplained = 0;
    std::vector<std::string> samples;  // of what is wrong, in words
    [[nodiscard]] bool ok() const {
      return lost + phantom + reorder + gap + unexplained == 0 && committed > 0;
    }
  };
  // When nothing is under way any more.
  [[nodiscard]] Findings judge(const std::vector<Disturbance>& disturbances,
                               std::int64_t send_timeout_us) const;
  // Envelope ids of commits in doubt that have not arrived: whether they exist the database knows.
  [[nodiscard]] std::vector<std::string> in_doubt() const;

 private:
  enum class State : std::uint8_t { committing, committed, unknown };
  struct Open {  // not arrived yet
    State state = State::committing;
    std::string id;
  };
  struct Recent {
    std::int64_t n = 0;
    std::int64_t at_us = 0;
    std::size_t id = 0;  // its hash
    int copies = 0;
  };
  struct Key {
    std::string name;
    std::map<std::int64_t, Open> open;
    std::vector<std::int64_t> holes;  // places that nothing was committed at, ascending
    std::deque<Recent> recent;        // first arrivals, by time
    std::int64_t given = 0;           // the highest place that was put to commit
    std::int64_t high = 0;            // the highest place that has arrived
    std::int64_t last = 0;            // the place that arrived last
    std::int64_t copied_us = 0;       // when that one had arrived first, if it was a copy
  };
  struct Copy {
    std::int64_t first_us = 0;
    std::int64_t at_us = 0;
    int number = 1;
  };
  struct Skip {  // of places that had arrived before
    std::int64_t copied_us = 0;
    std::int64_t at_us = 0;
  };
  struct Whose {
    Key* key = nullptr;
    std::int64_t n = 0;
  };

  void first_arrival(Key& key, std::map<std::int64_t, Open>::iterator entry, std::int64_t at_us);
  void copy(Key& key, const Place& place, std::int64_t at_us);
  void check_turn(const Key& key, const Place& place, std::int64_t at_us);
  void wrong(std::int64_t& counter, const char* what, const Place& place);
  [[nodiscard]] static bool is_hole(const Key& key, std::int64_t n);
  Whose take(const std::string& id);
  // A transaction whose entry is in the table, or may be.
  void ended(const std::string& id, std::int64_t& counter, State state);

  mutable std::mutex mutex_;  // guards all of it
  std::unordered_map<std::string, Key> keys_;
  std::unordered_map<std::string, Whose> ending_;  // put to commit, fate not told yet
  std::vector<Copy> copies_;
  std::vector<Skip> skips_;
  Findings so_far_;
};

}  // namespace outfall::torture
