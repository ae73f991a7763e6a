"""The situations that begin with workers, or with what starts and configures them; see situation.py."""

import signal
import threading

from breakage import Gate, wrong_clock
from servers import wait_until
from situation import situation


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


def only_invoices(here):
    """The configuration of a worker that serves a stream which no other has, and none of theirs."""
    return (here.worker.configuration.split("# One consumer")[0]
            + "[streams.invoices]\nemitter = \"invoices\"\n[emitters.invoices]\nkind = \"noop\"\n")


def write_invoices(here):
    here.postgres.sql("SELECT outbox.enqueue('invoices', 'invoice.sent', '{}') FROM generate_series(1, 5)")


@situation("OutfallUnboundStream", "the only worker of a stream hangs, while another serves the others (SIGSTOP)",
           workers=2, factor=6, also=("OutfallWorkerGone",))
class StreamWorkerHangs:
    def prepare(here):
        other = here.workers[1]
        other.child.stop()
        other.write(only_invoices(here))
        other.start()

    def begin(here):
        here.workers[1].child.send(signal.SIGSTOP)
        write_invoices(here)

    def mend(here, _):
        here.workers[1].child.stop(signal.SIGKILL)
        here.workers[1].start()


def put_gate_before_second(here, configuration):
    """Starts the second worker anew, with a gate between it and the database, and less patience with that."""
    here.gate = Gate(here.postgres.port)
    here.before_end(here.gate.end)
    second = here.workers[1]
    second.child.stop()
    second.write(configuration.replace(f":{here.postgres.port}/", f":{here.gate.port}/").replace(
        "[database]\n", "[database]\nstatement_timeout = \"2s\"\n"))
    second.start()


@situation("OutfallDatabaseErrors", "one of two workers no longer reaches the database: a firewall drops its packets",
           workers=2, factor=12)
class OneWorkerCutOff:
    def prepare(here):
        put_gate_before_second(here, here.workers[1].configuration)

    def begin(here):
        here.gate.shut()

    def mend(here, _):
        here.gate.open()


@situation("OutfallUnboundStream", "the only worker of a stream no longer reaches the database, while another does",
           workers=2, factor=6, also=("OutfallDatabaseErrors",))
class StreamWorkerCutOff:
    def prepare(here):
        put_gate_before_second(here, only_invoices(here))

    def begin(here):
        here.gate.shut()
        write_invoices(here)

    mend = OneWorkerCutOff.mend


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
        here.worker.start(environment=wrong_clock("+10m"))

    def mend(here, _):
        here.worker.child.stop()
        here.worker.start()
