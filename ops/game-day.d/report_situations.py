"""The situations of the stream of reports, whose emitter is a program, a file or a FIFO here; see situation.py."""

import json
import os
import signal
import sys

from breakage import HangingShare
from servers import Child, wait_until
from situation import situation


def deliver_reports(here, emitter, worker=None, stream=""):
    """Starts the worker anew with another emitter of the reports, and with more settings of their stream."""
    worker = worker or here.worker
    text = worker.configuration.replace("kind = \"noop\"\ncrash_type = \"report.deadly\"\n", emitter)
    worker.write(text.replace("emitter = \"reports\"\n", f"emitter = \"reports\"\n{stream}"))
    worker.child.stop()
    worker.start()


ENQUEUE = "SELECT outbox.enqueue('reports', 'report.ready', '{}')"


def write_reports(here, number):
    here.postgres.sql(f"{ENQUEUE} FROM generate_series(1, {number})")


def wait_for_reports(here):
    wait_until(lambda: here.postgres.sql("SELECT count(*) FROM outbox.entries WHERE stream = 'reports'") == "0",
               "the reports to be delivered")


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
        deliver_reports(here, f"kind = \"exec\"\ncommand = {json.dumps(command)}\n",
                        stream=f"defer_delay = \"{max(1, 30 // here.factor)}s\"\n")

    def begin(here):
        reports_are(here, "defer")
        write_reports(here, 50)

    def mend(here, _):
        reports_are(here, "delivered")
        wait_for_reports(here)


class ReportFile:
    """Where a worker writes reports to: a link, so that what is behind it can be another file from one moment to
    the next, as where a folder is mounted or a disk is full."""

    def __init__(self, here, worker):
        self._here, self._name = here, f"reports-of-{worker.name}"
        self.lead_home()
        deliver_reports(here, f"kind = \"stdout\"\npath = \"{here.folder / self._name}\"\n", worker)

    def lead_to(self, target):
        link = self._here.folder / self._name
        new = link.with_suffix(".new")
        os.symlink(target, new)
        new.replace(link)

    def lead_home(self):
        self.lead_to(self._here.folder / f"{self._name}.jsonl")


@situation("OutfallNothingDelivered", "the disk is full that reports are written to", also=("OutfallBreakerOpen",))
class FileDiskFull:
    def prepare(here):
        here.reports = ReportFile(here, here.worker)

    def begin(here):
        here.reports.lead_to("/dev/full")
        write_reports(here, 50)

    def mend(here, _):
        here.reports.lead_home()
        wait_for_reports(here)


# More than fits into a FIFO. The lease, for which the reader is waited for, gets no shorter.
@situation("OutfallNothingDelivered", "the program that reads reports from a FIFO hangs (SIGSTOP)", factor=24,
           also=("OutfallBreakerOpen",))
class ReaderHangs:
    def prepare(here):
        fifo = here.folder / "reports.fifo"
        os.mkfifo(fifo)
        here.reader = Child(["cat", fifo], here.folder / "reports.jsonl")
        here.after_end(lambda: here.reader.stop(signal.SIGKILL))
        deliver_reports(here, f"kind = \"stdout\"\npath = \"{fifo}\"\n")

    def begin(here):
        here.reader.send(signal.SIGSTOP)
        write_reports(here, 2000)

    def mend(here, _):
        here.reader.send(signal.SIGCONT)
        wait_for_reports(here)


# No deadline ends what waits for such a folder in the kernel: the emitter's thread hangs.
@situation("OutfallNothingDelivered", "reports are written to a network share, and its server is gone")
class ShareHangs:
    def prepare(here):
        here.share = HangingShare(here.folder / "share")
        here.before_end(here.share.end)
        here.reports = ReportFile(here, here.workers[-1])

    def begin(here):
        here.reports.lead_to(here.share.folder / "reports.jsonl")
        write_reports(here, 50)

    def mend(here, _):
        here.reports.lead_home()
        here.share.end()
        wait_for_reports(here)


@situation("OutfallBacklogTooOld", "one of two workers writes reports to a network share, and its server is gone",
           workers=2, factor=12)
class OneShareHangs:
    prepare = ShareHangs.prepare

    def begin(here):
        here.reports.lead_to(here.share.folder / "reports.jsonl")
        here.producer.statements = [*here.producer.statements, f"{ENQUEUE};\n"]

    def mend(here, _):
        here.reports.lead_home()
        here.share.end()
