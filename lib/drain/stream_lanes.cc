// The lanes of StreamDrain: which one an entry belongs to, whether it may be sent to its
// destination, and what its outcome says about that.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error_text.h"
#include "core/headers.h"
#include "drain/stream_drain.h"

namespace outfall {

namespace {

constexpr std::size_t kManyLanes = 10000;

constexpr std::size_t kLaneCharacters = 200;

// The first characters of UTF-8 text, as many as sql's lane_of() takes.
std::string_view cut(std::string_view text) {
  if (text.size() <= kLaneCharacters) return text;
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    if (begins && ++characters > kLaneCharacters) return text.substr(0, i);
  }
  return text;
}

// The lane of an envelope by the stream's selector, as sql's lane_of() finds it; empty where there
// is none.
std::string_view select_lane(const std::string& selector, const Envelope& envelope,
                             std::string& buffer) {
  if (selector.empty()) return {};
  if (selector == "type") return cut(envelope.type);
  if (selector == "source") return cut(envelope.source);
  if (selector == "subject") return cut(envelope.subject);
  const std::string_view wanted =
      std::string_view(selector).substr(std::string_view("header.").size());
  buffer.clear();
  for_each_header(envelope.headers_json, [&](std::string_view name, std::string_view value) {
    if (name == wanted) buffer = value;
  });
  return cut(buffer);
}

}  // namespace

HeldLane& StreamDrain::lane_of(const Envelope& envelope) {
  std::string buffer;
  const std::string_view name = select_lane(options_.lane, envelope, buffer);
  const auto found = lanes_.find(name);
  if (found != lanes_.end()) return *found->second;
  forget_idle_lanes();
  auto lane = std::make_unique<HeldLane>(options_.breaker);
  lane->name = name;
  // The series starts with one closed breaker, the first lane's.
  if (!lanes_.empty()) metrics_.breakers(BreakerState::closed).Increment();
  return *lanes_.emplace(lane->name, std::move(lane)).first->second;
}

// Lanes come from the entries, so their number is nobody's to bound but ours.
void StreamDrain::forget_idle_lanes() {
  if (lanes_.size() < kManyLanes) return;
  const std::size_t before = lanes_.size();
  std::erase_if(lanes_, [](const auto& item) {
    return item.second->held == 0 && item.second->breaker.state() == BreakerState::closed;
  });
  metrics_.breakers(BreakerState::closed).Decrement(static_cast<double>(before - lanes_.size()));
}

// Whether the entry may go to its destination now; a probe of an open breaker is marked as one.
bool StreamDrain::admit(HeldEntry& entry) {
  switch (entry.lane->breaker.admit(host_.now())) {
    case Breaker::Admission::send:
      return true;
    case Breaker::Admission::probe:
      entry.probe = true;
      count_breaker(BreakerState::open, BreakerState::half_open);
      return true;
    case Breaker::Admission::wait:
      return false;
  }
  return false;
}

void StreamDrain::note_fill(HeldLane& lane) {
  if (lane.held >= options_.lane_in_flight) {
    if (!lane.full_since) lane.full_since = host_.now();
  } else if (lane.full_since && lane.held <= options_.lane_in_flight / 2) {
    lane.full_since.reset();
  }
}

// `unsent`: the destination was not asked, so that a probe is left to the next entry.
void StreamDrain::tell_lane(HeldEntry& entry, bool unsent, Transition& transition,
                            MonotonicTime now) {
  HeldLane& lane = *entry.lane;
  const BreakerState before = lane.breaker.state();
  if (entry.probe && unsent) {
    lane.breaker.return_probe(now);
  } else {
    lane.breaker.record(transition.breaker, entry.probe, now, host_.random());
  }
  lane_changed(lane, before, transition.error_code, transition.error_message);
  if (transition.parks_destination) park(lane, transition);
  if (entry.probe && !unsent) leave_next_probes_to_others(entry, transition, now);
}

