"""What tests need to reach a real sshd as a user does, from a home of their own."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.hosts import remote
from nestlab.hosts.ssh import SshHost, at
from sshd import PROGRAM, USER, Sshd, sshd
from waiting import LONG

needs_sshd = pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")


def make_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, with nothing for ssh in it; nor is there in /etc, nor an agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    (tmp_path / "etc").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(remote, "SYSTEM", tmp_path / "etc")
    return folder


@contextlib.contextmanager
def known_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """An sshd that the user, who has such a home, has a key for, and knows. Its folder has a short path, for sockets
    in it."""
    home = make_home(tmp_path, monkeypatch)
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, sshd(Path(folder)) as server:
        give_key(home, server)
        know(home, server)
        yield server


def penalties() -> bool:
    """The sshd keeps out an address with many failed logins, unless told otherwise."""
    assert PROGRAM is not None
    asked = subprocess.run([PROGRAM, "-t", "-f", "/dev/null", "-o", "PerSourcePenalties=no"], capture_output=True)
    return b"Bad configuration option" not in asked.stderr


def put(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def give_key(home: Path, server: Sshd) -> Path:
    return put(home / ".ssh" / "id_ed25519", server.client.private)


def know(home: Path, server: Sshd, public: str = "", *, name: str = "", mark: str = "") -> Path:
    line = f"{mark}{name or f'[127.0.0.1]:{server.port}'} {public or server.host.public}\n"
    return put(home / ".ssh" / "known_hosts", line)


def url(server: Sshd) -> str:
    return f"ssh://{USER}@127.0.0.1:{server.port}"


class Asked(list[str]):
    """Keeps the questions, and answers them."""

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self.answer = answer

    def __call__(self, question: str) -> bool:
        self.append(question)
        return self.answer


@contextlib.asynccontextmanager
async def reached(address: str, ask: remote.Ask | None = None, timeout: float = 30.0) -> AsyncIterator[SshHost]:
    host = at(address, ask=ask, timeout=timeout)
    try:
        await host.connect()
        yield host
    finally:
        await host.close()


async def failure(address: str, ask: remote.Ask | None = None, timeout: float = 30.0) -> LabError:
    """What is said when it is not reached."""
    with pytest.raises(LabError) as caught:
        async with reached(address, ask, timeout):
            pass
    return caught.value


def keygen(*options: str) -> str:
    return subprocess.run(
        ["ssh-keygen", "-q", *options], check=True, capture_output=True, text=True, timeout=LONG
    ).stdout


def generate(path: Path, kind: str, *options: str) -> Path:
    """Make a key with ssh-keygen; the file of its public key."""
    keygen("-t", kind, "-N", "", "-C", path.name, *options, "-f", str(path))
    return path.with_name(path.name + ".pub")
