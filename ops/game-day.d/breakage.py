"""What breaks the parts of an installation in ways for which they have no switch of their own: a gate before a
server, a disk that can be full, a share that hangs, a clock that is wrong."""

import ctypes
import glob
import os
import pwd
import socket
import threading

from servers import NotHere, Trouble, free_port

LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID_NODEV = 6
MNT_DETACH = 2


class Gate:
    """A way to a server. Shut, it is a firewall that drops packets: nothing passes any more, of connections that are
    open and of new ones, and neither side is told. What came meanwhile passes once it is open again."""

    def __init__(self, server_port):
        self.port = free_port()
        self._server_port = server_port
        self._open = threading.Event()
        self._open.set()
        # Few may knock while it is shut: all of them would be at the server at once when it opens.
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=4)
        threading.Thread(target=self._let_in, daemon=True).start()

    def shut(self):
        self._open.clear()

    def open(self):
        self._open.set()

    def end(self):
        """Lets nobody in any more. Who is in stays, so that a worker can still say good-bye to its database."""
        self.open()
        # Without it a thread that waits for the next connection would wait on.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _let_in(self):
        while True:
            try:
                self._open.wait()
                near, _ = self._listener.accept()
            except OSError:
                return  # It has ended.
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near):
        with near:
            try:
                far = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                return
            with far:
                back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
                back.start()
                self._pass_on(near, far)
                back.join()

    def _pass_on(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                self._open.wait()
                sink.sendall(data)
            self._open.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for side in (source, sink):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # It is gone already.


def mount(kind, folder, options):
    folder.mkdir()
    if LIBC.mount(b"game-day", os.fsencode(folder), kind.encode(), MS_NOSUID_NODEV, options.encode()) != 0:
        raise NotHere(f"a file system ({kind}) has to be mounted, which is for root, and not in every container:"
                      f" {os.strerror(ctypes.get_errno())}")


def unmount(folder):
    LIBC.umount2(os.fsencode(folder), MNT_DETACH)


class SmallDisk:
    """A disk of some megabytes, which can be full, for the files of `user`; None is the caller."""

    def __init__(self, folder, user, mebibytes=32):
        self.folder = folder
        mount("tmpfs", folder, f"size={mebibytes}m,mode=700")
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)

    def fill(self):
        with open(self.folder / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass  # It is full.

    def make_room(self):
        (self.folder / "filler").unlink()

    def end(self):
        unmount(self.folder)


class HangingShare:
    """A folder on another machine that is gone: whoever touches anything in it waits until end(), after which all of
    it is an error. It is a FUSE file system of which nobody takes the requests."""

    def __init__(self, folder):
        self.folder = folder
        try:
            self._requests = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NotHere(f"/dev/fuse: {error.strerror}") from None
        try:
            mount("fuse", folder, f"fd={self._requests},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}")
        except NotHere:
            os.close(self._requests)
            raise

    def end(self):
        if self._requests is None:
            return
        os.close(self._requests)
        self._requests = None
        unmount(self.folder)


def wrong_clock(offset):
    """The environment in which a program's clock is wrong, and its intervals are right."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise Trouble("there is no faketime; ops/install-dependencies operate installs it")
    return {"LD_PRELOAD": found[0], "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
