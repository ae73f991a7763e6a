#include "emitters/webhook/dispatcher.h"

#include <algorithm>
#include <array>
#include <sys/resource.h>
#include <utility>

#include "core/crash_point.h"
#include "emitter/guard.h"

namespace outfall::webhook {
namespace {

constexpr Milliseconds kSweepInterval{500};
constexpr std::size_t kMostIdleConnections = 1024;
// Descriptors that are left to the rest of the process.
constexpr std::size_t kReservedFiles = 128;
constexpr std::size_t kFewestConnections = 16;
// libcurl takes no head above 1 MiB and says then that it is out of memory, which would pass. No
// server that is known takes one of this size.
constexpr std::size_t kMostHeadBytes = 512 << 10;

std::size_t connections_within_limits(std::size_t wanted) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) return wanted;
  const auto most = static_cast<std::size_t>(files.rlim_cur);
  // Idle connections stay open beside those in use.
  const std::size_t usable = most > kReservedFiles ? (most - kReservedFiles) / 2 : 0;
  return std::clamp(usable, kFewestConnections, std::max(wanted, kFewestConnections));
}

}  // namespace

Dispatcher::Dispatcher(WebhookOptions& options, const EmitterContext& context)
    : options_(options),
      sink_(context.sink),
      clock_(context.clock),
      reporter_(context.reporter),
      limits_{.max_in_flight = options.max_in_flight,
              .rate_per_second = options.rate_per_second,
              .timeout = options.timeout},
      max_in_flight_(connections_within_limits(options.max_connections)),
      loop_(
          {.idle_connections = static_cast<long>(std::min(max_in_flight_, kMostIdleConnections))}),
      builder_(options) {
  idle_.reserve(kMostIdleTransfers);
  if (max_in_flight_ < options.max_connections) {
    reporter_.log(ReportLevel::info, {}, "the limit of open files lowers max_connections",
                  std::to_string(max_in_flight_));
  }
  for (const std::string& key : options_.signer.public_keys()) {
    reporter_.log(ReportLevel::info, {}, "receivers verify with this public key", key);
  }
  if (!options_.url.host_is_fixed()) return;
  const auto target = target_of(options_.url.host_url());
  if (const auto* fixed = std::get_if<UrlTarget>(&target)) fixed_endpoint_ = fixed->origin();
}

Dispatcher::~Dispatcher() {
  shut_down_queues();
  abort_all();
  publish();
}

void Dispatcher::take(EmitBatch batch) noexcept {
  if (batch.items.empty()) return;
  // Whoever completes the last item may free all of them.
  const std::size_t count = batch.items.size();
  HeldBatch* held = nullptr;
  std::size_t next = 0;
  try {
    held = new HeldBatch{std::move(batch), count, ++batches_};
    completions_.reserve(completions_.size() + count);
    for (; next < count; ++next) take_item(held->batch.items[next], *held);
  } catch (...) {
    if (held == nullptr) return complete_with_current_exception(batch, sink_);
    for (; next < count; ++next) {
      complete({&held->batch.items[next], held}, outcome_of_current_exception());
    }
  }
  ++changes_;
}

void Dispatcher::take_item(const EmitItem& item, HeldBatch& batch) {
  const QueuedItem queued{&item, &batch};
  Endpoint* const endpoint = endpoint_of(item, queued);
  if (endpoint == nullptr) return;
  endpoint->queue.push_back(queued);
  ++queued_;
  try {
    schedule(*endpoint);
  } catch (...) {  // Out of memory: it is in the queue, and the next sweep schedules it.
  }
}

Endpoint* Dispatcher::endpoint_of(const EmitItem& item, const QueuedItem& queued) {
  if (!item.lane.empty()) return &endpoint_named(item.lane);
  if (!fixed_endpoint_.empty()) return &endpoint_named(fixed_endpoint_);
  url_.clear();
  if (auto problem = options_.url.expand(*item.envelope, url_)) {
    complete_without_url(queued, *problem);
    return nullptr;
  }
  auto target = target_of(url_);
  if (auto* problem = std::get_if<std::string>(&target)) {
    complete_bad_url(queued, *problem);
    return nullptr;
  }
  return &endpoint_named(std::get<UrlTarget>(target).origin());
}

Endpoint& Dispatcher::endpoint_named(std::string_view name) {
  std::string key(name);
  if (const auto found = endpoints_.find(key); found != endpoints_.end()) return *found->second;
  auto endpoint = std::make_unique<Endpoint>(key, limits_);
  return *endpoints_.emplace(std::move(key), std::move(endpoint)).first->second;
}

