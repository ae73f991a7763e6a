"""All situations, by name; here those that begin with workers, destinations, entries and operators.
See situation.py."""

import glob
import json
import signal
import sys
import threading

import database_situations  # noqa: F401  pylint: disable=unused-import
from servers import Trouble, wait_until
from situation import SITUATIONS, situation  # noqa: F401  pylint: disable=unused-import


@situation("OutfallNoWorker", "the only worker was killed, and nobody started it again")
class WorkerDead:
    def begin(here):
        here.worker.child.stop(signal.SIGKILL)

    def mend(here, _):
        here.worker.start()


@situation("OutfallNoWorker", "the only worker hangs and answers nobody (SIGSTOP)")
class WorkerHangs:
    def begin(here):
        here.worker.child.send(signal.SIGSTOP)

    def mend(here, _):
        here.worker.child.stop(signal.SIGKILL)
        here.worker.start()


@situation("OutfallNoWorker", "the only worker was restarted, and the file of its secret is gone")
class SecretMissing:
    def begin(here):
        here.worker.child.stop()
        secret = here.folder / "signing-key"
        here.worker.write(here.worker.configuration.replace(
            "/orders\"\n", f"/orders\"\nsecret_file = \"{secret}\"\n"))
        here.worker.start(wait=False)

    def mend(here, _):
        here.worker.write(here.worker.configuration)
        here.worker.start()


# Prometheus hears of it within five seconds, however fast the rules are, and waits for two scrapes more: 233 of the
# 240 s promised. Six times as fast those five are more than what is left.
@situation("OutfallNoWorker", "the worker runs and delivers, but its target is gone from Prometheus", factor=1)
class TargetGone:
    def begin(here):
        here.prometheus.scrape([])

    def mend(here, _):
        here.prometheus.scrape(here.targets)


def meanwhile(here, work):
    """Runs work(over) beside everything else until what it returns is called, or all is stopped."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,))
    thread.start()

    def end():
        over.set()
        thread.join()
    here.before_end(end)
    return end


@situation("OutfallCrashLoop", "the only worker is killed again and again, half a minute after each start", factor=12,
           also=("OutfallWorkerRestarting",))
class CrashLoop:
    def begin(here):
        # Long enough to answer a scrape, and not long enough to be steady; then down for less than would be no worker.
        lives, down = max(2.0, 30 / here.factor), max(1.0, 20 / here.factor)

        def kill(over):
            while not over.is_set():
                here.worker.child.stop(signal.SIGKILL)
                if not over.wait(down):
                    here.worker.start()
                    over.wait(lives)
        return meanwhile(here, kill)

    def mend(here, end):
        end()
        here.worker.start()


@situation("OutfallWorkerGone", "one of two workers was killed", workers=2)
class OneWorkerDead:
    def begin(here):
        here.workers[1].child.stop(signal.SIGKILL)

    def mend(here, _):
        here.workers[1].start()


@situation("OutfallWorkerGone", "one of two workers hangs, the one that looks at the backlog for both (SIGSTOP)",
           workers=2, factor=24)
class OneWorkerHangs:
    def begin(here):
        sampling = wait_until(lambda: [worker for worker in here.workers
                                       if "\noutfall_sample_timestamp_seconds" in worker.metrics()], "a look at the backlog")
        sampling[0].child.send(signal.SIGSTOP)
        return sampling[0]

    def mend(here, hanging):
        hanging.child.stop(signal.SIGKILL)
        hanging.start()


# In life five deaths take seconds. They get no faster with the rules, for which they are a crash loop on a slow machine.
@situation("OutfallWorkerRestarting", "an entry kills every worker that delivers it", factor=24,
           also=("OutfallDeadLetters", "OutfallCrashLoop"))
class DeadlyEntry:
    def begin(here):
        def supervise(over):
            while not over.wait(0.2):
                if not here.worker.child.running():
                    here.worker.start(wait=False)
        end = meanwhile(here, supervise)
        here.postgres.sql("SELECT outbox.enqueue('reports', 'report.deadly', '{}')")
        return end

    def mend(here, end):
        # outfall itself finds the entry that kills; the operator decides about it.
        def discarded():
            here.outfall("dead-letters", "discard", "--stream", "reports", "--reason", "it kills our program")
            return here.postgres.sql("SELECT count(*) FROM outbox.entries WHERE stream = 'reports'") == "0"
        try:
            wait_until(lambda: here.postgres.sql(
                "SELECT count(*) FROM outbox.dead_letters WHERE reason_code = 'worker.abandoned'") == "1",
                       "the entry that kills to be a dead letter", 60)
            wait_until(discarded, "it to be discarded")
        finally:
            end()
        if not here.worker.child.running():
            here.worker.start()


@situation("OutfallNothingDelivered", "the consumer is down", also=("OutfallBreakerOpen",))
class SinkDown:
    def begin(here):
        here.consumer.close()

    def mend(here, _):
        here.consumer.open()


def answer(sink, status, delay=0.0):
    sink.answer = lambda kind: (status, delay)


def answer_well(sink):
    answer(sink, 200)
    sink.released.set()
    sink.released.clear()


def partners(here):
    return (here.partner, here.other_partner)


def pause_as_by_default(here, stream):
    """Lets the pauses between a stream's attempts grow as they do by default, so that nothing is given up meanwhile."""
    before, after = here.worker.configuration.split(f"[streams.{stream}]")
    pause = f'retry.max = "{max(1, 300 // here.factor)}s"'
    here.worker.write(before + f"[streams.{stream}]" + after.replace('retry.max = "1s"', pause, 1))
    here.worker.child.stop()
    here.worker.start()


