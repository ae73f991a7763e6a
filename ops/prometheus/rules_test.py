#!/usr/bin/env python3
"""The rules are right: promtool reads them and runs their tests, they name metrics that exist, and
docs, runbooks and situations to practise are in step with them."""

import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "ops/prometheus/outfall.rules.yml"
TESTS = sorted((ROOT / "ops/prometheus/tests").glob("*.yml"))
FASTER = ROOT / "ops/prometheus/faster"
DURATION = re.compile(r"\d+(?:ms|[smhd])$")


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def seconds(duration):
    """Of Prometheus's `1d5h`."""
    unit = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(number) * unit[name] for number, name in re.findall(r"(\d+)(ms|[smhd])", duration))


def groups(text):
    return yaml.safe_load(text)["groups"]


def rules():
    return [rule for group in groups(RULES.read_text(encoding="utf-8")) for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


class Rules(unittest.TestCase):
    def test_promtool_reads_them(self):
        done = promtool("check", "rules", RULES)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_their_own_tests_pass(self):
        done = promtool("test", "rules", *TESTS)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_alert_is_shown_to_fire_and_to_be_silent(self):
        fires, silent = set(), set()
        for file in TESTS:
            for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
                for check in test["alert_rule_test"]:
                    (fires if check["exp_alerts"] else silent).add(check["alertname"])
        self.assertEqual(fires, set(alerts()))
        self.assertEqual(silent, set(alerts()))

    def test_every_alert_is_shown_to_fire_within_what_it_promises(self):
        # In the name of a test stands when all was well for the last time: "OutfallX: what happens [from 5m]".
        # Tests of what is slower than an alert promises, such as a tenth that is late, have none.
        shown = set()
        for file in TESTS:
            for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
                begin = re.fullmatch(r"(\w+): .* \[from (\w+)\]", test["name"])
                if not begin:
                    continue
                name = begin[1]
                fires = [seconds(check["eval_time"]) for check in test["alert_rule_test"]
                         if check["alertname"] == name and check["exp_alerts"]]
                promise = alerts()[name]["annotations"]["fires_within"]
                self.assertTrue(fires, f"{file.name}: {test['name']}: never fires")
                self.assertLessEqual(min(fires) - seconds(begin[2]), seconds(promise),
                                     f"{file.name}: {test['name']}: a check is missing within {promise}")
                shown.add(name)
        self.assertEqual(shown, set(alerts()))

    def test_every_alert_says_all_that_an_operator_needs(self):
        self.assertGreaterEqual(len(alerts()), 20)
        for name, rule in alerts().items():
            with self.subTest(name):
                self.assertRegex(name, r"^Outfall[A-Z][A-Za-z]+$")
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                notes = rule["annotations"]
                self.assertEqual(set(notes), {"summary", "description", "runbook_url", "fires_within"})
                self.assertRegex(notes["summary"], r"^[A-Z][^{}]*\.$")
                self.assertIn("{{", notes["description"])
                self.assertEqual(notes["runbook_url"], f"/usr/share/doc/outfall/ops/runbooks/{name}.md")
                self.assertRegex(notes["fires_within"], DURATION)

    def test_they_name_metrics_that_a_worker_has(self):
        known = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE))
        self.assertIn("outfall_entries", known)
        for rule in rules():
            # Several names by a regular expression: each of them.
            expression = re.sub(r"(\w+)\(([\w|]+)\)(\w+)", lambda found: " ".join(
                found[1] + middle + found[3] for middle in found[2].split("|")) if "|" in found[2] else found[0], rule["expr"])
            for name in re.findall(r"\b(?:outfall|process)_[a-z_]+\b", expression):
                base = re.sub(r"_(bucket|count|sum)$", "", name)
                self.assertTrue(name in known or base in known, f"{name} in {rule.get('alert', rule.get('record'))}")

    def test_they_name_recorded_series_that_are_recorded(self):
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        used = {name for rule in rules() for name in re.findall(r"\boutfall:[a-z0-9_:]+", rule["expr"])}
        self.assertEqual(used - recorded, set())
        self.assertEqual(recorded - used, set(), "recorded for nobody")

    def test_the_objective_is_a_bucket(self):
        buckets = re.search(r"`outfall_delivery_latency_seconds`: (.*)", (ROOT / "docs/reference/metrics.md").read_text())
        bounds = buckets[1].split(", ")
        for factor in (1, 6, 12, 24, 60):
            text = subprocess.run([FASTER, str(factor)], capture_output=True, text=True, check=True).stdout
            used = set(re.findall(r'le="([^"]+)"', text))
            self.assertEqual(len(used), 1)
            self.assertLessEqual(used, set(bounds), f"factor {factor}")


