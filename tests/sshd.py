"""A real OpenSSH sshd on 127.0.0.1 and a free port, run by the current user in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nestlab.home import key_pairs
from nestlab.wire import ssh
from waiting import LONG

PROGRAM = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
USER = pwd.getpwuid(os.getuid()).pw_name


@dataclass
class Sshd:
    folder: Path
    port: int
    host: key_pairs.KeyPair
    client: key_pairs.KeyPair
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    async def connect(
        self, *, host_key: str = "", key: Path | None = None, tunnel: ssh.Connection | None = None, user: str = USER
    ) -> ssh.Connection:
        return await ssh.connect(
            "127.0.0.1",
            self.port,
            user=user,
            key=key or self.key,
            host_key=host_key or self.host.public,
            tunnel=tunnel,
            where="hv1",
        )

    def children(self) -> list[int]:
        """Its descendants: one or two processes per connection, and what runs in them."""
        parents: dict[int, list[int]] = {}
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
                    parents.setdefault(parent, []).append(int(each.name))
        found, waiting = [], [self.process.pid]
        while waiting:
            found += (of := parents.get(waiting.pop(), []))
            waiting += of
        return found

    def kill_connections(self) -> None:
        """Drop every connection, and what runs in it, at once: nothing sees another end. The server goes on."""
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in self.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


@contextlib.contextmanager
def sshd(folder: Path, *lines: str) -> Iterator[Sshd]:
    """Run it, with `lines` added to its configuration."""
    assert PROGRAM is not None
    host, client = key_pairs.generate("host"), key_pairs.generate("client")
    _secret(folder / "host", host.private)
    _secret(folder / "id_ed25519", client.private)
    _secret(folder / "authorized_keys", client.public + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # OpenSSH insists on it for privilege separation
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = [
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        f"SetEnv HOME={folder}",  # the user's .bashrc is none of a test's business
        *lines,
    ]
    _secret(folder / "config", "\n".join(options) + "\n")
    with (folder / "log").open("wb") as log:
        argv = [PROGRAM, "-D", "-e", "-f", str(folder / "config")]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    server = Sshd(folder, port, host, client, process)
    try:
        _until_listening(server)
        yield server
    finally:
        server.kill_connections()
        process.kill()
        process.wait()


def _until_listening(server: Sshd) -> None:
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
            return
        time.sleep(0.01)
    sys.stderr.write((server.folder / "log").read_text())
    raise AssertionError("sshd did not start")


def _secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