@situation("OutfallNothingDelivered", "the consumer takes requests and never answers",
           also=("OutfallBreakerOpen",))
class SinkHangs:
    def begin(here):
        answer(here.consumer, None, 120.0)

    def mend(here, _):
        answer_well(here.consumer)


@situation("OutfallNothingDelivered", "the consumer does not accept our credentials any more (401)",
           also=("OutfallBreakerOpen",))
class SinkRefusesUs:
    def begin(here):
        answer(here.consumer, 401)

    def mend(here, _):
        answer_well(here.consumer)


@situation("OutfallNothingDelivered", "the consumer was deployed without its route (404)")
class SinkWithoutRoute:
    def prepare(here):
        pause_as_by_default(here, "orders")

    def begin(here):
        answer(here.consumer, 404)

    def mend(here, _):
        answer_well(here.consumer)


@situation("OutfallNothingDelivered", "the consumer has moved and redirects, which parks it",
           also=("OutfallBreakerOpen", "OutfallBacklogTooOld"))
class SinkMoved:
    def begin(here):
        answer(here.consumer, 308)

    def others(here, _):
        answer_well(here.consumer)

    def mend(here, _):
        answer_well(here.consumer)
        here.outfall("destinations", "resume", "orders", "", "--reason", "the consumer is where it was")


@situation("OutfallBreakerOpen", "one of the partners is down")
class OnePartnerDown:
    def begin(here):
        here.partner.close()

    def mend(here, _):
        here.partner.open()


@situation("OutfallRetriedTooLong", "one of the partners was deployed without its route (404), the others take all",
           also=("OutfallDeadLetters",))
class PartnerWithoutRoute:
    def prepare(here):
        pause_as_by_default(here, "partners")

    def begin(here):
        answer(here.partner, 404)

    def mend(here, _):
        answer_well(here.partner)


@situation("OutfallNothingDelivered", "all partners were deployed without their route (404), and no entry has a key",
           also=("OutfallDeadLetters",))
class PartnersWithoutRoute:
    prepare = PartnerWithoutRoute.prepare

    def begin(here):
        for partner in partners(here):
            answer(partner, 404)

    def mend(here, _):
        for partner in partners(here):
            answer_well(partner)


PROGRAM = """\
import json
import sys

for line in sys.stdin:
    with open(sys.argv[1], encoding="utf-8") as outcome:
        print(json.dumps({"id": json.loads(line)["id"], "outcome": outcome.read()}), flush=True)
"""


def reports_are(here, outcome):
    """Moved into place, so that the program never reads half of it."""
    (here.folder / "outcome.new").write_text(outcome, encoding="utf-8")
    (here.folder / "outcome.new").replace(here.folder / "outcome")


