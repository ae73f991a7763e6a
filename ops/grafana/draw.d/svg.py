"""Draws panels as SVG in the look of a dark dashboard, with no library: text and lines are all it has."""

import math
import time
from xml.sax.saxutils import escape, quoteattr

from board import Trouble
from units import SCALES, axis, time_step, written

MARGIN = 8
COLUMN = 40
ROW = 27
COLUMNS = 24
WIDTH = COLUMNS * COLUMN + MARGIN
HEAD = 40
LINE = 16  # of a legend and of the notes
PLOT_TOP = 34  # below a panel's upper edge
STAT_SIZE = 34
LEGEND_SHARE = 0.35  # of a panel's height, as in Grafana, where the rest can be scrolled to
FONT = "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
BACK, PANEL, EDGE, GRID = "#111217", "#181b1f", "#2a2d33", "#2a2d33"
TEXT, FAINT = "#d0d1dc", "#9a9ca8"
NAMED = {"green": "#73bf69", "yellow": "#fade2a", "red": "#f2495c"}
# Grafana's "classic palette", in its order.
PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d",
           "#fade2a", "#447ebc", "#c15c17", "#890f02", "#6d1f62", "#584477", "#b7dbab")

# Those that are not as wide as most. Of DejaVu Sans, but for J and _, which Arial has wider.
LETTER_WIDTHS = {letter: width for letters, width in (
    ("ijlI' ,.·", 0.32), ("frt()[]!-:;/\\|", 0.42), ("cszLJ_*\"`?", 0.56), ("ABCEKPRSTVXYZ", 0.7), ("DGHNOQU&µ", 0.79),
    ("w#+<>=~^", 0.84), ("M", 0.87), ("mW%@", 1.0)) for letter in letters}


def text_width(text, size=11):
    """What the text takes at most, in the widest of the fonts."""
    return size * sum(LETTER_WIDTHS.get(letter, 0.64 if letter.isascii() else 1.0) for letter in text)


def fitted(words, room, size=11):
    """The words, shortened where they are wider than their room."""
    if text_width(words, size) <= room:
        return words
    while words and text_width(words + "…", size) > room:
        words = words[:-1]
    return words + "…"


def wrapped(words, room, size):
    """Lines of words that each fit the room."""
    line = ""
    for word in words.split():
        word = fitted(word, room, size)
        if line and text_width(f"{line} {word}", size) > room:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    if line:
        yield line


def number(value):
    return f"{value:.1f}".removesuffix(".0")


def text(x, y, words, *, size=11, colour=TEXT, anchor="start", weight=None):
    bold = f' font-weight="{weight}"' if weight else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{number(x)}" y="{number(y)}" font-size="{size}" fill="{colour}"{where}{bold}>{escape(words)}</text>'


def box(x, y, width, height, fill, edge=None):
    stroke = f' stroke="{edge}"' if edge else ""
    return (f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" rx="2"'
            f' fill="{fill}"{stroke}/>')


def path(points):
    """A line through points, in tenths, each relative to the one before; what a straight line passes is left out."""
    rounded = [(round(x * 10), round(y * 10)) for x, y in points]
    kept = [at for i, at in enumerate(rounded)
            if not 0 < i < len(rounded) - 1 or not rounded[i - 1][1] == at[1] == rounded[i + 1][1]]
    parts = [f"M{kept[0][0] / 10:g} {kept[0][1] / 10:g}"]
    for before, after in zip(kept, kept[1:]):
        parts.append(f"l{(after[0] - before[0]) / 10:g} {(after[1] - before[1]) / 10:g}")
    # A point that stands alone is a dot.
    return "".join(parts) + ("h0" if len(kept) == 1 else "")


def pieces(points, step):
    """A line is broken where a point is missing."""
    piece = []
    for point in points:
        if piece and point[0] - piece[-1][0] > 1.5 * step:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def stacked(series):
    """[(name, [(time, below, value)])]: each on top of those before it, or all on the ground."""
    ground, result = {}, []
    for one in series:
        result.append([(at, ground.get(at, 0.0), ground.get(at, 0.0) + value) for at, value in one.points])
        ground.update({at: top for at, _, top in result[-1]})
    return result


def unit_of(panel):
    unit = panel.defaults["unit"]
    if unit not in SCALES:
        raise Trouble(f"panel \"{panel.json['title']}\": this program cannot draw the unit {unit}")
    return unit


def threshold_colour(steps, value):
    """The colour of the last step that is reached."""
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[reached[-1]["color"]]


