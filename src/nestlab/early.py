"""What a command begins before it has imported all that it needs: this machine is asked for its facts by a process of
its own, which is done by the time that somebody wants them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

_begun: list[subprocess.Popen[bytes]] = []


def command() -> list[str]:
    """What asks."""
    return [sys.executable, "-ISE", str(Path(__file__).with_name("probe.py"))]


def begin() -> None:
    """Start asking. Where that fails, whoever wants the facts asks again, and tells why that fails."""
    null = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        _begun.append(subprocess.Popen(command(), stdin=null, stdout=subprocess.PIPE, stderr=null))


def said(timeout: float) -> str:
    """What the probe printed, once, waiting up to so many seconds; "" if none was begun, or it failed."""
    if not _begun:
        return ""
    process = _begun.pop()
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may hang in the kernel
            process.wait(1)
        return ""
    return out.decode(errors="replace") if process.returncode == 0 else ""
