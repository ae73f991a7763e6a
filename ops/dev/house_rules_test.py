#!/usr/bin/env python3
"""Shows for each rule of the house a tree that breaks it and one that keeps it."""

import pathlib
import tempfile
import unittest

import house_rules
from cpp_text import code_only, functions, literals


class Rules(unittest.TestCase):
    def problems(self, rule, files):
        """The problems of one rule in a tree of these files, as `path:line`."""
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                file = pathlib.Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            return [f"{p.path}:{p.line}" for p in rule(house_rules.Tree(folder))]

    def include(self, path, target):
        """Whether `path` may include `target`, both of which exist."""
        shown = target.removeprefix("lib/")
        files = {target: "", path: f'// why\n#include "{shown}"\n'}
        return self.problems(house_rules.include_direction, files) == []

    def test_include_direction(self):
        for path, target in (
                ("lib/core/a.h", "lib/core/b.h"), ("lib/telemetry/a.h", "lib/core/b.h"),
                ("lib/config/a.h", "lib/core/b.h"), ("lib/emitter/a.h", "lib/core/b.h"),
                ("lib/store/a.h", "lib/core/b.h"), ("lib/store/postgres/a.cc", "lib/store/b.h"),
                ("lib/drain/a.cc", "lib/store/b.h"), ("lib/drain/a.cc", "lib/telemetry/b.h"),
                ("emitters/noop/a.cc", "emitters/noop/b.h"), ("emitters/noop/a.cc", "lib/emitter/b.h"),
                ("emitters/all.cc", "emitters/noop/b.h"), ("daemon/a.cc", "daemon/admin/b.h"),
                ("daemon/a.cc", "lib/store/postgres/b.h")):
            self.assertTrue(self.include(path, target), (path, target))
        for path, target in (
                ("lib/core/a.h", "lib/telemetry/b.h"), ("lib/telemetry/a.h", "lib/config/b.h"),
                ("lib/store/a.h", "lib/store/postgres/b.h"), ("lib/store/a.h", "lib/emitter/b.h"),
                ("lib/drain/a.cc", "lib/store/postgres/b.h"), ("lib/drain/a.cc", "daemon/b.h"),
                ("lib/drain/a.cc", "emitters/noop/b.h"), ("emitters/noop/a.cc", "lib/store/b.h"),
                ("emitters/noop/a.cc", "emitters/stdout/b.h"), ("emitters/noop/a.cc", "lib/drain/b.h"),
                ("emitters/noop/a.cc", "lib/telemetry/b.h"), ("lib/config/a.cc", "tests/support/b.h")):
            self.assertFalse(self.include(path, target), (path, target))

    def test_owned_headers(self):
        rule = house_rules.owned_headers
        libpq = "#include <libpq-fe.h>\n"
        self.assertEqual(self.problems(rule, {"lib/store/postgres/a.cc": libpq, "tests/a.cc": libpq}), [])
        self.assertEqual(self.problems(rule, {"lib/store/a.cc": libpq}), ["lib/store/a.cc:1"])

    def test_sql_in_sql(self):
        def judged(code):
            return self.problems(house_rules.sql_in_sql, {"lib/store/postgres/a.cc": code})

        for code in ('f("SELECT * FROM outbox.claim($1, $2)");', 'f("SELECT outbox.now()");',
                     'f("SELECT a, b FROM {}.settle($1, (SELECT 1)) AS s");', 'f("BEGIN");',
                     'f("SELECT * FROM " + qualified(name) + "()");', 'f("SET jit = off");', 'f("select an emitter from the list");',
                     '// SELECT id FROM entries\n', 'f("cannot update the file: set it yourself");'):
            self.assertEqual(judged(code), [], code)
        for code in ('f("SELECT id FROM entries");', 'f("DELETE FROM entries");',
                     'f("SELECT *"\n  " FROM entries");', 'f(R"(INSERT INTO t VALUES (1))");',
                     'f("UPDATE outbox.streams SET paused = true");',
                     'f("SELECT * FROM claim($1) WHERE true");', 'f("WITH x AS (SELECT 1) SELECT 1");',
                     'f("SELECT * FROM claim($1), settle($2)");', 'f("CREATE TABLE t ()");'):
            self.assertEqual(judged(code), ["lib/store/postgres/a.cc:1"], code)

    def test_exceptions_to_sql_in_sql_are_files_that_need_them(self):
        tree = house_rules.Tree(house_rules.ROOT)
        for path in house_rules.SQL_EXCEPTIONS:
            self.assertEqual(self.problems(house_rules.sql_in_sql, {path: 'f("DELETE FROM t");'}), [])
            elsewhere = {"lib/store/postgres/x.cc": tree.text(path)}
            self.assertNotEqual(self.problems(house_rules.sql_in_sql, elsewhere), [], path)

    def test_dead_links(self):
        files = {
            "README.md": "[a](docs/a.md) [b](docs/a.md#the-end-of-it) [c](docs) [d](https://x.org/y)\n"
                         "`[e](nowhere.md)`\n```\n[f](nowhere.md)\n```\n[g](nowhere.md)\n",
            "docs/a.md": "# A\n\n## The end of `it`\n[up](../README.md) [bad](a.md#start)\n",
        }
        self.assertEqual(self.problems(house_rules.dead_links, files), ["README.md:6", "docs/a.md:4"])

    def test_shown_version(self):
        files = {
            "README.md": 'schema "outbox" is at version 9\nschema "outbox" is at version 10\n',
            "docs/start/a.md": 'ok\nschema "outbox", version 9, at 2026\nschema "outbox", version 10, at\n',
            "docs/operating/upgrading.md": 'schema "outbox" is at version 9 and this outfall needs 10\n',
            "sql/migrations/0009_a.sql": "", "sql/migrations/0010_b.sql": "",
        }
        self.assertEqual(self.problems(house_rules.shown_version, files), ["README.md:1", "docs/start/a.md:2"])

    def test_readme_everywhere(self):
        files = {"lib/core/a.h": "", "lib/core/README.md": "", "emitters/noop/a.cc": "",
                 "lib/store/README.md": "", "lib/store/postgres/a.cc": "", "emitters/all.cc": ""}
        self.assertEqual(self.problems(house_rules.readme_everywhere, files),
                         ["emitters/noop:1", "lib/store/postgres:1"])

    def test_pragma_once(self):
        files = {"lib/core/good.h": "// why\n#pragma once\n", "lib/core/bad.h": "int x;\n#pragma once\n"}
        self.assertEqual(self.problems(house_rules.pragma_once, files), ["lib/core/bad.h:1"])

    def test_file_lengths(self):
        files = {"lib/core/a.h": "\n" * 301, "lib/core/b.h": "\n" * 300, "lib/core/a.cc": "\n" * 801,
                 "lib/core/b.cc": "\n" * 501, "lib/core/c.cc": "\n" * 500}
        self.assertEqual(self.problems(house_rules.file_lengths, files),
                         ["lib/core/a.cc:801", "lib/core/a.h:301", "lib/core/b.cc:501"])
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "lib/b.cc")
            file.parent.mkdir()
            file.write_text("\n" * 501)
            problems = list(house_rules.file_lengths(house_rules.Tree(folder)))
        self.assertTrue(problems[0].warning)

    def test_function_lengths(self):
        body = "  f();\n" * 69
        files = {"lib/core/a.cc": f"namespace n {{\nvoid longer() {{\n{body}}}\n}}\n",
                 "lib/core/b.cc": f"void fits() {{\n{body[:-7]}}}\n"}
        self.assertEqual(self.problems(house_rules.function_lengths, files), ["lib/core/a.cc:2"])

    def test_unfinished_or_local(self):
        files = {"a.cc": "// TO" "DO: more\n", "b.md": "see /ho" "me/me/x\n",
                 "c.sh": "mktemp /tmp/test-XXXXXX\n", "d.md": "https://x.org/ho" "me/page\n"}
        self.assertEqual(self.problems(house_rules.unfinished_or_local, files), ["a.cc:1", "b.md:1"])

    def test_no_sleeps_in_tests(self):
        sleep = "std::this_thread::sleep_for(1s);\n"
        files = {"tests/unit/a.cc": sleep, "tests/support/wait_until.cc": sleep, "lib/core/a.cc": sleep,
                 "tests/unit/b.cc": "// sleep(1)\n"}
        self.assertEqual(self.problems(house_rules.no_sleeps_in_tests, files), ["tests/unit/a.cc:1"])

    def test_no_banners(self):
        files = {"lib/core/a.cc": "// ---- the loop\n", "tests/unit/b.h": "  //=====\n",
                 "lib/core/c.cc": "// Why - in a word.\nint a = b --- c;\n///// deep\n"}
        self.assertEqual(self.problems(house_rules.no_banners, files),
                         ["lib/core/a.cc:1", "lib/core/c.cc:3", "tests/unit/b.h:1"])

    def test_sql_documented(self):
        files = {"sql/migrations/0001_a.sql": "-- CREATE FUNCTION not_one()\n"
                                              "CREATE FUNCTION outbox.known(a int)\n"
                                              "CREATE OR REPLACE FUNCTION outbox.know()\n",
                 "docs/reference/sql.md": "`outbox.known(a)` does it.\n"}
        self.assertEqual(self.problems(house_rules.sql_documented, files),
                         ["sql/migrations/0001_a.sql:3"])


