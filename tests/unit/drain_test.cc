// Goal: what a worker leases and gives back where its database or a destination comes and goes.
// Method: the whole drain, with its threads, on a model of the database that stops where the test
// wants it to.

#include <gtest/gtest.h>

#include "tests/support/wait_until.h"
#include "tests/unit/drain_fixture.h"

namespace outfall::test {
namespace {

// As long as something that must not happen is waited for; it took a few milliseconds.
constexpr Milliseconds kLongEnough{500};

// The lease was taken over as that of a dead worker, and counted as `abandoned` against what it
// held. Sessions are opened anew as they are needed, while the one that shows the worker alive may
// not have seen yet that it is lost.
TEST(Drain, AfterARestartOfTheDatabaseNothingIsLeasedBeforeOthersSeeTheWorkerAlive) {
  ModelStore store;
  const ModelWorker worker(store);
  store.insert(1);
  wait_until([&] { return store.delivered(1); }, "the worker to work");

  store.hold_looks();
  wait_until([&] { return store.a_look_waits(); }, "a look that begins before the restart");
  store.restart();
  store.insert(2);
  wait_until([&] { return store.lost_calls() > 0; }, "the worker to notice");
  const auto leases = [&] { return store.leased_unseen() > 0; };
  EXPECT_FALSE(holds_within(leases, kLongEnough)) << "the session for that may be lost";

  store.let_looks_go(true);
  wait_until([&] { return store.a_look_waits(); }, "a look that begins after the restart");
  EXPECT_FALSE(holds_within(leases, kLongEnough)) << "the look before says nothing of it";

  store.let_looks_go();
  wait_until([&] { return store.delivered(2); }, "the worker to go on");
  EXPECT_EQ(store.leased_unseen(), 0);
}

// The settle was refused again and again, for its lease had to be given up first, and while a
// settle is refused nothing is claimed: what gives up leases came after a claim only.
TEST(Drain, ASettleThatMeetsAnotherServerBehindAPoolerIsNotTriedForEver) {
  ModelStore store;
  store.restart_behind_a_pooler();
  store.insert(1);
  const ModelWorker worker(store);
  wait_until([&] { return store.delivered(1); }, "the lease to be given up and claimed again");
}

// It was deferred as if the destination had refused it, and the next probes were left to others.
TEST(Drain, AProbeThatWasNotSentIsGivenBackAndNotPutOff) {
  ModelStore store;
  store.insert(1);
  const ModelWorker worker(store, {OutcomeKind::destination_unavailable, OutcomeKind::shutdown});
  wait_until([&] { return store.delivered(1); }, "the destination's return to be noticed");
  EXPECT_EQ(store.deferred(), 0);
}

}  // namespace
}  // namespace outfall::test
