"""Receives webhooks, verifies their signatures and prints them. The standard library is enough."""
import base64
import hashlib
import hmac
import http.server
import sys
import time

SECRET = base64.b64decode(open(sys.argv[1], encoding="ascii").readline().strip().removeprefix("whsec_"))
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 9000
TOLERANCE_SECONDS = 300


def is_genuine(headers, body):
    identity, sent_at = headers["webhook-id"], headers.get("webhook-timestamp", "0")
    if abs(time.time() - int(sent_at)) > TOLERANCE_SECONDS:
        return False  # a recorded request that somebody sends again
    signed = f"{identity}.{sent_at}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    # While keys are rotated there are several; one that fits is enough.
    return any(hmac.compare_digest(expected, one) for one in headers.get("webhook-signature", "").split(" "))


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = set()  # use your database, in the transaction that does the work

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        genuine = is_genuine(self.headers, body)
        if genuine and self.headers["webhook-id"] not in self.seen:
            self.seen.add(self.headers["webhook-id"])
            print(self.headers["ce-type"], self.headers["webhook-id"], body.decode(), flush=True)
        self.send_response(200 if genuine else 401)
        self.send_header("content-length", "0")  # else the sender waits for a body
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
