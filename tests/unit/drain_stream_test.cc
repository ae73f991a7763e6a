// Goal: what StreamDrain does and tells at moments between two calls of the database that no real
// server can be held at. Method: a host, a session and an emitter that do nothing by themselves:
// the test takes each step.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include "drain/stream_drain.h"
#include "telemetry/metrics.h"

namespace outfall {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A table of entries.
class TableSession final : public StoreSession {
 public:
  explicit TableSession(EntryId entries) {
    for (EntryId id = 1; id <= entries; ++id) free_.push_back(id);
  }
  ClaimResult claim(const ClaimRequest& request,
                    const std::function<void(const LeasedSoon&)>& leased) override {
    asked.push_back(request.max_entries);
    ClaimResult result;
    if (busy) {
      result.status = ClaimStatus::busy;
      return result;
    }
    std::size_t entries = std::min(at_a_time, free_.size());
    if (!keeps_leases) entries = std::min(entries, static_cast<std::size_t>(request.max_entries));
    if (on_read) {
      const auto count = static_cast<std::int32_t>(entries);
      const std::int32_t largest = keys == Keys::one ? count : keys == Keys::each ? 1 : 0;
      leased({.entries = count, .largest_key = largest, .more = true});
      on_read();
    }
    if (entries == 0) return result;
    result.status = ClaimStatus::batch;
    result.repeated = keeps_leases;
    LeasedBatch& batch = result.batch;
    batch.lease_id = request.lease_id;
    batch.lease_no = ++leases_;
    batch.valid_until = system_clock().monotonic() + request.lease;
    for (std::size_t i = 0; i < entries; ++i) {
      batch.entries.push_back(entry(free_.front()));
      free_.pop_front();
    }
    claimed += batch.entries.size();
    const auto owner = std::make_shared<std::string>("customer");
    for (LeasedEntry& each : batch.entries) {
      if (keys != Keys::none) each.envelope.key = *owner;
    }
    batch.owner = owner;
    rows = owner;
    closed.clear();
    for (const Room& key : request.keys) closed.push_back(key.name);
    result.more = !free_.empty();
    return result;
  }
  SettleResult settle(const SettleRequest& request) override {
    settled.push_back(request.lease_id.to_string());
    if (on_settle) on_settle();
    free_.insert(free_.end(), request.returned.begin(), request.returned.end());
    return {};
  }
  std::vector<Uuid> renew(std::span<const Uuid> leases, Milliseconds) override {
    return {leases.begin(), leases.end()};
  }
  std::vector<std::string> due_streams(std::span<const std::string>) override { return {}; }
  bool park_destination(const std::string&, const std::string&, const std::string&) override {
    return false;
  }
  void register_streams(std::span<const std::string>) override {}
  void release() override {}
  void forgive(std::span<const EntryId>) override {}

  std::size_t at_a_time = 1000;
  enum class Keys : std::uint8_t { each, one, none };  // one for each entry, one for all
  Keys keys = Keys::each;
  bool busy = false;                // another claim of the stream is under way
  bool keeps_leases = false;        // of claims that are asked again: they bring what they took
  std::vector<std::int32_t> asked;  // by each claim
  std::size_t claimed = 0;
  std::weak_ptr<const void> rows;    // of the last batch
  std::vector<std::string> closed;   // keys, in the last claim
  std::vector<std::string> settled;  // leases
  std::function<void()> on_read;     // when there is a lease, and its entries are read
  std::function<void()> on_settle;

 private:
  [[nodiscard]] LeasedEntry entry(EntryId id) const {
    LeasedEntry entry;
    entry.envelope.entry_id = id;
    entry.envelope.stream = "orders";
    entry.envelope.type = "order.placed";
    if (keys == Keys::none) return entry;
    entry.key_hash = keys == Keys::one ? 1 : static_cast<std::int32_t>(id);
    return entry;
  }

  std::deque<EntryId> free_;
  std::int64_t leases_ = 0;
};

class HoldingEmitter final : public Emitter {
 public:
  [[nodiscard]] const Capabilities& capabilities() const noexcept override { return capabilities_; }
  void emit(EmitBatch batch) noexcept override {
    for (const EmitItem& item : batch.items) tokens.push_back(item.token);
  }
  void stop(Milliseconds) noexcept override {}
  [[nodiscard]] Health check(Milliseconds) noexcept override { return {}; }

  std::vector<std::uint64_t> tokens;

