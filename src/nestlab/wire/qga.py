"""The guest agent (qemu-guest-agent) on the unix socket of its virtio-serial port. Synchronous and light.

The port has no connections: whoever opens the socket may read the rest of what was said to somebody before. Hence each
conversation starts with guest-sync-delimited, whose answer follows a byte 0xFF that JSON never has.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire import shapes
from nestlab.wire.jsonlines import Lines
from nestlab.wire.result import Result, show

DELIMITER = b"\xff"
SAID = 2000
"""Characters of an error of the agent's that are told."""
POLL = 0.01
"""Seconds until the first question whether a command has ended; each time half as many more, up to half a second."""


def _base64(value: Any) -> str:
    found = shapes.text(value)
    try:
        base64.b64decode(found, validate=True)
    except ValueError:
        raise shapes.Unfit("is not base64") from None
    return found


_ERROR = shapes.record({}, desc=shapes.text)
_ANSWERS: dict[str, shapes.Reader[Any]] = {
    "guest-exec": shapes.record({"pid": shapes.count}),
    "guest-exec-status": shapes.record(
        {"exited": shapes.flag}, signal=shapes.status, exitcode=shapes.status, out_data=_base64, err_data=_base64
    ),
}
"""What is read of an answer, by command: the guest says it, and the guest may be hostile."""


class Agent:
    """A conversation with the agent of a guest, to be over within `timeout` seconds. `where` names it in errors.

    Unreachable when nobody answers (the agent may not run yet), LabError when it refuses a command."""

    def __init__(self, path: str, *, timeout: float = 10.0, where: str = "", first: object = None) -> None:
        """`first`: a message that is sent with the greeting; its answer is the next."""
        self._where = where or path
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        try:
            self._lines = Lines(path, timeout)
        except OSError as error:
            raise self._gone(error) from error
        try:
            self._synchronise(*(() if first is None else (first,)))
        except BaseException:
            self._lines.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.__exit__(kind, error, at)

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run an agent command; an underscore in the name of an argument stands for a dash. Its return value."""
        try:
            self._lines.write(_message(command, arguments))
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        return self.answer(command)

    def answer(self, command: str) -> Any:
        """The return value of a command that was sent."""
        who = f"The agent of {self._where}"
        try:
            reply = self._lines.read()
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        if "error" in reply:
            said = shapes.read(reply["error"], _ERROR, who, command).get("desc", "")
            what = f"{who} refused {command}: {said[:SAID]}"
            raise LabError(what, hint="Its version may not know it, or forbid it (block-rpcs in qemu-ga.conf).")
        return shapes.read(reply.get("return"), _ANSWERS.get(command, shapes.anything), who, command)

    def run(self, argv: Sequence[str], *, input: bytes | None = None) -> Result:
        """Run a command in the guest to its end (guest-exec; the agent keeps at most 16 MiB of its output).
        LabError if it goes on for longer than this conversation may."""
        return self.ended(argv, self.execute("guest-exec", **_arguments(argv, input))["pid"])

    def ended(self, argv: Sequence[str], pid: int) -> Result:
        """What came of a command that guest-exec started."""
        pause = POLL
        while time.monotonic() + pause <= self._deadline:
            time.sleep(pause)
            try:
                status = self.execute("guest-exec-status", pid=pid)
            except Unreachable:
                if pause > POLL and time.monotonic() >= self._deadline:
                    break  # it has answered until now
                raise
            if status["exited"]:
                return _result(argv, status)
            pause = min(1.5 * pause, 0.5)
        what = f"`{show(argv)}` did not end within {self._timeout:g} s in {self._where}, and goes on there."
        raise LabError(what, hint="Give it more time.")

    def shutdown(self) -> None:
        """Shut the guest down. (It gives no answer.)"""
        try:
            self._lines.write({"execute": "guest-shutdown"})
        except OSError as error:
            raise self._gone(error) from error

    def _synchronise(self, *also: object) -> None:
        number = int.from_bytes(os.urandom(4), "big")
        message = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        try:
            # A delimiter sent first makes the agent forget the half of a message that somebody left.
            self._lines.write(message, *also, before=DELIMITER)
            while True:
                self._lines.until(DELIMITER)
                if self._lines.read().get("return") == number:
                    return
        except (OSError, ValueError) as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> Unreachable:
        cause = str(error) or type(error).__name__
        what = f"The agent of {self._where} does not answer: {cause}."
        return Unreachable(what, hint="Does qemu-guest-agent run in it?")


def _result(argv: Sequence[str], status: dict[str, Any]) -> Result:
    code = 128 + status["signal"] if "signal" in status else status.get("exitcode", 0)
    out, err = (base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
    return Result(tuple(argv), code, out, err)


def look(path: str, argv: Sequence[str], *, timeout: float, where: str = "") -> Result:
    """Run a command that changes nothing, so that it may run later too, or twice: it is sent with the greeting, which
    saves a round trip (25 ms with an emulated guest). Errors as in `Agent`."""
    message = _message("guest-exec", _arguments(argv, None))
    with Agent(path, timeout=timeout, where=where, first=message) as agent:
        return agent.ended(argv, agent.answer("guest-exec")["pid"])


def _message(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if not arguments:
        return {"execute": command}
    return {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}


def _arguments(argv: Sequence[str], input: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture_output": True}
    return found if input is None else {**found, "input_data": base64.b64encode(input).decode()}
