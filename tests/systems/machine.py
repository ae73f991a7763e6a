"""A Debian tree with systemd in it, booted in namespaces of its own, for the tests of this folder.

The tree is the one that `ops/install-dependencies systems` makes; each Machine works on a throw-away
layer over it. Needs root. Nothing of it reaches a network but while `online` packages are fetched.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

CACHE = pathlib.Path(os.environ.get("OUTFALL_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "outfall"))
TREE = CACHE / "debian-12"
DEADLINE = 60


def run(command, check=True, input=None, timeout=300):
    done = subprocess.run([str(part) for part in command], input=input, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, errors="replace")
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done


def wait_until(what, condition, deadline=DEADLINE):
    """The condition's first true value; it may fail with AssertionError until then."""
    end = time.monotonic() + deadline
    problem = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except AssertionError as error:
            problem = error
        time.sleep(0.05)
    raise AssertionError(f"waited {deadline} s for {what}" + (f": {problem}" if problem else ""))


class Machine:
    """As a context: the tree is there, not booted; boot() starts its systemd."""

    def __init__(self, name):
        self.name = name
        self.nspawn = None
        self.leader = None

    def __enter__(self):
        if not TREE.is_dir():
            raise AssertionError(f"there is no Debian in {TREE}: run ops/install-dependencies systems")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"outfall-{self.name}-"))
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(mode=0o755)
        self.folder.chmod(0o755)
        self.root = self.folder / "root"
        run(["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={TREE},upperdir={self.folder}/upper,workdir={self.folder}/work", self.root])
        return self

    def __exit__(self, *_):
        self.halt()
        for _ in range(100):
            if run(["umount", self.root], check=False).returncode == 0:
                shutil.rmtree(self.folder)
                return
            time.sleep(0.1)
        run(["umount", "--lazy", self.root], check=False)

    # --- not booted

    def chroot(self, *command, check=True):
        return run(["chroot", self.root, "env", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                    "LC_ALL=C.UTF-8", *command], check=check)

    def files(self):
        """Every path of the tree but what a running system makes, with type, mode and owner."""
        skipped = {"proc", "sys", "dev", "run", "tmp"}
        found = {}
        for folder, folders, names in os.walk(self.root):
            relative = os.path.relpath(folder, self.root)
            if relative == ".":
                folders[:] = [name for name in folders if name not in skipped]
            for name in folders + names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                found[os.path.relpath(path, self.root)] = (oct(status.st_mode), status.st_uid, status.st_gid)
        return found

    def put(self, path, text, mode=0o644):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    # --- booted

    def boot(self):
        # A machine id of its own; no console that asks.
        (self.root / "etc/machine-id").write_text("", encoding="utf-8")
        with open(self.folder / "console", "wb") as log:
            self.nspawn = subprocess.Popen(
                ["systemd-nspawn", "-q", "-D", str(self.root), "--register=no", "--keep-unit", "--private-network",
                 "--boot", "--console=pipe", "--machine", self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.leader = wait_until("the machine's first process", self._find_leader)
        wait_until("the end of the boot", lambda: self.shell(
            "systemctl is-system-running || true", check=False).stdout.strip() in ("running", "degraded"))

    def _find_leader(self):
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text()
        if self.nspawn.poll() is not None:
            raise RuntimeError((self.folder / "console").read_text(errors="replace"))
        for pid in children.split():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return int(pid)
        return None

    def halt(self):
        if self.nspawn is None:
            return
        if self.leader is not None:
            with contextlib.suppress(OSError):
                os.kill(self.leader, signal.SIGRTMIN + 4)  # poweroff.target
        try:
            self.nspawn.wait(30)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.kill(self.leader, signal.SIGKILL)
            self.nspawn.kill()
            self.nspawn.wait(30)
        self.nspawn = None

    def inside(self, *command, check=True, input=None, timeout=300):
        return run(["nsenter", "-t", self.leader, "-a", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                    "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *command], check=check, input=input, timeout=timeout)

    def shell(self, script, check=True, timeout=300):
        return self.inside("bash", "-c", script, check=check, timeout=timeout)

    def systemctl(self, *arguments, check=True):
        return self.inside("systemctl", *arguments, check=check)

    def show(self, unit, *properties):
        """Properties of a unit by name; one alone is its value."""
        out = self.systemctl("show", unit, *[f"--property={name}" for name in properties]).stdout
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return values[properties[0]] if len(properties) == 1 else values

    def sql(self, statement, database="shop"):
        return self.inside("runuser", "-u", "postgres", "--", "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database,
                           input=statement).stdout.strip()

    def journal_mark(self):
        """What makes journal() begin here."""
        last = self.inside("journalctl", "--no-pager", "-n", "1", "-o", "json").stdout
        return f"--after-cursor={json.loads(last)['__CURSOR']}"

    def journal(self, *matches):
        return self.inside("journalctl", "--no-pager", "-o", "json", *matches).stdout
