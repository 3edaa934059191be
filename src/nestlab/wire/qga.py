"""The guest agent (qemu-guest-agent) on the unix socket of its virtio-serial port. Synchronous and light.

The port has no connections: whoever opens the socket may read the rest of what was said to somebody before. Hence each
conversation starts with guest-sync-delimited, whose answer follows a byte 0xFF that JSON never has.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.jsonlines import Lines
from nestlab.wire.result import Result, show

DELIMITER = b"\xff"
POLL = 0.02
"""Seconds between the first questions whether a command has ended; doubled up to half a second."""


class Agent:
    """A conversation with the agent of a guest, to be over within `timeout` seconds. `where` names it in errors.

    Unreachable when nobody answers (the agent may not run yet), LabError when it refuses a command."""

    def __init__(self, path: str, *, timeout: float = 10.0, where: str = "") -> None:
        self._where = where or path
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        try:
            self._lines = Lines(path, timeout)
        except OSError as error:
            raise self._gone(error) from error
        try:
            self._synchronise()
        except BaseException:
            self._lines.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.__exit__(kind, error, at)

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run an agent command; an underscore in the name of an argument stands for a dash. Its return value."""
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            self._lines.write(message)
            reply = self._lines.read()
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        if "error" in reply:
            what = f"The agent of {self._where} refused {command}: {reply['error'].get('desc', '')}"
            raise LabError(what, hint="Its version may not know it, or forbid it (block-rpcs in qemu-ga.conf).")
        return reply.get("return")

    def run(self, argv: Sequence[str], *, input: bytes | None = None) -> Result:
        """Run a command in the guest to its end (guest-exec; the agent keeps at most 16 MiB of its output).
        LabError if it goes on for longer than this conversation may."""
        arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture_output": True}
        if input is not None:
            arguments["input_data"] = base64.b64encode(input).decode()
        pid = self.execute("guest-exec", **arguments)["pid"]
        pause = POLL
        while not (status := self.execute("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() + pause > self._deadline:
                what = f"`{show(argv)}` did not end within {self._timeout:g} s in {self._where}, and goes on there."
                raise LabError(what, hint="Give it more time.")
            time.sleep(pause)
            pause = min(1.25 * pause, 0.5)
        code = 128 + status["signal"] if "signal" in status else status.get("exitcode", 0)
        out, err = (base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
        return Result(tuple(argv), code, out, err)

    def shutdown(self) -> None:
        """Shut the guest down. (It gives no answer.)"""
        try:
            self._lines.write({"execute": "guest-shutdown"})
        except OSError as error:
            raise self._gone(error) from error

    def _synchronise(self) -> None:
        number = int.from_bytes(os.urandom(4), "big")
        message = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        try:
            # A delimiter sent first makes the agent forget the half of a message that somebody left.
            self._lines.write(message, before=DELIMITER)
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
