#!/usr/bin/env python3
"""The rules of the house that a machine can judge, over the whole tree.

usage: ops/dev/house_rules.py [ROOT]

Prints one line per problem, `path:line: what is wrong`, and exits with 1 if there is any. Warnings
are printed and do not count. Each rule is a function from a Tree to Problems; house_rules_test.py
shows every one of them fail and pass.
"""

import dataclasses
import pathlib
import re
import sys

from cpp_text import code_only, functions, literals

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ("lib", "emitters", "daemon", "tests")
SKIPPED_FOLDERS = {".git", "build", "out", ".cache", "__pycache__"}

# What each folder may include of ours; the longest matching prefix counts.
LAYERS = {
    "lib/core": {"lib/core"},
    "lib/telemetry": {"lib/telemetry", "lib/core"},
    # The configuration checks [emitters.*] against the settings that each kind of emitter declares.
    "lib/config": {"lib/config", "lib/emitter", "lib/core"},
    "lib/emitter": {"lib/emitter", "lib/core"},
    "lib/store": {"lib/store", "lib/core"},
    "lib/store/postgres": {"lib/store/postgres", "lib/store", "lib/core"},
    "lib/drain": {"lib/drain", "lib/store", "lib/emitter", "lib/telemetry", "lib/core"},
    "emitters": {"emitters", "lib/emitter", "lib/core"},
    "daemon": {"daemon", "emitters", "lib/drain", "lib/store", "lib/store/postgres", "lib/emitter",
               "lib/config", "lib/telemetry", "lib/core"},
}
EMITTER_LAYER = {"lib/emitter", "lib/core"}

# Headers that only one part of the house knows. Tests may use what they like.
OWNED_HEADERS = {
    "libpq-fe.h": "lib/store/postgres",
    "toml++/": "lib/config",
    "librdkafka/": "emitters/kafka",
    "curl/": "emitters/webhook",
    # Everybody else takes core/mutex.h, whose locks clang checks.
    "mutex": "lib/core",
    "condition_variable": "lib/core",
}

# Sources that know such a header beside its owner, and why.
HEADER_EXCEPTIONS = {
    ("lib/config/conninfo.cc", "libpq-fe.h"): "has libpq judge a connection string, connects to nothing",
}

# Statements that cannot be a function of the schema, and why.
SQL_EXCEPTIONS = {
    "lib/store/postgres/migrator.cc": "looks at the catalog before the schema exists, and makes it",
}

MAX_HEADER_LINES = 300
WARN_SOURCE_LINES = 500
MAX_SOURCE_LINES = 800
MAX_FUNCTION_LINES = 70


@dataclasses.dataclass(frozen=True)
class Problem:
    path: str
    line: int
    text: str
    warning: bool = False

    def __str__(self):
        return f"{self.path}:{self.line}: {'warning: ' if self.warning else ''}{self.text}"


