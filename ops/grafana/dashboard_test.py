#!/usr/bin/env python3
"""Every query of the dashboard asks a real Prometheus, which scrapes a real worker, and gets an answer;
and it names metrics that this worker has.

usage: ops/grafana/dashboard_test.py OUTFALL_BINARY [unittest's options]
"""

import json
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "ops/game-day.d"))

from installation import Installation  # noqa: E402
from servers import wait_until  # noqa: E402

DASHBOARD = ROOT / "ops/grafana/outfall.json"
VARIABLES = {"$job": ".*", "$stream": ".*", "$__rate_interval": "10s"}


def dashboard():
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries():
    """(panel's title, query with its variables replaced)."""
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


class Form(unittest.TestCase):
    def test_grafana_gets_what_it_needs(self):
        board = dashboard()
        self.assertEqual(board["uid"], "outfall")
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual([variable["name"] for variable in board["templating"]["list"]], ["datasource", "job", "stream"])
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertTrue(panel["description"].endswith("."))
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
                # No source of somebody's own Grafana.
                self.assertEqual({source["uid"] for source in sources}, {"${datasource}"})

    def test_no_panel_lies_on_another(self):
        taken = {}
        for panel in dashboard()["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} on {taken.get((x, y))}")
                    taken[x, y] = panel["title"]


class Answers(unittest.TestCase):
    binary = None

    @classmethod
    def setUpClass(cls):
        cls.here = Installation(cls.binary, 60)
        cls.addClassCleanup(cls.here.stop)
        cls.here.wait_until_calm()

    def exported(self):
        return set(re.findall(r"^(\w+)", re.sub(r"(?m)^#.*$", "", self.here.worker.metrics()), re.MULTILINE))

    def test_every_query_is_answered(self):
        asked = list(queries())
        self.assertGreater(len(asked), 30)

        def answered(query):
            # A quantile of nothing is NaN: something must have been measured.
            return any(sample["value"][1] != "NaN" for sample in self.here.prometheus.query(query))
        for title, query in asked:
            with self.subTest(title, query=query):
                wait_until(lambda query=query: answered(query), f"an answer to {query}", 15)

    def test_every_metric_is_one_that_the_worker_exports(self):
        exported = self.exported()
        self.assertIn("outfall_build_info", exported)
        for title, query in queries():
            names = re.findall(r"\b(?:outfall|process)_\w+", query)
            self.assertTrue(names, title)
            for name in names:
                self.assertIn(name, exported, title)

    def test_the_variables_have_values(self):
        for variable in dashboard()["templating"]["list"][1:]:
            metric, label = re.fullmatch(r"label_values\((\w+)(?:\{[^}]*\})?, (\w+)\)", variable["definition"]).groups()
            values = self.here.prometheus.api(f"label/{label}/values", **{"match[]": metric})
            self.assertTrue(values, variable["name"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    Answers.binary = sys.argv.pop(1)
    unittest.main()
