#!/usr/bin/env python3
"""Makes outfall(1) and outfall.toml(5) from pages of docs/reference.

usage: man_page.py --md2man PROGRAM --version VERSION --output FILE PAGE...

The name of FILE tells which of the two. Headings become one level each of sections, links keep only
their text, since a terminal follows none, and go-md2man makes roff of it.
"""

import argparse
import pathlib
import re
import subprocess

NAMES = {
    "outfall.1": ("OUTFALL", "1", "outfall - deliver what applications commit to their outbox",
                  "**outfall** *COMMAND* [*OPTIONS*]", "**outfall.toml**(5)"),
    "outfall.toml.5": ("OUTFALL.TOML", "5", "outfall.toml - configuration of outfall",
                       "*/etc/outfall/outfall.toml*", "**outfall**(1)"),
}


def sections(page):
    """The page as sections of a manual: its title is the first one, the rest come after it or below."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    # Links: only the words. A reference to another page of the docs is told by its path.
    text = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r"\1", text)
    fenced = False
    lines = []
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        match = None if fenced else re.match(r"(#+) (.*)", line)
        if match:
            level, title = len(match[1]), match[2].replace("`", "")
            if level == 1 and page.parent.name == "emitters":
                title = f"emitter {page.stem}"
            line = ("# " + title.upper()) if level == 1 else "#" * level + " " + title
        lines.append(line)
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--md2man", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    given = parser.parse_args()
    title, section, name, synopsis, see = NAMES[given.output.name]
    text = (f'% "{title}" "{section}" "" "outfall {given.version}" "Outfall"\n\n# NAME\n\n{name}\n\n'
            f"# SYNOPSIS\n\n{synopsis}\n\n")
    text += "\n".join(sections(page) for page in given.pages)
    text += f"\n# SEE ALSO\n\n{see}, */usr/share/doc/outfall/docs*\n"
    roff = subprocess.run([given.md2man], input=text.encode(), stdout=subprocess.PIPE, check=True)
    given.output.write_bytes(roff.stdout)


if __name__ == "__main__":
    main()
