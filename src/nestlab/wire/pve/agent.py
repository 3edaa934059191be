"""The guest agent (qemu-guest-agent) through the Proxmox VE API: commands, files, addresses.

PVE asks the agent to answer a ping before anything else, for 3 s; what it refuses then was not begun. What is not
ASCII goes as base64: PVE hands its agent JSON that is not encoded (QMPClient.pm, to_json), and pvesh would read it in
the node's encoding. Over pvesh all of it is on command lines of the node, for everybody there to see: no secrets. The
privileges: VM.GuestAgent.Unrestricted, on PVE 8 VM.Monitor.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.wire import shell
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import NodeUnreachable, PveError, refusal
from nestlab.wire.pve.retries import Unsent
from nestlab.wire.result import Result, failure, show, too_slow
from nestlab.wire.shapes import odd

T = TypeVar("T")

INPUT = 48 << 10
"""Bytes that a command is given on stdin in one request. (maxLength of `input-data` is 64 KiB; but that is all that
pveproxy took of a whole request before PVE 8.4.)"""

CONTENT = 45 << 10
"""Bytes that one request writes to a file: 60 KiB as base64 (maxLength of `content`)."""

SILENCE = 60.0
"""Nominal seconds for which an agent that does not answer is asked again: a guest may be busy with its own."""

STORED = 60.0
"""Nominal seconds for one piece of a command's input to be put into a file in the guest."""

SLOWEST = 2.0
"""Seconds between two questions whether a command has ended, at most."""

_SILENT = re.compile(r"QEMU guest agent is not running|guest-ping' failed - got timeout|unable to connect to .* socket")
_STOPPED = re.compile(r"VM \d+ (?:is )?not running")
_LOST = re.compile(r"q(?:ga|mp) command '[\w-]+' failed - ")
"""Between PVE and the agent: a timeout, a connection that was closed, somebody else's answer. (What the agent itself
refuses comes as `Agent error: …`.)"""

_FORGOTTEN = re.compile(r"Invalid parameter 'pid'|PID \d+ does not exist")
_NO_PROGRAM = re.compile(r"Failed to execute child process")
_DISABLED = re.compile(r"command guest-\S+ has (?:been disabled|not been found)|command is not allowed", re.IGNORECASE)

_KEEP = (
    'umask 077; f=$(mktemp /run/nestlab-in.XXXXXX 2>/dev/null || mktemp) && base64 -d >"$f" && echo "$f" || '
    '{ rm -f -- "$f"; exit 1; }'
)
_KEPT = re.compile(r"/[\w./-]{1,200}")
_ADD = 'base64 -d >>"$1"'
_DECODE = 'eval "$(echo "$1" | base64 -d)"'
_FEED = 'exec 3<"$1" && rm -f -- "$1" && shift && exec "$@" <&3 3<&-'


def pause(waited: float, first: float = 0.05, most: float = SLOWEST) -> float:
    """Seconds until the next question after so many without an answer: a tenth of them, so that what happens is
    noticed a tenth late."""
    return min(most, max(first, waited / 10))


