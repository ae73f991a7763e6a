#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/envelope.h"
#include "core/outcome.h"
#include "core/setting.h"
#include "emitter/reporter.h"

namespace outfall {

// What the drain and the emitter both know about the items of one key that are out at the same
// time. Whoever learns that an item of the run did not get through breaks the run; from then on no
// item of it is sent, those that were not sent yet complete as `blocked`. The emitter breaks it
// before it completes an item as anything but delivered; the drain breaks it when a lease is lost.
// A broken run stays broken: the drain begins the next one once nothing of this one is out any
// more, so no batch that was put together before the failure became known can overtake the failed
// item.
struct KeyRun {
  std::atomic<bool> broken{false};
};

// What the drain and the emitter both know about a destination: when its breaker opens, what was
// handed over for it and not sent yet is not sent any more. The drain counts how often that has
// happened, and an item is let through only while the count is the one that it was
// handed over with. A count never comes back, so an item that was stopped stays stopped also when
// the destination answers again meanwhile, and nothing overtakes it.
struct LaneGate {
  std::atomic<std::uint32_t> closings{0};
};

// One envelope to deliver. `token` is the drain's own and comes back unchanged in the Completion.
struct EmitItem {
  const Envelope* envelope = nullptr;
  std::uint64_t token = 0;
  // The destination inside the stream that the drain took this entry for; empty where it has no
  // lanes.
  std::string_view lane = {};
  // The run of its key; null where there is no order to keep (no key, or ordering = "none"). May be
  // touched until the item is completed, and not after that.
  KeyRun* run = nullptr;
  // The gate of its destination, and the count that it was handed over with; null for a probe of a
  // breaker that is open, and where there is none. As long-lived as `run`.
  const LaneGate* gate = nullptr;
  std::uint32_t gate_closings = 0;

  // Whether this one must not be sent: an earlier item of its key did not get through, or its
  // destination went away. Then the later ones of its key must not be sent either, so that this
  // breaks their run. Once true it stays true.
  [[nodiscard]] bool blocked() const noexcept {
    if (run != nullptr && run->broken.load(std::memory_order_acquire)) return true;
    if (gate == nullptr || gate->closings.load(std::memory_order_acquire) == gate_closings)
      return false;
    break_run();
    return true;
  }
  // To be called before the item completes as anything but delivered.
  void break_run() const noexcept {
    if (run != nullptr) run->broken.store(true, std::memory_order_release);
  }
};

// Until when the lease of a batch surely lasts. The drain moves it on with every renewal, and into
// the past when the lease is lost or may be; emitters only read it. From any thread.
class SendDeadline {
 public:
  explicit SendDeadline(MonotonicTime at) noexcept : at_(at) {}
  [[nodiscard]] MonotonicTime at() const noexcept { return at_.load(std::memory_order_relaxed); }
  void move(MonotonicTime at) noexcept { at_.store(at, std::memory_order_relaxed); }
  // Into the past, from which nothing is sent. Not to the smallest time that there is: what is left
  // until then is more than a duration holds, and would count as a long time to come.
  void end() noexcept { move(MonotonicTime{}); }

 private:
  std::atomic<MonotonicTime> at_;
};

// Envelopes of one stream, those of one key in the order in which they are to be delivered. Items
// and all that they point to live as long as any copy of `owner`; an emitter that keeps an item
// beyond emit() keeps a copy of it until it has completed that item.
struct EmitBatch {
  std::vector<EmitItem> items;
  std::shared_ptr<const void> owner;
  // The lease may be lost after this: start no delivery that may outlast it, but complete the item
  // as `shutdown`. To be read anew before each delivery. Null: no limit.
  std::shared_ptr<const SendDeadline> deadline;

  [[nodiscard]] MonotonicTime send_until() const noexcept {
    return deadline == nullptr ? MonotonicTime::max() : deadline->at();
  }
};

// The end of one item: its outcome, exactly one for each item that was handed over.
struct Completion {
  std::uint64_t token = 0;  // EmitItem::token
  Outcome outcome;
  std::chrono::microseconds duration{0};  // of the attempt, where the emitter measured it
};

// Receives results. complete() may be called from any thread, also from inside emit(); it never
// blocks for I/O and never calls back into the emitter. Moves the outcomes out of the span.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void complete(std::span<Completion> completions) noexcept = 0;
};

