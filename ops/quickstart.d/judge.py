#!/usr/bin/env python3
"""Compares what the shop committed with what outfall delivered, entry by entry.

usage: judge.py FOLDER --json FILE

Reads from FOLDER: ledger.tsv (the end of every transaction), events.jsonl (what the sink got, in its
order, or the records of a Kafka topic as `kcat -J` prints them), dead_letters.tsv, metrics.txt and rate. Prints a report and writes it as JSON. Ends with 1
when something was lost, delivered out of order, delivered without having been committed, or delivered
twice without outfall knowing that it may have been.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import re
import sys


@dataclasses.dataclass(frozen=True)
class Event:
    envelope_id: str
    key: str
    number: int


@dataclasses.dataclass(frozen=True)
class Verdict:
    report: dict
    faults: list


def read_ledger(text):
    """The envelope ids of committed transactions and those of rolled back ones."""
    ends = {"committed": set(), "rolled_back": set()}
    for line in text.splitlines():
        end, _, _, envelope_id = line.split("\t")
        ends[end].add(envelope_id)
    return ends["committed"], ends["rolled_back"]


def read_events(text):
    """Events in the order of their delivery."""
    events = []
    for line in text.splitlines():
        event = json.loads(line)
        events.append(read_record(event) if "topic" in event else
                      Event(event["id"], event["partitionkey"], event["data"]["number"]))
    return events


def read_record(record):
    """A Kafka record with a CloudEvent in binary mode, as kcat prints it."""
    headers = dict(zip(record["headers"][::2], record["headers"][1::2]))
    return Event(headers["ce_id"], record["key"], json.loads(record["payload"])["number"])


def known_duplicates(metrics):
    """How many entries outfall itself says may have been delivered twice."""
    values = re.findall(r"^outfall_duplicates_possible_total(?:\{[^}]*\})? (\S+)$", metrics, re.MULTILINE)
    return round(sum(map(float, values)))


def order_violations(events):
    """First deliveries that came after a later order of the same customer."""
    seen, highest, violations = set(), collections.defaultdict(int), 0
    for event in events:
        if event.envelope_id in seen:
            continue
        seen.add(event.envelope_id)
        violations += event.number < highest[event.key]
        highest[event.key] = max(highest[event.key], event.number)
    return violations


def judge(ledger, events, dead_letters, metrics, rate):
    committed, rolled_back = read_ledger(ledger)
    deliveries = read_events(events)
    delivered = {event.envelope_id for event in deliveries}
    dead = {line.split("\t")[1] for line in dead_letters.splitlines()}
    report = {
        "committed": len(committed),
        "rolled_back": len(rolled_back),
        "delivered": len(delivered & committed),
        "lost": len(committed - delivered - dead),
        "duplicates": len(deliveries) - len(delivered),
        "order_violations": order_violations(deliveries),
        "dead_letters": len(dead),
        "entries_per_second": round(float(rate)),
    }
    faults = [f"{report[name]} {text}" for name, text in (
        ("lost", "committed entries were lost"),
        ("order_violations", "entries were delivered out of order")) if report[name]]
    unexplained = report["duplicates"] - known_duplicates(metrics)
    if unexplained > 0:
        faults.append(f"{unexplained} duplicates have no explanation")
    if never_committed := (delivered | dead) - committed:
        faults.append(f"{len(never_committed)} entries were never committed and yet delivered")
    if not committed or not rolled_back:
        faults.append("the shop has committed nothing, or rolled nothing back")
    return Verdict(report, faults)


def table(report):
    notes = {
        "committed": "entries, each in one transaction with its order",
        "rolled_back": "transactions, of which nothing may ever be delivered",
        "delivered": "CloudEvents, each as a line of a file or as a record",
        "dead_letters": "entry that was poisoned on purpose",
        "entries_per_second": "while the backlog lasted, with the start of outfall",
    }
    lines = [f"  {name.replace('_', ' '):<20}{value:>9,}  {notes.get(name, '')}".rstrip()
             for name, value in report.items()]
    return "\n".join(["", *lines])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    options = parser.parse_args()
    texts = ((options.folder / name).read_text(encoding="utf-8") for name in
             ("ledger.tsv", "events.jsonl", "dead_letters.tsv", "metrics.txt", "rate"))
    verdict = judge(*texts)
    options.json.write_text(json.dumps(verdict.report) + "\n", encoding="utf-8")
    print(table(verdict.report))
    for fault in verdict.faults:
        print(f"  FAULT: {fault}")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
