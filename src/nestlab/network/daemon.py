"""What a process that goes on in the background does: hold its pid file, and leave its starter's terminal.

Imports little, because such a process lives as long as its lab.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal


def lock(name: str) -> int | None:
    """The pid file `name` of the working directory, locked; None while another process holds it."""
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(name)):  # noqa: PTH116 (pathlib takes a megabyte)
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass
        os.close(file)  # a process that ended just now had unlinked it


def fork(lock: int) -> bool:
    """Go on as a process of its own, which the locked pid file names from now on. True in that process, False in its
    starter. OSError where that cannot be."""
    child = os.fork()
    if child:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{child}\n".encode(), 0)
    return not child


def detach(log: str) -> None:
    """A session of its own, and nothing left of the starter's terminal or pipes: what it says goes to `log`."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(said)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