@situation("OutfallNothingDelivered", "the program that delivers reports answers `defer` to each of them", factor=24)
class EverythingDeferred:
    def prepare(here):
        program = here.folder / "reports.py"
        program.write_text(PROGRAM, encoding="utf-8")
        reports_are(here, "delivered")
        command = [sys.executable, str(program), str(here.folder / "outcome")]
        emitter = f"kind = \"exec\"\ncommand = {json.dumps(command)}\n"
        text = here.worker.configuration.replace("kind = \"noop\"\ncrash_type = \"report.deadly\"\n", emitter)
        here.worker.write(text.replace("emitter = \"reports\"\n",
                                       f"emitter = \"reports\"\ndefer_delay = \"{max(1, 30 // here.factor)}s\"\n"))
        here.worker.child.stop()
        here.worker.start()

    def begin(here):
        reports_are(here, "defer")
        here.postgres.sql("SELECT outbox.enqueue('reports', 'report.ready', '{}') FROM generate_series(1, 50)")

    def mend(here, _):
        reports_are(here, "delivered")
        wait_until(lambda: here.postgres.sql("SELECT count(*) FROM outbox.entries WHERE stream = 'reports'") == "0",
                   "the reports to be delivered")


@situation("OutfallObjectiveBurnFast", "the consumer has become slow, and the backlog grows",
           max_in_flight=1, also=("OutfallBacklogTooOld",))
class SinkSlow:
    def begin(here):
        answer(here.consumer, 200, 0.12)

    def mend(here, _):
        answer_well(here.consumer)


@situation("OutfallBacklogTooOld", "more is produced than the consumer can take",
           max_in_flight=1, also=("OutfallObjectiveBurnFast",))
class BacklogGrows:
    def begin(here):
        answer(here.consumer, 200, 0.05)
        here.postgres.sql("SELECT outbox.enqueue('orders', 'order.placed', '{\"order\": 1}',"
                          " p_key => 'customer-' || i % 400) FROM generate_series(1, 4000) i")

    def mend(here, _):
        answer_well(here.consumer)


@situation("OutfallObjectiveBurnSlow", "one in thirty orders takes too long", ends=False, least_factor=60)
class SomeSlow:
    def begin(here):
        here.consumer.answer = lambda kind: (200, 1.6 if kind == "order.slow" else 0.0)
        kept = list(here.producer.statements)
        here.producer.statements.append(
            "SELECT outbox.enqueue('orders', 'order.slow', '{}') WHERE random() < 0.14;\n")
        return kept

    def mend(here, kept):
        here.producer.statements = kept
        answer_well(here.consumer)


@situation("OutfallDeadLetterFlood", "a change of what the application writes is refused by all partners (422)",
           also=("OutfallDeadLetters",))
class EverythingRefused:
    def begin(here):
        for partner in partners(here):
            answer(partner, 422)

    def others(here, _):
        for partner in partners(here):
            answer_well(partner)

    def mend(here, _):
        EverythingRefused.others(here, None)
        here.outfall("dead-letters", "replay", "--stream", "partners", "--reason", "they take them now")


@situation("OutfallNothingDelivered", "a release of the consumer refuses every order (422), which holds every customer's",
           also=("OutfallDeadLetterFlood", "OutfallDeadLetters", "OutfallHeldTooLong"))
class EveryCustomerHeld:
    def begin(here):
        answer(here.consumer, 422)

    def others(here, _):
        answer_well(here.consumer)

    def mend(here, _):
        answer_well(here.consumer)
        replay_all(here)


@situation("OutfallDeadLetters", "the consumer refuses one order (422)")
class OneRefused:
    def begin(here):
        here.consumer.answer = lambda kind: (422 if kind == "order.odd" else 200, 0.0)
        here.postgres.sql("SELECT outbox.enqueue('orders', 'order.odd', '{}', p_key => 'odd')")

    others = EveryCustomerHeld.others
    mend = EveryCustomerHeld.mend


def replay_all(here):
    here.outfall("dead-letters", "replay", "--stream", "orders", "--reason", "the consumer takes them now")


@situation("OutfallHeldTooLong", "a customer's orders wait behind a dead letter that nobody has looked at",
           also=("OutfallDeadLetters",))
class KeyHeld:
    def begin(here):
        OneRefused.begin(here)
        here.postgres.sql("SELECT outbox.enqueue('orders', 'order.placed', '{}', p_key => 'odd')"
                          " FROM generate_series(1, 3)")

    others = EveryCustomerHeld.others

    def mend(here, _):
        OneRefused.mend(here, None)


