#include "tests/faults/claim_torture_scene.h"

#include "tests/faults/claim_torture_run.h"

namespace outfall::test::torture {

namespace {

// Where a rule is left out, a drain may never end; nobody waits long for that.
constexpr milliseconds kDrainDeadline{20000};
constexpr milliseconds kFlawedDrainDeadline{300};
constexpr const char* kInsert =
    "INSERT INTO outbox.entries (stream, type, key, headers)"
    " VALUES ('s', 't', nullif($1, ''), jsonb_build_object('lane', $2::text)) RETURNING id";

}  // namespace

Producing::Producing(Scene& scene) : scene_(scene), session_(scene.database().connect()) {
  session_.exec("BEGIN");
}

EntryId Producing::insert(const std::string& key, const std::string& lane) {
  entries_.emplace_back(session_.number(kInsert, {key, lane}), key);
  return entries_.back().first;
}

void Producing::note_committed() {
  for (const auto& [id, key] : entries_) {
    scene_.history().add({.kind = Event::Kind::committed, .id = id, .number = id, .key = key});
  }
}

void Producing::commit() {
  session_.exec("COMMIT");
  note_committed();
}

void Producing::prepare() {
  session_.exec("PREPARE TRANSACTION 'torture'");
}

void Producing::commit_prepared() {
  session_.exec("COMMIT PREPARED 'torture'");
  note_committed();
}

Scene::Scene(const LeftOut& left_out)
    : left_out_(left_out), database_(left_out.patches), sql_(database_.connect()) {
  (void)sql_.query("SELECT register_streams('{s}')");
}

TortureWorker& Scene::worker(WorkerOptions options) {
  options.flaw = left_out_.worker_flaw;
  options.floor_flaw = left_out_.floor_flaw;
  workers_.push_back(
      std::make_unique<TortureWorker>(database_, history_, std::move(options), random_));
  return *workers_.back();
}

EntryId Scene::insert(const std::string& key, const std::string& lane) {
  const EntryId id = sql_.number(kInsert, {key, lane});
  history_.add({.kind = Event::Kind::committed, .id = id, .number = id, .key = key});
  return id;
}

void Scene::wait_until_expired(const TortureWorker& worker) {
  wait_until(
      [&] {
        return sql_.number(
                   "SELECT count(*) FROM leases WHERE worker = $1 AND expires_at <= "
                   "clock_timestamp()",
                   {worker.id()}) > 0;
      },
      "a lease to expire");
}

std::future<void> Scene::settle_beside(TortureWorker& worker) {
  std::future<void> settled = std::async(std::launch::async, [&worker] { worker.settle(); });
  wait_until(
      [&] {
        return settled.wait_for(milliseconds(0)) == std::future_status::ready ||
               sql_.number("SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted",
                           {std::to_string(worker.settling_backend())}) > 0;
      },
      "a settle to end or to wait");
  return settled;
}

void Scene::finish(WorkerOptions options) {
  TortureWorker& last = worker(std::move(options));
  const auto drained = [&] {
    (void)last.claim();
    last.send_all();
    last.settle();
    return sql_.value(
               "SELECT NOT EXISTS (SELECT FROM entries) AND NOT EXISTS (SELECT FROM leases)"
               " AND NOT EXISTS (SELECT FROM holds)") == "t";
  };
  (void)holds_within(drained, left_out_.nothing() ? kDrainDeadline : kFlawedDrainDeadline);
  final_ = read_final_state(sql_);
}

}  // namespace outfall::test::torture