class Frame:
    """Where a panel lies in the picture."""

    def __init__(self, panel):
        at = panel.json["gridPos"]
        self.x, self.y = MARGIN + at["x"] * COLUMN, HEAD + at["y"] * ROW
        self.width, self.height = at["w"] * COLUMN - MARGIN, at["h"] * ROW - MARGIN

    @property
    def middle(self):
        return self.x + self.width / 2


def row(panel, frame):
    return [f'<path d="M{frame.x + 1} {frame.y + 6}h8l-4 5z" fill="{FAINT}"/>',
            text(frame.x + 15, frame.y + 14, panel.json["title"], size=14, weight=500)]


def without_data(frame):
    return [text(frame.middle, frame.y + frame.height / 2 + 8, "No data", colour=FAINT, anchor="middle", size=13)]


def stat(panel, frame):
    """The last number of its series, large, in the colour of the threshold that it has reached."""
    if not panel.series or not panel.series[0].points:
        return without_data(frame)
    if len(panel.series) > 1 or panel.json["options"]["reduceOptions"]["calcs"] != ["lastNotNull"]:
        raise Trouble(f"panel \"{panel.json['title']}\": this program draws the last number of one series")
    value = panel.series[0].points[-1][1]
    colour = threshold_colour(panel.defaults["thresholds"]["steps"], value)
    words = written(value, unit_of(panel))
    size = int(min(STAT_SIZE, (frame.width - 2 * MARGIN) / text_width(words, 1)))
    return [text(frame.middle, frame.y + frame.height / 2 + 24, words, size=size, colour=colour, anchor="middle", weight=500)]


def legend_lines(series, frame):
    """[[(x, colour, name)]]: as many of a line as fit; what the panel has no place for is counted."""
    room = frame.width - 20
    entries = [(PALETTE[i % len(PALETTE)], fitted(one.name, room - 18)) for i, one in enumerate(series)]
    most = max(1, int(frame.height * LEGEND_SHARE / LINE))
    lines = laid_out(entries, room)
    if len(lines) > most:
        shown = sum(map(len, lines[:most]))
        # With its own width "and 3 more" may want the place of more than one.
        while len(lines := laid_out([*entries[:shown], (FAINT, f"and {len(entries) - shown} more")], room)) > most:
            shown -= 1
    return [[(frame.x + 10 + x, colour, name) for x, colour, name in line] for line in lines]


def laid_out(entries, room):
    """[[(x, colour, name)]]: one after the other, on a new line where there is no room."""
    lines, x = [[]], 0
    for colour, name in entries:
        width = 18 + text_width(name)
        if x + width > room and lines[-1]:
            lines.append([])
            x = 0
        lines[-1].append((x, colour, name))
        x += width + 10
    return lines


def legend(lines, frame):
    result = []
    for i, line in enumerate(lines):
        y = frame.y + frame.height - 8 - (len(lines) - 1 - i) * LINE
        for x, colour, name in line:
            result.append(f'<path d="M{number(x)} {y - 4}h12" stroke="{colour}" stroke-width="3"/>')
            result.append(text(x + 17, y, name))
    return result


class Plot:
    """The rectangle with the lines, and the scales that lead into it."""

    def __init__(self, panel, frame, window, below):
        unit = unit_of(panel)
        stacks = panel.custom.get("stacking", {}).get("mode") == "normal"
        self.layers = stacked(panel.series) if stacks else [
            [(at, 0.0, value) for at, value in one.points] for one in panel.series]
        values = [top for layer in self.layers for _, _, top in layer]
        self.values = axis(panel.defaults.get("min", min(values)), max(values), unit)
        self.labels = [written(value, unit) for value in self.values]
        self.left = frame.x + 16 + max(map(text_width, self.labels))
        self.right = frame.x + frame.width - 12
        self.top = frame.y + PLOT_TOP
        self.bottom = frame.y + frame.height - below
        self.window = window

    def x(self, at):
        return self.left + (at - self.window.start) / (self.window.end - self.window.start) * (self.right - self.left)

    def y(self, value):
        low, high = self.values[0], self.values[-1]
        return self.bottom - (min(max(value, low), high) - low) / (high - low) * (self.bottom - self.top)

    def grid(self):
        result, lines = [], []
        for value, label in zip(self.values, self.labels):
            lines.append(f"M{number(self.left)} {number(self.y(value))}H{number(self.right)}")
            result.append(text(self.left - 6, self.y(value) + 4, label, colour=FAINT, anchor="end"))
        seconds = self.window.end - self.window.start
        step = time_step(seconds, int((self.right - self.left) / 42))
        if step < 60:  # and the labels have seconds, too
            step = time_step(seconds, int((self.right - self.left) / 66))
        form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%d %b"
        for i in range(math.ceil(self.window.start / step), math.floor(self.window.end / step) + 1):
            x = self.x(i * step)
            lines.append(f"M{number(x)} {number(self.top)}V{number(self.bottom)}")
            label = time.strftime(form, time.gmtime(i * step))
            if x + text_width(label) / 2 <= self.right + 12:
                result.append(text(x, self.bottom + 15, label, colour=FAINT, anchor="middle"))
        return [f'<path d="{"".join(lines)}" stroke="{GRID}" fill="none"/>', *result]

    def line(self, layer, colour, opacity):
        """The line of a series, and what is filled below it."""
        result = []
        for piece in pieces(layer, self.window.step):
            upper = [(self.x(at), self.y(top)) for at, _, top in piece]
            lower = [(self.x(at), self.y(below)) for at, below, _ in piece]
            if opacity and any(top != below for _, below, top in piece):
                outline = path(upper + lower[::-1])
                result.append(f'<path d="{outline}z" fill="{colour}" fill-opacity="{opacity / 100}"/>')
            result.append(f'<path class="line" d="{path(upper)}" stroke="{colour}"/>')
        return result

    def thresholds(self, panel):
        """Dashed lines, where the panel wants them."""
        if panel.custom.get("thresholdsStyle", {}).get("mode", "off") != "dashed":
            return []
        return [f'<path d="M{number(self.left)} {number(self.y(step["value"]))}H{number(self.right)}"'
                f' stroke="{NAMED[step["color"]]}" stroke-dasharray="6 4"/>'
                for step in panel.defaults["thresholds"]["steps"]
                if step["value"] is not None and self.values[0] <= step["value"] <= self.values[-1]]