class Tree:
    """The files below a root, read once, by their path relative to it."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = sorted(
            path.relative_to(self.root).as_posix() for path in self.root.rglob("*")
            if path.is_file() and not SKIPPED_FOLDERS & set(path.relative_to(self.root).parts))
        self._texts = {}

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_text(encoding="utf-8", errors="replace")
        return self._texts[path]

    def matching(self, suffixes, folders=None):
        return [path for path in self.files if path.endswith(suffixes)
                and (folders is None or path.split("/")[0] in folders)]

    def cpp(self, folders=SOURCES):
        return self.matching((".cc", ".h"), folders)


def folder_of(path):
    return path.rpartition("/")[0]


def layer_of(path):
    """The entry of LAYERS that a path belongs to, or of one emitter: "emitters/<kind>"."""
    parts = path.split("/")
    if parts[0] == "emitters" and len(parts) > 2:
        return "/".join(parts[:2])
    prefixes = [layer for layer in LAYERS if path.startswith(layer + "/")]
    return max(prefixes, key=len, default=None)


def allowed_layers(layer):
    if layer in LAYERS:
        return LAYERS[layer]
    return EMITTER_LAYER | {layer}


def include_direction(tree):
    """Includes point down only: core sees nothing, nobody sees the daemon."""
    known = set(tree.files)
    for path in tree.cpp(("lib", "emitters", "daemon")):
        layer = layer_of(path)
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            target = match[1]
            resolved = "lib/" + target if "lib/" + target in known else target
            if resolved not in known and target.split("/")[0] not in ("emitters", "daemon", "tests"):
                # A generated header keeps the folder that its name says.
                resolved = "lib/" + target
            seen = layer_of(resolved)
            if layer == "emitters" and seen is not None and seen.startswith("emitters/"):
                continue
            if seen is None or seen not in allowed_layers(layer):
                yield Problem(path, number, f'{layer} may not include "{target}"')


def owned_headers(tree):
    """libpq stays inside lib/store/postgres, and so on."""
    for path in tree.cpp(("lib", "emitters", "daemon")):
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
            for header, owner in OWNED_HEADERS.items():
                if (path, header) in HEADER_EXCEPTIONS:
                    continue
                if match and match[1].startswith(header) and not path.startswith(owner + "/"):
                    yield Problem(path, number, f"only {owner} may include <{match[1]}>")


STATEMENT = re.compile(
    r"\b(INSERT\s+INTO\s|UPDATE\s+\S+\s+(\w+\s+)?SET\s|DELETE\s+FROM\s|MERGE\s+INTO\s|TRUNCATE\s+\w"
    r"|(CREATE|ALTER|DROP)\s+(OR\s+REPLACE\s+)?"
    r"(TABLE|VIEW|FUNCTION|INDEX|ROLE|SCHEMA|SEQUENCE|TRIGGER|TYPE)\s)", re.IGNORECASE)


def is_call(sql):
    """`SELECT ...` or `SELECT ... FROM function(...)` with nothing behind it. A literal that ends with
    FROM is the start of a call whose name is added at run time."""
    depth = 0
    for match in re.finditer(r"[()]|\bFROM\b", sql, re.IGNORECASE):
        if match[0] == "(":
            depth += 1
        elif match[0] == ")":
            depth -= 1
        elif depth == 0:
            if not sql[match.end():].strip():
                return True
            source = re.fullmatch(r"\s*[\w.{}\"]+\s*\((.*)\)(\s+(AS\s+)?\w+)?\s*;?\s*",
                                  sql[match.end():], re.IGNORECASE | re.DOTALL)
            return source is not None and balanced(source[1])
    return not re.search(r"\b(WHERE|UNION|ORDER\s+BY)\b", sql, re.IGNORECASE)


def balanced(text):
    depth = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def sql_in_sql(tree):
    """C++ calls functions; statements live in sql/, where they can be read, tested and granted."""
    for path in tree.cpp(("lib", "emitters", "daemon")):
        if path in SQL_EXCEPTIONS:
            continue
        for literal in literals(tree.text(path)):
            text = literal.text.strip()
            starts = re.match(r"(SELECT|WITH)\s", text)
            if STATEMENT.search(text) or (starts and not (starts[1] == "SELECT" and is_call(text))):
                yield Problem(path, literal.line,
                              f'SQL beyond a function call belongs in sql/: "{text[:60]}"')


def slug(heading):
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def without_fences(text):
    """Markdown with the lines of its fenced blocks emptied, so that line numbers stay."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            lines.append("")
        else:
            lines.append("" if fenced else line)
    return lines


def dead_links(tree):
    known = set(tree.files)
    folders = {folder_of(path) for path in tree.files}
    folders |= {parent for folder in folders for parent in
                (str(p) for p in pathlib.PurePosixPath(folder).parents)}
    for path in tree.matching((".md",)):
        for number, line in enumerate(without_fences(tree.text(path)), 1):
            for target in re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z][a-z0-9+.-]*:", target):
                    continue
                file, _, anchor = target.partition("#")
                whole = path if not file else normalised(folder_of(path), file)
                if whole not in known and whole not in folders:
                    yield Problem(path, number, f"dead link: {target}")
                elif anchor and whole.endswith(".md") and anchor not in anchors(tree.text(whole)):
                    yield Problem(path, number, f"dead link: {target} (no such heading)")


def normalised(folder, target):
    parts = [part for part in folder.split("/") if part]
    for part in target.rstrip("/").split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in (".", ""):
            parts.append(part)
    return "/".join(parts) or "."


def anchors(text):
    headings = (re.match(r"#{1,6}\s+(.*)", line) for line in without_fences(text))
    explicit = re.findall(r'<a (?:id|name)="([^"]+)"', text)
    return {slug(match[1]) for match in headings if match} | set(explicit)


def readme_everywhere(tree):
    known = set(tree.files)
    rooms = {"/".join(path.split("/")[:2]) for path in tree.files
             if path.startswith(("lib/", "emitters/")) and path.count("/") > 1}
    rooms |= {folder_of(path) for path in tree.cpp(("lib",))}
    for room in sorted(rooms):
        if room + "/README.md" not in known:
            yield Problem(room, 1, "no README.md: what it is, why it exists, what does not belong in it")


