"""For root: a command as root of a user namespace of its own, who is nobody on this machine.

An ordinary user gets one from mmdebstrap, which needs newuidmap and a range in /etc/subuid for it; root needs neither,
and mmdebstrap makes none for root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FIRST, COUNT = 0x70000000, 65536
"""The users of this machine that the namespace's are: after the range that systemd hands out (its UIDS-GIDS page)."""

_PROGRAM = r"""
import ctypes, os, signal, sys

first, count, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
MOUNTS, NAMES, IPC, USERS, PIDS = (1 << bit for bit in (17, 26, 27, 28, 29))
DIE_WITH_PARENT = 1


def code(status):
    ended = os.waitstatus_to_exitcode(status)
    return 128 - ended if ended < 0 else ended


here = os.getpid()
wait, go = os.pipe()
mapper = os.fork()
if not mapper:
    os.close(go)
    if os.read(wait, 1):
        for kind in ("uid", "gid"):
            with open(f"/proc/{here}/{kind}_map", "w") as file:
                file.write(f"0 {first} {count}\n")
    os._exit(0)
os.close(wait)
if libc.unshare(MOUNTS | NAMES | IPC | USERS | PIDS):
    sys.exit(f"nestlab: unshare() failed: {os.strerror(ctypes.get_errno())}")
os.write(go, b"x")
os.close(go)
if os.waitpid(mapper, 0)[1]:
    sys.exit("nestlab: uid_map could not be written")
os.setgroups([])
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
# Told to end, these wait for the command, which is told as well and cleans up.
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
first_process = os.fork()
if first_process:
    os._exit(code(os.waitpid(first_process, 0)[1]))
libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
work = os.fork()
if not work:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.execv(command[0], command)  # execvp imports, and Python may be where only root may read
while True:
    pid, status = os.wait()
    if pid == work:
        os._exit(code(status))
"""
"""A Python program, for no util-linux before 2.38 maps a range. Arguments: the first user, how many, the command."""


def inside(command: Sequence[str]) -> list[str]:
    """The command as root of a namespace of its own: users, mounts, processes, host name, IPC."""
    program = shutil.which(command[0]) or command[0]
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, str(FIRST), str(COUNT), program, *command[1:]]


def possible(maps: Path = Path("/proc/self")) -> bool:
    """Whether the users are there to be had: root of a user namespace has only those that it was given, and is not
    root of this machine."""
    return all(_has((maps / f"{kind}_map").read_text()) for kind in ("uid", "gid"))


def _has(table: str) -> bool:
    ranges = [(int(words[0]), int(words[2])) for words in map(str.split, table.splitlines()) if len(words) == 3]
    return any(first <= FIRST and first + count >= FIRST + COUNT for first, count in ranges)


def firsts(table: Path = Path("/etc/subuid")) -> list[int]:
    """The first users of the ranges of an ordinary user (subuid(5)): as one of them mmdebstrap's root acts."""
    names = {str(os.getuid())}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in table.read_text(errors="replace").splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                found.append(int(rest.partition(":")[0]))
    return found


def let_in(folder: Path, users: Sequence[int]) -> None:
    """Nobody but its owner may enter the folder, and root of a namespace with these first users; apt's user as well,
    as which it downloads. Where the file system has no ACLs, all may, but not look what is in it."""
    apt = []
    with contextlib.suppress(KeyError):
        apt = [pwd.getpwnam("_apt").pw_uid]
    allowed = sorted({first + user for first in users for user in (0, *apt)})
    folder.chmod(0o700)
    try:
        os.setxattr(folder, "system.posix_acl_access", b"".join(_acl(allowed)))
    except OSError:
        folder.chmod(0o711)


def _acl(users: Sequence[int]) -> Iterator[bytes]:
    """linux/posix_acl_xattr.h: a version, then tag, permissions and id of each entry, in the order of their tags."""
    read_enter, every, nobody = 5, 7, 0xFFFFFFFF
    yield struct.pack("<I", 2)
    yield struct.pack("<HHI", 0x01, every, nobody)
    yield from (struct.pack("<HHI", 0x02, read_enter, user) for user in users)
    yield from (struct.pack("<HHI", tag, mode, nobody) for tag, mode in ((0x04, 0), (0x10, read_enter), (0x20, 0)))
