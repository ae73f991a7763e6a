"""Reads recorded Kafka records as a consumer in Python does, by the CloudEvents SDK.

Input: a JSON file with an array of {"headers": {name: base64}, "key": base64 or null, "value": base64 or
null}.
Output: a JSON array with the attributes of each record's event, and its data.
"""

import base64
import json
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

from events import told


def decoded(text):
    return None if text is None else base64.b64decode(text)


def message(record):
    headers = {name: decoded(value) for name, value in record["headers"].items()}
    return KafkaMessage(headers, decoded(record["key"]), decoded(record["value"]))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        records = json.load(file)
    json.dump([told(from_kafka_event(message(record))) for record in records], sys.stdout)


main()