@situation("OutfallUnboundStream", "an application writes to a stream that no worker has")
class UnboundStream:
    def begin(here):
        here.postgres.sql("SELECT outbox.enqueue('invoices', 'invoice.sent', '{}') FROM generate_series(1, 5)")

    def mend(here, _):
        here.worker.write(here.worker.configuration + "\n[streams.invoices]\nemitter = \"reports\"\n")
        here.worker.child.stop()
        here.worker.start()


@situation("OutfallUnboundStream", "the only worker of a stream hangs, while another serves the others (SIGSTOP)",
           workers=2, factor=6, also=("OutfallWorkerGone",))
class StreamWorkerHangs:
    def prepare(here):
        other = here.workers[1]
        other.child.stop()
        other.write(here.worker.configuration.split("# One consumer")[0]
                    + "[streams.invoices]\nemitter = \"invoices\"\n[emitters.invoices]\nkind = \"noop\"\n")
        other.start()

    def begin(here):
        here.workers[1].child.send(signal.SIGSTOP)
        here.postgres.sql("SELECT outbox.enqueue('invoices', 'invoice.sent', '{}') FROM generate_series(1, 5)")

    def mend(here, _):
        here.workers[1].child.stop(signal.SIGKILL)
        here.workers[1].start()


@situation("OutfallPausedTooLong", "a stream was paused for a deployment and forgotten")
class PausedStream:
    def begin(here):
        here.outfall("streams", "pause", "orders", "--reason", "deployment of the consumer")

    def mend(here, _):
        here.outfall("streams", "resume", "orders", "--reason", "the deployment is over")


@situation("OutfallDestinationPaused", "one of the partners wants no more (410), and nobody has looked at it",
           also=("OutfallBreakerOpen",))
class PartnerGone:
    def begin(here):
        answer(here.partner, 410)

    def others(here, _):
        answer_well(here.partner)

    def mend(here, _):
        answer_well(here.partner)
        here.outfall("destinations", "resume", "partners", here.partner.address, "--reason", "it takes them again")


@situation("OutfallLeaseChurn", "one of two workers is killed again and again", workers=2,
           factor=12, also=("OutfallWorkerRestarting",))
class WorkersDie:
    def begin(here):
        def kill(over):
            while not over.wait(2.5):
                here.workers[1].child.stop(signal.SIGKILL)
                here.workers[1].start(wait=False)
        # Requests under way, so that there are leases to take over.
        for sink in here.sinks:
            answer(sink, 200, 0.4)
        return meanwhile(here, kill)

    def mend(here, end):
        end()
        if not here.workers[1].child.running():
            here.workers[1].start()
        for sink in here.sinks:
            answer_well(sink)


@situation("OutfallStaleSettles", "one of two workers was frozen for longer than its leases last", workers=2,
           factor=12, lease=2, ends=False)
class WorkerFrozen:
    def begin(here):
        frozen = here.workers[1]
        for sink in here.sinks:
            answer(sink, 200, 0.4)

        def holds_leases():
            return any(line.startswith("outfall_in_flight_entries{") and float(line.split()[-1]) > 2
                       for line in frozen.metrics().splitlines())
        wait_until(holds_leases, "the worker to hold leases", 20, pause=0.02)
        frozen.child.send(signal.SIGSTOP)
        wait_until(lambda: here.postgres.sql("SELECT count(*) FROM outbox.leases"
                                             " WHERE instance = 'worker-2'") == "0",
                   "its leases to be taken over", 30)
        frozen.child.send(signal.SIGCONT)

    def mend(here, _):
        for sink in here.sinks:
            answer_well(sink)


@situation("OutfallReloadFailed", "a mistake was rolled out with the configuration")
class BadReload:
    def begin(here):
        here.worker.write(here.worker.configuration.replace("retry.max", "retry.maximum"))
        here.worker.child.send(signal.SIGHUP)

    def mend(here, _):
        here.worker.write(here.worker.configuration)
        here.worker.child.send(signal.SIGHUP)


@situation("OutfallClockSkew", "the clock of the worker's machine is ten minutes ahead", factor=24)
class WrongClock:
    def begin(here):
        here.worker.child.stop()
        here.worker.start(environment={"LD_PRELOAD": faketime_library(), "FAKETIME": "+10m",
                                       "FAKETIME_DONT_FAKE_MONOTONIC": "1"})

    def mend(here, _):
        here.worker.child.stop()
        here.worker.start()


def faketime_library():
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise Trouble("there is no faketime; ops/install-dependencies operate installs it")
    return found[0]
