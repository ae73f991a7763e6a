#!/usr/bin/env python3
"""Goal: the package installs, upgrades, goes back, is removed and comes back, and leaves nothing behind.
Method: apt does all of it in a bare Debian tree, first as it is and then with its systemd booted. The
package of the next release has a binary that brings one more migration.

usage: package_test.py PACKAGE.deb BINARY_OF_THE_NEXT_RELEASE [unittest's arguments]
"""

import pathlib
import re
import shutil
import sys
import tempfile
import unittest

from machine import Machine, run, wait_until

PACKAGE = None
NEXT_BINARY = None
CONFIGURATION = '[streams.orders]\nemitter = "nothing"\n\n[emitters.nothing]\nkind = "noop"\n'
TO_A_FILE = '''[streams.orders]
emitter = "file"

[emitters.file]
kind = "stdout"
path = "/var/lib/outfall/orders"
'''
URL = "postgresql:///shop?host=/var/run/postgresql&user=outfall"
# Without a terminal of its own, which it would share with nobody.
APT = ("apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0")
# What apt and dpkg keep of any package that has ever been there.
BOOKS = re.compile(r"var/(lib/(dpkg|apt|man-db|systemd/catalog)|cache|log|backups)(/|$)|etc/ld\.so\.cache$|etc/resolv.conf")
# What a server and a timer have written meanwhile.
OF_A_RUNNING_MACHINE = re.compile(r"var/lib/(postgresql|systemd/timers)(/|$)")


def next_version(folder):
    """The package of the next release: a higher version, and a binary with one more migration."""
    tree = pathlib.Path(folder) / "tree"
    run(["dpkg-deb", "--raw-extract", PACKAGE, tree])
    control = tree / "DEBIAN/control"
    text, count = re.subn(r"(?m)^Version: (.*)$", r"Version: \1+next1", control.read_text())
    assert count == 1
    control.write_text(text)
    run(["strip", "-o", tree / "usr/bin/outfall", NEXT_BINARY])
    path = pathlib.Path(folder) / "next.deb"
    run(["dpkg-deb", "--root-owner-group", "--build", tree, path])
    return path


def named_outfall(machine):
    return sorted(path for path in machine.files() if "outfall" in pathlib.Path(path).name
                  and not BOOKS.match(path) and not path.startswith("var/lib/postgresql"))


