"""Reads recorded webhooks as a consumer in Python does, with nobody's code but the consumer's.

Input: a JSON file {"secrets": [...], "public_keys": [...], "requests": [{"headers": {...},
"body": base64}]}. Output: a JSON array with, for each request, which secrets verify it
(standardwebhooks), which public keys do (cryptography), and the events in it (cloudevents).
"""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from events import told


def verifies_v1(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
        return True
    except WebhookVerificationError:
        return False


def verifies_v1a(public_key, headers, body):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        version, _, value = signature.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(value), signed)
            return True
        except InvalidSignature:
            pass
    return False


def events(headers, body):
    if headers.get("content-type", "").startswith("application/cloudevents-batch+json"):
        return [told(JSONFormat().read(None, json.dumps(one))) for one in json.loads(body)]
    return [told(from_http_event(HTTPMessage(headers, body)))]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        recorded = json.load(file)
    verdicts = []
    for request in recorded["requests"]:
        headers = request["headers"]
        body = base64.b64decode(request["body"])
        verdicts.append(
            {
                "v1": [verifies_v1(secret, headers, body) for secret in recorded["secrets"]],
                "v1a": [verifies_v1a(key, headers, body) for key in recorded["public_keys"]],
                "events": events(headers, body),
            }
        )
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
