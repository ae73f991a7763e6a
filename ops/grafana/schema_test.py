#!/usr/bin/env python3
"""The dashboard is what the Grafana of today takes it for: TypeScript holds it against the types that Grafana publishes
of its dashboards and panels (@grafana/schema), newer than the models of model_test.py, and these say what has to be there.

usage: ops/grafana/schema_test.py [unittest's options]
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE / "schema.d"))

from mistakes import mistakes  # noqa: E402

CACHE = pathlib.Path(os.environ.get("OUTFALL_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "outfall"))
PACKAGES = CACHE / "grafana/node_modules"
BOARD = json.loads((HERE / "outfall.json").read_text(encoding="utf-8"))
OPTIONS = {"noEmit": True, "strict": True, "skipLibCheck": True, "target": "es2022", "module": "esnext",
           "moduleResolution": "bundler", "types": []}
# What a data source is asked is the data source's, and a panel may have no datasource of its own.
NOT_OF_THE_SCHEMA = re.compile(r"panels\.\w+\.targets\.|templating\.list\.(query|datasource)\.query\b"
                               r"|templating\.list\.query\.current\.(text|value): 'x'")


def complaints(boards):
    """Of each board what the compiler says, all of them in one run."""
    lines, owners = ["import type { Board, Panels } from './types';"], [None]
    for number, board in enumerate(boards):
        for panel in board["panels"] if isinstance(board["panels"], list) else []:
            kind = panel.get("type")
            lines.append(f"export const c{len(lines)}: Panels[{json.dumps(kind)}] = {json.dumps(panel)};")
            owners.append(number)
        rest = board | {"panels": [] if isinstance(board["panels"], list) else board["panels"]}
        lines.append(f"export const c{len(lines)}: Board = {json.dumps(rest)};")
        owners.append(number)
    with tempfile.TemporaryDirectory(prefix="outfall-schema.") as folder:
        work = pathlib.Path(folder)
        (work / "node_modules").symlink_to(PACKAGES)
        (work / "types.ts").write_bytes((HERE / "schema.d/types.ts").read_bytes())
        (work / "board.ts").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (work / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS, "files": ["board.ts"]}))
        done = subprocess.run(["node", PACKAGES / "typescript/bin/tsc", "-p", work, "--pretty", "false"],
                              cwd=work, capture_output=True, text=True, timeout=240, check=False)
    found = [[] for _ in boards]
    for line in done.stdout.splitlines():
        at = re.match(r"board\.ts\((\d+),\d+\): (.*)", line)
        if at:
            found[owners[int(at[1]) - 1]].append(at[2])
        elif not line.startswith(" "):
            raise RuntimeError(line)
    return found


class Schema(unittest.TestCase):
    maxDiff = None

    def test_grafana_takes_it(self):
        self.assertEqual(complaints([BOARD]), [[]])

    def test_a_mistake_would_be_seen(self):
        # Of each panel with a mistake only that one, as the rest has been seen above.
        made = [(what, board | {"panels": [board["panels"][path[1]]] if len(path) > 1 and path[0] == "panels" else []})
                for what, path, board in mistakes(BOARD)
                if path != ("panels",) and not NOT_OF_THE_SCHEMA.match(what)]
        self.assertGreater(len(made), 300)
        told = complaints([board for _, board in made])
        self.assertEqual([what for (what, _), of_it in zip(made, told, strict=True) if not of_it], [])


if __name__ == "__main__":
    if not (PACKAGES / "@grafana/schema").is_dir():
        sys.exit(f"{PACKAGES} is missing: run ops/install-dependencies judges")
    unittest.main()