 private:
  const Capabilities capabilities_{};
};

// Keeps jobs of the database and calls of the loop until the test asks for them. Its time is that
// of the machine, or what the test says.
class StepwiseHost final : public DrainHost {
 public:
  explicit StepwiseHost(Logger& log) : log_(log) {}

  // The most urgent job that waits, which the pool runs first, too.
  void run_job(StoreSession& session) {
    ASSERT_FALSE(jobs_.empty());
    const auto first = std::ranges::min_element(jobs_, {}, &DatabasePool::Job::urgency);
    const DatabasePool::Job job = std::move(*first);
    jobs_.erase(first);
    try {
      job.run(session);
    } catch (const StoreError& error) {
      job.failed(error);
    }
  }
  void run_loop() {
    while (!handlers_.empty()) {
      const std::function<void()> handler = std::move(handlers_.front());
      handlers_.pop_front();
      handler();
    }
  }
  void let_time_pass() {
    for (std::function<void()>& handler : std::exchange(later_, {})) handler();
    run_loop();
  }
  [[nodiscard]] bool has_jobs() const { return !jobs_.empty(); }

  [[nodiscard]] const DrainOptions& options() const override { return settings; }
  [[nodiscard]] MonotonicTime now() const override {
    return said_now.value_or(system_clock().monotonic());
  }
  [[nodiscard]] Random& random() override { return system_random(); }
  [[nodiscard]] Logger& log() override { return log_; }
  void submit(DatabasePool::Job job) override { jobs_.push_back(std::move(job)); }
  void post(std::function<void()> handler) override { handlers_.push_back(std::move(handler)); }
  void post_at(MonotonicTime, std::function<void()> handler) override {
    later_.push_back(std::move(handler));
  }
  [[nodiscard]] Amount allowance(const StreamDrain&) const override {
    return {settings.max_in_flight - taken_.entries, settings.max_in_flight_bytes - taken_.bytes};
  }
  void claim_begins(const StreamDrain&, Amount most) override { taken_ = taken_ + most; }
  void claim_brings(const StreamDrain&, Amount most, Amount came) override {
    taken_ = taken_ - most + came;
  }
  void let_go(const StreamDrain&, std::int64_t bytes) override {
    taken_ = taken_ - Amount{1, bytes};
  }
  void unwritten(Amount) override {}
  void written(Amount) override {}
  void wants_room(StreamDrain&) override {}
  void look_at(StreamDrain&, MonotonicTime when) override { next_look = when; }
  void claim_ended() override {}
  void recover_leases() override {}
  [[nodiscard]] std::uint64_t presence() const override { return 1; }
  [[nodiscard]] bool may_send() const override { return true; }
  [[nodiscard]] bool may_claim() const override { return true; }
  [[nodiscard]] std::vector<Uuid> dead_workers() const override { return {}; }
  void saw_workers(const StreamDrain&, const std::vector<Uuid>&) override {}

  std::optional<MonotonicTime> said_now;
  MonotonicTime next_look{};
  DrainOptions settings{};

 private:
  Logger& log_;
  Amount taken_;  // of the allowance, by claims and what they brought
  std::deque<DatabasePool::Job> jobs_;
  std::deque<std::function<void()>> handlers_;
  std::deque<std::function<void()>> later_;
};

class DrainStream : public testing::Test {
 protected:
  void run_jobs() {
    while (host_.has_jobs()) host_.run_job(session_);
  }
  void claim() {
    ASSERT_TRUE(stream_.claim());
    run_jobs();
    host_.run_loop();
  }
  // One, and the next where it may begin while the entries of that one are read.
  void claim_beside() {
    session_.on_read = [&] {
      session_.on_read = {};
      host_.run_loop();
      (void)stream_.claim();
    };
    claim();
    run_jobs();
    host_.run_loop();
  }
  // In one batch, and of one key.
  void take_at_most(std::int32_t entries) {
    host_.settings.batch_entries = entries;
    StreamOptions options = orders();
    options.key_in_flight = entries;
    stream_.set_options(options);
  }
  // Of all that the emitter has.
  void complete_all(OutcomeKind kind, const std::string& error_code = {}) {
    for (const std::uint64_t token : std::exchange(emitter_.tokens, {})) {
      Completion completion{token, {}};
      completion.outcome.kind = kind;
      if (!error_code.empty()) {
        completion.outcome.error = std::make_unique<DeliveryError>(DeliveryError{error_code, "x"});
      }
      stream_.completed(*reinterpret_cast<HeldEntry*>(token), completion);
    }
    stream_.end_of_turn();
  }
  // The lines of the log with this message.
  [[nodiscard]] std::vector<std::string> told(const std::string& message) const {
    std::vector<std::string> lines;
    std::istringstream in(out_.str());
    for (std::string line; std::getline(in, line);) {
      if (line.find("\"msg\":\"" + message + "\"") != std::string::npos) lines.push_back(line);
    }
    return lines;
  }

