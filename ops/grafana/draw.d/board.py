"""A dashboard's panels with what a Prometheus answers to their queries, over one range of time."""

import dataclasses
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request

# Grafana asks for a point a pixel; what lies closer together cannot be seen.
POINTS = 300
STEPS_SECONDS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class Trouble(Exception):
    """The dashboard cannot be drawn; the text says why."""


@dataclasses.dataclass
class Range:
    """From when to when, in seconds since 1970, and how often Prometheus scrapes."""
    start: float
    end: float
    scrape_seconds: float = 15.0

    @property
    def step(self):
        least = max(self.scrape_seconds, (self.end - self.start) / POINTS)
        return next((step for step in STEPS_SECONDS if step >= least), 86400)

    @property
    def rate_interval(self):
        """What Grafana documents of $__rate_interval."""
        return max(self.step + self.scrape_seconds, 4 * self.scrape_seconds)


@dataclasses.dataclass
class Series:
    """A line of a legend: (time, value) in order, without those that are no number."""
    name: str
    points: list


@dataclasses.dataclass
class Panel:
    json: dict
    series: list

    @property
    def defaults(self):
        return self.json["fieldConfig"]["defaults"]

    @property
    def custom(self):
        return self.defaults.get("custom", {})


class Prometheus:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def ask(self, path, **parameters):
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=60) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise Trouble(f"Prometheus: {error.read().decode(errors='replace')}") from None
        except (OSError, ValueError) as error:
            raise Trouble(f"{self.url}: {error}") from None


def variables(board, given):
    """{name: value in a query}: what is given, else all that there is."""
    values = {}
    for variable in board["templating"]["list"]:
        name = variable["name"]
        if name in given:
            values[name] = given[name]
        elif variable["type"] == "query":
            values[name] = variable["allValue"]
    unknown = set(given) - {variable["name"] for variable in board["templating"]["list"]}
    if unknown:
        raise Trouble(f"the dashboard has no variable {', '.join(sorted(unknown))}")
    return values


def resolved(query, values, window):
    """The query with its variables replaced."""
    known = values | {
        "__rate_interval": f"{window.rate_interval * 1000:.0f}ms",
        "__interval": f"{window.step * 1000:.0f}ms",
        "__range": f"{(window.end - window.start) * 1000:.0f}ms"}

    def value(match):
        name = match[1] or match[2]
        if name not in known:
            raise Trouble(f"there is no variable ${name}: {query}")
        return known[name]
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, query)


def legend(form, labels):
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), form).strip()


def numbers(values):
    return [(float(time), number) for time, number in ((time, float(text)) for time, text in values)
            if math.isfinite(number)]


def answered(prometheus, target, values, window):
    """The series that one query of a panel gives."""
    query = resolved(target["expr"], values, window)
    if target.get("instant"):
        rows = prometheus.ask("query", query=query, time=window.end)
        found = [(row["metric"], [row["value"]]) for row in rows]
    else:
        # On whole steps, as Grafana does, so that two pictures have their points at the same times.
        start, end = (math.floor(time / window.step) * window.step for time in (window.start, window.end))
        rows = prometheus.ask("query_range", query=query, start=start, end=end, step=window.step)
        found = [(row["metric"], row["values"]) for row in rows]
    return [Series(legend(target["legendFormat"], labels), numbers(points)) for labels, points in found]


def panels(board, prometheus, window, given):
    """Every panel of the dashboard, rows too, with its series."""
    values = variables(board, given)
    result = []
    for panel in board["panels"]:
        series = []
        for target in panel.get("targets", []):
            try:
                series += answered(prometheus, target, values, window)
            except Trouble as error:
                raise Trouble(f"panel \"{panel['title']}\": {error}") from None
        result.append(Panel(panel, series))
    return result
