"""All situations, by name; here those that begin with destinations, entries and operators.
See situation.py."""

import signal

import database_situations  # noqa: F401  pylint: disable=unused-import
import report_situations  # noqa: F401  pylint: disable=unused-import
from servers import wait_until
from situation import SITUATIONS, situation  # noqa: F401  pylint: disable=unused-import
from worker_situations import meanwhile


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


@situation("OutfallDatabaseErrors", "a trigger of the application refuses what becomes a dead letter", factor=24)
class DeadLetterRefused:
    TRIGGER = """CREATE FUNCTION archive() RETURNS trigger LANGUAGE plpgsql AS $$
                   BEGIN RAISE 'the archive has no room for %', NEW.stream; END $$;
                 CREATE TRIGGER archive BEFORE INSERT ON outbox.dead_letters FOR EACH ROW EXECUTE FUNCTION archive()"""

    def begin(here):
        here.postgres.sql(DeadLetterRefused.TRIGGER)
        OneRefused.begin(here)

    def mend(here, _):
        here.postgres.sql("DROP FUNCTION archive CASCADE")
        answer_well(here.consumer)


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
