#!/usr/bin/env python3
"""Goal: the container image works under the security settings of the Helm chart. Method: the image is
built from the package on a bare Debian and run by podman and runc with what the rendered chart says,
against a real PostgreSQL; it is killed in the middle and started again.

usage: container_test.py PACKAGE.deb [unittest's arguments]
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from machine import CACHE, run, wait_until

PYTHON = CACHE / "charts/python/bin/python"
try:
    import yaml
except ImportError:
    if pathlib.Path(sys.executable) == PYTHON:
        raise
    os.execv(PYTHON, [str(PYTHON), "-B", *sys.argv])

PACKAGE = None
BASE = CACHE / "debian-12-base"
ROOT = pathlib.Path(__file__).resolve().parents[2]
HELM = shutil.which("helm") or CACHE / "charts/helm"
POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")
ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
MAX_BYTES_ABOVE_BASE = 80 * 1000 * 1000
CONFIGURATION = """
[streams.orders]
emitter = "slow"

[emitters.slow]
kind = "noop"
latency = "30ms"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    def __init__(self, folder):
        self.data = folder / "postgres"
        self.data.mkdir()
        shutil.chown(self.data, "postgres")
        self.port = free_port()
        as_postgres = ["runuser", "-u", "postgres", "--"]
        run([*as_postgres, POSTGRES / "initdb", "-D", self.data, "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync"])
        self.server = subprocess.Popen(
            [*as_postgres, str(POSTGRES / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.data),
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until("PostgreSQL", lambda: run([POSTGRES / "pg_isready", "-h", "127.0.0.1", "-p", self.port],
                                             check=False).returncode == 0)

    def sql(self, statement):
        return run([POSTGRES / "psql", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", "-qXAtc", statement,
                    "postgres"]).stdout.strip()

    def stop(self):
        # A fast shutdown, to the server itself: runuser would pass on SIGTERM only.
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGINT)
        self.server.wait(30)


class Container(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="outfall-container-"))
            cls.folder.chmod(0o755)
            cls.stack.callback(shutil.rmtree, cls.folder, ignore_errors=True)
            # Images and containers of this test only.
            storage = cls.folder / "storage.conf"
            storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{cls.folder}/graph"\n'
                               f'runroot = "{cls.folder}/run"\n', encoding="utf-8")
            os.environ["CONTAINERS_STORAGE_CONF"] = str(storage)
            with subprocess.Popen(["tar", "-C", str(BASE), "-c", "."], stdout=subprocess.PIPE) as tar:
                subprocess.run(["podman", "import", "-q", "-", "localhost/base:test"], stdin=tar.stdout, check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert tar.returncode == 0
            cls.stack.callback(run, ["podman", "system", "reset", "--force"], check=False)
            run([ROOT / "ops/container/build", "--base", "localhost/base:test", "--tag", "localhost/outfall:test",
                 os.path.relpath(PACKAGE)],
                timeout=600)
            cls.postgres = Postgres(cls.folder)
            cls.stack.callback(cls.postgres.stop)
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def rendered(self, kind, configuration=CONFIGURATION):
        values = self.folder / "values.json"
        values.write_text(json.dumps({"configuration": configuration}), encoding="utf-8")
        text = run([HELM, "template", "shop", ROOT / "ops/kubernetes/outfall", "--values", values, "--kube-version", "1.33",
                    "--set", "image.repository=localhost/outfall", "--set", "image.tag=test"]).stdout
        text = text[text.index("---"):]
        found = [d for d in yaml.safe_load_all(text) if d and d["kind"] == kind]
        return found[0]["spec"]["template"]["spec"]

    def podman_run(self, kind, name, *more):
        """Starts the container of the chart's Deployment or Job as a kubelet would."""
        spec = self.rendered(kind)
        (container,) = spec["containers"]
        context = container["securityContext"]
        self.assertEqual(context["seccompProfile"]["type"], "RuntimeDefault")
        self.port = free_port()
        command = ["podman", "--runtime", "runc", "--cgroup-manager=cgroupfs", "run", "--name", name, "--network", "host",
                   *ULIMITS, "--user", f"{context['runAsUser']}:{context['runAsGroup']}",
                   *[f"--cap-drop={capability}" for capability in context["capabilities"]["drop"]]]
        if context["readOnlyRootFilesystem"]:
            # podman would put a tmpfs on /tmp, which a kubelet does not.
            command += ["--read-only", "--read-only-tmpfs=false"]
        if not context["allowPrivilegeEscalation"]:
            command += ["--security-opt", "no-new-privileges"]
        # That no shell is needed: there is none.
        command += ["-v", "/dev/null:/usr/bin/dash:ro", "-v", "/dev/null:/usr/bin/bash:ro"]
        files = {"outfall.toml": CONFIGURATION,
                 "database-url": f"postgresql://postgres@127.0.0.1:{self.postgres.port}/postgres"}
        volumes = {v["name"]: v for v in spec["volumes"]}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            names = [item["key"] for item in volume["secret"]["items"]] if "secret" in volume else ["outfall.toml"]
            folder = self.folder / mount["name"]
            folder.mkdir(exist_ok=True)
            for file in names:
                (folder / file).write_text(files[file], encoding="utf-8")
            command += ["-v", f"{folder}:{mount['mountPath']}:ro"]
        for variable in container["env"]:
            value = variable.get("value", name)
            if variable["name"] == "OUTFALL_ADMIN__LISTEN":
                # The network is the host's here, where somebody may have the port.
                value = f"127.0.0.1:{self.port}"
            command += ["-e", f"{variable['name']}={value}"]
        return run([*command, *more, container["image"], *container["args"]], timeout=120)

    def remove(self, name):
        run(["podman", "--runtime", "runc", "--cgroup-manager=cgroupfs", "rm", "-f", "-t", "1", name], check=False)

    def podman(self, *arguments, check=True):
        return run(["podman", "--runtime", "runc", "--cgroup-manager=cgroupfs", *arguments], check=check)

    def setUp(self):
        self.addCleanup(self.remove, "worker")
        self.addCleanup(self.remove, "migrate")
        migrated = self.podman_run("Job", "migrate", "--rm")
        self.assertIn("is ", migrated.stdout)

    def test_it_is_small_and_says_how_it_is_run(self):
        sizes = [int(self.podman("image", "inspect", "--format", "{{.Size}}", image).stdout)
                 for image in ("localhost/base:test", "localhost/outfall:test")]
        print(f"{(sizes[1] - sizes[0]) / 1e6:.1f} MB above the base")
        self.assertLess(sizes[1] - sizes[0], MAX_BYTES_ABOVE_BASE)
        image = json.loads(self.podman("image", "inspect", "localhost/outfall:test").stdout)[0]
        self.assertEqual(image["Config"]["User"], "10001:10001")
        self.assertEqual(image["Config"]["Entrypoint"], ["/usr/bin/outfall"])
        self.assertEqual(image["Healthcheck"]["Test"], ["CMD", "/usr/bin/outfall", "health"])

    def test_its_health_command_tells_the_truth(self):
        self.podman_run("Deployment", "worker", "--detach")
        wait_until("health", lambda: self.podman("exec", "worker", "outfall", "health").stdout.strip() == "ready")
        self.podman("healthcheck", "run", "worker")
        # In a container of its own, which has nothing but the address.
        alone = self.podman("run", "--rm", "--no-healthcheck", "--network", "host", *ULIMITS, "-e",
                            f"OUTFALL_ADMIN__LISTEN=127.0.0.1:{self.port}", "localhost/outfall:test", "health")
        self.assertEqual(alone.stdout.strip(), "ready")
        pid = int(self.podman("inspect", "--format", "{{.State.Pid}}", "worker").stdout)
        os.kill(pid, signal.SIGSTOP)
        try:
            ill = self.podman("healthcheck", "run", "worker", check=False)
            self.assertNotEqual(ill.returncode, 0)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until("health", lambda: self.podman("healthcheck", "run", "worker"))

    def test_a_kill_loses_nothing(self):
        total = 20000
        before = int(self.postgres.sql("SELECT count(DISTINCT envelope_id) FROM outbox.delivered"))
        self.postgres.sql(f"SELECT count(outbox.enqueue('orders', 'order.placed', '{{}}'::json, p_key => (n % 100)::text)) "
                          f"FROM generate_series(1, {total}) n")
        self.podman_run("Deployment", "worker", "--detach")
        wait_until("work under way", lambda: 0 < int(self.postgres.sql("SELECT count(*) FROM outbox.entries")) < total)
        self.podman("kill", "--signal", "KILL", "worker")
        self.podman("wait", "worker")
        left = int(self.postgres.sql("SELECT count(*) FROM outbox.entries"))
        self.assertGreater(left, 0, "it was killed in the middle")
        self.podman("start", "worker")
        wait_until("the rest", lambda: self.postgres.sql("SELECT count(*) FROM outbox.entries") == "0", 120)
        delivered = int(self.postgres.sql("SELECT count(DISTINCT envelope_id) FROM outbox.delivered"))
        self.assertEqual(delivered - before, total)

    def test_a_stop_is_clean(self):
        self.podman_run("Deployment", "worker", "--detach")
        wait_until("its log", lambda: '"msg":"connected to the database"' in self.podman("logs", "worker").stdout)
        begin = time.monotonic()
        self.podman("stop", "--time", "20", "worker")
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(self.podman("inspect", "--format", "{{.State.ExitCode}}", "worker").stdout.strip(), "0")
        lines = [json.loads(line) for line in self.podman("logs", "worker").stdout.splitlines()]
        self.assertEqual(lines[-1]["msg"], "stopped")

    def test_nothing_in_it_can_be_written(self):
        self.podman_run("Deployment", "worker", "--detach")
        pid = int(self.podman("inspect", "--format", "{{.State.Pid}}", "worker").stdout)
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        self.assertRegex(status, r"(?m)^Uid:\t10001\t10001\t10001\t10001$")
        self.assertRegex(status, r"(?m)^CapBnd:\t0+$")
        self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")
        self.assertRegex(status, r"(?m)^Seccomp:\t2$")
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text()
        self.assertTrue(re.search(r"(?m)^\S+ \S+ \S+ \S+ / ro[, ]", mounts), mounts)


def main():
    global PACKAGE
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PACKAGE = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
