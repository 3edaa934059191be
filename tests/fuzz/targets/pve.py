"""What a Proxmox VE answers to all that nestlab asks of it, through the real client and a connection.

`seeds/pve.json` holds what the pretended one answers; `PYTHONPATH=tests python -m fuzz.targets.pve` records it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from yarl import URL

from fuzz import clock, mutate
from fuzz.pve_asked import ASKED, Answers, Asking
from nestlab.wire.pve import https
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.login import Password, Token
from nestlab.wire.pve.retries import Patience
from nestlab.wire.pve.trust import Trust

SEEDS = Path(__file__).parent.parent / "seeds" / "pve.json"

QUICK = Patience(tries=2, first=0.001, most=0.002, away=20)

MOST = 900.0
"""Seconds (none of which are waited) after which whoever still asks is not taken to end."""

PATIENT = ("up", "down")
"""What waits as long as a task goes on that it began, which a person may end."""

STATUSES = (200, 200, 204, 301, 400, 401, 403, 404, 500, 500, 501, 503, 595, 596, 599, 999)

SAID = (
    "no such VM ('100')", "VM 100 not running", "QEMU guest agent is not running", "got lock request timeout",
    "Permission check failed (/vms/100, VM.Audit|VM.Console)", "Permission check failed", "VM is locked (backup)",
    "Parameter verification failed.\nvmid: x", "can't lock file '/var/lock/x' - got timeout", "already exists",
    "cfs-lock 'x' error: no quorum!", "hostname lookup 'x' failed", "detected modified configuration", "Agent error: x",
    "command '/usr/bin/kvm -id 100 " + "x" * 300 + "' failed: exit code 1", "proxy handler failed", "",
)  # fmt: skip

KEYS = (
    "data", "errors", "message", "status", "exitstatus", "vmid", "node", "type", "storage", "config", "result", "pid",
    "exited", "out-data", "tags", "description", "digest", "t", "n", "value", "key", "pending", "content",
)  # fmt: skip

_AGENT = "/nodes/pve1/qemu/100/agent"
AGENT: Answers = {
    f"POST {_AGENT}/ping": [[200, "OK", '{"data":{"result":{}}}']],
    f"POST {_AGENT}/exec": [[200, "OK", '{"data":{"pid":77}}']],
    f"GET {_AGENT}/exec-status": [
        [200, "OK", '{"data":{"exited":0}}'],
        [200, "OK", '{"data":{"exited":1,"exitcode":0,"out-data":"/run/nestlab-in.x\\n","err-data":"oops"}}'],
    ],
    f"GET {_AGENT}/network-get-interfaces": [
        [
            200,
            "OK",
            '{"data":{"result":[{"name":"lo","hardware-address":"00:00:00:00:00:00"},{"name":"eth0","hardware-address":'
            '"52:54:00:00:00:01","ip-addresses":[{"ip-address":"10.0.0.2","ip-address-type":"ipv4","prefix":24}]}]}}',
        ]
    ],
    f"GET {_AGENT}/file-read": [[200, "OK", '{"data":{"content":"hv1\\n"}}']],
}
"""What a guest agent answers, which the pretended one has none of."""

WAYS = ("", "", "", "cut", "close", "noise", "chunked", "endless")
"""How an answer is sent: whole, cut off, not at all, as something else than HTTP, in odd chunks, or as 40 MiB."""


class Fuzzed:
    """See `fuzz.target.Target`. A case is JSON: what is asked, and answers in the place of recorded ones, by method
    and path: status, reason, body, and how it is sent."""

    def __init__(self) -> None:
        self._seeds: dict[str, Answers] = json.loads(SEEDS.read_text())
        self._loop = clock.Runner()

    def close(self) -> None:
        self._loop.close()

    # -- making

    def make(self, rng: Random) -> bytes:
        asked = rng.choice(list(self._seeds))
        known = self._seeds[asked]
        odd: dict[str, list[list[Any]]] = {}
        for path in rng.sample(sorted(known), min(len(known), rng.choice((0, 1, 1, 1, 2, 4)))):
            rows = [list(row) for row in known[path]]
            at = rng.randrange(len(rows))
            rows[at] = self._answer(rng, rows[at])
            odd[path] = rows[: at + 1] if rng.random() < 0.5 else rows
        ticket = rng.random() < 0.1
        return json.dumps({"ask": asked, "ticket": ticket, "answers": odd}).encode()

    def _answer(self, rng: Random, row: list[Any]) -> list[Any]:
        status, reason, body = row[:3]
        deed = rng.randrange(10)
        if deed < 6:
            with contextlib.suppress(ValueError, RecursionError):
                body = mutate.json_text(rng, mutate.tree(rng, json.loads(body), KEYS))
        elif deed == 6:
            status, reason = rng.choice(STATUSES), rng.choice((*SAID, *mutate.TEXTS))
            said = {"data": None, "message": f"{rng.choice(SAID)}\n", "errors": rng.choice((None, {"vmid": "x"}, [1]))}
            body = mutate.json_text(rng, said)
        elif deed == 7:
            body = mutate.octets(rng, body.encode()).decode(errors="replace")
        else:
            return [status, reason, body, rng.choice(WAYS)]
        return [status, reason, body, ""]

    # -- running

    def run(self, case: bytes, place: Path) -> str:
        try:
            given = json.loads(case)
            known, asking = self._seeds[given["ask"]], ASKED[given["ask"]]
            answers = {**known, **{str(path): list(rows) for path, rows in given["answers"].items()}}
        except (ValueError, KeyError, TypeError, AttributeError):
            return "nothing asked"
        try:
            self._loop.run(_asked(asking, answers, place, ticket=bool(given.get("ticket"))), MOST)
        except clock.Waits:
            if given["ask"] not in PATIENT:
                raise
            return f"{given['ask']}: waits on"
        return str(given["ask"])


async def _asked(asking: Asking, answers: Answers, place: Path, *, ticket: bool) -> None:
    """Ask a Proxmox VE that answers so, on a unix socket."""
    socket = str(place / "s")
    server = await asyncio.start_unix_server(_Server(answers).serve, socket, limit=1 << 20)
    login = Password("root@pam", "secret") if ticket else Token.of("root@pam!lab=secret")
    api = Client("pve.test", login, Trust(pins=(bytes(32),)), patience=QUICK)
    connector = aiohttp.TCPConnector
    try:
        aiohttp.TCPConnector = lambda **rest: aiohttp.UnixConnector(socket, limit=rest["limit"])  # type: ignore[misc, assignment]
        https.Https._url = lambda self, path: URL(f"http://pve.test{path}", encoded=True)  # type: ignore[method-assign]
        await asking(api, place)
    finally:
        aiohttp.TCPConnector = connector  # type: ignore[misc]
        await api.close()
        server.close()


def _key(asked: str) -> str:
    """What is asked, without what is different every time."""
    return re.sub(r"[0-9a-f]{8}(?=\.qcow2)", "*", asked)


class _Server:
    """Answers by method and path, each as often as it is told, the last one ever after."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._at: dict[str, int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError, IndexError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(headers.get("content-length", 0)))
        key = _key(f"{method} {path.partition('?')[0].removeprefix('/api2/json')}")
        rows = self._answers.get(key) or [[501, "not known", '{"data":null}']]
        at = self._at.get(key, 0)
        self._at[key] = at + 1
        status, reason, body, way = [*rows[min(at, len(rows) - 1)], "", "", "", ""][:4]
        return await _sent(writer, status, str(reason), str(body).encode(errors="surrogatepass"), way)


