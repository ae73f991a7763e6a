"""Stops single threads of a process, as a bug that lets them wait for ever would: by ptrace, since a
signal stops all of them."""

import contextlib
import ctypes
import os

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request:#x}, {thread})")


@contextlib.contextmanager
def frozen(threads):
    """While the context lasts, and the threads with it, none of `threads` runs."""
    for thread in threads:
        ptrace(PTRACE_SEIZE, thread)
        ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)
    try:
        yield
    finally:
        for thread in threads:
            with contextlib.suppress(OSError):
                ptrace(PTRACE_DETACH, thread)
            reap([thread])


def reap(threads):
    """Takes note of the end of frozen threads, before which their process is not gone."""
    for thread in threads:
        with contextlib.suppress(OSError):
            os.waitpid(thread, WALL | os.WNOHANG)


def threads_of(pid):
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
