#pragma once

#include <array>
#include <functional>

#include "core/outcome.h"
#include "tests/faults/simulation_database.h"

namespace outfall::test::simulation {

inline constexpr Milliseconds kAttemptTimeout{800};

// The destinations, one a lane. A message takes its time to get there and its answer to come back;
// what a fault makes of either is decided when it is sent or when it arrives.
class ModelSink {
 public:
  enum class Trouble : std::uint8_t {
    none,
    refuses,        // no connection
    loses_answers,  // takes most, and the connection ends before it has answered
    hangs,          // takes nothing before the end of the trouble
  };
  struct Answer {
    Outcome outcome;
    bool chargeable = true;  // the attempt may count against the entry
  };

  ModelSink(World& world, ModelDatabase& database);

  // `answered` is called once, unless the answer is lost: then the sender has to give up by itself.
  void send(EntryId entry, int lane, std::function<void(Answer)> answered);
  void trouble(int lane, Trouble trouble, MonotonicTime until);
  // How long sends take, at most.
  void slow(std::int64_t microseconds) { slowest_us_ = microseconds; }

 private:
  struct Lane {
    Trouble trouble = Trouble::none;
    MonotonicTime until{};
    history::Index name = history::kNone;
    std::int64_t seq = 0;
  };
  [[nodiscard]] Trouble trouble_of(const Lane& lane) const {
    return world_.now() < lane.until ? lane.trouble : Trouble::none;
  }
  void arrive(EntryId entry, int lane, std::function<void(Answer)> answered);
  void accept(Row& row, Lane& lane);

  World& world_;
  ModelDatabase& database_;
  std::array<Lane, kLanes> lanes_;
  std::int64_t slowest_us_ = 3000;
};

}  // namespace outfall::test::simulation
