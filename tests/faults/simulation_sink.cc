#include "tests/faults/simulation_sink.h"

#include <algorithm>
#include <utility>

namespace outfall::test::simulation {

ModelSink::ModelSink(World& world, ModelDatabase& database) : world_(world), database_(database) {
  for (int lane = 0; lane < kLanes; ++lane)
    lanes_[static_cast<std::size_t>(lane)].name =
        world.history.sinks.of(ModelDatabase::lane_name(lane));
}

void ModelSink::trouble(int lane, Trouble trouble, MonotonicTime until) {
  lanes_[static_cast<std::size_t>(lane)].trouble = trouble;
  lanes_[static_cast<std::size_t>(lane)].until = until;
}

void ModelSink::send(EntryId entry, int lane, std::function<void(Answer)> answered) {
  const Lane& to = lanes_[static_cast<std::size_t>(lane)];
  const Trouble trouble = trouble_of(to);
  if (trouble == Trouble::refuses) {
    world_.after(world_.between(50, 2000), [answered = std::move(answered)] {
      answered({Outcome::of(OutcomeKind::destination_unavailable, "model.refused", ""), false});
    });
    return;
  }
  // What hangs gets through when the trouble is over, long after its sender has given up.
  const MonotonicTime from = trouble == Trouble::hangs ? to.until : world_.now();
  world_.at(from + world_.between(50, slowest_us_ / 2),
            [this, entry, lane, answered = std::move(answered)] { arrive(entry, lane, answered); });
}

void ModelSink::arrive(EntryId entry, int lane, std::function<void(Answer)> answered) {
  Lane& at = lanes_[static_cast<std::size_t>(lane)];
  Row& row = database_.row(entry);
  Answer answer{Outcome::delivered(), true};
  const bool loses = trouble_of(at) == Trouble::loses_answers && world_.chance(0.6);
  if (loses && world_.chance(0.3)) {
    answer = {Outcome::of(OutcomeKind::possibly_delivered, "model.reset", ""), false};
    answer.outcome.connection_lost = true;  // before it had it
  } else if (row.nature == Row::Nature::poison) {
    answer.outcome = Outcome::of(OutcomeKind::failed, "model.poison", "");
  } else if (row.nature == Row::Nature::stubborn) {
    answer.outcome = Outcome::of(OutcomeKind::retryable_failure, "model.stubborn", "");
  } else if (row.nature == Row::Nature::refused_at_first && row.refusals > 0) {
    --row.refusals;
    answer.outcome = Outcome::of(OutcomeKind::retryable_failure, "model.later", "");
  } else {
    accept(row, at);
    if (loses) {
      answer = {Outcome::of(OutcomeKind::possibly_delivered, "model.reset", ""), false};
      answer.outcome.connection_lost = true;
    }
  }
  world_.after(world_.between(50, slowest_us_ / 2),
               [answered = std::move(answered), answer = std::move(answer)]() mutable {
                 answered(std::move(answer));
               });
}

void ModelSink::accept(Row& row, Lane& lane) {
  world_.history.arrivals.push_back(
      {.entry = row.entry, .sink = lane.name, .seq = ++lane.seq, .at = world_.micros()});
  world_.trace("sink  {} of {} arrived at {}", row.id,
               row.key < 0 ? "no key" : ModelDatabase::key_name(row.key),
               ModelDatabase::lane_name(row.lane));
}

}  // namespace outfall::test::simulation