class Package(unittest.TestCase):
    def put_package(self, machine):
        shutil.copy(PACKAGE, machine.root / "tmp/outfall.deb")

    def install(self, machine, *what):
        machine.chroot(*APT, "install", "--no-install-recommends", *what)

    def test_it_works_in_a_bare_tree_and_a_purge_leaves_nothing(self):
        with Machine("package") as m:
            self.put_package(m)
            depends = run(["dpkg-deb", "--field", PACKAGE, "Depends"]).stdout
            self.install(m, *re.findall(r"(?:^|, )([a-z0-9.+-]+)", depends))
            before = m.files()
            self.install(m, "/tmp/outfall.deb")

            self.assertIn("outfall ", m.chroot("outfall", "version").stdout)
            self.assertEqual(oct((m.root / "etc/outfall/credentials").stat().st_mode & 0o7777), "0o700")
            for page in ("outfall", "outfall.toml"):
                # groff says what it does not understand; a page that says nothing is an empty one.
                warnings = m.chroot("sh", "-c", f"MANWIDTH=500 man --warnings {page} 2>&1 >/dev/null").stdout
                self.assertEqual(warnings, "")
            self.assertIn("drain.lease", m.chroot("man", "outfall.toml").stdout)
            self.assertRegex(m.chroot("man", "outfall").stdout, r"outfall\s+dead-letters\s+replay")
            self.assertTrue((m.root / "usr/share/outfall/sql/migrations/0001_tables.sql").exists())
            self.assertTrue((m.root / "usr/share/doc/outfall/docs/start/systemd.md").exists())
            self.assertTrue((m.root / "usr/share/doc/outfall/copyright").exists())
            self.expect_completion(m)

            m.put("/etc/outfall/outfall.toml", CONFIGURATION)
            m.put("/etc/outfall/credentials/database-url", "postgresql://nobody@localhost/none", 0o600)
            m.put("/etc/systemd/system/outfall.service.d/memory.conf", "[Service]\nMemoryMax=1G\n")
            m.chroot("systemctl", "enable", "outfall", "outfall@one")
            m.put("/var/lib/private/outfall/state", "x")
            (m.root / "var/lib/outfall").symlink_to("private/outfall")
            m.chroot(*APT, "remove", "outfall")
            self.assertTrue((m.root / "etc/outfall/outfall.toml").exists())
            self.assertFalse((m.root / "usr/bin/outfall").exists())
            m.chroot(*APT, "purge", "outfall")
            after = m.files()
            difference = {path for path in set(before.items()) ^ set(after.items()) if not BOOKS.match(path[0])}
            self.assertEqual(difference, set())

    def expect_completion(self, m):
        asked = ("source /usr/share/bash-completion/bash_completion; _completion_loader outfall; "
                 "COMP_WORDS=({}); COMP_CWORD={}; _outfall; echo ${{COMPREPLY[@]}}")
        for words, answer in (("outfall dead-", "dead-letters"), ("outfall dead-letters re", "replay"),
                              ("outfall config-reference --format s", "sample"),
                              ("outfall --json dead-letters replay --ra", "--rate"),
                              ("outfall completion f", "fish")):
            found = m.chroot("bash", "-c", asked.format(words, len(words.split()) - 1)).stdout.split()
            self.assertEqual(found, [answer], words)
        for words, answer in (("outfall dead-letters re", "replay"), ("outfall migrate --lo", "--lock-timeout"),
                              ("outfall config-reference --format s", "sample")):
            found = m.chroot("env", "HOME=/tmp", "fish", "-c", f"complete -C '{words}'").stdout.splitlines()
            self.assertEqual([line.split("\t")[0] for line in found], [answer], found)
        m.chroot("zsh", "-n", "/usr/share/zsh/vendor-completions/_outfall")

    def expect_zsh_completion(self, m):
        # It completes on a terminal only: one of its own.
        script = ("zmodload zsh/zpty; zpty shell zsh -f -i; "
                  "zpty -w shell 'PS1=; autoload -U compinit; compinit -u; echo is-$((1+1))-ready'; "
                  "zpty -r shell out '*is-2-ready*'; zpty -n -w shell $'outfall dead-letters rep\\t'; "
                  "zpty -r shell out '*replay*' && print -r -- found")
        found = m.inside("timeout", "120", "zsh", "-fc", script, check=False)
        self.assertIn("found", found.stdout)

    def test_a_booted_machine_gets_it_runs_it_and_is_bare_again(self):
        with Machine("story") as m:
            depends = run(["dpkg-deb", "--field", PACKAGE, "Depends"]).stdout
            self.install(m, *re.findall(r"(?:^|, )([a-z0-9.+-]+)", depends))
            self.put_database(m)
            shutil.copy(PACKAGE, m.root / "root/package.deb")
            before = m.files()
            m.inside(*APT, "install", "/root/package.deb")
            # One configuration file, one credential, one command.
            m.put("/etc/outfall/outfall.toml", TO_A_FILE)
            m.put("/etc/outfall/credentials/database-url", URL, 0o600)
            m.systemctl("enable", "--now", "outfall")
            self.expect_line(m, "first")

            pid = m.show("outfall", "MainPID")
            m.put("/etc/outfall/outfall.toml", TO_A_FILE.replace('"file"', '"fiel"', 1))
            reload = m.systemctl("reload", "outfall", check=False)
            self.assertNotEqual(reload.returncode, 0)
            self.assertIn("Job for outfall.service failed", reload.stdout)
            self.assertIn('there is no emitter \\"fiel\\"', m.journal("-u", "outfall"))
            self.expect_line(m, "second")
            self.assertEqual(m.show("outfall", "MainPID"), pid)

            m.inside(*APT, "purge", "outfall")
            after = m.files()
            difference = {path for path in set(before.items()) ^ set(after.items())
                          if not BOOKS.match(path[0]) and not OF_A_RUNNING_MACHINE.match(path[0])}
            self.assertEqual(difference, set())
            left = "find /run /tmp /var/tmp /dev/shm -name '*outfall*'; cut -d' ' -f2 /proc/mounts | grep outfall; " \
                   "getent passwd outfall; cat /proc/[0-9]*/comm | grep -x outfall; " \
                   "systemctl list-units --all --plain --no-legend 'outfall*'"
            self.assertEqual(m.shell(left, check=False).stdout, "")
            self.assertEqual(m.sql("SELECT count(*) FROM outbox.delivered"), "2", "the database keeps its tables")

    def expect_line(self, m, note):
        m.sql(f"SELECT outbox.enqueue('orders', 'order.placed', '{{\"note\": \"{note}\"}}'::json)")
        wait_until("the entry", lambda: note in m.shell("cat /var/lib/outfall/orders", check=False).stdout, 20)

    def put_database(self, m):
        """Boots it, with a database and a login for outfall."""
        m.boot()
        wait_until("PostgreSQL", lambda: m.inside("pg_isready", check=False).returncode == 0)
        m.sql("CREATE DATABASE shop ENCODING 'UTF8' TEMPLATE template0", "postgres")
        m.sql("CREATE ROLE outfall LOGIN SUPERUSER", "postgres")

    def boot_with_both_versions(self, m):
        """The tree with the package of this release installed and that of the next one at hand, booted."""
        self.put_package(m)
        self.install(m, "/tmp/outfall.deb")
        self.put_database(m)
        shutil.copy(PACKAGE, m.root / "root/outfall.deb")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(next_version(folder), m.root / "root/next.deb")
        m.put("/etc/outfall/outfall.toml", CONFIGURATION)
        m.put("/etc/outfall/credentials/database-url", URL, 0o600)
        self.assertEqual(m.show("outfall", "ActiveState"), "inactive", "an installation starts nothing")

    def test_a_schema_that_was_migrated_by_hand_is_there_when_the_next_version_starts(self):
        with Machine("by-hand") as m:
            self.boot_with_both_versions(m)
            m.systemctl("enable", "--now", "outfall")
            m.systemctl("disable", "outfall-migrate")
            self.expect_flow(m, 1)
            version = self.schema_version(m)
            # As docs/operating/upgrading.md has it: the new version's binary, before it is installed.
            m.inside("dpkg-deb", "--extract", "/root/next.deb", "/var/tmp/next")
            m.inside("runuser", "-u", "postgres", "--", "env",
                     "OUTFALL_DATABASE__URL=postgresql:///shop?host=/var/run/postgresql",
                     "/var/tmp/next/usr/bin/outfall", "migrate")
            self.assertEqual(self.schema_version(m), version + 1)
            self.expect_flow(m, 2)
            migrated = m.show("outfall-migrate", "ExecMainStartTimestampMonotonic")
            self.expect_another_version(m, "next.deb", "0")
            self.assertEqual(m.show("outfall-migrate", "ExecMainStartTimestampMonotonic"), migrated, "it is disabled")
            self.expect_flow(m, 3)

    def test_a_running_worker_is_upgraded_goes_back_is_removed_and_comes_back(self):
        with Machine("upgrade") as m:
            self.boot_with_both_versions(m)
            self.expect_zsh_completion(m)
            m.systemctl("enable", "--now", "outfall")
            self.expect_flow(m, 1)

            version = self.schema_version(m)
            self.expect_another_version(m, "next.deb", "0")
            self.assertEqual(self.schema_version(m), version + 1)
            self.expect_flow(m, 2)

            self.expect_another_version(m, "outfall.deb", "78")
            self.assertIn("nothing was changed", m.journal("-u", "outfall-migrate", "-n", "20"))
            self.assertEqual(self.schema_version(m), version + 1, "a rollback leaves the schema as it is")
            self.expect_flow(m, 3)

            m.inside(*APT, "remove", "outfall")
            self.assertEqual(m.shell("pgrep -x outfall || cat /proc/[0-9]*/comm | grep -x outfall", check=False).stdout, "")
            m.inside(*APT, "install", "/root/next.deb")
            m.systemctl("start", "outfall")
            self.expect_flow(m, 4)

            m.inside(*APT, "purge", "outfall")
            self.assertEqual(m.shell("cat /proc/[0-9]*/comm | grep -x outfall", check=False).stdout, "")
            self.assertEqual(m.systemctl("list-units", "--all", "--plain", "--no-legend", "outfall*").stdout.strip(), "")
            self.assertEqual(named_outfall(m), ["root/outfall.deb"] if (m.root / "root/outfall.deb").exists() else [])
            self.assertEqual(m.sql("SELECT count(*) FROM outbox.delivered"), "4", "the database keeps its tables")

    def schema_version(self, m):
        return int(m.sql("SELECT max(version) FROM outbox.schema_version"))

    def expect_another_version(self, m, package, migrated):
        """apt replaces the binary under a running worker; `migrated`: how the migration of that one ends."""
        pid = m.show("outfall", "MainPID")
        m.inside(*APT, "install", "--allow-downgrades", f"/root/{package}")
        self.assertEqual(m.inside("dpkg-query", "--show", "outfall").stdout.strip().endswith("+next1"),
                         package == "next.deb")
        self.assertEqual(m.show("outfall-migrate", "ExecMainStatus"), migrated)
        self.assertEqual(m.show("outfall", "ActiveState", "StatusText"),
                         {"ActiveState": "active", "StatusText": "serving 1 stream"})
        self.assertNotEqual(m.show("outfall", "MainPID"), pid)

    def expect_flow(self, m, count):
        m.sql("SELECT outbox.enqueue('orders', 'order.placed', '{}'::json)")
        wait_until("the delivery", lambda: m.sql("SELECT count(*) FROM outbox.delivered") == str(count), 20)


def main():
    global PACKAGE, NEXT_BINARY
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    PACKAGE = pathlib.Path(sys.argv.pop(1))
    NEXT_BINARY = pathlib.Path(sys.argv.pop(1))
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
