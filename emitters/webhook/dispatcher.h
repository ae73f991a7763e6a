#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "emitter/emitter.h"
#include "emitters/webhook/endpoint.h"
#include "emitters/webhook/multi_loop.h"
#include "emitters/webhook/options.h"
#include "emitters/webhook/request.h"
#include "emitters/webhook/transfer.h"

namespace outfall::webhook {

// The metrics of this kind, in the order of metrics().
enum class Metric : std::size_t {
  queue_entries,
  requests_in_flight,
  endpoints,
  connections,
  connections_opened,
  answers,
  refused_addresses,
};
[[nodiscard]] std::span<const EmitterMetricSpec> metrics() noexcept;

// Holds the entries of each endpoint in a queue of its own, sends them as the endpoint's pace
// allows, and completes them. Endpoints take turns, so that none delays another.
//
// Belongs to one thread, the one that calls turn(); only wake() is for others. take() and turn()
// never wait for an endpoint. Exceptions inside become outcomes; none leaves but from the
// constructor.
class Dispatcher {
 public:
  Dispatcher(WebhookOptions& options, const EmitterContext& context);
  ~Dispatcher();

  void take(EmitBatch batch) noexcept;
  // Starts what can be started, waits at most so long for something to happen, and completes.
  void turn(Milliseconds at_most) noexcept;
  void wake() noexcept { loop_.wake(); }

  [[nodiscard]] bool is_idle() const noexcept { return in_flight_ == 0 && queued_ == 0; }
  // What waits completes as `shutdown`.
  void shut_down_queues() noexcept;
  // What is out as well, as `possibly_delivered` where the endpoint may have it.
  void abort_all() noexcept;

 private:
  // A transfer with the entries that it carries.
  struct Delivery : Transfer {
    using Transfer::Transfer;
    Endpoint* endpoint = nullptr;
    std::vector<QueuedItem> items;
    MonotonicTime started{};
    std::size_t place = 0;  // in active_
  };

  void take_item(const EmitItem& item, HeldBatch& batch);
  // The endpoint of an item; null where its URL cannot be made, and the item is complete then.
  Endpoint* endpoint_of(const EmitItem& item, const QueuedItem& queued);
  Endpoint& endpoint_named(std::string_view name);
  // The URL of the item in url_, or false, and the item is complete.
  bool make_url(const QueuedItem& queued, Endpoint& endpoint);
  void complete_bad_url(const QueuedItem& queued, std::string_view problem);
  void complete_without_url(const QueuedItem& queued, const UrlProblem& problem);
  void complete_bad_url(const QueuedItem& queued, std::string_view problem, bool parks);

  void start_ready();
  // False: it failed, as for want of memory; nothing may have left the queue.
  bool start_one(Endpoint& endpoint);
  bool gather(Endpoint& endpoint, Delivery& delivery);
  // Builds the request of what was gathered. False: it cannot be sent, and is complete.
  bool build(Delivery& delivery);
  void launch(Endpoint& endpoint, std::unique_ptr<Delivery> delivery);
  // False: it must not be sent, and is complete.
  bool may_send(const QueuedItem& queued, MonotonicTime now, Milliseconds timeout);
  void schedule(Endpoint& endpoint);
  void wake_waiting(MonotonicTime now);

  std::unique_ptr<Delivery> idle_delivery();
  std::unique_ptr<Delivery> retire(Delivery& delivery) noexcept;
  void finish(Delivery& ended, CURLcode code) noexcept;
  void note(Endpoint& endpoint, const Delivery& delivery, const Attempt& attempt,
            MonotonicTime now);
  bool isolate(Endpoint& endpoint, Delivery& delivery) noexcept;
  // Completes what a request carried by what it has shown, or by the exception `first`.
  void complete_all(const Delivery& delivery, const Attempt& attempt, Outcome first,
                    const std::string& record_id, std::chrono::microseconds duration) noexcept;
  void note_gone(Delivery& delivery, std::string stream, const Attempt& attempt) noexcept;
  // Completes an item whose URL is gone; false: it is not.
  bool answer_gone(const QueuedItem& queued, const Endpoint& endpoint,
                   const std::string& url) noexcept;
  bool answer_unsent(const QueuedItem& queued, const Endpoint& endpoint,
                     MonotonicTime now) noexcept;

  void complete(const QueuedItem& queued, Outcome outcome,
                std::chrono::microseconds duration = {}) noexcept;
  void complete_kind(const QueuedItem& queued, OutcomeKind kind) noexcept;
  void flush() noexcept;
  void sweep(MonotonicTime now);
  void publish() noexcept;

  static constexpr std::size_t kMostIdleTransfers = 256;

  WebhookOptions& options_;
  CompletionSink& sink_;
  const Clock& clock_;
  EmitterReporter& reporter_;
  const Pace::Limits limits_;
  const std::size_t max_in_flight_;
  MultiLoop loop_;
  RequestBuilder builder_;

  std::unordered_map<std::string, std::unique_ptr<Endpoint>> endpoints_;
  std::deque<Endpoint*> ready_;
  std::multimap<MonotonicTime, Endpoint*> waiting_;
  std::vector<std::unique_ptr<Delivery>> active_;
  std::vector<std::unique_ptr<Delivery>> idle_;
  std::size_t in_flight_ = 0;  // requests
  std::size_t queued_ = 0;     // entries
  std::uint64_t batches_ = 0;  // taken so far

  std::vector<Completion> completions_;
  std::vector<HeldBatch*> finished_batches_;
  std::vector<const Envelope*> envelopes_;
  std::string url_;
  std::string fixed_endpoint_;  // of entries without a lane, where the URL's host is fixed
  MonotonicTime swept_at_{};
  // What happened since it was last published.
  std::array<std::uint64_t, 5> answers_{};  // by class
  std::uint64_t refused_addresses_ = 0;
  std::uint64_t opened_ = 0;  // sockets, published
  std::uint64_t changes_ = 0;
  std::uint64_t published_changes_ = 0;
};

}  // namespace outfall::webhook