def timeseries(panel, frame, window):
    if not any(one.points for one in panel.series):
        return without_data(frame)
    lines = legend_lines(panel.series, frame)
    plot = Plot(panel, frame, window, 30 + len(lines) * LINE)
    drawn = plot.grid()
    # The first lies on top, where lines are the same.
    for i, layer in reversed(list(enumerate(plot.layers))):
        drawn += plot.line(layer, PALETTE[i % len(PALETTE)], panel.custom.get("fillOpacity", 0))
    return drawn + plot.thresholds(panel) + legend(lines, frame)


def drawn_panel(panel, window):
    frame, kind = Frame(panel), panel.json["type"]
    attributes = (f'id="panel-{panel.json["id"]}" data-type={quoteattr(kind)} data-series="{len(panel.series)}"')
    inner = [f"<title>{escape(panel.json.get('description') or panel.json['title'])}</title>"]
    if kind == "row":
        inner += row(panel, frame)
    elif kind in ("stat", "timeseries"):
        inner.append(box(frame.x, frame.y, frame.width, frame.height, PANEL, EDGE))
        inner.append(text(frame.x + 10, frame.y + 20, fitted(panel.json["title"], frame.width - 20, 13), size=13, weight=500))
        inner += stat(panel, frame) if kind == "stat" else timeseries(panel, frame, window)
    else:
        raise Trouble(f"panel \"{panel.json['title']}\": this program cannot draw the type {kind}")
    return f"<g {attributes}>\n" + "\n".join(inner) + "\n</g>"


def head(board, window, given):
    begin, end = (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) for at in (window.start, window.end))
    chosen = [f"{variable['label']}: {given.get(variable['name'], 'All')}"
              for variable in board["templating"]["list"] if variable["type"] == "query"]
    title, times = board["title"], f"{begin} to {end.split()[1]} UTC"
    left, right = MARGIN + max(90, text_width(title, 18) + 20), WIDTH - MARGIN
    return [text(MARGIN, 26, title, size=18, weight=600),
            text(left, 26, fitted(" · ".join(chosen), right - text_width(times, 12) - 20 - left, 12), size=12, colour=FAINT),
            text(right, 26, times, size=12, colour=FAINT, anchor="end")]


def picture(board, panels, window, given, notes):
    """The whole SVG. The notes stand below the panels."""
    notes = [line for note in notes for line in wrapped(note, WIDTH - 2 * MARGIN, 12)]
    foot = HEAD + max(panel.json["gridPos"]["y"] + panel.json["gridPos"]["h"] for panel in panels) * ROW + 12
    height = foot + len(notes) * LINE + 4
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
             f' font-family="{FONT}">',
             "<style>.line{fill:none;stroke-width:1.4;stroke-linejoin:round;stroke-linecap:round}</style>",
             f'<rect width="{WIDTH}" height="{height}" fill="{BACK}"/>', *head(board, window, given)]
    parts += [drawn_panel(panel, window) for panel in panels]
    parts += [text(MARGIN, foot + i * LINE, note, size=12, colour=FAINT) for i, note in enumerate(notes)]
    return "\n".join(parts) + "\n</svg>\n"
