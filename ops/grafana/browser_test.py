#!/usr/bin/env python3
"""A browser reads what ops/grafana/draw draws: the picture in the docs, one of a real worker's numbers, and ones of
numbers and names as awkward as they can be. Every title is seen, no text leaves its panel, lies on another or under
something, and all can be read in a light page and in a dark one.

usage: ops/grafana/browser_test.py OUTFALL_BINARY [unittest's options]
"""

import json
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
for folder in ("ops/game-day.d", "ops/grafana/draw.d", "ops/grafana/browser.d"):
    sys.path.insert(0, str(ROOT / folder))

from board import Panel, Range, Series  # noqa: E402
from browser import SCHEMES, look  # noqa: E402
from installation import Installation  # noqa: E402
from judge import faults  # noqa: E402
from svg import picture  # noqa: E402

BOARD = json.loads((ROOT / "ops/grafana/outfall.json").read_text(encoding="utf-8"))
PICTURE = ROOT / "docs/operating/dashboard.svg"
# Numbers of now and the first panel with lines.
SMALL = BOARD | {"panels": [panel for panel in BOARD["panels"] if panel["id"] <= 9]}
DAY = 86400


def drawn(names, values, *, board=None, seconds=3 * 3600, chosen=None, notes=()):
    """The dashboard with the same series in every panel; a number of now is the last value."""
    window = Range(1_800_000_000 - seconds, 1_800_000_000, 15)

    def series(panel):
        if panel["type"] == "row" or not names:
            return []
        if panel["type"] == "stat":
            return [Series("", [(window.end, values[-1])])]
        times = range(int(window.start), int(window.end) + 1, int(window.step))
        return [Series(name, [(float(at), values[(i + n) % len(values)]) for n, at in enumerate(times)])
                for i, name in enumerate(names)]
    board = board or BOARD
    return picture(board, [Panel(panel, series(panel)) for panel in board["panels"]], window, chosen or {}, list(notes))


def of_a_worker(binary):
    here = Installation(binary, 60)
    try:
        here.wait_until_calm()
        return subprocess.run([sys.executable, "-B", ROOT / "ops/grafana/draw", "--prometheus", here.prometheus.url,
                               "--minutes", "1", "--scrape-seconds", "1"],
                              capture_output=True, text=True, timeout=60, check=True).stdout
    finally:
        here.stop()


class Browser(unittest.TestCase):
    maxDiff = None
    binary = None

    def judge(self, pictures, board):
        """{name: what is wrong with it}, of {name: picture} in a light page and a dark one."""
        shown = [(name, scheme) for name in pictures for scheme in SCHEMES]
        seen = look([(pictures[name], scheme) for name, scheme in shown])
        return {f"{name}, {scheme}": faults(one, board) for (name, scheme), one in zip(shown, seen, strict=True)}

    def test_the_dashboard_can_be_read(self):
        streams = [f"payments-and-refunds-{number:02} retryable" for number in range(30)]
        hosts = [f"outfall-{number}.outfall-workers.a-namespace-of-its-own.svc.cluster.local:9464" for number in range(3)]
        found = self.judge({
            "the docs'": PICTURE.read_text(encoding="utf-8"),
            "of a worker": of_a_worker(self.binary),
            "nothing known": drawn([], []),
            "many streams": drawn(streams, [0.0, 1234.0, 999.0]),
            "long names": drawn(hosts, [0.000012345, 0.000999], seconds=30 * DAY),
            "a wide letter": drawn(["W" * 63, "a"], [599.4, 3594.0], seconds=300),
            "short names": drawn(list("abcdefghijklmnopqrstuvwxyz"), [1.0, 0.0], seconds=2 * DAY),
            "large numbers": drawn(["a"], [0.0, 9.99e8], chosen={"job": "outfall-.*", "stream": "payments|" * 40},
                                   notes=["WWWWW MMMMM " * 60, "W" * 500]),
        }, BOARD)
        told = [f"{name}: {fault}" for name, faulty in found.items() for fault in faulty]
        self.assertFalse(told, f"{len(told)} faults, of which the first are:\n" + "\n".join(told[:20]))

    def test_what_cannot_be_read_is_named(self):
        good = drawn(["orders"], [0.0, 1.0], board=SMALL)
        title = next(line for line in good.splitlines() if ">Delivered</text>" in line)
        legend = next(line for line in good.splitlines() if ">orders</text>" in line)
        ground = next(line for line in good.splitlines() if line.startswith("<rect"))
        cases = {
            "no picture: ": good.replace("</svg>", ""),
            'panel 9 has no title "Delivered"': good.replace(title, ""),
            '"Delivered" leaves panel-9': good.replace(title, title.replace('x="18"', 'x="290"')),
            '"orders" and "orders" overlap': good.replace(legend, legend + legend),
            '"Delivered" is under rect': good.replace(title, f'{title}<rect x="8" y="200" width="99" height="30" fill="none"'
                                                             ' pointer-events="all"/>'),
            '"Delivered" cannot be read: ': good.replace(title, title.replace("#d0d1dc", "#44464c")),
            "the page can be seen through it": good.replace(ground, ""),
        }
        found = self.judge(cases, SMALL)
        for told in cases:
            for scheme in SCHEMES:
                with self.subTest(told, scheme=scheme):
                    self.assertIn(told, "\n".join(found[f"{told}, {scheme}"]))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    Browser.binary = sys.argv.pop(1)
    unittest.main()