  static constexpr std::size_t kEntries = 100;

  std::ostringstream out_;
  Logger log_{system_clock(), LogLevel::debug, LogFormat::json,
              std::make_shared<spdlog::sinks::ostream_sink_mt>(out_)};
  Metrics metrics_{{}, system_clock()};
  StepwiseHost host_{log_};
  TableSession session_{kEntries};
  HoldingEmitter emitter_;
  StreamDrain stream_{orders(), emitter_, metrics_.stream("orders"), host_};

  static StreamOptions orders() {
    StreamOptions options;
    options.name = "orders";
    options.emitter = "out";
    options.provider = "test";
    return options;
  }
};

// The emitter gives back what it had for an endpoint that was silent, and it is claimed again
// before the worker hears that this is written, which is what its keys wait for. So it is given
// back once more; a claim that was under way meanwhile brought it again, and so on, for ten
// seconds.
TEST_F(DrainStream, WhatMustWaitIsNotClaimedAndGivenBackInACircle) {
  claim();
  ASSERT_EQ(emitter_.tokens.size(), kEntries);
  ASSERT_TRUE(stream_.claim()) << "the next claim is under way";
  complete_all(OutcomeKind::blocked);
  for (int turn = 0; turn < 50 && emitter_.tokens.empty(); ++turn) {
    run_jobs();
    host_.run_loop();
    (void)stream_.claim();
  }
  EXPECT_EQ(emitter_.tokens.size(), kEntries) << "they are sent";
  EXPECT_EQ(session_.claimed, 3 * kEntries);
}

// The connection hangs, as one does whose server's machine is gone, while the others are at the
// next server and all leases have been given up. Its own is gone as well, so that it takes others,
// and they come after those of a claim that began meanwhile.
TEST_F(DrainStream, AClaimThatHungUntilAllLeasesWereGivenUpOvertakesNothing) {
  session_.on_read = [&] {
    host_.run_loop();
    EXPECT_TRUE(stream_.may_begin_claim()) << "the next one need not wait for its entries";
    stream_.lose_all();
    EXPECT_FALSE(stream_.may_begin_claim());
    throw StoreError(StoreErrorKind::unavailable, "the connection is gone");
  };
  claim();
  session_.on_read = {};
  claim();
  EXPECT_THAT(emitter_.tokens, IsEmpty()) << "what it brings is given back";
  run_jobs();
  host_.run_loop();
  EXPECT_EQ(session_.settled.size(), 1U);
  claim();
  EXPECT_EQ(emitter_.tokens.size(), kEntries);
}

// While entries are read nobody knows how many are of one key, and the claim beside that took half
// a batch for a key that they had filled.
TEST_F(DrainStream, AKeyThatTheNextClaimBeginsBesideHoldsNoMoreThanItsLimit) {
  constexpr std::int32_t kInFlight = 20;
  take_at_most(kInFlight);
  session_.keys = TableSession::Keys::one;
  claim_beside();
  EXPECT_EQ(stream_.held_entries(), kInFlight);
}

// It took what is read for entries that are all of one key.
TEST_F(DrainStream, TheNextClaimOfEntriesWithoutAKeyTakesAFullBatch) {
  constexpr std::int32_t kBatch = 20;
  take_at_most(kBatch);
  session_.keys = TableSession::Keys::none;
  claim_beside();
  EXPECT_THAT(session_.asked, ElementsAre(kBatch, kBatch));
}

// It has its lease, and what is in it comes as soon as it is asked again: meanwhile another stream
// took its room.
TEST_F(DrainStream, AClaimWhoseConnectionBreaksWhileItIsReadKeepsItsRoom) {
  constexpr std::int32_t kInFlight = 20;
  host_.settings.batch_entries = host_.settings.max_in_flight = kInFlight;
  session_.at_a_time = kInFlight;
  StreamDrain other(orders(), emitter_, metrics_.stream("others"), host_);
  session_.on_read = [&] { throw StoreError(StoreErrorKind::unavailable, "the connection broke"); };
  claim();
  session_.on_read = {};
  session_.keeps_leases = true;
  (void)other.claim();
  claim();
  EXPECT_EQ(stream_.held_entries(), kInFlight) << "it is asked again, whatever room is left";
  EXPECT_EQ(stream_.held_entries() + other.held_entries(), host_.settings.max_in_flight);
}

// Each look at a stream at which somebody else is costs the server as much as the least claim.
TEST_F(DrainStream, AStreamThatIsBusyAgainAndAgainIsAskedLessOften) {
  using std::chrono::seconds;
  session_.busy = true;
  host_.said_now = system_clock().monotonic();
  const MonotonicTime end = *host_.said_now + seconds{10};
  for (; *host_.said_now < end; host_.said_now = host_.next_look) {
    claim();
    ASSERT_GT(host_.next_look, *host_.said_now) << "it is not asked in a circle";
  }
  // Each pause has 32 to 64 ms, but for the first few, which double from a millisecond or two.
  EXPECT_LE(session_.asked.size(), 10'000U / 32 + 6);
  EXPECT_GE(session_.asked.size(), 10'000U / 64);

  // Whoever had it has gone, and comes back.
  session_.busy = false;
  claim();
  session_.busy = true;
  claim();
  EXPECT_LE(host_.next_look, *host_.said_now + Milliseconds{2}) << "the pauses begin anew";
}

// A settle of several leases tells of all of them when the last one is answered. Where the server
// crashed before that, it had undone what it had confirmed of the first, and whoever reads the log
// took the line for a write under a lease that was another worker's.
TEST_F(DrainStream, ALeaseThatACrashHasUndoneIsNotToldAsSettled) {
  session_.at_a_time = 1;
  claim();
  claim();
  ASSERT_EQ(emitter_.tokens.size(), 2U);
  session_.on_settle = [&] {
    if (session_.settled.size() == 2) throw StoreError(StoreErrorKind::unavailable, "a crash");
  };
  complete_all(OutcomeKind::delivered);
  run_jobs();
  ASSERT_EQ(session_.settled.size(), 2U);
  // The worker sees that the server has restarted before it hears how the settle ended.
  stream_.lose_all();
  host_.run_loop();
  run_jobs();
  host_.run_loop();
  EXPECT_EQ(session_.settled.size(), 2U) << "nothing more is written";
  EXPECT_TRUE(stream_.idle());
  EXPECT_THAT(told("settled"), IsEmpty());
  EXPECT_THAT(told("settled before its lease was given up"),
              ElementsAre(HasSubstr(session_.settled.front())));
}

TEST_F(DrainStream, ALeaseThatIsSettledIsToldAsThat) {
  claim();
  complete_all(OutcomeKind::delivered);
  run_jobs();
  host_.run_loop();
  EXPECT_THAT(told("settled"), ElementsAre(HasSubstr(session_.settled.front())));
  EXPECT_THAT(told("settled before its lease was given up"), IsEmpty());
}

// Two batches and what a slow settle kept of others were most of the worker's memory.
TEST_F(DrainStream, PayloadsOfWhatIsDecidedDoNotWaitForTheSettle) {
  claim();
  EXPECT_FALSE(session_.rows.expired());
  complete_all(OutcomeKind::delivered);
  EXPECT_TRUE(session_.rows.expired());
  EXPECT_THAT(session_.settled, IsEmpty());
}

TEST_F(DrainStream, TheKeyOfAnEntryThatTheDatabaseRefusesIsClosedByItsNameAlsoWithoutItsRow) {
  session_.at_a_time = 1;
  claim();
  session_.on_settle = [] {
    throw StoreError(StoreErrorKind::defect, "not this one", {}, "22000");
  };
  complete_all(OutcomeKind::delivered);
  EXPECT_TRUE(session_.rows.expired());
  for (int n = 0; n < 30 && session_.closed.empty(); ++n) {
    run_jobs();
    host_.let_time_pass();
    (void)stream_.claim();
  }
  EXPECT_THAT(session_.closed, ElementsAre("customer"));
}

// A worker out of descriptors puts off whatever it should deliver: no breaker opens, no attempt is
// counted, and its log said nothing.
TEST_F(DrainStream, AShortageOfOurOwnIsToldOnce) {
  claim();
  complete_all(OutcomeKind::deferred, "webhook.local_resources");
  EXPECT_THAT(told("deferred"), ElementsAre(HasSubstr("webhook.local_resources")));
}

// So it does with what it is asked for, as by a program that keeps the hours of its destination.
TEST_F(DrainStream, ADeferralWithoutAnErrorIsNoLineInTheLog) {
  claim();
  complete_all(OutcomeKind::deferred);
  EXPECT_THAT(told("deferred"), IsEmpty());
}

}  // namespace
}  // namespace outfall
