"""The parts of a scratch installation: PostgreSQL, workers, a sink, Prometheus with the shipped rules.

Every server is a child that the kernel kills when this process ends, on a free port of the loopback
and below one temporary folder."""

import ctypes
import http.server
import json
import os
import pathlib
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
POSTGRES_BINS = [f"/usr/lib/postgresql/{version}/bin" for version in (15, 16, 17, 18)]
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Trouble(Exception):
    """Something that should work does not; the text says what."""


class NotHere(Trouble):
    """What a situation needs cannot be had on this machine, or not by this user."""


def wait_until(condition, what, seconds=30.0, pause=0.1):
    """The first true answer of `condition`; what it throws counts as no until the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        problem = ""
        try:
            answer = condition()
            if answer:
                return answer
        except (OSError, ValueError, KeyError, Trouble) as error:
            problem = f" ({error})"
        if time.monotonic() >= deadline:
            raise Trouble(f"waited {seconds:.0f} s for {what}{problem}")
        time.sleep(pause)


_ports = set()
_ports_lock = threading.Lock()


def free_port():
    """A port below the range that the kernel gives to outgoing connections, given to nobody twice."""
    with _ports_lock:
        while True:
            port = random.randint(15000, 32000)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in _ports:
                _ports.add(port)
                return port


def http_get(url, seconds=20.0):
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read().decode()


def clean_environment(extra=None):
    """Without variables that would lead outfall or psql to another database."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("OUTFALL_", "PG"))}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC"} | (extra or {})


class Child:
    """A process in a session of its own, so that Ctrl-C in the terminal does not reach it."""

    def __init__(self, command, log, *, user=None, environment=None):
        self.name = pathlib.Path(command[0]).name
        self.log = pathlib.Path(log)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=clean_environment(environment), start_new_session=True, cwd="/", user=user,
                group=user, extra_groups=[] if user else None,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))

    def running(self):
        return self.process.poll() is None

    def send(self, number):
        if self.running():
            os.kill(self.process.pid, number)

    def stop(self, number=signal.SIGTERM, seconds=20.0):
        self.send(number)
        self.send(signal.SIGCONT)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def need(self, ready, seconds=30.0):
        """Waits until it is ready; an end of the process is a trouble with its last words."""
        def look():
            if not self.running():
                raise RuntimeError(f"{self.name} has ended: {self.tail()}")
            return ready()
        try:
            wait_until(look, f"{self.name} to be ready", seconds)
        except RuntimeError as error:
            raise Trouble(str(error)) from None

    def tail(self):
        return " | ".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-4:])