bool Dispatcher::make_url(const QueuedItem& queued, Endpoint& endpoint) {
  url_.clear();
  if (auto problem = options_.url.expand(*queued.item->envelope, url_)) {
    complete_without_url(queued, *problem);
    return false;
  }
  if (url_ == endpoint.checked_url) return true;
  auto target = target_of(url_);
  if (auto* problem = std::get_if<std::string>(&target)) {
    complete_bad_url(queued, "the URL is not fit to be sent to: " + *problem);
    return false;
  }
  const auto& known = std::get<UrlTarget>(target);
  if (!options_.url.host_is_fixed() &&
      !options_.allow_hosts.allows(known, options_.url.port_is_fixed())) {
    complete_bad_url(queued,
                     known.host + ":" + std::to_string(known.port) + " is not among allow_hosts");
    return false;
  }
  endpoint.checked_url = url_;
  return true;
}

// A URL that leads nowhere is the destination's where the entry has a lane: the others of the lane
// lead there too. Without one it would stop every entry of the stream, so it is the entry's own
// fault.
void Dispatcher::complete_bad_url(const QueuedItem& queued, std::string_view problem) {
  complete_bad_url(queued, problem, !queued.item->lane.empty() || options_.url.is_fixed());
}

// What an entry does not have is not its lane, and others of the lane may have it. What it has and
// does not fit is the destination's in the host, and where it is the lane itself.
void Dispatcher::complete_without_url(const QueuedItem& queued, const UrlProblem& problem) {
  const std::string_view lane = queued.item->lane;
  const bool is_of_lane = problem.in_host || problem.value == lane;
  complete_bad_url(queued, problem.text, !lane.empty() && !problem.value.empty() && is_of_lane);
}

void Dispatcher::complete_bad_url(const QueuedItem& queued, std::string_view problem, bool parks) {
  Attempt attempt;
  attempt.fault = Fault::bad_url;
  attempt.detail = problem;
  Outcome outcome = classify(attempt, options_.statuses);
  if (!parks) {
    outcome.kind = OutcomeKind::failed;
    outcome.destination_asked = false;
    outcome.parks_destination = false;
  }
  complete(queued, std::move(outcome));
}

// Puts an endpoint where it belongs: among those that may send, those that wait for a time, or
// neither.
void Dispatcher::schedule(Endpoint& endpoint) {
  if (endpoint.ready || endpoint.waiting || endpoint.queue.empty()) return;
  if (endpoint.in_flight >= endpoint.pace.window()) return;
  const MonotonicTime now = clock_.monotonic();
  const MonotonicTime at = endpoint.pace.next_at(now);
  if (at > now) {
    waiting_.emplace(at, &endpoint);
    endpoint.waiting = true;
  } else {
    ready_.push_back(&endpoint);
    endpoint.ready = true;
  }
}

void Dispatcher::wake_waiting(MonotonicTime now) {
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    Endpoint& endpoint = *waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    endpoint.waiting = false;
    schedule(endpoint);
  }
}

void Dispatcher::start_ready() {
  while (!ready_.empty() && in_flight_ < max_in_flight_) {
    Endpoint& endpoint = *ready_.front();
    ready_.pop_front();
    endpoint.ready = false;
    const bool has_memory = start_one(endpoint);
    schedule(endpoint);
    // What could not even be taken out of the queue would be tried for ever in here.
    if (!has_memory) return;
  }
}

bool Dispatcher::start_one(Endpoint& endpoint) {
  std::unique_ptr<Delivery> delivery;
  try {
    delivery = idle_delivery();
    if (!gather(endpoint, *delivery) || !build(*delivery)) {
      idle_.push_back(std::move(delivery));
      return true;
    }
    active_.reserve(active_.size() + 1);
    if (!delivery->start(url_, endpoint.pace.timeout())) throw std::bad_alloc();
  } catch (...) {
    if (!delivery) return false;
    for (const QueuedItem& queued : delivery->items) {
      complete(queued, outcome_of_current_exception());
    }
    return false;
  }
  launch(endpoint, std::move(delivery));
  return true;
}