class CppText(unittest.TestCase):
    def test_code_only_keeps_lines_and_drops_text(self):
        text = 'a(); // {\n/* {\n } */ b("}{"); c(\'{\', 1\'000); d(R"x(\n{)x");\n'
        self.assertEqual(code_only(text), 'a(); \n\n b(""); c(\' \', 1000); d(""\n);\n')

    def test_literals_join_like_the_compiler(self):
        text = '#include "no.h"\nf("a "\n  // why\n  "b", "c\\n");\nR"(raw "text")";\n'
        self.assertEqual([(l.line, l.text) for l in literals(text)],
                         [(2, "a b"), (2 + 2, "c\n"), (5, 'raw "text"')])

    def spans(self, text):
        return [(f.line, f.lines) for f in functions(text)]

    def test_functions_in_scopes(self):
        text = ("namespace n {\nclass A {\n  int x() const {\n    return 1;\n  }\n};\n"
                "template <typename T>\nT y(T a) noexcept {\n  if (a) {\n  }\n  return a;\n}\n}\n")
        self.assertEqual(self.spans(text), [(3, 3), (7, 6)])

    def test_data_and_types_are_no_functions(self):
        text = ("constexpr int kTable[] = {\n1,\n2};\nenum class E { a,\nb };\n"
                "const auto kMap = make({\n1});\nstruct S {\nint x{1};\n};\nstd::array<int, 2> a{\n1};\n")
        self.assertEqual(self.spans(text), [])

    def test_constructors_with_braces_in_their_initializers(self):
        text = "A::A(int x) : a_{x},\n b_{x} {\n  f();\n}\n"
        self.assertEqual(max(lines for _, lines in self.spans(text)), 3)

    def test_operators_and_default_arguments(self):
        text = "bool A::operator==(const A& b) const {\n return x;\n}\nint f(int a = 1) {\n return a;\n}\n"
        self.assertEqual(self.spans(text), [(1, 3), (4, 3)])


if __name__ == "__main__":
    unittest.main()