class Postgres:
    """A server of its own, trusting everybody on the loopback; with `template`, the data folder of one
    that is stopped, it begins as a copy of that. A durable one has nothing for `outfall doctor` to find."""

    def __init__(self, folder, template=None, durable=False):
        self.folder = folder
        self.bin = next((pathlib.Path(path) for path in POSTGRES_BINS if os.path.exists(path)), None)
        if self.bin is None:
            raise Trouble("there is no PostgreSQL; ops/install-dependencies operate installs it")
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        self.port = free_port()
        self.data = folder / "data"
        self.child = None
        folder.mkdir()
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        if template:
            subprocess.run(["cp", "-a", str(template), str(self.data)], check=True)
        else:
            self._initialise(durable)
        self.start()

    def _initialise(self, durable):
        made = Child([self.bin / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust",
                      "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
                     self.folder.parent / "initdb.log", user=self.user)
        if made.process.wait(180) != 0:
            raise Trouble(f"initdb failed: {made.tail()}")
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write("listen_addresses = '127.0.0.1'\n"
                           "unix_socket_directories = ''\nshared_buffers = '32MB'\nmax_connections = 60\n")
            if not durable:
                settings.write("fsync = off\nfull_page_writes = off\n")

    def start(self, environment=None):
        self.child = Child([self.bin / "postgres", "-D", self.data, "-p", self.port], self.folder.parent / "postgres.log",
                           user=self.user, environment=environment)
        self.child.need(self.answers, 60)

    def stop(self):
        # A fast stop: sessions are ended.
        self.child.stop(signal.SIGINT)

    def answers(self):
        return self._psql("SELECT 1", "postgres").returncode == 0

    def url(self, user="postgres", database="shop"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def command(self, database="shop", user="postgres"):
        return [str(self.bin / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
                "--set=ON_ERROR_STOP=1", self.url(user, database)]

    def _psql(self, sql, database):
        return subprocess.run(self.command(database), input=sql, capture_output=True, text=True,
                              env=clean_environment(), timeout=60, check=False)

    def sql(self, sql, database="shop"):
        done = self._psql(sql, database)
        if done.returncode != 0:
            raise Trouble(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def demand_password(self, user, password):
        """From now on `user` needs this password, which nobody did before."""
        rules = self.data / "pg_hba.conf"
        rules.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{rules.read_text(encoding='utf-8')}",
                         encoding="utf-8")
        self.sql(f"ALTER ROLE {user} PASSWORD '{password}'; SELECT pg_reload_conf()")

    def processes(self):
        """The server's first process and all that it has begun."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.child.process.pid)],
                               capture_output=True, text=True, check=False)
        return [self.child.process.pid, *map(int, found.stdout.split())]

    def session(self, user="postgres"):
        """A session that stays open, for transactions that are left open."""
        return subprocess.Popen(
            self.command(user=user), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            text=True, env=clean_environment(), start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))


def end(session):
    session.kill()
    session.wait()
    try:
        session.stdin.close()
    except OSError:
        pass  # what was not written yet has nobody to read it


class Producer:
    """An application: some entries a second, as long as its database takes them."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.statements = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def start(self):
        self._thread.start()

    def stop(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self):
        session = None
        while not self._stop.wait(0.25):
            try:
                if session is None or session.poll() is not None:
                    session = self.postgres.session()
                session.stdin.write("".join(self.statements))
                session.stdin.flush()
            except OSError:
                session = None
        if session is not None:
            end(session)


class Sink:
    """An HTTP endpoint that answers as it is told to: what `answer` gives for a request's type is a
    status and a delay in seconds; no status is no answer. Closed, it refuses connections."""

    def __init__(self):
        self.port = free_port()
        self.answer = lambda kind: (200, 0.0)
        self.server = None
        self.released = threading.Event()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def open(self):
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                status, delay = sink.answer(self.headers["ce-type"])
                if delay:
                    sink.released.wait(delay)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128
            sockets = set()

            def process_request(self, request, client_address):
                self.sockets.add(request)
                super().process_request(request, client_address)

            def shutdown_request(self, request):
                self.sockets.discard(request)
                super().shutdown_request(request)

            def handle_error(self, request, client_address):
                pass  # a client that went away

        self.released.clear()
        Server.sockets = set()
        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        if self.server is None:
            return
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.server = None


class Worker:
    """`outfall run` with a configuration file and an admin port of its own."""

    def __init__(self, binary, folder, name, configuration):
        self.binary, self.folder, self.name = binary, folder, name
        self.port = free_port()
        self.config = folder / f"{name}.toml"
        self.configuration = configuration
        self.child = None
        self.write(configuration)

    def write(self, configuration):
        self.config.write_text(
            f"{configuration}\n[worker]\ninstance = \"{self.name}\"\n"
            f"[admin]\nlisten = \"127.0.0.1:{self.port}\"\n", encoding="utf-8")

    def start(self, environment=None, wait=True):
        if self.child and self.child.running():
            return
        self.child = Child([self.binary, "run", "--config", self.config],
                           self.folder / f"{self.name}.log", environment=environment)
        if wait:
            self.child.need(lambda: http_get(f"{self.url}/livez"))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def metrics(self):
        return http_get(f"{self.url}/metrics")


class Prometheus:
    """A real one that scrapes the workers and has the shipped rules, made faster by `factor`."""

    def __init__(self, folder, targets, factor):
        self.port = free_port()
        self.folder, self.factor = folder, factor
        folder.mkdir()
        with (folder / "outfall.rules.yml").open("w", encoding="utf-8") as rules:
            subprocess.run([str(ROOT / "ops/prometheus/faster"), str(factor)], stdout=rules, check=True)
        self._configure(targets)
        self.child = Child(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.port}",
             "--log.level=warn"],
            folder.parent / "prometheus.log", environment={"GOMAXPROCS": "1"})
        self.child.need(lambda: http_get(f"{self.url}/-/ready"))

    def _configure(self, targets):
        scrape, evaluate = (f"{int(max(least, 15 / self.factor) * 1000)}ms" for least in (1, 0.5))
        (self.folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: {evaluate}}}\n"
            "rule_files: [outfall.rules.yml]\n"
            "scrape_configs:\n"
            "  - job_name: outfall\n"
            f"    static_configs: [{{targets: {json.dumps(targets)}}}]\n", encoding="utf-8")

    def scrape(self, targets):
        """From now on these and no others, of the same job: series of a job that is gone would not end at once."""
        self._configure(targets)
        self.child.send(signal.SIGHUP)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def api(self, path, **parameters):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            answer = json.loads(http_get(f"{self.url}/api/v1/{path}{query}"))
        except urllib.error.HTTPError as error:
            raise Trouble(f"Prometheus: {error.read().decode()}") from None
        return answer["data"]

    def query(self, expression):
        return self.api("query", query=expression)["result"]

    def firing(self):
        """{alert's name: severity} of what fires now."""
        return {alert["labels"]["alertname"]: alert["labels"]["severity"]
                for alert in self.api("alerts")["alerts"] if alert["state"] == "firing"}
