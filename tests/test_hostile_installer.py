"""An installer is a stranger's program: whatever it sends to the answer server is refused in silence. It reaches
nothing but what is its, and takes no more than its share of this computer."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from nestlab.install import answer_server, relay, runner
from test_answer_server import Served, served
from waiting import until

EVIL = b"\x1b]0;evil\x07"

REQUESTS: dict[str, bytes] = {
    "a secret that is not ASCII": "GET /caf\u00e9/preseed.cfg".encode(),
    "a secret that is no UTF-8": b"GET /%ff%fe/preseed.cfg",
    "a number that no int is": b"GET /SECRET/command/" + b"9" * 5000,
    "a number of another script": b"GET /SECRET/command/" + "٣".encode(),
    "a stage of escapes": b"GET /SECRET/stage/%1b%5d0;evil%07",
    "no HTTP": EVIL * 10,
    "a method that is none": EVIL + b" /SECRET/preseed.cfg",
    "an address that is none": b"GET http://[::1/SECRET",
    "a URL without end": b"GET /SECRET/" + b"x" * 20_000,
    "half of a surrogate pair": b"GET /SECRET/log/%ed%a0%80",
}


async def _raw(it: Served, head: bytes, body: bytes = b"") -> bytes:
    """What is answered to a request as it is; b"" where the connection is closed."""
    reader, writer = await asyncio.open_unix_connection(it.sockets.plain)
    head = head.replace(b"SECRET", it.secret.encode())
    head = head if b"HTTP/1.1\r\n" in head else head + b" HTTP/1.1\r\nHost: x\r\n"
    try:
        writer.write(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("head", REQUESTS.values(), ids=list(REQUESTS))
async def test_no_request_is_a_crash_or_writes_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    with caplog.at_level(logging.WARNING):
        async with served(tmp_path) as it:
            answer = await _raw(it, head)
            assert not answer.startswith(b"HTTP/1.1 5")
            assert (await it.ask("GET", f"{it.secret}/preseed.cfg"))[0] == 200
            assert all(line.isprintable() for line in (*it.said, *it.server.state.log))
    assert not caplog.records, "what is logged without a handler goes to stderr as it is"
    assert capfd.readouterr() == ("", "")


async def test_no_token_is_a_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path, "proxmox") as it:
        for shown in ("Bearer caf\u00e9".encode(), b"Bearer \xff\xfe", b"Bearer " + b"x" * 8000):
            head = b"POST /SECRET/answer HTTP/1.1\r\nHost: x\r\nAuthorization: " + shown + b"\r\n"
            assert (await _raw(it, head, b"{}")).startswith(b"HTTP/1.1 4")
        assert it.server.state.system == {}
    assert not caplog.records


@pytest.mark.parametrize(
    "event",
    [
        b'{"name": "\\ud800", "description": "\\udfff\\u001b[2J", "event_type": "start"}',
        b'{"name": {"a": 1}}',
        b"1e999",
    ],
)
async def test_no_event_is_a_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture, event: bytes) -> None:
    async with served(tmp_path) as it:
        assert not (await _raw(it, b"POST /SECRET/event", event)).startswith(b"HTTP/1.1 5")
        assert all(line.isprintable() for line in (*it.said, *it.server.state.log))
    assert not caplog.records


async def test_an_installer_that_talks_for_ever_fills_no_journal(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        for number in range(answer_server.SAYINGS + 50):
            it.server._event({"name": "x", "description": f"step {number}", "event_type": "start"})
        assert len(it.said) == answer_server.SAYINGS


# -- the mirror -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _mirror(to: str = "") -> AsyncIterator[tuple[int, list[str]]]:
    """A mirror on this computer, its port, and the paths that it was asked for; `to`: where all of them lead."""
    asked: list[str] = []

    async def packages(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        if to:
            raise web.HTTPFound(to)
        return web.Response(body=b"a package")

    app = web.Application()
    app.router.add_get("/{path:.*}", packages)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    try:
        yield site._server.sockets[0].getsockname()[1], asked  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "path",
    ["debian/../private", "debian/%2e%2e/private", "debian/%252e%252e/private", "debian/x/..%2f..%2fprivate",
     "debian/%2e%2e%2fprivate", "debian//..//private", "debian/x%3f/../../private", "debian/x%23/..%2f..%2fprivate"],
)  # fmt: skip
async def test_an_installer_reaches_nothing_of_a_mirrors_server_but_the_mirror(tmp_path: Path, path: str) -> None:
    async with _mirror() as (port, asked), served(tmp_path, mirror=f"http://127.0.0.1:{port}/debian/") as it:
        await _raw(it, b"GET /" + path.encode())
        for each in asked:
            assert each.startswith("/debian/")
            assert "?" not in each
            assert not {"..", "%2e%2e", "%2E%2E"} & set(each.replace("%2f", "/").replace("%2F", "/").split("/"))


async def test_a_mirror_leads_an_installer_to_nothing_of_this_computer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nestlab.wire import download

    async with _mirror() as (port, secrets):
        async with _mirror(f"http://127.0.0.1:{port}/admin") as (elsewhere, _):
            # The first mirror counts as one on the network, what it leads to as this computer.
            monkeypatch.setattr(download, "is_loopback", lambda url: f":{port}/" in url)
            async with served(tmp_path, mirror=f"http://127.0.0.1:{elsewhere}/debian") as it:
                assert (await it.ask("GET", "debian/pool/x.deb"))[0] == 502
                assert (await it.ask("GET", "debian/dists/trixie/Release"))[0] == 502
        assert secrets == []


async def test_a_mirror_may_lead_to_another_server(tmp_path: Path) -> None:
    async with (
        _mirror() as (port, asked),
        _mirror(f"http://127.0.0.1:{port}/pool/x.deb") as (elsewhere, _),
        served(tmp_path, mirror=f"http://127.0.0.1:{elsewhere}/debian") as it,
    ):
        assert await it.ask("GET", "debian/pool/x.deb") == (200, b"a package")
    assert asked == ["/pool/x.deb"]


# -- its share of this computer ---------------------------------------------------------------------------------------


def _relay(server: Path) -> subprocess.Popen[bytes]:
    words = (sys.executable, "-I", "-S", relay.__file__, str(server))
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_connections_without_end_are_a_bounded_number_of_processes(tmp_path: Path) -> None:
    """QEMU starts a relay for each connection of its guest."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _, writer: held.append(writer), tmp_path / "s")
    relays = [_relay(tmp_path / "s") for _ in range(relay.MOST + 3)]
    try:
        await until(lambda: len(held) == relay.MOST and sum(each.poll() == 1 for each in relays) == 3)
        gone = next(each for each in relays if each.poll() is None)
        gone.send_signal(signal.SIGKILL)
        gone.wait()
        relays.append(_relay(tmp_path / "s"))
        await until(lambda: len(held) == relay.MOST + 1)  # a place is free again, however it was left
    finally:
        for each in relays:
            each.kill()
            each.wait()
        server.close()


def test_a_console_that_never_ends_fills_no_disk(tmp_path: Path) -> None:
    console, errors = tmp_path / "console.log", tmp_path / "qemu.log"
    with console.open("ab") as qemu, errors.open("ab") as said:
        for _ in range(3):
            qemu.write(b"x" * runner.LARGEST)
            said.write(b"x" * runner.LARGEST)
            qemu.write(b"the end")
            qemu.flush()
            said.flush()
            runner.cut(console)
            runner.cut(errors)
    assert console.read_bytes().endswith(b"the end")
    assert console.stat().st_size <= runner.LARGEST
    assert errors.stat().st_size <= runner.LARGEST
    runner.cut(tmp_path / "none")
