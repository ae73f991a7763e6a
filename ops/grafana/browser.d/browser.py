"""What a headless Chromium sees of a picture, in a page like those that the docs are read in."""

import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "ops/game-day.d"))

from servers import Child, Trouble, wait_until  # noqa: E402

LOOK = pathlib.Path(__file__).with_name("look.js")
# The last family of the picture's own, and the widest. Chromium takes nothing from elsewhere.
FONT = "DejaVu Sans"
OPTIONS = ("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--disable-breakpad", "--window-size=1200,900")
# A page of GitHub, say, by day and by night.
SCHEMES = {"light": "white", "dark": "black"}


def page(picture, scheme):
    return f"""<!DOCTYPE html>
<html style="color-scheme: {scheme}; background: {SCHEMES[scheme]}">
<meta charset="utf-8">
<title>a picture</title>
<script src="/look.js"></script>
<body style="margin: 0; width: max-content">
<img src="picture.svg" alt="">
{picture}
"""


class Site:
    """Shows one picture after the other and takes what was seen of each, on the loopback."""

    def __init__(self, shown):
        self.files = {"/look.js": ("text/javascript; charset=utf-8", LOOK.read_bytes())}
        for number, (picture, scheme) in enumerate(shown):
            self.files[f"/{number}/"] = ("text/html; charset=utf-8", page(picture, scheme).encode())
            self.files[f"/{number}/picture.svg"] = ("image/svg+xml", picture.encode())
        self.wanted, self.seen = len(shown), []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                kind, body = site.files.get(self.path, ("text/plain", None))
                self.answer(404 if body is None else 200, kind, body or b"")

            def do_POST(self):
                seen = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = len(site.seen) + 1
                self.answer(200, "application/json", json.dumps(f"/{number}/" if number < site.wanted else None).encode())
                site.seen.append(seen)

            def answer(self, status, kind, body):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/0/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def chromium():
    found = shutil.which("chromium")
    if not found:
        raise Trouble("there is no chromium; ops/install-dependencies systems installs it")
    if FONT not in subprocess.run(["fc-list", ":", "family"], capture_output=True, text=True, check=False).stdout:
        raise Trouble(f"the font {FONT} is missing; ops/install-dependencies systems installs it")
    return found


def look(shown, seconds=300):
    """What look.js tells of each (picture, scheme of the page)."""
    site = Site(shown)
    try:
        with tempfile.TemporaryDirectory(prefix="outfall-browser.", ignore_cleanup_errors=True) as folder:
            # Root has no sandbox to go into.
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = Child([chromium(), *OPTIONS, *sandbox, f"--user-data-dir={folder}/profile", site.url],
                            pathlib.Path(folder) / "log", environment={"HOME": folder})
            try:
                wait_until(lambda: len(site.seen) == site.wanted or not browser.running(),
                           "Chromium to look at the pictures", seconds)
            finally:
                browser.stop()
            if len(site.seen) < site.wanted:
                raise Trouble(f"Chromium has ended: {browser.tail()}")
            return site.seen
    finally:
        site.close()
