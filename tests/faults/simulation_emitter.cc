#include <algorithm>
#include <utility>

#include "tests/faults/simulation_worker.h"

namespace outfall::test::simulation {

ModelEmitter::ModelEmitter(World& world, ModelDatabase& database, ModelSink& sink,
                           ModelWorker& worker, std::int32_t key_window)
    : world_(world),
      database_(database),
      sink_(sink),
      worker_(worker),
      at_a_time_(1 + static_cast<int>(world.up_to(11))) {
  capabilities_.key_window = key_window;
}

void ModelEmitter::emit(EmitBatch batch) noexcept {
  const auto shared = std::make_shared<const EmitBatch>(std::move(batch));
  for (const EmitItem& item : shared->items) {
    auto job = std::make_shared<Job>(Job{item, shared});
    if (item.run == nullptr) {
      line_up(job);
      continue;
    }
    auto run = run_of(item.run);
    if (run == runs_.end()) run = runs_.insert(run, {item.run, {}});
    run->jobs.push_back(job);
    if (run->jobs.size() == 1) line_up(job);
  }
}

std::vector<ModelEmitter::Run>::iterator ModelEmitter::run_of(const KeyRun* key) {
  return std::find_if(runs_.begin(), runs_.end(), [key](const Run& run) { return run.key == key; });
}

ModelEmitter::Line& ModelEmitter::line_of(const Job& job) {
  const int lane = database_.row(job.item.envelope->entry_id).lane;
  return lines_[static_cast<std::size_t>(lane)];
}

void ModelEmitter::line_up(const JobPtr& job) {
  Line& line = line_of(*job);
  line.waiting.push_back(job);
  serve(line);
}

void ModelEmitter::serve(Line& line) {
  while (!line.waiting.empty() && line.sending < at_a_time_) {
    const JobPtr job = line.waiting.front();
    line.waiting.pop_front();
    start(job);
  }
}

// With the flaw as if the breaker had closed again after each entry that it stopped.
bool ModelEmitter::blocked(const EmitItem& item) {
  if (world_.flaw != Flaw::gate || item.gate == nullptr) return item.blocked();
  if (item.run != nullptr && item.run->broken) return true;
  stops_this_ = item.gate->closings != item.gate_closings && !stops_this_;
  return stops_this_;
}

void ModelEmitter::start(const JobPtr& job) {
  if (blocked(job->item))
    return complete(job, Outcome::of(OutcomeKind::blocked, "model.blocked", ""));
  const bool lasts = world_.now() + kAttemptTimeout <= job->batch->send_until();
  if (stopping_ || !lasts) {
    job->item.break_run();
    return complete(job, Outcome::of(OutcomeKind::shutdown, "model.shutdown", ""));
  }
  job->sending = true;
  ++line_of(*job).sending;
  send(job);
}

void ModelEmitter::send(const JobPtr& job) {
  const EntryId id = job->item.envelope->entry_id;
  world_.trace("w{}    sends {}", worker_.number(), id);
  if (!worker_.present())
    world_.defect("entry " + std::to_string(id) + " was sent by a worker without a presence");
  sink_.send(id, database_.row(id).lane, [this, job = job, id](ModelSink::Answer answer) {
    if (answer.chargeable) ++database_.row(id).chargeable;
    Outcome& outcome = answer.outcome;
    if (world_.flaw == Flaw::outage && outcome.kind == OutcomeKind::destination_unavailable)
      outcome.kind = OutcomeKind::retryable_failure;
    worker_.later(world_.now(), [this, job, outcome = std::move(outcome)]() mutable {
      complete(job, std::move(outcome));
    });
  });
  if (world_.flaw == Flaw::answer) return complete(job, Outcome::delivered());
  worker_.later(world_.now() + kAttemptTimeout, [this, job = job, id] {
    if (job->done) return;
    ++database_.row(id).chargeable;
    complete(job, Outcome::of(OutcomeKind::possibly_delivered, "model.timeout", ""));
  });
}

void ModelEmitter::complete(const JobPtr& job, Outcome outcome) {
  if (std::exchange(job->done, true)) return;
  KeyRun* run = job->item.run;
  const bool forgets = world_.flaw == Flaw::gate && outcome.kind == OutcomeKind::blocked;
  if (outcome.kind != OutcomeKind::delivered && !forgets) job->item.break_run();
  worker_.complete({job->item.token, std::move(outcome)});
  if (run != nullptr) next_of(run);
  if (!job->sending) return;
  Line& line = line_of(*job);
  --line.sending;
  serve(line);
}

void ModelEmitter::next_of(KeyRun* run) {
  const auto found = run_of(run);
  if (found == runs_.end()) return;
  found->jobs.erase(found->jobs.begin());
  if (found->jobs.empty()) {
    runs_.erase(found);
    return;
  }
  line_up(JobPtr(found->jobs.front()));
}

}  // namespace outfall::test::simulation
