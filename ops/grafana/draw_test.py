#!/usr/bin/env python3
"""What ops/grafana/draw makes of numbers, without a Prometheus; with one it is in dashboard_test.py."""

import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).with_name("draw.d")))

from board import Panel, Range, Series, Trouble, numbers, resolved, variables  # noqa: E402
from svg import Frame, fitted, legend_lines, path, picture, pieces, stacked, text_width, threshold_colour, wrapped  # noqa: E402
from units import SCALES, axis, time_step, written  # noqa: E402

WINDOW = Range(1000.0, 1600.0, 2.0)
BOARD = {"title": "board", "templating": {"list": [
    {"name": "datasource", "type": "datasource"}, {"name": "job", "label": "Job", "type": "query", "allValue": ".*"}]}}


def panel(kind="timeseries", unit="short", series=(), **options):
    return Panel({"id": 1, "type": kind, "title": "a panel", "gridPos": {"x": 0, "y": 0, "w": 8, "h": 8},
                  "fieldConfig": {"defaults": {"unit": unit, "min": 0, **options}},
                  "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}}, list(series))


def drawn(one):
    return picture(BOARD, [one], WINDOW, {}, [])


class Units(unittest.TestCase):
    def test_numbers_are_written_with_what_can_be_seen_of_them(self):
        for value, unit, text in (
                (0, "short", "0"), (3, "short", "3"), (1500, "short", "1.5 K"), (99.96, "short", "100"), (0.25, "short", "0.25"),
                (0, "s", "0 s"), (0.0125, "s", "12.5 ms"), (0.0000042, "s", "4.2 µs"), (59, "s", "59 s"), (90, "s", "1.5 mins"),
                (7200, "s", "2 hours"), (0.01, "percentunit", "1%"), (1, "percentunit", "100%"), (160, "ops", "160 ops/s"),
                (25 * 2**20, "bytes", "25 MiB"), (-3, "short", "-3")):
            self.assertEqual(written(value, unit), text)

    def test_an_axis_holds_its_numbers_with_few_lines(self):
        for unit in SCALES:
            for high in (0, 1e-6, 0.3, 1, 7, 59, 61, 12345, 3e6, 1.8e9):
                values = axis(0, high, unit)
                self.assertLessEqual(len(values), 6, (unit, high))
                self.assertGreaterEqual(values[-1] * 1.000001, high)
                texts = [written(value, unit) for value in values]
                self.assertEqual(len(set(texts)), len(texts), (unit, high, texts))

    def test_times_are_round(self):
        self.assertEqual(time_step(600, 5), 120)
        self.assertEqual(time_step(3 * 3600, 5), 3600)
        self.assertEqual(time_step(30 * 86400, 5), 6 * 86400)


class Queries(unittest.TestCase):
    def test_variables_have_values(self):
        values = variables(BOARD, {})
        self.assertEqual(resolved('a{job=~"$job"}[${__rate_interval}]', values, WINDOW), 'a{job=~".*"}[8000ms]')
        self.assertEqual(variables(BOARD, {"job": "shop"}), {"job": "shop"})

    def test_a_variable_that_there_is_not_is_refused(self):
        with self.assertRaises(Trouble):
            variables(BOARD, {"jobs": "shop"})
        with self.assertRaises(Trouble):
            resolved('a{stream="$stream"}', {"job": ".*"}, WINDOW)

    def test_what_is_no_number_is_a_gap(self):
        self.assertEqual(numbers([(1, "2"), (2, "NaN"), (3, "+Inf"), (4, "5")]), [(1.0, 2.0), (4.0, 5.0)])


class Lines(unittest.TestCase):
    def test_a_line_is_broken_where_a_point_is_missing(self):
        self.assertEqual(list(pieces([(0, 1), (2, 1), (6, 1), (8, 2)], 2)), [[(0, 1), (2, 1)], [(6, 1), (8, 2)]])

    def test_a_point_alone_is_a_dot_and_a_level_line_has_two(self):
        self.assertEqual(path([(1, 2)]), "M1 2h0")
        self.assertEqual(path([(0, 2), (1, 2), (2, 2), (3, 4)]), "M0 2l2 0l1 2")

    def test_a_stack_adds_up_at_each_time(self):
        self.assertEqual(stacked([Series("a", [(0, 1), (2, 1)]), Series("b", [(2, 5)]), Series("c", [(0, 2), (2, 2)])]), [
            [(0, 0, 1), (2, 0, 1)], [(2, 1, 6)], [(0, 1, 3), (2, 6, 8)]])

    def test_a_legend_stays_in_its_panel_and_counts_what_has_no_place(self):
        frame = Frame(panel())
        for count in (1, 4, 30):
            lines = legend_lines([Series(f"stream-{i} retryable", []) for i in range(count)], frame)
            for x, _, name in sum(lines, []):
                self.assertLessEqual(x + 18 + text_width(name), frame.x + frame.width)
            shown = sum(map(len, lines))
            self.assertEqual(lines[-1][-1][2], "stream-0 retryable" if count == 1 else f"stream-{count - 1} retryable"
                             if shown == count else f"and {count - shown + 1} more")


    def test_words_are_cut_to_their_room(self):
        self.assertEqual(fitted("orders", 50), "orders")
        cut = fitted("worker-0.workers.svc.cluster.local:9464", 100)
        self.assertTrue(cut.startswith("worker-0") and cut.endswith("…") and text_width(cut) <= 100, cut)
        lines = list(wrapped("one two three " + "x" * 40, 60, 11))
        self.assertEqual(lines[:2], ["one two", "three"])
        self.assertEqual([line for line in lines if text_width(line) > 60], [])


class Panels(unittest.TestCase):
    def test_a_panel_without_an_answer_says_so(self):
        self.assertIn("No data", drawn(panel()))
        self.assertIn("No data", drawn(panel("stat")))
        self.assertNotIn("No data", drawn(panel(series=[Series("a", [(1200.0, 1.0)])])))

    def test_what_cannot_be_drawn_is_told(self):
        some = [Series("a", [(1200.0, 1.0)])]
        for one in (panel("gauge", series=some), panel(unit="celsius", series=some), panel("stat", series=some * 2)):
            with self.assertRaises(Trouble) as told:
                drawn(one)
            self.assertIn('panel "a panel": ', str(told.exception))

    def test_a_threshold_gives_a_number_its_colour(self):
        steps = [{"color": "green", "value": None}, {"color": "yellow", "value": 60}, {"color": "red", "value": 600}]
        colours = [threshold_colour(steps, value) for value in (0, 59.9, 60, 6000)]
        self.assertEqual(colours, ["#73bf69", "#73bf69", "#fade2a", "#f2495c"])

    def test_a_dashed_threshold_is_drawn_where_the_panel_wants_it_and_has_it(self):
        steps = {"steps": [{"color": "green", "value": None}, {"color": "red", "value": 0.01}]}
        for high, dashes in ((0.5, 1), (0.001, 0)):
            one = panel(unit="percentunit", series=[Series("a", [(1200.0, high)])], thresholds=steps,
                        custom={"thresholdsStyle": {"mode": "dashed"}})
            self.assertEqual(drawn(one).count("stroke-dasharray"), dashes)

    def test_names_are_text_and_no_markup(self):
        self.assertIn("a &lt;b&gt; &amp; c", drawn(panel(series=[Series("a <b> & c", [(1200.0, 1.0)])])))


if __name__ == "__main__":
    unittest.main()
