"""The program of the exec emitter where entries are poison: appends each event to the file that the
command names, but refuses one type for good, and kills the worker that sends it another."""
import json
import os
import signal
import sys


def answer(event):
    if event["type"] == "order.poisoned":
        return {"outcome": "failed", "error": "this event is poison"}
    if event["type"] == "order.killer":
        os.kill(os.getppid(), signal.SIGKILL)
    with open(sys.argv[1], "a", encoding="utf-8") as sink:
        sink.write(json.dumps(event) + "\n")
        return {"outcome": "delivered", "record": str(sink.tell())}


for line in sys.stdin:
    event = json.loads(line)
    print(json.dumps({"id": event["id"], **answer(event)}), flush=True)
