"""A program that plays a QEMU in which an installer runs: by what its command line says, without a machine.

`python3 -I installer_qemu.py …`, and QEMU's words. It prints on the console's log, asks the answer server through the
command of QEMU's forward, writes its disk, says that it is done, and ends. The text of the "kernel" says how it is to
behave.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

MARK = b"installed by a stand-in of a QEMU\n"


def main(words: list[str]) -> None:
    line = " ".join(words)
    behave = Path(words[words.index("-kernel") + 1]).read_text()
    console = Path(_found(r"logfile=([^,]+)", line))
    disk = Path(_found(r"id=d0,file=([^,]+)", line))
    Path(words[words.index("-pidfile") + 1]).write_text("1")
    server = shlex.split(_found(r":80-cmd:([^,]+)", line))
    secret = _found(r"http://10\.0\.2\.4/([\w-]+)", line)

    def ask(path: str) -> bytes:
        text = f"GET /{secret}/{path} HTTP/1.0\r\n\r\n".encode()
        with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
            assert asking.stdin is not None
            assert asking.stdout is not None
            asking.stdin.write(text)
            asking.stdin.flush()
            return asking.stdout.read()

    def say(text: str) -> None:
        with console.open("a") as file:
            file.write(f"{text}\n")

    if behave == "dies":
        sys.exit("qemu: no such machine")
    say("installer: begins")
    ask("stage/started")
    if b"#cloud-config" not in ask("user-data"):
        sys.exit("no answers")
    with disk.open("r+b") as file:
        if disk.suffix == ".qcow2":
            file.seek(1 << 20)  # behind what makes it one
        file.write(MARK)
        if disk.suffix == ".raw":
            file.seek(disk.stat().st_size - len(MARK))
            file.write(MARK)
    if behave == "fails":
        ask("stage/failed")
        say("installer: it did not work")
    while behave in ("sleeps", "fails"):
        time.sleep(1)
    if behave != "mute":
        ask("stage/installed")


def _found(pattern: str, line: str) -> str:
    found = re.search(pattern, line)
    assert found is not None, f"{pattern}: {line}"
    return found[1]


if __name__ == "__main__":
    main(sys.argv[1:])
