#include <utility>

#include "tests/faults/simulation_worker.h"

namespace outfall::test::simulation {

ModelEmitter::ModelEmitter(World& world, ModelDatabase& database, ModelSink& sink,
                           ModelWorker& worker, std::int32_t key_window)
    : world_(world), database_(database), sink_(sink), worker_(worker) {
  capabilities_.key_window = key_window;
}

void ModelEmitter::emit(EmitBatch batch) noexcept {
  for (EmitItem& item : batch.items) {
    auto job = std::make_shared<Job>(Job{item, batch.owner, batch.deadline});
    if (item.run == nullptr) {
      start(job);
      continue;
    }
    std::deque<JobPtr>& run = runs_[item.run];
    run.push_back(job);
    if (run.size() == 1) start(job);
  }
}

void ModelEmitter::start(const JobPtr& job) {
  if (job->item.blocked())
    return complete(job, Outcome::of(OutcomeKind::blocked, "model.blocked", ""));
  const bool lasts =
      job->deadline == nullptr || world_.now() + kAttemptTimeout <= job->deadline->at();
  if (stopping_ || !lasts) {
    job->item.break_run();
    return complete(job, Outcome::of(OutcomeKind::shutdown, "model.shutdown", ""));
  }
  send(job);
}

void ModelEmitter::send(const JobPtr& job) {
  const EntryId id = job->item.envelope->entry_id;
  world_.trace("w{}    sends {}", worker_.number(), id);
  if (!worker_.present())
    world_.defect("entry " + std::to_string(id) + " was sent by a worker without a presence");
  const auto answered = [this, job, id](ModelSink::Answer answer) {
    if (answer.chargeable) ++database_.row(id).chargeable;
    auto outcome = std::make_shared<Outcome>(std::move(answer.outcome));
    if (world_.flaw == Flaw::outage && outcome->kind == OutcomeKind::destination_unavailable)
      outcome->kind = OutcomeKind::retryable_failure;
    worker_.later(world_.now(), [this, job, outcome] { complete(job, std::move(*outcome)); });
  };
  sink_.send(id, database_.row(id).lane, answered);
  if (world_.flaw == Flaw::answer) return complete(job, Outcome::delivered());
  worker_.later(world_.now() + kAttemptTimeout, [this, job, id] {
    if (job->done) return;
    ++database_.row(id).chargeable;
    complete(job, Outcome::of(OutcomeKind::possibly_delivered, "model.timeout", ""));
  });
}

void ModelEmitter::complete(const JobPtr& job, Outcome outcome) {
  if (std::exchange(job->done, true)) return;
  KeyRun* run = job->item.run;
  if (outcome.kind != OutcomeKind::delivered) job->item.break_run();
  worker_.complete({job->item.token, std::move(outcome)});
  if (run != nullptr) next_of(run);
}

void ModelEmitter::next_of(KeyRun* run) {
  const auto found = runs_.find(run);
  if (found == runs_.end()) return;
  found->second.pop_front();
  if (found->second.empty()) {
    runs_.erase(found);
    return;
  }
  start(JobPtr(found->second.front()));
}

}  // namespace outfall::test::simulation
