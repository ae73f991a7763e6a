#!/usr/bin/env python3
"""Goal: from a bare Debian tree to entries that flow, and every promise of the units, kept by a real
systemd. Method: the package is installed into a tree, its systemd booted, and asked.

usage: systemd_test.py PACKAGE.deb [unittest's arguments]
"""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import time
import unittest
import urllib.parse

import freeze
from machine import Machine, wait_until

PACKAGE = None
PASSWORD = "pass-word/of the worker"
CONFIGURATION = """
[database]
url_file = "credentials/database-url"
[streams.orders]
emitter = "file"

[emitters.file]
kind = "stdout"
path = "/var/lib/outfall/orders"
"""
SLOW = """
[drain]
shutdown_timeout = "{shutdown}"

[streams.orders]
emitter = "slow"

[emitters.slow]
kind = "noop"
latency = "{latency}"
"""
# A watchdog that does not take half a minute to notice, for the tests of it.
UNIT_FAST_WATCHDOG = "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n"


class Systemd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            m = cls.m = cls.stack.enter_context(Machine("systemd"))
            shutil.copy(PACKAGE, m.root / "tmp/outfall.deb")
            m.chroot("apt-get", "install", "-y", "-q", "--no-install-recommends", "/tmp/outfall.deb")
            m.boot()
            wait_until("PostgreSQL", lambda: m.inside("pg_isready", check=False).returncode == 0)
            # No superuser: what docs/start/systemd.md asks for, and no more.
            m.sql(f"CREATE ROLE drain LOGIN CREATEROLE PASSWORD '{PASSWORD}'", "postgres")
            m.sql("CREATE DATABASE shop OWNER drain ENCODING 'UTF8' TEMPLATE template0", "postgres")
            cls.url = f"postgresql://drain:{urllib.parse.quote(PASSWORD, safe='')}@127.0.0.1/shop"
            # One configuration file, one credential, one command.
            m.put("/etc/outfall/outfall.toml", CONFIGURATION)
            m.put("/etc/outfall/credentials/database-url", cls.url + "\n", 0o600)
            cls.enabled = m.systemctl("enable", "--now", "outfall").stdout
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def setUp(self):
        self.addCleanup(self.clean_up)

    def clean_up(self):
        """The worker as it was after the installation, whatever a test has done to it."""
        m = self.m
        for unit in ("outfall", "outfall-migrate"):
            shutil.rmtree(m.root / f"etc/systemd/system/{unit}.service.d", ignore_errors=True)
        m.put("/etc/outfall/outfall.toml", CONFIGURATION)
        m.systemctl("daemon-reload")
        m.systemctl("reset-failed", check=False)
        m.shell("systemctl is-active -q postgresql@15-main || systemctl start postgresql@15-main")
        m.sql("DELETE FROM outbox.entries WHERE stream = 'orders'")
        m.systemctl("restart", "outfall")

    # --- words of the tests

    def drop_in(self, text, unit="outfall"):
        self.m.put(f"/etc/systemd/system/{unit}.service.d/test.conf", text)
        self.m.systemctl("daemon-reload")

    def configure(self, text):
        self.m.put("/etc/outfall/outfall.toml", text)
        self.m.systemctl("restart", "outfall")

    def enqueue(self, note, stream="orders"):
        return self.m.sql(f"SELECT outbox.enqueue('{stream}', 'order.placed', '{{\"note\": \"{note}\"}}'::json)")

    def expect_flow(self, note, path="/var/lib/outfall/orders"):
        self.enqueue(note)
        file = self.m.root / path.lstrip("/")
        wait_until(f"the entry {note}", lambda: note in self.m.shell(f"cat {path}", check=False).stdout, 20)
        return file

    def wait_for_state(self, state, unit="outfall", deadline=30):
        wait_until(f"{unit} to be {state}",
                   lambda: self.m.show(unit, "ActiveState") == state or self.fail(self.m.systemctl(
                       "status", "--no-pager", unit, check=False).stdout), deadline)

    def main_pid(self):
        return int(self.m.show("outfall", "MainPID"))

    def host_pid(self, pid):
        """The process of the machine as the test's own pid namespace numbers it."""
        namespace = os.readlink(f"/proc/{self.m.leader}/ns/pid")
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.readlink(entry / "ns/pid") != namespace:
                    continue
                for line in (entry / "status").read_text().splitlines():
                    if line.startswith("NSpid:") and int(line.split()[-1]) == pid:
                        return int(entry.name)
        raise AssertionError(f"no process {pid} in the machine")

    def entries(self, *matches):
        """The journal's entries of the worker that match, as objects."""
        lines = self.m.journal("-u", "outfall", *matches).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    # --- the tests

    def test_entries_flow_after_one_file_one_credential_and_one_command(self):
        self.assertIn("outfall-migrate.service", self.enabled)
        self.assertEqual(self.m.show("outfall", "ActiveState", "SubState"),
                         {"ActiveState": "active", "SubState": "running"})
        self.expect_flow("first")

    def test_a_command_of_root_finds_the_same_database(self):
        shown = self.m.inside("outfall", "status", "--json").stdout
        self.assertEqual([stream["stream"] for stream in json.loads(shown)["streams"]], ["orders"])
        self.assertIn("is up to date", self.m.inside("outfall", "migrate").stdout)

    def test_a_secret_of_the_workers_unit_stops_neither_the_migration_nor_commands(self):
        # The row "more secrets" of docs/start/systemd.md, and what the emitter cannot do without.
        self.m.put("/etc/outfall/credentials/hook", "http://127.0.0.1:9/in\n", 0o600)
        self.drop_in("[Service]\nLoadCredential=hook:/etc/outfall/credentials/hook\n"
                     "Environment=OUTFALL_EMITTERS__HOOK__URL_FILE=%d/hook\n")
        self.m.put("/etc/outfall/outfall.toml", CONFIGURATION +
                   '[streams.hooks]\nemitter = "hook"\n[emitters.hook]\nkind = "webhook"\n')
        self.m.systemctl("restart", "outfall")
        self.assertEqual(self.m.show("outfall-migrate", "Result", "ExecMainStatus"),
                         {"Result": "success", "ExecMainStatus": "0"})
        self.assertEqual(self.m.show("outfall", "StatusText"), "serving 2 streams")
        shown = self.m.inside("outfall", "status", "--json").stdout
        self.assertEqual([stream["stream"] for stream in json.loads(shown)["streams"]], ["hooks", "orders"])

    def test_the_migration_ends_before_the_worker_starts(self):
        self.m.systemctl("stop", "outfall")
        self.m.sql("DROP SCHEMA outbox CASCADE")
        self.m.systemctl("start", "outfall")
        migrated = self.m.show("outfall-migrate", "ExecMainExitTimestampMonotonic", "ExecMainStatus")
        started = self.m.show("outfall", "ExecMainStartTimestampMonotonic")
        self.assertEqual(migrated["ExecMainStatus"], "0")
        self.assertGreater(int(migrated["ExecMainExitTimestampMonotonic"]), 0)
        self.assertLess(int(migrated["ExecMainExitTimestampMonotonic"]), int(started))
        self.expect_flow("migrated")

    def test_it_comes_back_with_the_machine(self):
        self.m.halt()
        self.m.boot()
        self.wait_for_state("active")
        self.expect_flow("booted")

    def test_it_is_not_ready_without_a_schema_and_says_why(self):
        self.m.systemctl("stop", "outfall")
        self.m.sql("DROP SCHEMA outbox CASCADE")
        self.drop_in("[Service]\nExecStart=\nExecStart=/bin/true\n", "outfall-migrate")
        self.m.systemctl("start", "--no-block", "outfall")
        status = wait_until("its word on the schema", lambda: "schema" in self.m.show(
            "outfall", "StatusText") and self.m.show("outfall", "ActiveState", "StatusText"))
        self.assertEqual(status["ActiveState"], "activating", status)
        self.assertIn("outbox", status["StatusText"])
        self.m.inside("env", f"OUTFALL_DATABASE__URL={self.url}", "outfall", "migrate")
        self.wait_for_state("active")
        self.assertEqual(self.m.show("outfall", "StatusText"), "serving 1 stream")

    def test_an_older_version_works_on_with_a_newer_schema(self):
        version = int(self.m.sql("SELECT max(version) + 1 FROM outbox.schema_version"))
        self.m.sql(f"INSERT INTO outbox.schema_version (version, name) VALUES ({version}, '{version:04}_next')")
        self.addCleanup(self.m.sql, f"DELETE FROM outbox.schema_version WHERE version = {version}")
        self.m.systemctl("restart", "outfall")
        self.assertEqual(self.m.show("outfall-migrate", "ExecMainStatus"), "78")
        self.assertIn("nothing was changed", self.m.journal("-u", "outfall-migrate", "-n", "20"))
        self.assertEqual(self.m.show("outfall", "StatusText"), "serving 1 stream")
        self.expect_flow("after a rollback")

    def test_an_absent_database_makes_it_wait_and_not_fail(self):
        self.m.systemctl("stop", "outfall", "postgresql@15-main")
        self.m.systemctl("start", "outfall")
        self.assertEqual(self.m.show("outfall", "ActiveState"), "active")
        self.assertTrue(self.m.show("outfall", "StatusText").startswith("waiting for the database: "))
        # What the journal has of it can be asked for by field and by priority.
        found = self.entries("OUTFALL_MSG=waiting for the database")[-1]
        self.assertEqual(found["PRIORITY"], "4")
        self.assertEqual(found["OUTFALL_KIND"], "unavailable")
        self.assertIn("waiting for the database kind=unavailable", found["MESSAGE"])
        self.assertEqual(found["_SYSTEMD_UNIT"], "outfall.service")
        self.assertEqual(found["SYSLOG_IDENTIFIER"], "outfall")
        self.m.systemctl("start", "postgresql@15-main")
        wait_until("its status", lambda: self.m.show("outfall", "StatusText") == "serving 1 stream")
        self.assertEqual(self.entries("OUTFALL_MSG=connected to the database")[-1]["PRIORITY"], "6")
        # Where the schema has not been, the migration failed with the database: it is not needed twice.
        self.expect_flow("back")

    def test_a_reload_takes_effect_without_a_restart(self):
        pid = self.main_pid()
        self.m.put("/etc/outfall/outfall.toml", '[log]\nlevel = "debug"\n' + CONFIGURATION)
        self.m.systemctl("reload", "outfall")
        change = wait_until("the change", lambda: self.entries(f"_PID={pid}", "OUTFALL_SETTING=log.level"))[-1]
        self.assertEqual((change["OUTFALL_BEFORE"], change["OUTFALL_AFTER"]), ('"info"', '"debug"'))
        self.wait_for_state("active")
        self.assertEqual(self.main_pid(), pid)
        self.expect_flow("reloaded")

    def test_a_reload_of_a_broken_file_changes_nothing_and_says_so(self):
        pid = self.main_pid()
        # A change beside the mistake, that would take effect by itself.
        self.m.put("/etc/outfall/outfall.toml",
                   CONFIGURATION.replace('"file"', '"fiel"', 1) + '[log]\nlevel = "debug"\n')
        mark = self.m.journal_mark()
        reload = self.m.systemctl("reload", "outfall", check=False)
        self.assertNotEqual(reload.returncode, 0)
        self.assertIn("failed", reload.stdout)
        lines = [entry["MESSAGE"] for entry in self.entries(mark)]
        self.assertIn('outfall: /etc/outfall/outfall.toml:5:11: streams.orders.emitter: there is no emitter "fiel"', lines)
        self.expect_flow("unchanged")
        self.assertEqual(self.m.show("outfall", "ActiveState", "StatusText"),
                         {"ActiveState": "active", "StatusText": "serving 1 stream"})
        self.assertEqual(self.main_pid(), pid)
        # The worker has not heard of it.
        heard = [entry["MESSAGE"] for entry in self.entries(mark, f"_PID={pid}")]
        self.assertEqual([line for line in heard if "configuration" in line or "log.level" in line], [])

    def test_a_missing_credential_is_told_and_another_start_finds_it(self):
        credential = self.m.root / "etc/outfall/credentials/database-url"
        self.addCleanup(self.m.put, "/etc/outfall/credentials/database-url", self.url + "\n", 0o600)
        credential.unlink()
        mark = self.m.journal_mark()
        self.assertNotEqual(self.m.systemctl("restart", "outfall", check=False).returncode, 0)
        # What docs/start/systemd.md and the runbook of OutfallNoWorker show.
        status = self.m.systemctl("status", "--no-pager", "outfall", check=False).stdout
        self.assertIn("code=exited, status=243/CREDENTIALS", status)
        for unit in ("outfall", "outfall-migrate"):
            lines = self.m.shell(f"journalctl --no-pager -o cat '{mark}' -u {unit}").stdout.splitlines()
            self.assertIn(f"{unit}.service: Main process exited, code=exited, status=243/CREDENTIALS", lines)
        self.assertEqual(self.m.shell("systemctl cat outfall | grep ^LoadCredential").stdout.strip(),
                         "LoadCredential=database-url:/etc/outfall/credentials/database-url")
        self.m.put("/etc/outfall/credentials/database-url", self.url + "\n", 0o600)
        self.wait_for_state("active")
        self.assertEqual(self.m.show("outfall-migrate", "Result"), "success")
        self.expect_flow("found")

    def test_a_broken_file_that_reaches_the_worker_is_refused_there(self):
        pid = self.main_pid()
        self.m.put("/etc/outfall/outfall.toml", CONFIGURATION.replace('"file"', '"fiel"', 1))
        self.m.systemctl("kill", "--kill-who=main", "--signal=HUP", "outfall")
        wait_until("its status", lambda: self.m.show("outfall", "StatusText") ==
                   "configuration not reloaded, 1 problem in the log; serving 1 stream")
        self.assertEqual((self.m.show("outfall", "ActiveState"), self.main_pid()), ("active", pid))
        self.expect_flow("kept")
        self.m.put("/etc/outfall/outfall.toml", CONFIGURATION)
        self.m.systemctl("reload", "outfall")
        wait_until("its status", lambda: self.m.show("outfall", "StatusText") == "serving 1 stream")

    def test_the_watchdog_kills_a_worker_whose_loop_hangs(self):
        self.drop_in(UNIT_FAST_WATCHDOG)
        self.m.systemctl("restart", "outfall")
        pid = self.main_pid()
        # Only the thread that speaks to the service manager goes on.
        self.expect_kill_when_frozen(pid, freeze.threads_of(self.host_pid(pid))[1:])

    def test_the_watchdog_kills_a_worker_whose_main_thread_hangs(self):
        self.drop_in(UNIT_FAST_WATCHDOG)
        self.m.systemctl("restart", "outfall")
        pid = self.main_pid()
        self.expect_kill_when_frozen(pid, freeze.threads_of(self.host_pid(pid))[:1])

    def expect_kill_when_frozen(self, pid, threads):
        def another_worker():
            freeze.reap(threads)
            return self.main_pid() not in (0, pid)

        with freeze.frozen(threads):
            wait_until("the kill", another_worker, 30)
        text = self.m.shell("journalctl --no-pager -o cat UNIT=outfall.service -n 30").stdout
        self.assertIn(f"Killing process {pid} (outfall) with signal SIGABRT", text)
        self.assertIn("Watchdog timeout", text)
        self.wait_for_state("active")
        self.expect_flow(f"after-{pid}")

    def test_a_watchdog_leaves_a_busy_or_idle_worker_alone(self):
        self.drop_in(UNIT_FAST_WATCHDOG)
        self.m.systemctl("restart", "outfall")
        pid = self.main_pid()
        stamps = set()
        end = time.monotonic() + 6  # three times its patience; a condition on the passing of time itself
        number = 0
        while time.monotonic() < end:
            number += 1
            self.expect_flow(f"busy-{number}")
            stamps.add(self.m.show("outfall", "WatchdogTimestampMonotonic"))
        self.assertEqual(self.main_pid(), pid)
        self.assertGreater(len(stamps), 3, "systemd has seen the beats")

    def stop_under_way(self, shutdown, latency):
        """Stops the worker while a delivery is under way: how long it took, and the worker's result."""
        self.configure(SLOW.format(shutdown=shutdown, latency=latency))
        before = int(self.m.sql("SELECT count(*) FROM outbox.delivered"))
        self.enqueue("slow")
        wait_until("the lease", lambda: self.m.sql("SELECT count(*) FROM outbox.leases") == "1")
        begin = time.monotonic()
        self.m.systemctl("stop", "outfall")
        took = time.monotonic() - begin
        return took, self.m.show("outfall", "Result"), int(self.m.sql("SELECT count(*) FROM outbox.delivered")) - before

    def test_a_stop_waits_for_a_long_delivery(self):
        took, result, delivered = self.stop_under_way("20s", "4s")
        self.assertEqual((result, delivered), ("success", 1))
        self.assertLess(took, 15)

    def test_a_stop_gives_back_what_takes_too_long(self):
        took, result, delivered = self.stop_under_way("3s", "10m")
        self.assertEqual((result, delivered), ("success", 0))
        self.assertLess(took, 15)
        self.assertEqual(self.m.sql("SELECT count(*), min(attempts) FROM outbox.entries"), "1|0")

    def test_a_worker_with_a_longer_deadline_than_its_unit_is_given_it(self):
        self.drop_in("[Service]\nTimeoutStopSec=1s\n")
        _, result, delivered = self.stop_under_way("20s", "5s")
        self.assertEqual((result, delivered), ("success", 1))

    def test_a_killed_worker_comes_back(self):
        pid = self.main_pid()
        self.m.systemctl("kill", "--kill-who=main", "--signal=KILL", "outfall")
        wait_until("another worker", lambda: self.main_pid() not in (0, pid))
        self.wait_for_state("active")
        self.expect_flow("restarted")

    def test_what_another_start_cannot_mend_is_not_started_again(self):
        for command, text, code in (
                ("run", CONFIGURATION.replace('"file"', '"fiel"', 1), "78"),
                ("run --no-such-option", CONFIGURATION, "64")):
            self.m.systemctl("stop", "outfall")
            self.drop_in(f"[Service]\nRestartSec=10ms\nExecStart=\nExecStart=/usr/bin/outfall {command}\n")
            self.m.put("/etc/outfall/outfall.toml", text)
            self.assertNotEqual(self.m.systemctl("start", "outfall", check=False).returncode, 0)
            self.wait_for_state("failed")
            self.assertEqual(self.m.show("outfall", "ExecMainStatus", "NRestarts"),
                             {"ExecMainStatus": code, "NRestarts": "0"})

    def test_what_may_pass_is_started_again(self):
        # It ends with 75 twice, and with the third start it is there.
        self.m.put("/usr/local/bin/third-time", "#!/bin/sh\necho >>/var/lib/outfall/starts\n"
                   "[ $(wc -l </var/lib/outfall/starts) -ge 3 ] || exit 75\n"
                   "exec /usr/bin/outfall run --config /etc/outfall/outfall.toml\n", 0o755)
        self.drop_in("[Service]\nRestartSec=100ms\nExecStart=\nExecStart=/usr/local/bin/third-time\n")
        self.m.systemctl("restart", "outfall", check=False)
        self.wait_for_state("active")
        self.assertEqual(self.m.show("outfall", "NRestarts"), "2")
        self.expect_flow("third")

    def test_secrets_are_in_files_that_only_the_worker_can_read(self):
        pid = self.host_pid(self.main_pid())
        for name in ("environ", "cmdline"):
            self.assertNotIn("pass-word", pathlib.Path(f"/proc/{pid}/{name}").read_bytes().decode())
        self.assertNotIn("pass-word", self.m.journal())
        self.assertNotIn("pass-word", self.m.systemctl("show", "outfall").stdout)
        for path in ("/run/credentials/outfall.service/database-url", "/etc/outfall/credentials/database-url"):
            self.assertNotEqual(self.m.inside("runuser", "-u", "nobody", "--", "cat", path, check=False).returncode, 0)

    def test_the_worker_is_an_unprivileged_user_in_a_sandbox(self):
        pid = self.host_pid(self.main_pid())
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                      if ":\t" in line)
        self.assertNotEqual(status["Uid"].split()[0], "0")
        self.assertEqual((int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"]), (0, "1", "2"))
        for unit in ("outfall", "outfall@", "outfall-migrate", "outfall-migrate@"):
            self.m.inside("systemd-analyze", "security", "--offline=true", "--threshold=12", "--no-pager",
                          f"/usr/lib/systemd/system/{unit}.service")
        verified = self.m.inside("systemd-analyze", "verify", "outfall.service", "outfall-migrate.service",
                                 "outfall@one.service").stdout
        self.assertEqual([line for line in verified.splitlines() if "outfall" in line], [])

    def test_instances_run_side_by_side(self):
        m = self.m
        for number, name in enumerate(("one", "two")):
            m.put(f"/etc/outfall/{name}.toml",
                  f'[admin]\nlisten = "127.0.0.1:{9500 + number}"\n'
                  + CONFIGURATION.replace("orders\"", f"{name}\"")
                  .replace("[database]", f'[database]\nschema = "{name}"')
                  .replace("credentials/", f"credentials/{name}/"))
            m.put(f"/etc/outfall/credentials/{name}/database-url",
                  "postgresql://outfall@%2Fvar%2Frun%2Fpostgresql/shop", 0o600)
        # Over the socket, as the unit's own user: PrivateUsers= and DynamicUser= and `peer` go together.
        m.sql("CREATE ROLE outfall LOGIN SUPERUSER")
        self.assertIn("peer", m.shell("grep ^local.*all.*all /etc/postgresql/15/main/pg_hba.conf").stdout)
        m.systemctl("enable", "--now", "outfall@one", "outfall@two")
        for name in ("one", "two"):
            self.assertEqual(m.show(f"outfall-migrate@{name}", "ExecMainStatus", "Result"),
                             {"ExecMainStatus": "0", "Result": "success"})
            m.sql(f"SELECT {name}.enqueue('orders', 'order.placed', '{{\"note\": \"of {name}\"}}'::json)")
            wait_until("its entry", lambda: f"of {name}" in m.shell(
                f"cat /var/lib/outfall/{name}", check=False).stdout, 20)
        m.systemctl("disable", "--now", "outfall@one", "outfall@two")


def main():
    global PACKAGE
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PACKAGE = pathlib.Path(sys.argv.pop(1))
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
