#!/usr/bin/env python3
"""What ops/quickstart starts counts as running from the start on, however slow the machine is."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

PROCESSES = pathlib.Path(__file__).resolve().parent / "processes"


class Processes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        bin_folder = self.folder / "bin_folder"
        bin_folder.mkdir()
        (self.folder / "bin").write_text(f"{bin_folder}\n")
        # A process whose program is named outfall: a bash that runs the script `run`.
        shutil.copy("/bin/bash", bin_folder / "outfall")

    def tearDown(self):
        # Also when start_outfall lost sight of it.
        if (self.folder / "outfall.pid").exists():
            pid = int((self.folder / "outfall.pid").read_text())
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def started(self, script, setsid, then):
        """What a shell says that starts `run` by this setsid, and then does this."""
        (self.folder / "run").write_text(script)
        stub = self.folder / "setsid"
        stub.write_text(f"#!/bin/bash\n{setsid}\n")
        stub.chmod(0o755)
        shell = (f'. "{PROCESSES}"; cd "{self.folder}"; PATH=$PWD:$PATH; start_outfall "$PWD"; '
                 f"{then}")
        return subprocess.run(["bash", "-euc", shell], capture_output=True, text=True,
                              timeout=60, check=False)

    def test_what_is_slow_to_start_runs(self):
        done = self.started("while :; do read -rt 1 <> <(:) || :; done", 'sleep 1; exec "$@"',
                            'running outfall.pid outfall && echo runs; stop_process outfall.pid outfall 5; '
                            'running outfall.pid outfall || echo stopped')
        self.assertEqual((done.stdout, done.returncode), ("runs\nstopped\n", 0), done.stderr)

    def test_what_ends_at_once_has_ended(self):
        done = self.started("exit 78", 'exec "$@"',
                            'while running outfall.pid outfall; do read -rt 0.05 <> <(:) || :; done; echo ended')
        self.assertEqual((done.stdout, done.returncode), ("ended\n", 0), done.stderr)

    def test_what_cannot_be_started_has_ended(self):
        done = self.started("", "sleep 0.2; exit 126", "running outfall.pid outfall || echo ended")
        self.assertEqual((done.stdout, done.returncode), ("ended\n", 0), done.stderr)


if __name__ == "__main__":
    unittest.main()
