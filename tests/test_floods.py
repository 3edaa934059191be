"""Those who say too much, too slowly or never enough: commands here and by ssh, and servers of HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import leaks
from https_scripted import Answer, Asked, Server, certificate, data, serving
from nestlab.base.errors import LabError
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import inside
from nestlab.network import switch_control
from nestlab.network.switch import CONTROL
from nestlab.wire import command_streams, proc, result
from nestlab.wire.pve import console, https, tasks
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.errors import PveError
from nestlab.wire.pve.retries import Lost, Patience
from nestlab.wire.pve.trust import Trust
from nestlab.wire.shapes import Odd
from pve_door import QUICK, TOKEN, UPID
from sshd import PROGRAM, USER, sshd

# -- commands


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    with contextlib.ExitStack() as stack:
        found: Any = LocalHost()
        if request.param == "ssh":
            if PROGRAM is None:
                pytest.skip("needs an sshd")
            server = stack.enter_context(sshd(tmp_path))
            found = inside(found, "hv1", server.port, user=USER, key=server.key, host_key=server.host.public)
        yield found
        await found.close()


async def test_a_command_that_says_too_much_is_ended_and_told(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_streams, "MOST", 3 << 20)
    with pytest.raises(LabError, match=r"`cat /dev/zero` said more than 3 MiB.*was ended"):
        await host.run(["cat", "/dev/zero"])
    assert (await host.run(["head", "-c", "3000000", "/dev/zero"])).stdout == bytes(3000000)


async def test_of_an_endless_stderr_the_end_is_kept(host: Any) -> None:
    script = "head -c 9000000 /dev/zero >&2; echo the end >&2; exit 3"
    found = await host.run(["sh", "-c", script], check=False)
    assert found.status == 3
    assert len(found.stderr) <= command_streams.STDERR
    assert found.stderr.endswith(b"the end\n")


async def test_a_line_without_end_comes_in_pieces(host: Any) -> None:
    async with host.lines(["sh", "-c", "head -c 9000000 /dev/zero; echo; echo next"]) as lines:
        found = [line async for line in lines]
    assert max(map(len, found)) <= result.LINE + command_streams.HIGH + (1 << 20)
    assert b"".join(found) == bytes(9000000) + b"next"
    assert found[-1] == b"next"


async def test_a_flood_that_nobody_waits_for_is_held_back() -> None:
    with leaks.none():
        async with proc.start(["cat", "/dev/zero"]) as running:
            async for chunk in running.chunks():
                assert len(chunk) <= command_streams.HIGH + (1 << 18)
                break


# -- HTTPS: what a server sends, byte by byte

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def raw(folder: Path, talk: Talk, patience: Patience = QUICK) -> AsyncIterator[Pve]:
    """A client of a server that says what it likes to each request."""
    path, fingerprint = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
            await writer.drain()
        writer.transport.abort() if writer.transport.is_closing() else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with Pve("127.0.0.1", TOKEN, Trust.of(fingerprint), port=port, patience=patience) as pve:
        yield pve
    server.close()


ONCE = Patience(tries=1, first=0.001, most=0.002)


async def flood(writer: asyncio.StreamWriter, data: bytes) -> None:
    while not writer.transport.is_closing():
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)  # drain alone waits for nothing once the connection is lost, so it would not be told


async def test_a_body_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "BODY", 3 << 20)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await flood(writer, b"10000\r\n" + b"[" * 65536 + b"\r\n")

    async with raw(tmp_path, talk) as pve:
        with pytest.raises(Odd, match="odd answer to GET /version: it goes on after 3 MiB"):
            await pve.get("/version")


async def test_a_small_body_that_unfolds_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "BODY", 3 << 20)
    bomb = gzip.compress(bytes(50 << 20))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)

    async with raw(tmp_path, talk) as pve:
        with pytest.raises(Odd, match="goes on after 3 MiB"):
            await pve.get("/version")


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n"],
)
async def test_an_answer_that_drips_must_be_whole_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(https, "ANSWER", 0.5)
    monkeypatch.setattr(https.Https.send, "__defaults__", (None, 0.5))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.transport.is_closing():  # a byte now and then is no answer
            writer.write(b"x" if start != b"HTTP/1.1 100 C\r\n\r\n" else start)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw(tmp_path, talk, ONCE) as pve:
        with pytest.raises(Lost, match="lost before it answered"):
            await pve.get("/version")


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 101 Up\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        OK + b"X: y\r\n" * 100_000 + b"\r\n",
        OK + b"Content-Length: 10\r\n\r\n{",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        OK + b"Set-Cookie: \x00=\xff\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
async def test_what_is_no_http_is_one_message_with_the_server_in_it(tmp_path: Path, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with raw(tmp_path, talk, ONCE) as pve:
        with pytest.raises(LabError) as caught:
            await pve.get("/version")
        assert pve.where in caught.value.what


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_nothing_is_sent_there(tmp_path: Path, status: int) -> None:
    (tmp_path / "other").mkdir()
    async with serving(lambda _: data(None), tmp_path / "other") as thief:

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            place = f"https://127.0.0.1:{thief.port}/api2/json/version"
            writer.write(f"HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

        async with raw(tmp_path, talk, ONCE) as pve:
            with pytest.raises(PveError, match="refused GET /version: Moved"):
                await pve.get("/version")
        assert thief.connections == 0


@pytest.mark.parametrize("status", [201, 204, 299, 400, 418, 499, 501, 599, 999])
@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[1]", b'{"message":{"x":[]},"errors":[1]}', b"\xff" * 99])
async def test_whatever_an_error_looks_like_it_is_one_message(tmp_path: Path, status: int, body: bytes) -> None:
    answer = Answer(status, "Reason", body if status != 204 else b"")
    async with opened(tmp_path, lambda _: answer) as (pve, _):
        with pytest.raises(LabError) as caught:
            await pve.get("/version")
        assert pve.where in caught.value.what


def test_an_error_of_a_megabyte_is_shortened() -> None:
    long = "command 'x" + " y" * 500_000
    body = json.dumps({"message": long, "errors": {str(number): long for number in range(1000)}}).encode()
    answer = https.read(500, "Reason", body)
    assert len(answer.message) <= https.MESSAGE
    assert answer.errors is not None
    assert len(answer.errors) == https.ERRORS


async def test_the_log_of_a_task_that_never_ends_is_read_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LINES", 3000)

    def reply(asked: Asked) -> Answer:
        if "/log" in asked.target:
            return data([{"n": 1, "t": "again"}] * tasks.PAGE)
        return data({"status": "stopped", "exitstatus": "it failed"})

    async with opened(tmp_path, reply) as (pve, server):
        with pytest.raises(PveError, match="it failed"):
            await pve.task(UPID)
        assert len(server.asked) < 3000 / tasks.PAGE + 3


async def test_a_websocket_frame_that_is_too_long_ends_the_console(tmp_path: Path) -> None:
    import base64
    import hashlib

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = base64.b64encode(hashlib.sha1(WEBSOCKET + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 Up\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: binary\r\n"
        writer.write(head + b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n")
        writer.write(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"))
        await flood(writer, bytes(65536))

    async with raw(tmp_path, talk) as pve:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiohttp.client.os.urandom", lambda size: base64.b64decode(WEBSOCKET)[:size])
            socket = await pve.websocket("/nodes/x/qemu/1/vncwebsocket", {"port": 5900})
        assert await console._next(socket) == b""
        await socket.close()


WEBSOCKET = b"AAAAAAAAAAAAAAAAAAAAAA=="


@contextlib.asynccontextmanager
async def opened(folder: Path, reply: Callable[[Asked], Answer]) -> AsyncIterator[tuple[Pve, Server]]:
    async with (
        serving(reply, folder) as server,
        Pve("127.0.0.1", TOKEN, Trust.of(server.fingerprint), port=server.port, patience=QUICK) as pve,
    ):
        yield pve, server


async def test_a_login_with_line_breaks_in_it_puts_nothing_into_a_request(tmp_path: Path) -> None:
    from nestlab.wire.pve.login import Password

    evil = {"ticket": "PVE:x", "CSRFPreventionToken": "a\r\nX-Evil: yes"}
    async with serving(lambda _: data(evil), tmp_path) as server:
        login = Password("root@pam", "secret")
        async with Pve("127.0.0.1", login, Trust.of(server.fingerprint), port=server.port, patience=ONCE) as pve:
            with pytest.raises(Odd, match="CSRFPreventionToken"):
                await pve.create("/pools")
        assert len(server.asked) == 1


# -- files that we write, and the lab's switch


def test_a_capture_that_fills_the_disk_is_told_and_ends_with_a_whole_frame(tmp_path: Path) -> None:
    path = tmp_path / "web.pcap"
    code = (
        "import resource, signal; from pathlib import Path; from nestlab.cli.watching import _sink\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))\n"
        f"with _sink(Path({str(path)!r})) as write:\n"
        "    for _ in range(3): write(bytes(1000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "LabError" in done.stderr
    assert "cannot be written" in done.stderr
    assert path.stat().st_size == 2000


@pytest.mark.parametrize(
    "answer",
    [b"\xff\n", b"[]\n", b"{}\n", b'{"ok": true}\n', b'{"ok": 1, "segments": []}\n', b"[" * 100_000 + b"\n",
     b"x" * 99999,
     b'{"ok": true, "lab": "a", "pid": 1, "since": 0, "segments": {"wire": {"ports": [{"macs": 1}]}}}\n',
     b'{"ok": true, "lab": "a", "pid": 1, "since": 0, "segments": {"wire": {"ports": [{"macs": [], "pid": []}]}}}\n'],
    ids=lambda answer: repr(answer[:40]),
)  # fmt: skip
async def test_an_odd_answer_of_a_switch_is_one_message(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_control, "ANSWER", 50_000 if answer.startswith(b"x") else 1 << 20)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        with contextlib.suppress(OSError):
            await writer.drain()
            await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(talk, tmp_path / CONTROL):
        with pytest.raises(Odd, match=r"the switch in .* gave an odd answer to status"):
            await switch_control.status(tmp_path)
