"""The ways in which a request or a task is refused, as Proxmox VE words them."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """What an endpoint says instead of an answer: HTTP status, message, and errors by parameter."""

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = dict(errors) if errors is not None else None

    def as_exit_status(self) -> str:
        """The same refusal as the exit status of a task: one line, with the code unless it is 500."""
        lines = [self.message, *(f"{name}: {text}" for name, text in sorted((self.errors or {}).items()))]
        code = f"{self.status} " if self.status != 500 else ""
        return " ".join(f"{code}{' '.join(lines)}".split())


class Hangup(Exception):
    """The connection ends without an answer."""


class Aborted(Exception):
    """A task was stopped."""


def died(message: str) -> Refusal:
    """Perl's `die`: almost every error of PVE, "does not exist" and "already exists" included, is a 500."""
    return Refusal(500, message)


def wrong(name: str, text: str) -> Refusal:
    """One parameter is refused: 400 with the reason in `errors`."""
    return Refusal(400, "Parameter verification failed.", {name: text})


def denied(detail: str = "") -> Refusal:
    """403; the detail is `path, privilege` where PVE knows it."""
    return Refusal(403, f"Permission check failed ({detail})" if detail else "Permission check failed")


def missing(node: str, kind: str, vmid: int) -> Refusal:
    """No such guest on that node: a 500 in PVE, never a 404."""
    folder = "qemu-server" if kind == "qemu" else "lxc"
    return died(f"Configuration file 'nodes/{node}/{folder}/{vmid}.conf' does not exist")


def untouched(method: str, path: str) -> Refusal:
    """No such method at this path: 501."""
    return Refusal(501, f"Method '{method} {path}' not implemented")
