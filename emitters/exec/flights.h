#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include "emitter/emitter.h"

namespace outfall {

// An entry that the program has got, or at least its first byte, and has not answered.
struct Flight {
  EmitItem item;
  std::shared_ptr<const void> owner;  // of its batch
  MonotonicTime begun{};
  std::uint64_t answers_before = 0;  // how many answers the program had given when it began
};

// The entries in flight, by envelope id and in the order in which they began. A plain container for
// one thread; only add() can throw, and changes nothing then.
class Flights {
 public:
  [[nodiscard]] bool empty() const noexcept { return flights_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return flights_.size(); }
  [[nodiscard]] bool contains(const Uuid& id) const { return numbers_.contains(id); }
  // There must be one.
  [[nodiscard]] const Flight& oldest() const { return flights_.begin()->second; }

  // Its id must not be in flight.
  void add(Flight flight);
  void undo_add() noexcept;  // takes back the last add()
  [[nodiscard]] std::optional<Flight> take(const Uuid& id) noexcept;
  [[nodiscard]] Flight take_oldest() noexcept;  // there must be one

 private:
  std::map<std::uint64_t, Flight> flights_;  // by number, rising with time
  std::unordered_map<Uuid, std::uint64_t> numbers_;
  std::uint64_t next_ = 0;
};

}  // namespace outfall
