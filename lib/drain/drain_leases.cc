// What keeps the leases of a worker: their renewal, and its presence, without which others take
// them.
#include <algorithm>
#include <utility>

#include "drain/drain.h"

namespace outfall {

void Drain::arm_renewal(Milliseconds after) {
  renewal_timer_.expires_after(after);
  renewal_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) renew();
  });
}

void Drain::renew() {
  if (renewing_) return;
  std::vector<Uuid> leases;
  const MonotonicTime asked_at = now();
  // A copy: the job below runs on another thread, and a reload assigns the options on this one.
  const Milliseconds duration = options_.lease;
  const MonotonicTime horizon = present_ ? asked_at + duration * 2 / 3 : MonotonicTime::max();
  for (const auto& [name, stream] : streams_) stream->collect_leases(horizon, leases);
  if (leases.empty()) {
    arm_renewal(std::min<Milliseconds>(options_.lease / 6, Milliseconds{1000}));
    return;
  }
  renewing_ = true;
  const std::uint64_t presence = present_ ? presences_ : 0;
  auto kept = std::make_shared<std::vector<Uuid>>();
  submit({.urgency = DatabasePool::Urgency::renew,
          .run =
              [this, leases, kept, asked_at, duration, presence](StoreSession& session) {
                *kept = session.renew(leases, duration);
                post([this, leases, kept, asked_at, duration, presence] {
                  renewed(leases, *kept, asked_at + duration, presence);
                });
              },
          .failed =
              [this](const StoreError&) {
                post([this] {
                  renewing_ = false;
                  arm_renewal(Milliseconds{200});
                });
              }});
}

// An answer that was asked for in another presence, or in none, does not tell whether a lease was
// taken since.
void Drain::renewed(const std::vector<Uuid>& asked, const std::vector<Uuid>& kept,
                    MonotonicTime valid_until, std::uint64_t presence) {
  renewing_ = false;
  const bool same_presence = present_ && presence == presences_;
  for (const auto& [name, stream] : streams_) {
    stream->renewed(asked, kept, valid_until, same_presence);
    stream->end_of_turn();
  }
  if (present_ && !same_presence) return renew();
  arm_renewal(std::min<Milliseconds>(options_.lease / 6, Milliseconds{1000}));
}

// After a restart of the server a settle that it had confirmed may be undone, and its lease be back
// without this worker knowing. All leases are given up, known or not; the next claims take them
// over.
void Drain::recover_leases() {
  if (recovering_ || !store_.leases_in_doubt()) return;
  recovering_ = true;
  log_.warning("the database has restarted; giving up all leases", {{"entries", held_.entries}});
  for (const auto& [name, stream] : streams_) stream->lose_all();
  submit({.urgency = DatabasePool::Urgency::settle,
          .run =
              [this](StoreSession& session) {
                session.release();
                post([this] {
                  recovering_ = false;
                  for (const auto& [name, stream] : streams_) look_at(*stream, now());
                });
              },
          .failed =
              [this](const StoreError&) {
                post([this] {
                  post_at(now() + Milliseconds{100}, [this] {
                    recovering_ = false;
                    recover_leases();
                  });
                });
              }});
}

// Leases may have been taken while there was no presence: renewing them all tells which.
void Drain::presence_held() {
  if (present_) return;
  present_ = true;
  ++presences_;
  for (const auto& [name, stream] : streams_) looks_[stream.get()] = now();
  renew();
  arm_look();
}

void Drain::presence_lost(const StoreError& error) {
  connection_lost(error);
  if (!present_) return;
  present_ = false;
  for (const auto& [name, stream] : streams_) stream->withhold_unsent();
}

// A session is gone, so the one that holds the presence may be gone, too: a server that restarts
// ends them all. New leases would look like those of a dead worker until that shows.
void Drain::doubt_presence() {
  presence_doubts_ = presence_->look_now();
}

void Drain::presence_seen(std::uint64_t looks) {
  if (presence_doubts_ == 0 || looks < presence_doubts_) return;
  presence_doubts_ = 0;
  for (const auto& [name, stream] : streams_) looks_[stream.get()] = now();
  arm_look();
}

}  // namespace outfall
