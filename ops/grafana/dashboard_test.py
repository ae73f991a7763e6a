#!/usr/bin/env python3
"""Every query of the dashboard asks a real Prometheus, which scrapes a real worker, and gets an answer;
and it names metrics that this worker has. Every panel is drawn, as in the picture of the docs.

usage: ops/grafana/dashboard_test.py OUTFALL_BINARY [unittest's options]
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "ops/game-day.d"))

from installation import Installation  # noqa: E402
from servers import wait_until  # noqa: E402
from situations import SITUATIONS  # noqa: E402

DASHBOARD = ROOT / "ops/grafana/outfall.json"
DRAW = ROOT / "ops/grafana/draw"
PICTURE = ROOT / "docs/operating/dashboard.svg"
SVG = "{http://www.w3.org/2000/svg}"
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


class Drawn:
    """One panel of what ops/grafana/draw has drawn."""

    def __init__(self, group):
        self.type = group.get("data-type")
        self.texts = [text.text for text in group.iter(f"{SVG}text")]
        self.lines = [path for path in group.iter(f"{SVG}path") if path.get("class") == "line"]


def drawn_panels(picture):
    """{panel's id: what is drawn of it}."""
    groups = xml.etree.ElementTree.fromstring(picture).iter(f"{SVG}g")
    return {int(group.get("id").removeprefix("panel-")): Drawn(group) for group in groups}


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

    def test_the_picture_in_the_docs_has_these_panels(self):
        found = drawn_panels(PICTURE.read_text(encoding="utf-8"))
        titles = {panel["id"]: panel["title"] for panel in dashboard()["panels"]}
        again = "ops/grafana/picture makes it anew"
        self.assertEqual({number: one.texts[0] for number, one in found.items()}, titles, again)
        self.assertFalse([one.texts for one in found.values() if "No data" in one.texts], again)

    def test_numbers_of_now_are_asked_for_now(self):
        # The last number of a range is an old one when there is nobody left who tells a new one.
        for panel in panels():
            if panel["type"] == "stat":
                self.assertEqual([(target["instant"], target["range"]) for target in panel["targets"]], [(True, False)])

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

    def draw(self, *options):
        return subprocess.run(
            [sys.executable, "-B", DRAW, "--prometheus", self.here.prometheus.url, "--minutes", "1", "--scrape-seconds", "1",
             *options], capture_output=True, text=True, timeout=60, check=False)

    def drawn(self):
        done = self.draw()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return drawn_panels(done.stdout)

    def test_every_panel_is_drawn(self):
        def all_with_data():
            found = self.drawn()
            return not [one for one in found.values() if "No data" in one.texts] and found
        found = wait_until(all_with_data, "data in every panel", 30)
        self.assertEqual(list(found), [panel["id"] for panel in dashboard()["panels"]])
        for panel in dashboard()["panels"]:
            with self.subTest(panel["title"]):
                one = found[panel["id"]]
                self.assertEqual(one.type, panel["type"])
                self.assertIn(panel["title"], one.texts)
                self.assertEqual(bool(one.lines), panel["type"] == "timeseries")
                self.assertFalse([text for text in one.texts if "more" in text], "a legend that has no place")

    def test_a_query_that_is_refused_is_told_with_its_panel(self):
        board = dashboard()
        board["panels"][-1]["targets"][0]["expr"] = "sum(("
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(board, file)
            file.flush()
            done = self.draw("--dashboard", file.name)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn('panel "Age of the sample": Prometheus: ', done.stderr)

    def test_the_first_dead_letter_of_a_reason_is_seen(self):
        SITUATIONS["one-refused"].begin(self.here)
        asked = [query for title, query in queries() if title == "Dead letters"]
        self.assertEqual(len(asked), 2)
        wait_until(lambda: all(sum(float(sample["value"][1]) for sample in self.here.prometheus.query(query)) == 1
                               for query in asked), "a dead letter in both panels")

    # By its name the last one: until all is scraped anew after it, the others would wait.
    def test_without_a_worker_no_number_of_now_is_an_old_one(self):
        self.here.worker.child.stop()
        self.addCleanup(self.here.worker.start)

        def numbers():
            found = self.drawn()
            return {panel["title"]: found[panel["id"]].texts[-1] for panel in panels() if panel["type"] == "stat"}
        wait_until(lambda: not self.here.prometheus.query("outfall_build_info"), "Prometheus to miss the worker")
        self.assertEqual(numbers(), {
            "Workers": "0", "Connected workers": "0", "Oldest that is due": "No data", "Dead letters": "No data",
            "Open breakers": "No data", "Unbound entries": "No data"})

    def test_the_variables_have_values(self):
        for variable in dashboard()["templating"]["list"][1:]:
            # What is asked is in `query`; the definition is what Grafana's list of variables shows.
            self.assertEqual(variable["query"], {"query": variable["definition"], "refId": variable["name"]})
            metric, label = re.fullmatch(r"label_values\((\w+)(?:\{[^}]*\})?, (\w+)\)", variable["definition"]).groups()
            values = self.here.prometheus.api(f"label/{label}/values", **{"match[]": metric})
            self.assertTrue(values, variable["name"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    Answers.binary = sys.argv.pop(1)
    unittest.main()
