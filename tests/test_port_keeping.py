"""Ports of this computer that lead to a host that ssh reaches, by a process that goes on when nestlab ends: with a real
sshd and a real process."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nestlab.hosts.local import LocalHost
from nestlab.network import port_keeper, port_keeping
from remotes import known_server, needs_sshd, url
from sshd import Sshd
from waiting import LONG, wait_until

pytestmark = needs_sshd


@contextmanager
def saying(word: bytes) -> Iterator[int]:
    """A port of the far host at which something says a word and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(word)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)


def heard(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=LONG) as client:
        return client.recv(100)


@dataclass
class Here:
    server: Sshd
    folder: Path

    async def keep(self, ports: dict[int, int]) -> dict[int, str]:
        return dict(await port_keeping.keep(self.folder, "lab", url(self.server), ports, LocalHost()))

    @property
    def process(self) -> int:
        try:
            return int((self.folder / port_keeper.PID).read_text())
        except FileNotFoundError:
            return 0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    with known_server(tmp_path, monkeypatch) as server:
        folder = tmp_path / "lab"
        folder.mkdir()
        found = Here(server, folder)
        yield found
        (folder / port_keeper.WANTED).unlink(missing_ok=True)
        wait_until(lambda: found.process == 0)


def free() -> int:
    return port_keeping.any_port(0)


async def test_a_port_leads_there_until_nothing_is_wanted_any_more_and_then_no_process_is_left(here: Here) -> None:
    with saying(b"one") as one, saying(b"two") as two:
        first, second = free(), free()
        assert await here.keep({first: one}) == {}
        assert heard(first) == b"one"
        process = here.process
        assert await here.keep({first: one, second: two}) == {}
        assert (heard(first), heard(second)) == (b"one", b"two")
        assert here.process == process
        assert port_keeping.kept(here.folder) == {first: one, second: two}
        assert await here.keep({}) == {}
        wait_until(lambda: here.process == 0)
        assert port_keeping.kept(here.folder) == {}
    with pytest.raises(OSError):
        heard(first)


async def test_what_stays_keeps_its_connections_and_what_leads_elsewhere_now_does(here: Here) -> None:
    with saying(b"one") as one, saying(b"two") as two, socket.create_server(("127.0.0.1", 0)) as patient:
        moving, staying = free(), free()
        there = patient.getsockname()[1]
        await here.keep({moving: one, staying: there})
        with socket.create_connection(("127.0.0.1", staying), timeout=LONG) as client:
            other, _ = patient.accept()
            await here.keep({moving: two, staying: there})
            assert heard(moving) == b"two"
            other.sendall(b"still here")
            assert client.recv(100) == b"still here"
            other.close()


async def test_a_port_that_is_taken_is_told_with_its_reason_and_the_others_lead_there(here: Here) -> None:
    with saying(b"one") as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken, good = other.getsockname()[1], free()
        refused = await here.keep({taken: one, good: one})
        assert list(refused) == [taken]
        assert "in use" in refused[taken].lower()
        assert heard(good) == b"one"


async def test_a_connection_that_was_lost_is_made_anew_and_a_process_that_was_killed_comes_back(here: Here) -> None:
    with saying(b"one") as one:
        port = free()
        await here.keep({port: one})
        assert heard(port) == b"one"
        for child in here.server.children():
            os.kill(child, 9)
        wait_until(lambda: heard(port) == b"one")
        before = here.process
        os.kill(before, 9)
        wait_until(lambda: not Path(f"/proc/{before}").exists())
        assert await here.keep({port: one}) == {}
        assert here.process not in (0, before)
        assert heard(port) == b"one"


async def test_it_ends_with_the_directory_of_its_lab(here: Here) -> None:
    with saying(b"one") as one:
        await here.keep({free(): one})
    (here.folder / port_keeper.WANTED).unlink()
    wait_until(lambda: here.process == 0)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"host": 1}', '{"host": "x", "token": "t", "ports": [[0, 1]]}'])
def test_what_is_damaged_wants_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / port_keeper.WANTED).write_text(text)
    assert port_keeping.kept(tmp_path) == {}
    (tmp_path / port_keeper.DONE).write_text(text)
    assert port_keeper.done(tmp_path) is None
