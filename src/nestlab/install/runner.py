"""Runs an installer's machine where nestlab is not: in a hypervisor, for as long as nestlab speaks to it.

It runs by itself, by any Python 3: `python3 -I -S -c … ROOT NAME PATIENCE`. It makes the folder ROOT/NAME, takes away
what killed ones left in ROOT, and says so with a line of JSON. Then each line of JSON on its stdin is answered by one:
`{"start": ARGV, "size": BYTES}` starts a QEMU, whose disk it makes first, `{"end": true}` ends it, `{}` only asks. When
its stdin ends, or nothing is heard for PATIENCE seconds, the QEMU ends and the folder goes: whatever ends nestlab
leaves nothing here.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

END = 8192
"""Bytes of the end of a console that are looked at."""

LARGEST = 16 << 20
"""Bytes of a console from which it is cut."""

DISK, CONSOLE, ERRORS = "disk.raw", "console.log", "qemu.log"

_LOCK = "lock"
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """In a new process, before QEMU: when who started it is killed, it is too. It would wait for answers for ever."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)


def end_of(path: str | os.PathLike[str], most: int = END) -> bytes:
    """The end of a file; nothing where there is none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most)
    except OSError:
        return b""


def cut(path: str | os.PathLike[str]) -> None:
    """Empty a file that QEMU appends to once it is too long, but for its end: an installer may print for ever."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size > LARGEST:  # noqa: PTH116
            end = end_of(path)
            with open(path, "ab") as file:  # noqa: PTH123
                os.truncate(path, 0)
                file.write(end)


def blocks(path: str | os.PathLike[str]) -> int:
    """Blocks that a disk takes: what is written to it."""
    try:
        return os.stat(path).st_blocks  # noqa: PTH116
    except OSError:
        return 0


def free(folder: str | os.PathLike[str]) -> int:
    """Bytes that may still be written there."""
    found = os.statvfs(folder)
    return found.f_frsize * (found.f_bavail if os.geteuid() else found.f_bfree)


def begin(root: str, name: str) -> int:
    """Makes ROOT/NAME, once what nobody holds any more is gone from ROOT; a descriptor that holds it."""
    os.makedirs(root, 0o700, exist_ok=True)  # noqa: PTH103
    with open(f"{root}/{_LOCK}", "ab") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        for each in os.listdir(root):  # noqa: PTH208
            if each != _LOCK and not held(f"{root}/{each}"):
                shutil.rmtree(f"{root}/{each}", ignore_errors=True)
        os.mkdir(f"{root}/{name}", 0o700)  # noqa: PTH102
        mark = os.open(f"{root}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(mark, fcntl.LOCK_EX)
    return mark


def held(folder: str) -> bool:
    """Whether somebody is at work in a folder."""
    try:
        there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(there)


def start(folder: str, argv: list[str], size: int, mark: int) -> subprocess.Popen[bytes] | int:
    """The QEMU, on a new and empty disk; 127 where it cannot be started, which its log tells."""
    with open(f"{folder}/{DISK}", "xb") as disk:  # noqa: PTH123
        os.fchmod(disk.fileno(), 0o600)
        disk.truncate(size)
    with open(f"{folder}/{ERRORS}", "ab") as out:  # noqa: PTH123
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(mark,),
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            out.write(f"{argv[0]}: {error.strerror}\n".encode())
            return 127


def report(folder: str, qemu: subprocess.Popen[bytes] | int | None) -> dict[str, object]:
    """How it is: `status` is QEMU's, once it has ended."""
    for name in (CONSOLE, ERRORS):
        cut(f"{folder}/{name}")
    return {
        "status": qemu.poll() if isinstance(qemu, subprocess.Popen) else qemu,
        "console": base64.b64encode(end_of(f"{folder}/{CONSOLE}")).decode(),
        "errors": base64.b64encode(end_of(f"{folder}/{ERRORS}")).decode(),
        "blocks": blocks(f"{folder}/{DISK}"),
        "free": free(folder),
        "memory": available(),
    }


def available() -> int:
    """Bytes of memory that programs may still take."""
    with open("/proc/meminfo") as lines:  # noqa: PTH123
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def serve(folder: str, mark: int, patience: float) -> None:
    """Answers until nobody asks any more."""
    qemu: subprocess.Popen[bytes] | int | None = None
    rest = b""
    try:
        tell(report(folder, qemu))
        while select.select([0], [], [], patience)[0] and (data := os.read(0, 1 << 16)):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                if "start" in asked:
                    qemu = start(folder, asked["start"], asked["size"], mark)
                if "end" in asked and isinstance(qemu, subprocess.Popen):
                    qemu.kill()
                    qemu.wait()
                tell(report(folder, qemu))
    finally:
        if isinstance(qemu, subprocess.Popen):
            qemu.kill()
            qemu.wait()


def tell(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(root: str, name: str, patience: str) -> None:
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: sys.exit(1))
    mark = begin(root, name)
    try:
        serve(f"{root}/{name}", mark, float(patience))
    except OSError as error:  # nobody listens any more, or the disk is full
        sys.exit(str(error))
    finally:
        away(f"{root}/{name}")


def away(folder: str) -> None:
    """Takes the folder away; what is still being written into it may put a name there meanwhile."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
