#!/usr/bin/env python3
"""The judge of ops/quickstart sees every fault that it is there for."""

import json
import unittest

from judge import judge

IDS = {(key, number): f"{key}-{number}" for key in "ab" for number in (1, 2, 3)}


def event(key, number):
    return json.dumps({"id": IDS[key, number], "partitionkey": key, "data": {"number": number}})


def record(key, number):
    """As kcat -J prints what the emitter kafka has written."""
    return json.dumps({"topic": "shop.order.placed", "partition": 1, "offset": 7, "key": key,
                       "headers": ["ce_specversion", "1.0", "ce_id", IDS[key, number]],
                       "payload": json.dumps({"number": number})})


def ledger(*extra):
    lines = [f"committed\t{key}\t{number}\t{id_}" for (key, number), id_ in IDS.items()]
    return "\n".join([*lines, "rolled_back\ta\t2\tghost", "committed\t\t\tpoisoned", *extra]) + "\n"


GOOD = [event("a", 1), event("b", 1), event("b", 2), event("a", 2), event("a", 3), event("b", 3)]
DEAD = "7\tpoisoned\tnoop.failed\n"
NO_METRICS = 'outfall_duplicates_possible_total{stream="orders"} 0\n'


def verdict(events, dead=DEAD, metrics=NO_METRICS):
    return judge(ledger(), "\n".join(events) + "\n", dead, metrics, "1234.4\n")


class JudgeTest(unittest.TestCase):
    def test_a_good_run(self):
        good = verdict(GOOD)
        self.assertEqual(good.faults, [])
        self.assertEqual(good.report, {
            "committed": 7, "rolled_back": 1, "delivered": 6, "lost": 0, "duplicates": 0,
            "order_violations": 0, "dead_letters": 1, "entries_per_second": 1234})

    def test_records_of_a_topic(self):
        order = [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]
        self.assertEqual(verdict([record(*each) for each in order]).report, verdict(GOOD).report)
        bad = verdict([record(*each) for each in [*order[3:], *order[:3], ("b", 1)]])
        self.assertEqual((bad.report["order_violations"], bad.report["duplicates"]), (3, 1))

    def test_a_lost_entry(self):
        bad = verdict(GOOD[:-1])
        self.assertEqual((bad.report["lost"], bad.report["delivered"]), (1, 5))
        self.assertEqual(bad.faults, ["1 committed entries were lost"])

    def test_a_lost_dead_letter(self):
        self.assertEqual(verdict(GOOD, dead="").faults, ["1 committed entries were lost"])

    def test_a_later_entry_of_a_key_that_came_first(self):
        bad = verdict([event("a", 2), event("a", 1), *GOOD[1:3], *GOOD[4:]])
        self.assertEqual((bad.report["order_violations"], bad.report["lost"]), (1, 0))
        self.assertEqual(len(bad.faults), 1)

    def test_an_unexplained_duplicate(self):
        bad = verdict([*GOOD, event("a", 1)])
        self.assertEqual((bad.report["duplicates"], bad.report["order_violations"]), (1, 0))
        self.assertEqual(bad.faults, ["1 duplicates have no explanation"])

    def test_a_duplicate_that_outfall_knows_of(self):
        known = 'outfall_duplicates_possible_total{stream="orders"} 1\n'
        explained = verdict([*GOOD, event("a", 1)], metrics=known)
        self.assertEqual((explained.report["duplicates"], explained.faults), (1, []))

    def test_an_entry_of_a_rolled_back_transaction(self):
        ghost = json.dumps({"id": "ghost", "partitionkey": "c", "data": {"number": 1}})
        bad = verdict([*GOOD, ghost])
        self.assertEqual(bad.report["delivered"], 6)
        self.assertEqual(bad.faults, ["1 entries were never committed and yet delivered"])


if __name__ == "__main__":
    unittest.main()