class Agent:
    """The agent of one machine. `where` names the machine in errors. Every method may be called concurrently.

    Unreachable when it does not answer, though it was asked for `silence` seconds; PveError when PVE refuses."""

    def __init__(self, api: Api, node: str, vmid: int, where: str = "", *, silence: float = SILENCE) -> None:
        self._api = api
        self._base = f"/nodes/{node}/qemu/{vmid}/agent"
        self._vmid = vmid
        self._silence = patience.allowed(silence)
        self.where = where or f"VM {vmid}"

    async def wait(self, timeout: float, alive: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Until it answers. Unreachable when it has not within `timeout` seconds, or when the machine stopped: which
        PVE says, or `alive`, asked now and then. LabError when it never will."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(timeout):
                while not await self._answers():
                    if alive is not None and not await alive():
                        raise self._stopped()
                    await asyncio.sleep(pause(loop.time() - begun, 0.2))
        except TimeoutError:
            what = f"The guest agent of {self.where} did not answer within {patience.said(timeout)}."
            hint = "Its console tells how far it came (nestlab console). Does qemu-guest-agent run in it?"
            raise Unreachable(what, hint=hint) from None

    async def run(
        self, argv: Sequence[str], *, input: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> Result:
        """Run a command to its end, as root. See `host.Host.run`; there is no more than 16 MiB of its output, and after
        `timeout` seconds the command alone is ended, not what it started."""
        result = await self._run(argv, input, timeout)
        if check and result.status != 0:
            raise failure(result, f" on {self.where}")
        return result

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """See `host.Host.write`."""
        await self.run(["sh", "-c", shell.store(path, len(data), mode)], input=data)

    async def place(self, path: str, data: bytes) -> None:
        """Write at most CONTENT bytes over a file, which is made with the agent's umask: not atomically, and in one
        request. It may be repeated."""
        assert len(data) <= CONTENT
        params: dict[str, Any] = {"file": path, "content": base64.b64encode(data).decode(), "encode": 0}
        await self._patiently(lambda: self._api.create(f"{self._base}/file-write", params), again=True)

    async def text(self, path: str) -> str:
        """The content of a file of ASCII text, in one request; PVE cuts it at 16 MiB."""
        answer = await self._patiently(lambda: self._api.get(f"{self._base}/file-read", {"file": path}), again=True)
        return str(answer.get("content", ""))

    async def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """By MAC address (`52:54:00:…`, lower case), the addresses that reach each card: none of loopback or link-local
        ones."""
        path = f"{self._base}/network-get-interfaces"
        answer = await self._patiently(lambda: self._api.get(path), again=True)
        cards = answer.get("result", ())
        if isinstance(cards, Mapping):  # PVE passes the agent's refusal on as if it were an answer
            told = cards.get("error", {}).get("desc")
            raise self._told(refusal(self._api.where, f"GET {path}", 500, f"Agent error: {told}"))
        found: dict[str, tuple[str, ...]] = {}
        for card in cards:
            mac = str(card.get("hardware-address", "")).lower()
            if mac and mac != "00:00:00:00:00:00":
                texts = (str(each.get("ip-address")) for each in card.get("ip-addresses", ()))
                found[mac] = (*found.get(mac, ()), *filter(_reaches, texts))
        return found

    async def start(self, argv: Sequence[str], input: bytes | None = None) -> int:
        """Start a command with at most INPUT bytes of ASCII on stdin; the number of its process in the guest. Its
        output is kept there until `ended` has told it."""
        params: dict[str, Any] = {"command": sendable(argv)}
        if input is not None:
            params["input-data"] = input.decode("ascii")
        try:
            answer = await self._patiently(lambda: self._api.create(f"{self._base}/exec", params), again=False)
        except PveError as error:
            if not _NO_PROGRAM.search(error.message):
                raise
            what = f"`{show(argv)}` cannot be run on {self.where}: {error.message}."
            raise LabError(what, hint=f"The program {argv[0]} is probably not installed there.") from error
        return int(answer["pid"])

    async def ended(self, pid: int, argv: Sequence[str]) -> Result | None:
        """The result of a command, given once; None while it runs. Unreachable when that was told, but got lost."""
        ask = {"pid": pid}
        try:
            row = await self._patiently(lambda: self._api.get(f"{self._base}/exec-status", ask), again=True)
        except PveError as error:
            if not _FORGOTTEN.search(error.message):
                raise
            what = f"How `{show(argv)}` ended on {self.where} was told, but got lost on the way."
            raise Unreachable(what, hint="Look whether it was done, and try again.") from error
        if not row["exited"]:
            return None
        if row.get("out-truncated"):
            what = f"`{show(argv)}` on {self.where} said more than the agent keeps (16 MiB)."
            raise LabError(what, hint="Write it to a file there and copy that.")
        status = 128 + row["signal"] if row.get("signal") else row.get("exitcode", 0)
        out, err = (_bytes(row.get(name, "")) for name in ("out-data", "err-data"))
        return Result(tuple(argv), status, out, err)

    async def _run(self, argv: Sequence[str], input: bytes | None, timeout: float | None) -> Result:
        if input is None or (len(input) <= INPUT and input.isascii() and b"\0" not in input):
            return await self._finish(argv, argv, input, timeout)
        kept = await self._keep(input)
        try:
            return await self._finish(argv, ["sh", "-c", _FEED, "sh", kept, *argv], None, timeout)
        except LabError:
            with contextlib.suppress(LabError):
                await self.start(["rm", "-f", "--", kept])
            raise

    async def _keep(self, data: bytes) -> str:
        """Put data into a new file of root's alone; its path."""
        size, limit = INPUT // 4 * 3, patience.allowed(STORED)
        first, *rest = [base64.b64encode(data[at : at + size]) for at in range(0, len(data), size)]
        keep = ["sh", "-c", _KEEP]
        made = await self._finish(keep, keep, first, limit)
        if made.status != 0:
            raise failure(made, f" on {self.where}")
        path = made.text.strip()
        if not _KEPT.fullmatch(path):
            raise odd(f"the guest agent of {self.where}", "what a new file is called", "it is no path")
        for chunk in rest:
            add = ["sh", "-c", _ADD, "sh", path]
            added = await self._finish(add, add, chunk, limit)
            if added.status != 0:
                await self.start(["rm", "-f", "--", path])
                raise failure(added, f" on {self.where}")
        return path

    async def _finish(
        self, argv: Sequence[str], command: Sequence[str], input: bytes | None, timeout: float | None
    ) -> Result:
        """Start `command`, which is told as `argv`, and follow it to its end."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        pid = await self.start(command, input)
        try:
            async with asyncio.timeout_at(None if timeout is None else begun + timeout):
                while True:
                    if (result := await self.ended(pid, argv)) is not None:
                        return result
                    await asyncio.sleep(pause(loop.time() - begun))
        except TimeoutError:
            with contextlib.suppress(LabError):
                await self.start(["kill", str(pid)])
            raise too_slow(argv, f" on {self.where}", timeout or 0) from None

    async def _answers(self) -> bool:
        try:
            await self._api.create(f"{self._base}/ping")
        except PveError as error:
            if _SILENT.search(error.message) or _LOST.search(error.message) or isinstance(error, NodeUnreachable):
                return False
            raise self._told(error) from error
        except Unreachable:  # the node; how long that may last, whoever waits has said
            return False
        return True

    async def _patiently(self, ask: Callable[[], Awaitable[T]], *, again: bool) -> T:
        """Ask; once more and again for a while when the agent was silent before it began, and, where asking twice does
        no harm (`again`), also when the answer got lost."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            try:
                return await ask()
            except LabError as error:
                waited = loop.time() - begun
                if not _repeatable(error, again):
                    raise self._told(error) from error
                if waited > self._silence:
                    raise self._silent(error, waited) from error
            await asyncio.sleep(pause(waited, 0.2))

    def _told(self, error: LabError) -> LabError:
        """What PVE says of a machine without an agent, with what to do."""
        message = error.message if isinstance(error, PveError) else ""
        if _STOPPED.search(message):
            return self._stopped()
        if "No QEMU guest agent configured" in message:
            hint = f"Switch it on (`qm set {self._vmid} --agent 1`), then stop and start it; no reboot does it."
            return LabError(f"{self.where} runs without a port for its guest agent.", hint=hint)
        if _DISABLED.search(message):
            hint = "Allow guest-exec, guest-exec-status, guest-file-* in it: block-rpcs or allow-rpcs of qemu-ga."
            return LabError(f"The guest agent of {self.where} forbids what nestlab needs: {message}.", hint=hint)
        if _SILENT.search(message) or _LOST.search(message):
            return self._silent(error, 0)
        return error

    def _silent(self, error: LabError, waited: float) -> Unreachable:
        lasting = f" for {waited:.0f} s" if waited else ""
        what = f"The guest agent of {self.where} does not answer{lasting}."
        hint = "See its console: does it boot, or is it out of memory? Does qemu-guest-agent run in it?"
        return Unreachable(what, hint=hint, detail=error.what)

    def _stopped(self) -> Unreachable:
        hint = "Its console's last words: nestlab console; what PVE did with it: the machine's task history."
        return Unreachable(f"{self.where} does not run any more.", hint=hint)


def sendable(argv: Sequence[str]) -> list[str]:
    """The same command in ASCII."""
    if all(word.isascii() for word in argv):
        return list(argv)
    line = base64.b64encode(f"exec {shlex.join(argv)}".encode(errors="surrogateescape"))
    return ["sh", "-c", _DECODE, "sh", line.decode()]


def _repeatable(error: LabError, again: bool) -> bool:
    if isinstance(error, PveError):
        if isinstance(error, NodeUnreachable):
            return again or error.status == 595
        return bool(_SILENT.search(error.message)) or (again and bool(_LOST.search(error.message)))
    return isinstance(error, Unsent) or (again and isinstance(error, Unreachable))


def _bytes(text: str) -> bytes:
    """Output of a command: PVE writes each byte as the character of that number."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:  # something on the way (pvesh) took it for UTF-8
        return text.encode(errors="surrogatepass")


def _reaches(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    own = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    # The guest says it: none may be this machine, and what follows a % may be any text.
    return not own and getattr(address, "ipv4_mapped", None) is None and "%" not in text
