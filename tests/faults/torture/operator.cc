#include "tests/faults/torture/operator.h"

#include <chrono>

#include "tests/support/child_process.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kOperatesWithin{60'000};
constexpr std::int64_t kBetweenTriesUs = 100'000;

// Pauses the stream while the fault is on, and lets it go on when that is over.
class Pausing final : public Operator {
 public:
  explicit Pausing(const Options& options) : o_(options) {}

  void tick(bool struck) override {
    // A server that is going to be away cannot be told then; who is to be killed must work first.
    const bool before = fault_kind(o_.plan.injections.front().kind).takes_server;
    if (paused_ || !(struck || before) || now_us() < next_try_us_) return;
    next_try_us_ = now_us() + kBetweenTriesUs;
    paused_ = operate("pause_stream");
  }

  void finish() override {
    if (!paused_) o_.complain("the stream could not be paused");
    claims_nothing();
    test::wait_until([this] { return operate("resume_stream"); }, "the stream to be resumed",
                     kOperatesWithin);
  }

 private:
  bool operate(const std::string& how) {
    try {
      (void)o_.servers.connect(o_.database)
          .query("SELECT outbox." + how + "('orders', 'torture', 'because')");
      return true;
    } catch (const test::PgError&) {
      return false;
    }
  }

  // What was leased when it was paused is still delivered; what is there after that stays. A
  // failover may forget the pause itself.
  void claims_nothing() {
    if (!paused_ || plays(o_.plan, "F9-failover-async")) return;
    const auto leases = [this](const char* which) {
      return o_.servers.connect(o_.database)
          .number(std::string("SELECT count(*) FROM outbox.leases l WHERE l.stream = 'orders'") +
                  which);
    };
    if (leases(" AND l.claimed_at > (SELECT s.paused_at FROM outbox.streams s"
               " WHERE s.name = 'orders')") > 0)
      o_.complain("a paused stream was claimed from");
  }

  const Options o_;
  bool paused_ = false;
  std::int64_t next_try_us_ = 0;
};

// Some entries become dead letters, since the sink refuses them. Then it takes them, and they are
// replayed while the fault strikes.
class Replaying final : public Operator {
 public:
  explicit Replaying(const Options& options) : o_(options) {}

  void prepare() override {
    constexpr std::int64_t kDeadLetters = 12;
    o_.load.poison(Sink::kPoison);
    test::wait_until([this] { return count("dead_letters") >= kDeadLetters; }, "dead letters",
                     kOperatesWithin);
    o_.load.poison("");
    // Those that wait behind another dead letter of their key are no dead letters yet.
    test::wait_until(
        [this] { return count("entries WHERE type = 'order.poisoned' AND status <> 'held'") == 0; },
        "every refused entry to be a dead letter", kOperatesWithin);
    o_.sink.take_poison();
    for (const test::PgRow& row :
         o_.servers.connect(o_.database).query("SELECT envelope_id FROM outbox.dead_letters"))
      o_.history.add({{"f", "replayed"}, {"id", *row[0]}});
  }

  // With the first tick, so that it is under way when the fault strikes.
  void tick(bool /*struck*/) override {
    if (done_ || now_us() < next_try_us_) return;
    if (!process_) {
      start();
    } else if (!process_->running()) {
      (void)process_->wait();
      process_.reset();
      next_try_us_ = now_us() + kBetweenTriesUs;
      done_ = nothing_left();
    }
  }

  void finish() override {
    test::wait_until(
        [this] {
          tick(true);
          return done_;
        },
        "all dead letters to be replayed", kOperatesWithin);
  }

 private:
  // A command that a fault has ended is given again. A job that is at work goes on with its own.
  void start() {
    process_ = std::make_unique<test::ChildProcess>(
        std::vector<std::string>{o_.outfall, "dead-letters", "replay", "--stream", "orders",
                                 "--rate", "10/s", "--actor", "torture", "--reason", "because"},
        test::ChildOptions{
            .environment = {{"OUTFALL_DATABASE__URL", o_.servers.url(o_.database)}}});
  }
  [[nodiscard]] bool nothing_left() const {
    try {
      return count("dead_letters") == 0;
    } catch (const test::PgError&) {
      return false;
    }
  }
  [[nodiscard]] std::int64_t count(const std::string& what) const {
    return o_.servers.connect(o_.database).number("SELECT count(*) FROM outbox." + what);
  }

  const Options o_;
  std::unique_ptr<test::ChildProcess> process_;
  std::int64_t next_try_us_ = 0;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<Operator> make_operator(const Operator::Options& options) {
  const std::string& shape = options.plan.of.shape;
  if (shape == "paused") return std::make_unique<Pausing>(options);
  if (shape == "replay" || shape == "hold-key") return std::make_unique<Replaying>(options);
  return nullptr;
}

std::string stream_settings(const std::string& shape) {
  if (shape == "unordered") return "ordering = \"none\"\n";
  if (shape == "lanes") return "lane = \"header.tenant\"\n";
  if (shape == "no-receipts") return "receipts = \"off\"\n";
  if (shape == "hold-key") return "on_dead_letter = \"hold-key\"\n";
  return {};
}

void tell_stream(const std::string& shape, History& history) {
  boost::json::object line = {{"f", "stream"}, {"stream", "orders"}};
  if (shape == "unordered") line["order"] = "none";
  if (shape == "no-receipts") line["receipts"] = false;
  if (shape == "hold-key") line["on_dead_letter"] = "hold-key";
  if (line.size() > 2) history.add(std::move(line));
}

}  // namespace outfall::torture