// An entry that brings its destination down would else be each of its probes, being the first in
// line again by then, and the lane would stay closed because of it. It leaves three to others;
// where none of them came it is the next again, a moment after its turn, so that whoever has come
// meanwhile goes first and a return is noticed in time.
void StreamDrain::leave_next_probes_to_others(const HeldEntry& entry, Transition& transition,
                                              MonotonicTime now) const {
  const auto probe_at = entry.lane->breaker.next_probe();
  if (!probe_at || transition.counts_attempt) return;
  const EntryId id = entry.leased->envelope.entry_id;
  const bool was_last = std::exchange(entry.lane->last_probe, id) == id;
  const auto pause = std::chrono::ceil<Milliseconds>(*probe_at - now);
  const Milliseconds left = (was_last ? 1 : 3) * pause + host_.options().poll_idle;
  transition.delay = std::max(transition.delay, left);
  if (transition.next || transition.parks_destination) return;
  // Given back it would be first in line: a delay is kept only with what is written.
  transition.next = EntryStatus::deferred;
  transition.blocks_key = options_.policy.ordering == Ordering::key;
}

// Every lane's breaker stands in the gauge of one state.
void StreamDrain::count_breaker(BreakerState before, BreakerState after) {
  count_open_time();
  if (before == BreakerState::closed) ++lanes_away_;
  if (after == BreakerState::closed) --lanes_away_;
  metrics_.breakers(before).Decrement();
  metrics_.breakers(after).Increment();
}

// Also while nothing changes, so that the counter rises with the time.
void StreamDrain::count_open_time() {
  const MonotonicTime now = host_.now();
  if (lanes_away_ > 0) {
    metrics_.breaker_open_seconds.Increment(
        std::chrono::duration<double>(now - open_time_counted_until_).count());
  }
  open_time_counted_until_ = now;
}

// What follows when the lane's breaker is no longer in the state `before`; nothing when it is.
void StreamDrain::lane_changed(HeldLane& lane, BreakerState before, std::string_view error_code,
                               std::string_view error) {
  const BreakerState after = lane.breaker.state();
  if (after == before) return;
  count_breaker(before, after);
  const std::string id = "breaker/" + options_.name + "/" + lane.name;
  const std::string shown = loggable_lane(lane.name);
  if (after == BreakerState::closed) {
    const auto away =
        std::chrono::duration_cast<std::chrono::seconds>(host_.now() - lane.away_since);
    host_.log().limited(
        LogLevel::warning, id + "/again", "destination answers again",
        {{"stream", options_.name}, {"lane", shown}, {"after_seconds", away.count()}});
    host_.look_at(*this, host_.now());
    return;
  }
  if (before == BreakerState::closed) {
    lane.away_since = host_.now();
    // What waits at the emitter comes back unsent.
    lane.gate.closings.fetch_add(1, std::memory_order_release);
  }
  if (!error_code.empty()) lane.error = fmt::format("{}: {}", error_code, error);
  host_.log().limited(LogLevel::warning, id, "destination unavailable",
                      {{"stream", options_.name},
                       {"lane", shown},
                       {"breaker", to_string(after)},
                       {"error_code", error_code},
                       {"error", error}});
  if (const auto probe_at = lane.breaker.next_probe()) host_.look_at(*this, *probe_at);
}

// The destination is closed until an operator resumes it: written to the database, where every
// claim of every worker sees it. Until that has happened the breaker holds the lane. What was out
// already may tell the same later, which is no other parking.
void StreamDrain::park(HeldLane& lane, const Transition& transition) {
  if (lane.parking) return;
  lane.parking = true;
  const auto done = [this, name = lane.name, code = transition.error_code](bool is_new) {
    host_.post([this, name, code, is_new] {
      if (is_new) {
        host_.log().warning(
            "destination parked until it is resumed",
            {{"stream", options_.name}, {"lane", loggable_lane(name)}, {"error_code", code}});
      }
      if (const auto found = lanes_.find(name); found != lanes_.end())
        found->second->parking = false;
    });
  };
  const std::string reason = transition.error_code + ": " + transition.error_message;
  host_.submit(
      {.urgency = DatabasePool::Urgency::settle,
       .run = [stream = options_.name, name = lane.name, reason, done](
                  StoreSession& session) { done(session.park_destination(stream, name, reason)); },
       .failed =
           [done](const StoreError&) {
             done(false); /* its next answer parks it */
           }});
}

}  // namespace outfall
