"""A remote command on our own stdin, stdout and stderr, and a person at a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshd import PROGRAM, USER, Sshd, sshd
from waiting import LONG

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


ATTACH = """
import asyncio, sys
from pathlib import Path
from nestlab.wire import interactive, ssh
async def main():
    there = await ssh.connect("127.0.0.1", {port}, user={user!r}, key=Path({key!r}), host_key={host_key!r})
    status = await interactive.attach(there, sys.argv[2:], pty=sys.argv[1] == "pty", harmless=sys.argv[1] == "exec")
    await there.close()
    return status
sys.exit(asyncio.run(main()))
"""


def attach(server: Sshd, *argv: str) -> list[str]:
    values = {"port": server.port, "user": USER, "key": str(server.key), "host_key": server.host.public}
    return [sys.executable, "-c", ATTACH.format(**values), *argv]


def test_a_command_on_our_own_pipes(server: Sshd) -> None:
    argv = attach(server, "pipe", "sh", "-c", "cat; echo err >&2; exit 5")
    result = subprocess.run(argv, input=b"x" * 3000000, capture_output=True, check=False)
    assert (result.returncode, len(result.stdout), result.stderr) == (5, 3000000, b"err\n")


def test_a_command_whose_reader_goes_away_ends(server: Sshd) -> None:
    argv = attach(server, "pipe", "yes")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"y\ny\n"
        process.stdout.close()
        assert process.wait(timeout=LONG) == 141


def test_a_command_whose_output_has_no_room_ends_with_an_error(server: Sshd) -> None:
    with Path("/dev/full").open("wb") as full:
        argv = attach(server, "pipe", "yes")
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False)
    assert b"stdout cannot be written: No space left on device" in result.stderr


EVIL = r"printf '\033]0;title\007\033[31mred\302\2336n\342\200\256\n10%%\r20%%\n'"


def test_what_exec_prints_goes_to_a_pipe_as_it_is(server: Sshd) -> None:
    argv = attach(server, "exec", "sh", "-c", EVIL)
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert result.stdout == b"\x1b]0;title\x07\x1b[31mred\xc2\x9b6n\xe2\x80\xae\n10%\r20%\n"


def test_what_exec_prints_does_nothing_to_a_terminal(server: Sshd) -> None:
    ours, theirs = pty.openpty()
    argv = attach(server, "exec", "sh", "-c", f"{EVIL}; {EVIL} >&2; printf end")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(ours, 1 << 16):
                said += data
        assert process.wait(timeout=LONG) == 0
    os.close(ours)
    lines = said.decode().replace("\r\n", "\n").split("\n")
    assert (
        sum(line.endswith("\\x1b]0;title\\x07\\x1b[31mred\\x9b6n\\u202e") for line in lines) == 2
    )  # stderr comes beside stdout
    assert "10%" in lines
    assert not {"\x1b", "\r", "\x9b", "\u202e"} & set("".join(lines))


gives_terminals = pytest.mark.skipif(os.getuid() != 0, reason="only root's sshd can hand over a terminal everywhere")


class Terminal:
    """A process on a terminal of 100 columns and 30 lines."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.resize(30, 100)
        self.said = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def until(self, mark: bytes) -> bytes:
        deadline = time.monotonic() + LONG
        while mark not in self.said and time.monotonic() < deadline:
            if select.select([self.fd], [], [], 1)[0]:
                self.said += os.read(self.fd, 65536)
        before, found, self.said = self.said.partition(mark)
        assert found, before
        return before

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def status(self) -> int:
        with contextlib.suppress(OSError):
            while os.read(self.fd, 65536):
                pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


@gives_terminals
def test_a_terminal_there_has_our_size_and_follows_it(server: Sshd) -> None:
    script = "stty size; trap 'stty size; echo changed' WINCH; echo ready; while :; do sleep 0.1; done"
    terminal = Terminal(attach(server, "pty", "sh", "-c", script))
    terminal.until(b"ready")
    terminal.resize(40, 120)
    os.kill(terminal.pid, signal.SIGWINCH)
    assert b"40 120" in terminal.until(b"changed")
    terminal.type(b"\x03")
    assert terminal.status() == 130


@gives_terminals
def test_a_login_shell_echoes_and_ends_with_its_status(server: Sshd) -> None:
    terminal = Terminal(attach(server, "pty"))
    terminal.type(b"PS1=; echo $((40 + 2))\r")
    terminal.until(b"42\r\n")
    terminal.type(b"exit 9\r")
    assert terminal.status() == 9


@gives_terminals
def test_the_way_out_works_when_nothing_else_does(server: Sshd) -> None:
    terminal = Terminal(attach(server, "pty", "sh", "-c", "stty raw -echo; echo ready; exec cat >/dev/null"))
    terminal.until(b"ready")
    terminal.type(b"\r~.")
    assert terminal.status() == 255
