#!/usr/bin/env python3
"""The report of ops/quickstart says where to look next, whether or not anything goes on running."""

import pathlib
import subprocess
import tempfile
import unittest

LOOK_AROUND = pathlib.Path(__file__).with_name("look_around")


def report(keep, kafka=False):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "dead_letters.tsv").write_text("4711\tpoisoned\tnoop.failed\n")
        script = f"""
            set -euo pipefail
            keep={str(keep).lower()} kafka={str(kafka).lower()} kafka_topic=shop.order.placed
            admin=127.0.0.1:9464 folder={folder}
            . {LOOK_AROUND}
            look_around"""
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.replace(folder, "FOLDER")


class LookAroundTest(unittest.TestCase):
    def test_what_runs_and_what_could_is_named_alike(self):
        for keep in (True, False):
            text = report(keep)
            for what in ("http://127.0.0.1:9464/metrics ", "http://127.0.0.1:9464/status ",
                         "outfall dead-letters show --id 4711 ",
                         'outfall dead-letters replay --id 4711 --reason "trying it out"\n'):
                self.assertIn(f"\n  {what}", text)

    def test_what_is_gone_is_not_named(self):
        self.assertNotIn("FOLDER", report(keep=False))
        self.assertIn("\n  . FOLDER/env\n", report(keep=True))

    def test_the_command_that_leaves_it_running(self):
        self.assertIn(" run ops/quickstart --keep,", report(keep=False))
        self.assertIn(" run ops/quickstart --kafka --keep,", report(keep=False, kafka=True))
        self.assertNotIn("ops/quickstart", report(keep=True))


if __name__ == "__main__":
    unittest.main()
