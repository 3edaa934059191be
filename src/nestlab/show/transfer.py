"""The progress of a copy: how much has passed, of how much, and how fast. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nestlab.base.paint import elapsed, human


@dataclass
class Transfer:
    """One copy. `total`: bytes as far as they are known (0: not), archive overhead aside; `since`: when it, and the
    present phase (`at`), began, and `until` when it ended, seconds since the epoch; `way`: what carries it."""

    name: str
    to: str
    since: float
    at: float = 0.0
    total: int = 0
    passed: int = 0
    text: str = ""
    until: float = 0.0
    way: Literal["disk", "ssh"] = "ssh"

    def phase(self, text: str, now: float, total: int = 0) -> None:
        """Another part of the work begins, in which bytes are counted anew."""
        self.text, self.passed, self.at = text, 0, now
        self.total = total or self.total

    def seen(self, passed: int) -> None:
        """So many bytes have passed in this phase."""
        self.passed = passed

    def data(self) -> dict[str, int | float | str]:
        """Its outcome as JSON data."""
        return {"bytes": self.total or self.passed, "seconds": round(self.until - self.since, 3), "by": self.way}

    def line(self, now: float) -> str:
        """How it stands: `disk.img  copying  34%  22M of 64M  5.1M/s  8s`."""
        done = min(self.passed, self.total) if self.total else self.passed
        spent = now - (self.at or self.since)
        parts = [self.name, self.text]
        if self.total:
            parts += [f"{100 * done // self.total}%", f"{size(done)} of {size(self.total)}"]
        elif done:
            parts.append(size(done))
        if done and spent > 0:
            parts.append(f"{rate(done, spent)}")
        return "  ".join([*(part for part in parts if part), elapsed(now - self.since)])

    def end(self) -> str:
        """Its outcome: `disk.img -> hv1/web:/root/: 64M in 8s, 8M/s`."""
        spent = self.until - self.since
        total = self.total or self.passed
        fast = f", {rate(total, spent)}" if total >= 1 << 20 and spent > 0 else ""
        return f"{self.name} -> {self.to}: {size(total)} in {elapsed(spent)}{fast}"


def size(count: int) -> str:
    """Bytes for people."""
    return human(count) if count >= 1000 else f"{count} byte{'s' * (count != 1)}"


def rate(count: int, seconds: float) -> str:
    """Bytes in some seconds, as bytes a second."""
    return f"{human(int(count / seconds))}/s"
