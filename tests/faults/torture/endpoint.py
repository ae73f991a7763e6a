"""An HTTP endpoint in a process of its own, which can be killed and stopped: appends each event that it
takes to a file before it answers."""
import http.server
import json
import os
import random
import sys
import time

FILE = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        event = {"id": self.headers["webhook-id"], "data": data}
        if self.headers["ce-partitionkey"]:
            event["partitionkey"] = self.headers["ce-partitionkey"]
        # As long as a real one takes, so that workers have something on its way.
        time.sleep(random.uniform(0.005, 0.025))
        os.write(FILE, (json.dumps(event) + "\n").encode())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # a client that has gone


server = Server(("127.0.0.1", int(sys.argv[1])), Endpoint)
print("listening", flush=True)
server.serve_forever()