def pragma_once(tree):
    for path in tree.matching((".h",), SOURCES):
        if not re.match(r"\s*#pragma once\n", code_only(tree.text(path))):
            yield Problem(path, 1, "the first line of code is not #pragma once")


def file_lengths(tree):
    for path in tree.cpp():
        lines = tree.text(path).count("\n")
        if path.endswith(".h"):
            if lines > MAX_HEADER_LINES:
                yield Problem(path, lines, f"{lines} lines; a header has {MAX_HEADER_LINES} at most")
        elif lines > WARN_SOURCE_LINES:
            yield Problem(path, lines, f"{lines} lines; split it before it has {MAX_SOURCE_LINES}",
                          warning=lines <= MAX_SOURCE_LINES)


def function_lengths(tree):
    for path in tree.cpp():
        for function in functions(tree.text(path)):
            if function.lines > MAX_FUNCTION_LINES:
                yield Problem(path, function.line, f"a function of {function.lines} lines; "
                              f"{MAX_FUNCTION_LINES} at most")


UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
OWN_MACHINE = re.compile(r"(?<![\w.:])/(home|Users|work)/\w")
RULES_FILES = ("ops/dev/house_rules.py", "ops/dev/house_rules_test.py")


def unfinished_or_local(tree):
    """No notes to oneself, and no paths of somebody's machine."""
    for path in tree.files:
        if path in RULES_FILES or b"\0" in (tree.root / path).read_bytes()[:1024]:
            continue
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            note = UNFINISHED.search(line)
            if note:
                yield Problem(path, number, f"{note[0]}: do it, or open an issue")
            if OWN_MACHINE.search(line):
                yield Problem(path, number, "a path of somebody's own machine")


SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\(")


def no_sleeps_in_tests(tree):
    """A test waits for a condition with a deadline (tests/support/wait_until.h)."""
    for path in tree.cpp(("tests",)):
        if path.startswith("tests/support/") and "/self_test/" not in path:
            continue
        for number, line in enumerate(code_only(tree.text(path)).splitlines(), 1):
            if SLEEP.search(line):
                yield Problem(path, number, "a test does not sleep: wait_until() a condition")


BANNER = re.compile(r"^\s*//\s*([-=*#~/])\1{2,}")


def no_banners(tree):
    """A comment is a sentence that says why; what needs a ruler is a file of its own."""
    for path in tree.cpp():
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            if BANNER.match(line):
                yield Problem(path, number, "a banner: say why in a sentence, or make it a file")


def sql_documented(tree):
    """Every function that a migration makes is in docs/reference/sql.md."""
    page = "docs/reference/sql.md"
    text = tree.text(page) if page in tree.files else ""
    for path in tree.matching((".sql",), ("sql",)):
        body = re.sub(r"--[^\n]*", "", tree.text(path))
        for match in re.finditer(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+([^\s(]+)",
                                 body, re.IGNORECASE):
            name = re.sub(r'["]', "", match[1]).split(".")[-1]
            if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
                yield Problem(path, body.count("\n", 0, match.start()) + 1,
                              f"function {name} is not in {page}")


def shown_version(tree):
    """What a newcomer compares with the terminal shows the newest schema; elsewhere an old one may be the point."""
    newest = max((int(match[1]) for path in tree.files
                  if (match := re.fullmatch(r"sql/migrations/(\d{4})_\w+\.sql", path))), default=0)
    for path in tree.matching((".md",)):
        if path != "README.md" and not path.startswith("docs/start/"):
            continue
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            for shown in re.findall(r'schema "outbox"(?:,| is at| is up to date at) version (\d+)', line):
                if int(shown) != newest:
                    yield Problem(path, number, f"shows schema version {shown}, and the newest is {newest}")


RULES = (include_direction, owned_headers, sql_in_sql, dead_links, readme_everywhere, pragma_once,
         file_lengths, function_lengths, unfinished_or_local, no_sleeps_in_tests, no_banners,
         sql_documented, shown_version)


def check(root):
    tree = Tree(root)
    return [problem for rule in RULES for problem in rule(tree)]


def main(arguments):
    root = arguments[0] if arguments else ROOT
    problems = check(root)
    for problem in problems:
        print(problem)
    failures = sum(not problem.warning for problem in problems)
    print(f"house rules: {failures} problems, {len(problems) - failures} warnings")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
