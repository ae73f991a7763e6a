"""Appends each event to the file that the command names. Reads one CloudEvents JSON line for each
entry from standard input and answers one line for each on standard output."""
import json
import sys


def deliver(event):
    """Hands one event over and returns what names it there."""
    with open(sys.argv[1], "a", encoding="utf-8") as sink:
        sink.write(json.dumps(event) + "\n")
        return str(sink.tell())


for line in sys.stdin:
    event = json.loads(line)
    try:
        answer = {"outcome": "delivered", "record": deliver(event)}
    except OSError as error:  # the sink is away, which is not the fault of the event
        answer = {"outcome": "unavailable", "error": str(error)}
    print(json.dumps({"id": event["id"], **answer}), flush=True)