bool Dispatcher::build(Delivery& delivery) {
  envelopes_.clear();
  for (const QueuedItem& queued : delivery.items) envelopes_.push_back(queued.item->envelope);
  builder_.build(delivery.request(), envelopes_, clock_.wall());
  const std::size_t bytes = delivery.request().head_bytes() + url_.size();
  if (bytes <= kMostHeadBytes) return true;
  Attempt attempt;
  attempt.fault = Fault::headers_too_large;
  const std::string detail = "the URL and the headers have " + std::to_string(bytes) +
                             " bytes; more than 512 KiB are not sent";
  attempt.detail = detail;
  while (!delivery.items.empty()) {
    Outcome outcome = classify(attempt, options_.statuses);
    complete(delivery.items.back(), std::move(outcome));
    delivery.items.pop_back();
  }
  return false;
}

void Dispatcher::launch(Endpoint& endpoint, std::unique_ptr<Delivery> delivery) {
  const MonotonicTime now = clock_.monotonic();
  delivery->endpoint = &endpoint;
  delivery->started = now;
  delivery->place = active_.size();
  endpoint.pace.spend(delivery->items.size(), now);
  endpoint.used_at = now;
  ++endpoint.in_flight;
  ++in_flight_;
  ++changes_;
  active_.push_back(std::move(delivery));
  OUTFALL_CRASH_POINT("webhook", "requested");
}

// Takes the entries of the next request out of the queue, with their URL in url_. False: nothing of
// the queue may be sent now.
bool Dispatcher::gather(Endpoint& endpoint, Delivery& delivery) {
  constexpr std::size_t kMostBatchBytes = 1 << 20;
  const MonotonicTime now = clock_.monotonic();
  const Milliseconds timeout = endpoint.pace.timeout();
  const std::size_t most = options_.body == BodyFormat::batch ? options_.batch_entries : 1;
  std::string url;
  std::size_t bytes = 0;
  delivery.items.clear();
  delivery.items.reserve(most);
  while (!endpoint.queue.empty() && delivery.items.size() < most) {
    const QueuedItem queued = endpoint.queue.front();
    const std::size_t size = queued.item->envelope->payload.size();
    const bool is_first = delivery.items.empty();
    if (!is_first && (queued.alone || bytes + size > kMostBatchBytes)) break;
    endpoint.queue.pop_front();
    --queued_;
    // From here on it is completed with the delivery's, should anything below throw.
    delivery.items.push_back(queued);
    if (!may_send(queued, now, timeout) || !make_url(queued, endpoint) ||
        answer_gone(queued, endpoint, url_)) {
      delivery.items.pop_back();
      continue;
    }
    if (!is_first && url_ != url) {
      endpoint.queue.push_front(queued);
      ++queued_;
      delivery.items.pop_back();
      break;
    }
    if (is_first) url = url_;
    bytes += size;
    if (queued.alone) break;
  }
  url_ = std::move(url);
  return !delivery.items.empty();
}

bool Dispatcher::may_send(const QueuedItem& queued, MonotonicTime now, Milliseconds timeout) {
  if (queued.item->blocked()) {
    complete_kind(queued, OutcomeKind::blocked);
    return false;
  }
  if (queued.batch->batch.send_until() < now + timeout) {
    complete_kind(queued, OutcomeKind::shutdown);
    return false;
  }
  return true;
}

std::unique_ptr<Dispatcher::Delivery> Dispatcher::idle_delivery() {
  if (idle_.empty()) return std::make_unique<Delivery>(options_, loop_);
  std::unique_ptr<Delivery> delivery = std::move(idle_.back());
  idle_.pop_back();
  return delivery;
}

void Dispatcher::turn(Milliseconds at_most) noexcept {
  const MonotonicTime before = clock_.monotonic();
  try {
    wake_waiting(before);
    start_ready();
    Milliseconds wait = completions_.empty() ? at_most : Milliseconds{0};
    if (!waiting_.empty()) {
      wait = std::min(wait, std::chrono::ceil<Milliseconds>(waiting_.begin()->first - before));
    }
    if (queued_ > 0 || changes_ != published_changes_) wait = std::min(wait, kSweepInterval);
    flush();
    loop_.turn(wait, [this](CURL* handle, CURLcode code) {
      finish(static_cast<Delivery&>(Transfer::of(handle)), code);
    });
    const MonotonicTime now = clock_.monotonic();
    if (now - swept_at_ >= kSweepInterval) {
      swept_at_ = now;
      sweep(now);
      publish();
    }
  } catch (...) {  // Out of memory: what is queued stays so until the next turn.
  }
  flush();
}

}  // namespace outfall::webhook