class InStep(unittest.TestCase):
    """Alerts, runbooks, docs and situations tell of the same things."""

    RUNBOOKS = ROOT / "ops/runbooks"
    SECTIONS = ["## What it means", "## Look", "## Do", "## See that it worked"]

    def test_every_alert_has_a_runbook_and_every_runbook_an_alert(self):
        pages = {page.stem for page in self.RUNBOOKS.glob("*.md")} - {"README"}
        self.assertEqual(pages, set(alerts()))

    def test_a_runbook_says_all_that_it_should(self):
        for name, rule in alerts().items():
            with self.subTest(name):
                text = (self.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
                severity = rule["labels"]["severity"].capitalize()
                self.assertTrue(text.startswith(f"# {name}\n\n**{severity}:** {rule['annotations']['summary']}\n"))
                self.assertEqual(re.findall(r"^## .*$", text, re.MULTILINE), self.SECTIONS)
                self.assertIn("\n$ ", text, "no command to look with")

    def test_a_runbook_names_the_situations_to_practise_it(self):
        listed = subprocess.run([ROOT / "ops/game-day", "--list"], capture_output=True, text=True, check=True).stdout
        situations = {}
        for line in listed.splitlines():
            situation, alert = line.split()[:2]
            situations.setdefault(alert, set()).add(situation)
        self.assertEqual(set(situations), set(alerts()))
        for name in alerts():
            last = (self.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8").rstrip().split("\n\n")[-1]
            self.assertTrue(last.startswith("Practise: `ops/game-day "), name)
            self.assertEqual(set(re.findall(r"`(?:ops/game-day )?([\w-]+)`", last)), situations[name])

    def test_the_page_lists_every_alert_as_it_is(self):
        page = (ROOT / "docs/operating/alerts.md").read_text(encoding="utf-8")
        critical, warning = page.split("\n## Critical")[1].split("\n## Warning")
        for severity, section in (("critical", critical), ("warning", warning.split("\n## ")[0])):
            rows = [f"| [{name}](../../ops/runbooks/{name}.md) | {rule['annotations']['fires_within']} "
                    f"| {rule['annotations']['summary']} |"
                    for name, rule in alerts().items() if rule["labels"]["severity"] == severity]
            found = [line for line in section.splitlines() if line.startswith("| [")]
            self.assertEqual(found, rows, "write these rows into docs/operating/alerts.md:\n" + "\n".join(rows))

    def test_the_page_tells_the_shares_of_the_objective(self):
        page = (ROOT / "docs/operating/alerts.md").read_text(encoding="utf-8")
        for name, rule in alerts().items():
            for factor in re.findall(r"ratio\w+ > ([\d.]+) \* 0\.01", rule["expr"]):
                self.assertIn(f"| {name} | {float(factor):g} % |", page)


class Faster(unittest.TestCase):
    def faster(self, factor):
        return subprocess.run([FASTER, str(factor)], capture_output=True, text=True, check=False)

    def test_it_divides_every_time_and_changes_nothing_else(self):
        def bare(text):
            # What is left when every time is taken out, also those already divided.
            text = re.sub(r'\[\d+(ms|[smhd])\]|le="[\d.]+"|^( *(for|fires_within)): \d+(ms|[smhd])$', "#", text, flags=re.M)
            return re.sub(r"[\d.]+(\)?  # (?:seconds|rows))", r"\1", text)
        before, after = RULES.read_text(encoding="utf-8"), self.faster(12).stdout
        self.assertEqual(bare(before), bare(after))
        was = re.findall(r"(?:\[|for: |fires_within: )(\d+)([smhd])\b", before)
        now = re.findall(r"(?:\[|for: |fires_within: )(\d+)ms\b", after)
        unit = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
        self.assertEqual([int(number) * unit[u] // 12 for number, u in was], [int(number) for number in now])
        self.assertGreater(len(now), 60)

    def test_prometheus_takes_what_it_writes(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(self.faster(60).stdout)
            file.flush()
            done = promtool("check", "rules", file.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_factor_that_leaves_the_buckets_is_refused(self):
        self.assertEqual(self.faster(7).returncode, 64)
        self.assertEqual(self.faster("x").returncode, 64)


if __name__ == "__main__":
    unittest.main()
