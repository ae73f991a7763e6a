"""One scratch installation: an application that writes entries, their database, outfall, its sinks and
Prometheus with the shipped rules."""

import pathlib
import shutil
import signal
import subprocess
import tempfile

from servers import (Postgres, Producer, Prometheus, Sink, Trouble, Worker, clean_environment,
                     wait_until)

CONFIGURATION = """\
[database]
url = "{url}"
connect_timeout = "1s"

[drain]
sampler_interval = "1s"
lease = "{lease}s"

# One consumer, in order; a dead letter holds its key.
[streams.orders]
emitter = "consumer"
on_dead_letter = "hold-key"
retry.initial = "200ms"
retry.max = "1s"

[emitters.consumer]
kind = "webhook"
url = "http://{consumer}/orders"
timeout = "{timeout}ms"
max_in_flight = {max_in_flight}

# Many consumers: an entry's header says which.
[streams.partners]
emitter = "partners"
retry.initial = "200ms"
retry.max = "1s"

[emitters.partners]
kind = "webhook"
url = "http://{{header.endpoint}}/hooks"
allow_hosts = ["127.0.0.1:*"]
timeout = "{timeout}ms"

# A program that dies of one kind of entry.
[streams.reports]
emitter = "reports"

[emitters.reports]
kind = "noop"
crash_type = "report.deadly"
"""

# What runbooks call that is not here: a journal and a supervisor.
SHELL = """\
# For a shell to look around with:  . {folder}/env
export PATH="{path}:$PATH"
export OUTFALL_CONFIG="{folder}/worker-1.toml"
export PGHOST=127.0.0.1 PGPORT={port} PGUSER=postgres PGDATABASE=shop
export WORKER={worker} PROMETHEUS={prometheus}

# The runbooks' commands, for this installation instead of a service of this machine; systemctl is that of
# the machine of $WORKER.
journalctl() {{
  case " $* " in
  *" -k "*) ;;
  *" -p warning "*) cat "{folder}"/worker-*.log | grep -E '^[^ ]+ (warning|error|critical) ' ;;
  *) cat "{folder}"/worker-*.log ;;
  esac
}}
systemctl() {{
  case $1 in
  status) ps -o pid,lstart,stat,args -C outfall | grep -e PID -e "{folder}" ;;
  reload) outfall check-config --config "$(configuration_of_worker)" > /dev/null && order_of_game_day reload ;;
  start | stop | restart | kill) order_of_game_day "$1" ;;
  *) echo "systemctl: only status, start, stop, restart, kill and reload are here" >&2; return 64 ;;
  esac
}}
configuration_of_worker() {{ grep -lF "\\"${{WORKER#http://}}\\"" "{folder}"/worker-*.toml; }}
order_of_game_day() {{
  [ "$(configuration_of_worker)" ] || {{ echo "systemctl: \$WORKER names no worker of this installation" >&2; return 64; }}
  echo "$1 $(basename "$(configuration_of_worker)" .toml)" > "{folder}/order.new" && mv "{folder}/order.new" "{folder}/order" || return
  while [ -e "{folder}/order" ]; do sleep 0.1; done
}}
"""


def migrate(binary, postgres):
    postgres.sql("CREATE DATABASE shop", database="postgres")
    done = subprocess.run([str(binary), "migrate"], capture_output=True, text=True, timeout=60, check=False,
                          env=clean_environment({"OUTFALL_DATABASE__URL": postgres.url()}))
    if done.returncode != 0:
        raise Trouble(f"outfall migrate: {done.stderr.strip()}")
    postgres.sql("CREATE ROLE outfall LOGIN;"
                 "GRANT outbox_worker, outbox_operator, pg_read_all_stats TO outfall;"
                 "CREATE ROLE shop LOGIN;")


def make_template(binary, folder):
    """A migrated database, stopped, for installations to begin with."""
    postgres = Postgres(folder / "postgres")
    try:
        migrate(binary, postgres)
    finally:
        postgres.stop()
    return postgres.data


