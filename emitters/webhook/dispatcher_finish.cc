// The other half of the dispatcher: what happens to a request that has ended, and the
// house-keeping.
#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "core/crash_point.h"
#include "core/error_text.h"
#include "emitter/guard.h"
#include "emitters/webhook/dispatcher.h"

namespace outfall::webhook {
namespace {

constexpr std::chrono::minutes kEndpointRest{5};
// Of one that is slow it is worth more to know how slow.
constexpr std::chrono::hours kSlowEndpointRest{1};

constexpr auto kMetrics = std::to_array<EmitterMetricSpec>({
    {.name = "queue_entries", .help = "Entries that wait for their endpoint's turn"},
    {.name = "requests_in_flight", .help = "Requests without an answer yet"},
    {.name = "endpoints", .help = "Endpoints that are known at the moment"},
    {.name = "connections", .help = "Open connections, idle ones among them"},
    {.name = "connections_opened_total",
     .counter = true,
     .help = "Connections that were opened; many a request mean that none is used again"},
    {.name = "answers_total",
     .counter = true,
     .label = "class",
     .help = "Requests that ended, by the class of the status, or none"},
    {.name = "refused_addresses_total",
     .counter = true,
     .help = "Connections that were not opened because of the address"},
});

constexpr auto kClasses = std::to_array<std::string_view>({"none", "2xx", "3xx", "4xx", "5xx"});

// The place in kClasses.
std::size_t class_of(int status) {
  const int hundreds = status / 100;
  return hundreds >= 2 && hundreds <= 5 ? static_cast<std::size_t>(hundreds - 1) : 0;
}

bool is_overload(int status) {
  return status == 429 || (status >= 502 && status <= 504);
}

}  // namespace

std::span<const EmitterMetricSpec> metrics() noexcept {
  return kMetrics;
}

std::unique_ptr<Dispatcher::Delivery> Dispatcher::retire(Delivery& delivery) noexcept {
  std::unique_ptr<Delivery> mine = std::move(active_[delivery.place]);
  if (mine->place + 1 < active_.size()) {
    active_[mine->place] = std::move(active_.back());
    active_[mine->place]->place = mine->place;
  }
  active_.pop_back();
  --mine->endpoint->in_flight;
  --in_flight_;
  ++changes_;
  return mine;
}

void Dispatcher::finish(Delivery& ended, CURLcode code) noexcept {
  OUTFALL_CRASH_POINT("webhook", "answered");
  std::unique_ptr<Delivery> delivery = retire(ended);
  Endpoint& endpoint = *delivery->endpoint;
  const MonotonicTime now = clock_.monotonic();
  const auto duration =
      std::chrono::duration_cast<std::chrono::microseconds>(now - delivery->started);
  Attempt attempt;
  std::string record_id;
  std::string parked_stream;
  Outcome first = guarded([&] {
    attempt = delivery->attempt(code, clock_.wall());
    // When an endpoint falls silent, it has just answered others than those that it never will.
    attempt.endpoint_silent =
        endpoint.pace.silent_since(delivery->started + (now - delivery->started) / 2);
    note(endpoint, *delivery, attempt, now);
    Outcome outcome = classify(attempt, options_.statuses);
    if (outcome.kind == OutcomeKind::delivered) {
      record_id = std::to_string(attempt.status);
      if (const std::string id = delivery->request_id(); !id.empty()) record_id += " " + id;
      record_id += " " + std::to_string(duration.count() / 1000) + "ms";
    }
    if (outcome.parks_destination) {
      parked_stream = delivery->items.front().item->envelope->stream;
    }
    return outcome;
  });
  const bool parks = first.parks_destination;
  const bool has_to_be_split = first.kind == OutcomeKind::failed && delivery->items.size() > 1;
  if (!has_to_be_split || !isolate(endpoint, *delivery)) {
    // The one that is at fault is not known: none of them may be given up for it.
    if (has_to_be_split) first = guarded([]() -> Outcome { throw std::bad_alloc(); });
    complete_all(*delivery, attempt, std::move(first), record_id, duration);
  }
  if (parks) note_gone(*delivery, std::move(parked_stream), attempt);
  delivery->items.clear();
  if (idle_.size() < kMostIdleTransfers) idle_.push_back(std::move(delivery));
  try {
    schedule(endpoint);
  } catch (...) {  // Out of memory: the next sweep schedules it.
  }
}

void Dispatcher::complete_all(const Delivery& delivery, const Attempt& attempt, Outcome first,
                              const std::string& record_id,
                              std::chrono::microseconds duration) noexcept {
  const bool is_exception = first.kind == OutcomeKind::exception;
  for (const QueuedItem& queued : delivery.items) {
    Outcome outcome = guarded([&] {
      if (is_exception) return std::exchange(first, Outcome::of(OutcomeKind::exception, {}, {}));
      Outcome made = classify(attempt, options_.statuses);
      made.record_id = record_id;
      return made;
    });
    complete(queued, std::move(outcome), duration);
  }
}

// What an attempt says about its endpoint.
void Dispatcher::note(Endpoint& endpoint, const Delivery& delivery, const Attempt& attempt,
                      MonotonicTime now) {
  ++answers_[class_of(attempt.status)];
  if (attempt.status != 0) {
    const bool may_pause = attempt.status == 429 || attempt.status == 503;
    endpoint.pace.answered(delivery.started, now, is_overload(attempt.status),
                           may_pause ? attempt.retry_after : Milliseconds{-1});
  } else if (attempt.fault != Fault::local_resources) {
    endpoint.pace.unanswered(delivery.started, now, attempt.fault == Fault::timeout);
  }
  if (attempt.fault == Fault::blocked_address) {
    ++refused_addresses_;
    reporter_.log(ReportLevel::warning, "blocked_address",
                  "a webhook's address is not connected to",
                  loggable_lane(endpoint.name) + ": " + delivery.refused_address());
  }
}

// Puts the entries of a batch that was refused back, each to be sent by itself: only one of them
// may be at fault. False: out of memory, nothing was done.
bool Dispatcher::isolate(Endpoint& endpoint, Delivery& delivery) noexcept {
  for (QueuedItem& queued : delivery.items) queued.alone = true;
  try {
    endpoint.queue.insert(endpoint.queue.begin(), delivery.items.begin(), delivery.items.end());
  } catch (...) {
    return false;
  }
  queued_ += delivery.items.size();
  return true;
}

// An address that is gone for good is left alone at once: what waits for it gets the same answer
// without asking. Other streams, and other addresses of the endpoint, may well be served. It is
// only noted here, and held against what waits when that has its turn and by the sweep: a walk at
// each such answer would cost as many as wait, times the addresses that are gone.
void Dispatcher::note_gone(Delivery& delivery, std::string stream,
                           const Attempt& attempt) noexcept {
  try {
    GoneUrl& gone = delivery.endpoint->gone[{std::move(stream), delivery.url()}];
    gone.attempt = attempt;
    gone.detail = attempt.detail;
    gone.excerpt = attempt.excerpt;
    gone.newest_batch = batches_;
  } catch (const std::bad_alloc&) {  // It is asked about once more.
  }
}

bool Dispatcher::answer_gone(const QueuedItem& queued, const Endpoint& endpoint,
                             const std::string& url) noexcept {
  if (endpoint.gone.empty()) return false;
  try {
    const auto found = endpoint.gone.find({std::string(queued.item->envelope->stream), url});
    if (found == endpoint.gone.end()) return false;
    const GoneUrl& gone = found->second;
    if (queued.batch->number > gone.newest_batch) return false;
    Attempt attempt = gone.attempt;
    attempt.detail = gone.detail;
    attempt.excerpt = gone.excerpt;
    complete(queued, guarded([&] { return classify(attempt, options_.statuses); }));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void Dispatcher::complete(const QueuedItem& queued, Outcome outcome,
                          std::chrono::microseconds duration) noexcept {
  if (outcome.kind != OutcomeKind::delivered) queued.item->break_run();
  Completion completion{queued.item->token, std::move(outcome), duration};
  try {
    completions_.push_back(std::move(completion));
  } catch (...) {
    sink_.complete({&completion, 1});
  }
  HeldBatch* const batch = queued.batch;
  if (--batch->open > 0) return;
  try {
    finished_batches_.push_back(batch);
  } catch (...) {
    flush();
    delete batch;
  }
}

void Dispatcher::complete_kind(const QueuedItem& queued, OutcomeKind kind) noexcept {
  Outcome outcome;
  outcome.kind = kind;
  complete(queued, std::move(outcome));
}

// The sink first, the owners then: they must outlive their items.
void Dispatcher::flush() noexcept {
  if (!completions_.empty()) sink_.complete(completions_);
  completions_.clear();
  for (HeldBatch* const batch : finished_batches_) delete batch;
  finished_batches_.clear();
}

void Dispatcher::shut_down_queues() noexcept {
  for (auto& [name, endpoint] : endpoints_) {
    for (const QueuedItem& queued : endpoint->queue) complete_kind(queued, OutcomeKind::shutdown);
    endpoint->queue.clear();
  }
  queued_ = 0;
  flush();
}

void Dispatcher::abort_all() noexcept {
  while (!active_.empty()) {
    const std::unique_ptr<Delivery> delivery = retire(*active_.back());
    delivery->abort();
    for (const QueuedItem& queued : delivery->items) {
      if (!delivery->sent()) {
        complete_kind(queued, OutcomeKind::shutdown);
        continue;
      }
      Outcome outcome = guarded([] {
        return Outcome::of(OutcomeKind::possibly_delivered, "webhook.stopped",
                           "the worker stopped before the answer came");
      });
      // Nothing of it is the entry's fault.
      outcome.connection_lost = true;
      complete(queued, std::move(outcome));
    }
  }
  flush();
}

// Completes what is not to be sent any more although it had no turn yet; false: it waits on.
bool Dispatcher::answer_unsent(const QueuedItem& queued, const Endpoint& endpoint,
                               MonotonicTime now) noexcept {
  const bool is_blocked = queued.item->blocked();
  if (is_blocked || queued.batch->batch.send_until() <= now) {
    complete_kind(queued, is_blocked ? OutcomeKind::blocked : OutcomeKind::shutdown);
    return true;
  }
  if (endpoint.gone.empty()) return false;
  try {
    url_.clear();
    if (options_.url.expand(*queued.item->envelope, url_)) return false;
  } catch (const std::bad_alloc&) {
    return false;
  }
  return answer_gone(queued, endpoint, url_);
}

// Gives back what waits under a lease that is gone, behind a failed entry of its key or for a URL
// that is gone, and forgets endpoints that nobody has used for long.
void Dispatcher::sweep(MonotonicTime now) {
  for (auto it = endpoints_.begin(); it != endpoints_.end();) {
    Endpoint& endpoint = *it->second;
    queued_ -= std::erase_if(endpoint.queue, [&](const QueuedItem& queued) {
      return answer_unsent(queued, endpoint, now);
    });
    endpoint.gone.clear();
    schedule(endpoint);
    const MonotonicTime::duration rest =
        endpoint.pace.is_slow() ? kSlowEndpointRest : MonotonicTime::duration{kEndpointRest};
    const bool is_in_use = endpoint.ready || endpoint.waiting || endpoint.in_flight > 0 ||
                           !endpoint.queue.empty() || now - endpoint.used_at < rest;
    it = !is_in_use && endpoint.pace.is_rested(now) ? endpoints_.erase(it) : std::next(it);
  }
}

void Dispatcher::publish() noexcept {
  const auto set = [this](Metric metric, std::size_t value) {
    reporter_.set(static_cast<std::size_t>(metric), static_cast<double>(value));
  };
  const auto add = [this](Metric metric, std::uint64_t& amount, std::string_view label = {}) {
    if (amount == 0) return;
    reporter_.add(static_cast<std::size_t>(metric), static_cast<double>(amount), label);
    amount = 0;
  };
  set(Metric::queue_entries, queued_);
  set(Metric::requests_in_flight, in_flight_);
  set(Metric::endpoints, endpoints_.size());
  set(Metric::connections, loop_.open_sockets());
  std::uint64_t opened = loop_.opened_sockets() - std::exchange(opened_, loop_.opened_sockets());
  add(Metric::connections_opened, opened);
  for (std::size_t i = 0; i < answers_.size(); ++i) add(Metric::answers, answers_[i], kClasses[i]);
  add(Metric::refused_addresses, refused_addresses_);
  published_changes_ = changes_;
}

}  // namespace outfall::webhook
