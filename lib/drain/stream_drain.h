#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drain/drain_host.h"
#include "drain/held.h"
#include "drain/options.h"
#include "telemetry/local_histogram.h"
#include "telemetry/stream_metrics.h"

namespace outfall {

// The drain of one stream: claims batches, hands their entries to the emitter in order per key,
// decides what each outcome means and writes it back. Used by the loop thread only; nothing here
// blocks.
//
// Order: of a key, entries are sent as they were claimed; when one does not get through, every
// later entry of the key is given back, also what a claim brings that began before the failure was
// written; outcomes are written in the order of the leases, one settle at a time.
class StreamDrain {
 public:
  StreamDrain(StreamOptions options, Emitter& emitter, StreamMetrics& metrics, DrainHost& host);
  StreamDrain(const StreamDrain&) = delete;
  StreamDrain& operator=(const StreamDrain&) = delete;

  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] const StreamOptions& options() const { return options_; }
  [[nodiscard]] Emitter& emitter() const { return emitter_; }
  void set_options(StreamOptions options);

  // Whether the next look may claim at once, or should first ask whether anything is due.
  [[nodiscard]] bool expects_entries() const { return expects_entries_; }
  // Whether a claim may begin: none is under way, or one whose lease is certain and whose entries
  // are just being read.
  [[nodiscard]] bool may_begin_claim() const;
  [[nodiscard]] bool claim_under_way() const;
  // Starts a claim if there is room and the destination is open; false when not.
  bool claim();
  // The idle poll found nothing.
  void nothing_due();

  // An outcome of an entry of this stream.
  void completed(HeldEntry& entry, Completion& completion);
  // All completions of a turn were taken in: writes what is worth writing.
  void end_of_turn();

  // Leases that need renewal before `horizon`, and those that are withheld.
  void collect_leases(MonotonicTime horizon, std::vector<Uuid>& leases) const;
  // `present`: others saw this worker alive since before the renewal was asked for.
  void renewed(const std::vector<Uuid>& asked, const std::vector<Uuid>& kept,
               MonotonicTime valid_until, bool present);

  // No more claims; what was not sent is given back.
  void stop();
  // No lease can be relied on any more: nothing of what is held is written or sent.
  void lose_all();
  // Others may think this worker dead: what was not sent is given back, also by the emitter, until
  // a renewal has shown whose the leases are.
  void withhold_unsent();
  // Nothing is under way any more. What the database refuses to write is left to whoever takes over
  // its leases.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] std::int32_t held_entries() const { return held_entries_; }
  [[nodiscard]] std::size_t held_leases() const { return leases_.size(); }

  struct Report {
    std::string stream;
    std::string emitter;
    std::int32_t held_entries = 0;
    std::size_t leases = 0;
    std::size_t keys = 0;
    bool paused = false;
    struct Lane {
      std::string name;
      BreakerState state{};
      std::string error;  // why, at the last answer
      Milliseconds away{};
    };
    std::vector<Lane> lanes;  // those that are not closed
    std::int64_t consecutive_failures = 0;
    WallTime last_success{};
  };
  [[nodiscard]] Report report() const;

 private:
  // stream_claims.cc
  [[nodiscard]] bool has_useful_room() const;
  [[nodiscard]] ClaimRequest make_request(DrainHost::Amount allowance, const Uuid& lease_id);
  void leave_lanes_room(ClaimRequest& request) const;
  [[nodiscard]] std::optional<MonotonicTime> last_full_since() const;
  void look_at_probes();
  [[nodiscard]] bool has_room(DrainHost::Amount allowance);
  void submit_claim(HeldClaim& claim, ClaimRequest request);
  [[nodiscard]] HeldClaim* claim_of(const Uuid& lease_id);
  [[nodiscard]] std::int32_t leased_soon() const;
  [[nodiscard]] bool may_read_ahead(const HeldClaim& claim) const;
  void let_room_go(HeldClaim& claim);
  void claim_leased(const Uuid& lease_id, const LeasedSoon& leased);
  void claim_returned(const Uuid& lease_id, ClaimResult& result, MonotonicTime asked_at,
                      std::uint64_t presence);
  void claim_failed(const StoreError& error, const Uuid& lease_id);
  void found_busy();
  void take_answers();
  void take_answer(HeldClaim& claim);
  void give_up_claims();
  void arrived(LeasedBatch batch, const HeldClaim& claim);
  void place_entries(HeldLease& lease);
  void back_off(bool found_entries);
  [[nodiscard]] bool something_unwritten() const;
  void clear_keys();