async def _sent(writer: asyncio.StreamWriter, status: Any, reason: str, body: bytes, way: str) -> bool:
    """Send an answer; whether another may follow."""
    line = reason.encode("latin-1", "replace").replace(b"\r", b"").replace(b"\n", b" ")
    head = f"HTTP/1.1 {status} ".encode() + line + b"\r\nContent-Type: application/json\r\n"
    match way:
        case "close":
            return False
        case "noise":
            writer.write(body + b"\r\n\r\n")
        case "chunked":
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + body[:5] + b"\r\nffffffffff\r\n" + body)
        case "cut":
            writer.write(head + f"Content-Length: {len(body) + 10}\r\n\r\n".encode() + body)
        case "endless":
            writer.write(head + b"Connection: close\r\n\r\n")
            for _ in range(40):
                writer.write(b" " * (1 << 20))
                await writer.drain()
        case _:
            writer.write(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            return True
    await writer.drain()
    return False


# -- recording


@contextlib.contextmanager
def _kept(into: Answers) -> Iterator[None]:
    """Keeps what is answered meanwhile."""
    usual = https.Https._body

    async def body(self: https.Https, response: Any, asked: str) -> bytes:
        content = await usual(self, response, asked)
        key = _key(asked.replace(" /api2/json", " ", 1))
        into.setdefault(key, []).append([response.status, response.reason or "", content.decode()])
        return content

    https.Https._body = body  # type: ignore[method-assign]
    try:
        yield
    finally:
        https.Https._body = usual  # type: ignore[method-assign]


async def _recorded() -> dict[str, Answers]:
    """What the pretended Proxmox VE answers: a lab comes up, is looked at, and goes down."""
    from pve_lab import client, cluster

    found: dict[str, Answers] = {}
    order = ("checked", "planned", "images", "up", "observe", "glance", "platform", "check", "agent", "down")
    with cluster("pve1", "pve2") as pve:
        for name in order:
            login = (pve.user, pve.password) if name == "checked" else None
            api = client(pve)
            if login:
                api = Client("127.0.0.1", Password(*login), Trust.of(pve.fingerprint), port=pve.port)
            with tempfile.TemporaryDirectory() as place, _kept(found.setdefault(name, {})):
                try:
                    await ASKED[name](api, Path(place))
                except Exception as error:
                    print(f"{name}: {error}", file=sys.stderr)
            await api.close()
    found["agent"].update(AGENT)
    login_row = next((rows for path, rows in found["checked"].items() if path.endswith("/access/ticket")), [])
    for answers in found.values():
        answers.setdefault("POST /access/ticket", login_row)
    return found


if __name__ == "__main__":
    SEEDS.write_text(json.dumps(asyncio.run(_recorded()), indent=1, sort_keys=True) + "\n")