class Installation:
    """Everything is stopped and removed by stop(), also when the start failed half way."""

    def __init__(self, binary, factor, *, workers=1, max_in_flight=64, lease=4, template=None):
        self.binary = pathlib.Path(binary).resolve()
        self.factor = factor
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="outfall-game-day."))
        self.folder.chmod(0o755)
        self._cleanup = [lambda: shutil.rmtree(self.folder, ignore_errors=True)]
        try:
            self._start(workers, max_in_flight, lease, template)
        except BaseException:
            self.stop()
            raise

    def _start(self, workers, max_in_flight, lease, template):
        self.postgres = Postgres(self.folder / "postgres", template, durable=True)
        self._cleanup.append(self.postgres.stop)
        if not template:
            migrate(self.binary, self.postgres)
        self.consumer, self.partner, self.other_partner = Sink(), Sink(), Sink()
        for sink in self.sinks:
            sink.open()
            self._cleanup.append(sink.close)
        configuration = CONFIGURATION.format(
            url=self.postgres.url("outfall:autumn"), consumer=self.consumer.address, max_in_flight=max_in_flight,
            lease=lease, timeout=lease * 500)
        self.workers = []
        for number in range(workers):
            worker = Worker(self.binary, self.folder, f"worker-{number + 1}", configuration)
            self.workers.append(worker)
            self._cleanup.append(lambda worker=worker: worker.child and worker.child.stop())
            worker.start()
        self.prometheus = Prometheus(self.folder / "prometheus", self.targets, self.factor)
        self._cleanup.append(self.prometheus.child.stop)
        self.producer = Producer(self.postgres)
        self._cleanup.append(self.producer.stop)
        self.producer.statements = [
            # 16 orders a second for 40 customers, 8 entries for partners.
            "SELECT outbox.enqueue('orders', 'order.placed', '{\"order\": 1}',"
            " p_key => 'customer-' || (random() * 40)::int) FROM generate_series(1, 4);\n",
            *(f"SELECT outbox.enqueue('partners', 'order.placed', '{{\"order\": 1}}',"
              f" p_headers => '{{\"endpoint\": \"{sink.address}\"}}');\n"
              for sink in (self.partner, self.other_partner))]
        self.producer.start()
        self._write_environment()

    @property
    def sinks(self):
        return (self.consumer, self.partner, self.other_partner)

    @property
    def targets(self):
        return [f"127.0.0.1:{worker.port}" for worker in self.workers]

    @property
    def worker(self):
        return self.workers[0]

    def outfall(self, *arguments):
        """A command, as an operator gives it; what it prints."""
        settings = {"OUTFALL_CONFIG": str(self.folder / "worker-1.toml"), "OUTFALL_ACTOR": "game-day"}
        done = subprocess.run(
            [str(self.binary), *arguments], capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, cwd=self.folder,
            env=clean_environment(settings))
        if done.returncode != 0:
            raise Trouble(f"outfall {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _write_environment(self):
        (self.folder / "env").write_text(SHELL.format(
            folder=self.folder, path=f"{self.binary.parent}:{self.postgres.bin}", port=self.postgres.port,
            worker=self.worker.url, prometheus=self.prometheus.url), encoding="utf-8")

    def obey(self):
        """What the shell's `systemctl` has left to be done with the worker that $WORKER names, if anything;
        gives it."""
        file = self.folder / "order"
        if not file.exists():
            return None
        order, name = file.read_text(encoding="utf-8").split()
        for worker in self.workers:
            if worker.name != name:
                continue
            if order in ("stop", "restart", "kill"):
                worker.child.stop(signal.SIGKILL if order == "kill" else signal.SIGTERM)
            if order in ("start", "restart") and not worker.child.running():
                worker.start(wait=False)
            if order == "reload":
                worker.child.send(signal.SIGHUP)
        file.unlink()
        return f"{order} {name}"

    def wait_until_calm(self):
        """Everything is scraped, every stream delivers, and nothing fires or is about to; what was late
        while all this started may still count in the longer windows of the objective."""
        def calm():
            query = self.prometheus.query
            return (len(query("outfall:delivered:rate5m > 0")) == 2
                    and not query('ALERTS{alertname!="OutfallObjectiveBurnSlow"}')
                    and not query("outfall:waiting_seconds > 1"))
        wait_until(calm, "a calm start", 180)

    def before_end(self, action):
        """`action` is called first when everything is stopped: what begin() has left running ends there."""
        self._cleanup.append(action)

    def after_end(self, action):
        """`action` is called when everything is stopped, before the folder is removed."""
        self._cleanup.insert(1, action)

    def stop(self):
        while self._cleanup:
            self._cleanup.pop()()
