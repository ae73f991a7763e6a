#!/usr/bin/env python3
"""What ops/quickstart refuses at once leaves nothing behind."""

import pathlib
import subprocess
import tempfile
import unittest

QUICKSTART = pathlib.Path(__file__).resolve().parents[1] / "quickstart"


class Options(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def refused(self, *options):
        """What it says; with a folder of programs that is empty, so that it ends there at the latest."""
        programs = self.folder / "programs"
        programs.mkdir()
        done = subprocess.run([QUICKSTART, "--no-install", "--bin", programs, *options], cwd=self.folder,
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    def test_json_makes_no_folders(self):
        report = self.folder / "mistyped/further/report.json"
        self.assertEqual(self.refused("--json", "mistyped/further/report.json"),
                         f"ops/quickstart: cannot write to {report}\n"
                         f"  hint: make the folder {report.parent} first\n")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["programs"])

    def test_json_goes_where_the_caller_is(self):
        self.assertIn("there is no program outfall in ", self.refused("--json", "report.json"))
        self.assertTrue((self.folder / "report.json").exists())


if __name__ == "__main__":
    unittest.main()
