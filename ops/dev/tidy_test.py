#!/usr/bin/env python3
"""What `ops/check tidy --changed` looks at: all that a change may have broken, and no more."""

import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import tempfile
import unittest

TIDY = pathlib.Path(__file__).with_name("tidy")
loader = importlib.machinery.SourceFileLoader("tidy", str(TIDY))
tidy = importlib.util.module_from_spec(importlib.util.spec_from_loader("tidy", loader))
loader.exec_module(tidy)

FILES = {
    "lib/core/a.h": "",
    "lib/core/a.cc": '#include "core/a.h"\n',
    "lib/store/b.h": '#include <string>\n#include "core/a.h"\n',
    "daemon/c.cc": '#include "store/b.h"\n',
    "daemon/d.cc": '#include "daemon/e.h"\n',
    "daemon/e.h": "",
}


class Changed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        for name, text in FILES.items():
            self.write(name, text)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def git(self, *arguments):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change")

    def reached(self, base):
        files = tidy.with_includers(tidy.changed_since(base, self.root), self.root)
        return {str(file.relative_to(self.root)) for file in files}

    def test_nothing(self):
        self.assertEqual(self.reached("main"), set())

    def test_a_source_alone(self):
        self.git("checkout", "--quiet", "-b", "topic")
        self.write("daemon/c.cc", '#include "store/b.h"\nint c;\n')
        self.commit()
        self.assertEqual(self.reached("main"), {"daemon/c.cc"})

    def test_a_header_with_all_that_include_it(self):
        self.write("lib/core/a.h", "int a();\n")
        self.commit()
        self.assertEqual(self.reached("HEAD~1"),
                         {"lib/core/a.h", "lib/core/a.cc", "lib/store/b.h", "daemon/c.cc"})

    def test_what_is_not_committed(self):
        self.write("daemon/e.h", "int e();\n")
        self.write("daemon/new.cc", "")
        self.assertEqual(self.reached("main"), {"daemon/e.h", "daemon/d.cc", "daemon/new.cc"})

    def test_not_what_has_changed_in_the_base_meanwhile(self):
        self.git("checkout", "--quiet", "-b", "topic")
        self.write("daemon/c.cc", "int c;\n")
        self.commit()
        self.git("checkout", "--quiet", "main")
        self.write("lib/core/a.cc", "int a;\n")
        self.commit()
        self.git("checkout", "--quiet", "topic")
        self.assertEqual(self.reached("main"), {"daemon/c.cc"})

    def test_a_file_that_is_gone(self):
        (self.root / "daemon/c.cc").unlink()
        self.commit()
        self.assertEqual(self.reached("HEAD~1"), set())


class Sources(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        (self.root / "lib").mkdir()
        for name in ("a", "b"):
            (self.root / f"lib/{name}.cc").write_text(name)

    def sources(self, *compiled):
        commands = [{"directory": str(self.root), "file": file} for file in compiled]
        (self.root / "compile_commands.json").write_text(json.dumps(commands))
        return [file.name for file in tidy.sources(self.root, ["lib"], self.root)]

    def test_all_that_is_compiled(self):
        self.assertEqual(sorted(self.sources("lib/a.cc", "lib/b.cc", "main.cc")), ["a.cc", "b.cc"])

    def test_a_file_that_is_compiled_with_others_only(self):
        with self.assertRaisesRegex(SystemExit, "does not compile .*/lib/b.cc by itself"):
            self.sources("lib/a.cc", "unity_0.cxx")


if __name__ == "__main__":
    unittest.main()
