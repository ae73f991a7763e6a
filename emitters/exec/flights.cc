#include "emitters/exec/flights.h"

#include <utility>

namespace outfall {

void Flights::add(Flight flight) {
  const Uuid& id = flight.item.envelope->envelope_id;
  numbers_.emplace(id, next_);
  try {
    flights_.emplace_hint(flights_.end(), next_, std::move(flight));
  } catch (...) {
    numbers_.erase(id);
    throw;
  }
  ++next_;
}

void Flights::undo_add() noexcept {
  const auto last = std::prev(flights_.end());
  numbers_.erase(last->second.item.envelope->envelope_id);
  flights_.erase(last);
}

std::optional<Flight> Flights::take(const Uuid& id) noexcept {
  const auto number = numbers_.find(id);
  if (number == numbers_.end()) return std::nullopt;
  auto flight = flights_.extract(number->second);
  numbers_.erase(number);
  return std::move(flight.mapped());
}

Flight Flights::take_oldest() noexcept {
  auto flight = flights_.extract(flights_.begin());
  numbers_.erase(flight.mapped().item.envelope->envelope_id);
  return std::move(flight.mapped());
}

}  // namespace outfall
