"""The situations of the stream of reports, whose emitter is a program here; see situation.py."""

import json
import sys

from servers import wait_until
from situation import situation


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