// What an emitter can do, as data, so that the drain decides and nobody asks for its name.
struct Capabilities {
  // How many envelopes of one key it takes at a time, keeping their order; 0: any number. With
  // more than one it answers `blocked` for those that it did not send because their run is broken.
  std::int32_t key_window = 1;
  bool dry_run = false;
  bool rollback = false;
  // How many envelopes and payload bytes it is willing to hold; the drain stays below.
  std::size_t max_in_flight = 1000;
  std::size_t max_in_flight_bytes = 16u << 20;
};

// Hands envelopes to a sink. The contract in MUST/SHOULD form is lib/emitter/README.md; every
// emitter passes lib/emitter's conformance suite.
//
// Threads: emit() is called by one thread at a time; stop() once, after the last emit(). An emitter
// runs its own threads or event loop where it needs them and joins them in stop() or its
// destructor. Ownership: the sink outlives the emitter. Blocking: emit() only queues or does
// bounded memory work. Failure: nothing is thrown across this boundary; what goes wrong is an
// Outcome.
class Emitter {
 public:
  virtual ~Emitter() = default;
  Emitter() = default;
  Emitter(const Emitter&) = delete;
  Emitter& operator=(const Emitter&) = delete;

  [[nodiscard]] virtual const Capabilities& capabilities() const noexcept = 0;

  // Completes every item of the batch exactly once, now or later, with any outcome.
  virtual void emit(EmitBatch batch) noexcept = 0;

  // Ends within `timeout`: what was sent is awaited that long, the rest completes as `shutdown`
  // (not sent) or `possibly_delivered` (sent, unanswered). Every item is complete when it returns.
  virtual void stop(Milliseconds timeout) noexcept = 0;

  // Whether the sink answers, for `check-config --connect` and doctor: one line for people. May
  // block for up to `timeout`. `ok` means that a delivery could succeed.
  struct Health {
    bool ok = true;
    std::string detail;
  };
  [[nodiscard]] virtual Health check(Milliseconds timeout) noexcept = 0;
};

// What an emitter is built from. All references outlive the emitter.
struct EmitterContext {
  std::string name;  // of its table: [emitters.<name>]
  const SettingValues& settings;
  CompletionSink& sink;
  const Clock& clock;
  Random& random;
  EmitterReporter& reporter;
  // The largest payload that a stream of this emitter lets in; 0: no limit is set.
  std::int64_t max_payload_bytes = 0;
};

// One kind of emitter, for the registry: `kind = "<kind>"` in the configuration.
struct EmitterKind {
  std::string_view kind = {};
  std::string_view summary = {};               // one sentence for the reference
  std::span<const SettingSpec> settings = {};  // rows below [emitters.<name>]
  // Rules over several settings that specs cannot say. Also asked where some settings are wrong, so
  // that all mistakes are told at once: what is found at a setting that is not usable() is dropped,
  // and a rule that concludes something about another one from it must not. Must not do I/O beyond
  // reading named files.
  std::function<std::vector<SettingProblem>(const SettingValues&)> validate = {};
  // What valid settings name on this machine and is not fit for use now, though the emitter starts
  // and waits for it, such as a program: a sentence each, which begins with the setting's name.
  // check-config tells it, and the log of a worker that starts. Like validate for what it may do.
  std::function<std::vector<std::string>(const SettingValues&)> notes = {};
  // What names the destination of an entry, as the setting `lane` of a stream says it, for streams
  // that do not set it ("header.endpoint" where the URL is made of it). Not set, or empty: all
  // entries go to one destination.
  std::function<std::string(const SettingValues&)> lane = {};
  std::span<const EmitterMetricSpec> metrics = {};
  // The setting, a duration, that bounds one delivery attempt. Leases are renewed when a third of
  // them is over, so that an emitter that sends nothing which the lease may not outlast needs a
  // lease of twice that time; with a shorter one it would never send. Empty: it has none.
  std::string_view attempt_limit = {};
  // Throws std::runtime_error with a message for the operator when the emitter cannot be built;
  // std::system_error where the machine lacks something now (threads, descriptors), which no
  // setting mends and a later start may have.
  std::function<std::unique_ptr<Emitter>(EmitterContext)> create = {};
};

}  // namespace outfall
