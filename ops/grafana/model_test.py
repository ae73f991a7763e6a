#!/usr/bin/env python3
"""The dashboard is what Grafana takes it for, as far as that can be seen without one: its own models read it.

Grafana publishes the models of its dashboards and panels as a Python package, made from the same schemas as
Grafana itself. What they leave out when they write what they have read, Grafana does not know; and each value
has to be of the type that they name.

usage: ops/grafana/model_test.py [unittest's options]
"""

import copy
import enum
import json
import os
import pathlib
import re
import sys
import typing
import unittest

CACHE = pathlib.Path(os.environ.get("OUTFALL_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "outfall"))
PYTHON = CACHE / "judges/bin/python"
try:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.cog.runtime import panelcfg_config
    from grafana_foundation_sdk.models.dashboard import Dashboard
except ImportError:
    if pathlib.Path(sys.executable) == PYTHON:
        raise
    os.execv(PYTHON, [str(PYTHON), "-B", *sys.argv])

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).with_name("schema.d")))

from mistakes import mistakes  # noqa: E402

DASHBOARD = pathlib.Path(__file__).with_name("outfall.json")
# Grafana's editor keeps the text of a variable's query there too, which its schema has left out.
NOT_IN_THE_SCHEMA = {"templating.list.definition"}
# Their query may be anything there, and what is chosen of them a text or some.
UNSEEN = re.compile(r"templating\.list\.(query|datasource)\.(query|definition)\b"
                    r"|templating\.list\.query\.current\.(text|value): 'x'")


def left_out(given, read, path=""):
    """What of `given` is not in `read`, by its path."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            below = f"{path}.{key}".lstrip(".")
            if key not in read:
                yield below
            else:
                yield from left_out(value, read[key], below)
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for one, other in zip(given, read):
            yield from left_out(one, other, path)
    elif given != read:
        yield path


def fits(value, kind):
    """Whether a value is of a type as the models write it, which take what they are given unseen."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (typing.Any, object):
        return True
    if origin is typing.Union:
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if kind in (int, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if issubclass(kind, enum.Enum):
        return value in [one.value for one in kind]
    return isinstance(value, kind)


def misfits(thing, path=""):
    """The fields of a model, and of all below it, that hold what is not of their type."""
    if isinstance(thing, list):
        for one in thing:
            yield from misfits(one, path)
    elif type(thing).__module__.startswith("grafana_foundation_sdk.models"):
        for name, kind in typing.get_type_hints(type(thing)).items():
            value, below = getattr(thing, name), f"{path}.{name}".lstrip(".")
            if not fits(value, kind):
                yield f"{below} = {value!r}"
            else:
                yield from misfits(value, below)


def problems(board):
    read = Dashboard.from_json(board)
    written = json.loads(JSONEncoder().encode(read))
    kinds = {panel["type"] for panel in board["panels"]} - {"row"}
    return sorted([*(set(left_out(board, written)) - NOT_IN_THE_SCHEMA), *misfits(read),
                   *(f"no panel {kind}" for kind in kinds if panelcfg_config(kind) is None)])


class Model(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        register_default_plugins()
        cls.board = json.loads(DASHBOARD.read_text(encoding="utf-8"))

    def test_grafana_knows_all_of_it(self):
        self.assertEqual(problems(self.board), [])

    def test_a_mistake_would_be_seen(self):
        for path, name, value, told in (
                ((), "titel", "x", "titel"),
                ((), "editable", "yes", "editable = 'yes'"),
                (("templating", "list", 1), "regexp", "x", "templating.list.regexp"),
                (("panels", "timeseries"), "gridpos", {}, "panels.gridpos"),
                (("panels", "timeseries"), "type", "timseries", "no panel timseries"),
                (("panels", "timeseries", "gridPos"), "w", "12", "panels.grid_pos.w = '12'"),
                (("panels", "timeseries", "targets", 0), "exprr", "x", "panels.targets.exprr"),
                (("panels", "timeseries", "options"), "legendd", {}, "panels.options.legendd"),
                (("panels", "timeseries", "options", "legend"), "placement", "below",
                 "panels.options.legend.placement = 'below'"),
                (("panels", "timeseries", "fieldConfig", "defaults", "custom"), "drawStyle", "lines",
                 "panels.field_config.defaults.custom.draw_style = 'lines'")):
            with self.subTest(told):
                board = copy.deepcopy(self.board)
                place = board
                for step in path:
                    place = (place[step] if step != "timeseries" else
                             next(panel for panel in place if panel["type"] == step))
                place[name] = value
                self.assertIn(told, problems(board))

    def test_a_mistake_in_any_field_would_be_seen(self):
        unseen = []
        for what, path, board in mistakes(self.board):
            # The rest has been read above.
            if path[0] == "panels" and len(path) > 1:
                board["panels"] = [board["panels"][path[1]]]
            try:
                seen = problems(board)
            except (AttributeError, KeyError, TypeError, ValueError):
                seen = True
            if not seen and not UNSEEN.match(what):
                unseen.append(what)
        self.assertEqual(unseen, [])


if __name__ == "__main__":
    unittest.main()
