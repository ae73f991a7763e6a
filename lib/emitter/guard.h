#pragma once

#include <utility>

#include "core/outcome.h"
#include "emitter/emitter.h"

namespace outfall {

// The outcome of the exception that is being handled: OutcomeKind::exception with the type's name.
// What it says is left out, since it may quote the payload. Call inside a catch block only. When
// memory is short the outcome comes without an error.
[[nodiscard]] Outcome outcome_of_current_exception() noexcept;

// Runs `deliver`, which returns an Outcome, and turns whatever it throws into one. For the part of
// an emitter that works on a single item, so that what one envelope provokes does not touch the
// others.
template <typename Deliver>
[[nodiscard]] Outcome guarded(Deliver&& deliver) noexcept {
  try {
    return std::forward<Deliver>(deliver)();
  } catch (...) {
    return outcome_of_current_exception();
  }
}

// Completes every item from `first` on with the exception that is being handled, one by one and
// without allocating, for emitters whose emit() could not take in a batch. Breaks their runs.
void complete_with_current_exception(const EmitBatch& batch, CompletionSink& sink,
                                     std::size_t first = 0) noexcept;

}  // namespace outfall