  // stream_drain.cc
  void dispatch(HeldLease& lease);
  bool refuse_too_large(HeldEntry& entry);
  void send(HeldLease& lease, std::vector<EmitItem> items);
  [[nodiscard]] Milliseconds send_margin() const;
  void send_next_of(HeldKey& key);
  [[nodiscard]] EmitItem begin_send(HeldEntry& entry);
  [[nodiscard]] bool must_wait(const HeldKey& key) const;
  void decide_other(HeldEntry& entry, Outcome& outcome);
  bool conclude(HeldEntry& entry, Transition& transition, MonotonicTime now);
  void log_outcome(const HeldEntry& entry, const Outcome& outcome);
  void log_deferral(const Transition& transition);
  [[nodiscard]] AttemptContext attempt_context(const HeldEntry& entry, MonotonicTime now) const;
  SettledOther settled_other(const HeldEntry& entry, Transition& transition);
  void give_back(HeldEntry& entry);
  void block(HeldKey& key, bool unsettled);
  void close_entry(HeldEntry& entry);

  // stream_lanes.cc
  HeldLane& lane_of(const Envelope& envelope);
  void forget_idle_lanes();
  bool admit(HeldEntry& entry);
  void note_fill(HeldLane& lane);
  // Also changes what becomes of a probe, where its lane asks for that.
  void tell_lane(HeldEntry& entry, bool unsent, Transition& transition, MonotonicTime now);
  void leave_next_probes_to_others(const HeldEntry& entry, Transition& transition,
                                   MonotonicTime now) const;
  void count_breaker(BreakerState before, BreakerState after);
  void count_open_time();
  // `error_code`: of the answer that changed it; empty for a delivery.
  void lane_changed(HeldLane& lane, BreakerState before, std::string_view error_code = {},
                    std::string_view error = {});
  void park(HeldLane& lane, const Transition& transition);

  // stream_leases.cc
  void give_back_unsent();
  void withhold(HeldLease& lease);
  void lose(HeldLease& lease);
  void forgive(const HeldLease& lease);
  void forget_done_leases();
  void let_go_of_decided_rows();

  // stream_refusals.cc
  struct Settle;  // requests of one turn, in the order of their leases
  bool take_apart(Settle& settle, const StoreError& error);
  void set_aside(Settle& settle, const StoreError& error);
  void take_followers(Settle& settle, std::int32_t key_hash);
  void split_off_followers(SettlePart& part, std::span<const std::int32_t> key_hashes,
                           std::vector<SettlePart>& into);
  [[nodiscard]] bool may_keep_aside(const Settle& settle) const;
  void keep_aside(SettlePart part);
  void put_aside(SettlePart part);
  void try_those_aside(Settle& settle);
  void drop_those_aside(HeldLease& lease);
  [[nodiscard]] bool aside_is_due(MonotonicTime now) const;
  void close_keys_aside(std::vector<Room>& keys) const;

  // stream_settle.cc
  void settle();
  [[nodiscard]] bool worth_settling(const HeldLease& lease, MonotonicTime now) const;
  void take_part(HeldLease& lease, Settle& settle);
  void list_busy_keys(const HeldLease& lease, std::vector<std::int32_t>& hashes) const;
  void submit(const std::shared_ptr<Settle>& settle);
  void settled(const std::shared_ptr<Settle>& settle);
  void settle_failed(const std::shared_ptr<Settle>& settle, const StoreError& error);
  void took_effect(SettlePart& part, MonotonicTime taken);
  void written(HeldKey& key);

  StreamOptions options_;
  Emitter& emitter_;
  StreamMetrics& metrics_;
  LocalHistogram attempt_duration_;  // of a turn's completions
  DrainHost& host_;
  const std::int32_t key_window_;  // of one key, at the emitter; 0: any number

  std::list<std::unique_ptr<HeldLease>> leases_;  // in the order of their numbers
  HeldKeys keys_;
  std::map<std::string, std::unique_ptr<HeldLane>, std::less<>> lanes_;
  std::int32_t held_entries_ = 0;
  std::int64_t held_bytes_ = 0;
  std::int32_t lanes_away_ = 0;  // those whose breaker is not closed
  MonotonicTime open_time_counted_until_{};
  std::list<HeldClaim> claims_;  // in the order in which they were asked for; two at most
  bool settling_ = false;
  bool settle_timer_ = false;
  // The database answers the settle under way with an error: nothing more is claimed that could not
  // be settled either.
  bool settle_refused_ = false;
  std::vector<SettlePart> aside_;  // each of one entry, in the order of each key
  MonotonicTime aside_due_{};
  bool stopping_ = false;
  bool paused_ = false;
  bool expects_entries_ = false;
  bool churning_ = false;  // the last claims brought what has to be given back
  std::vector<HeldKey*> blocked_keys_;
  std::uint64_t claims_begun_ = 0;
  std::uint64_t claims_ended_ = 0;
  Milliseconds pause_;          // until the next look, while nothing is found
  Milliseconds busy_pause_{1};  // doubles while other claims of the stream are under way
  std::int64_t consecutive_failures_ = 0;
  WallTime last_success_{};
};

}  // namespace outfall
