"""Errors of a Proxmox VE: what it refused, where, and what to do.

Almost everything but a wrong parameter is HTTP 500, also what is missing, there already, or locked: only the message
tells them apart. The messages are those of PVE 9.1 (recorded), and of PVE 8 where its sources differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nestlab.base.errors import LabError, Refused, Unreachable
from nestlab.wire.pve import privileges


class PveError(LabError):
    """A Proxmox VE refused something. `status` is HTTP's (0 when a task or pvesh told none), `message` all it said,
    `parameters` what is wrong with each parameter, `upid` the task that failed, if one did."""

    def __init__(
        self,
        what: str,
        *,
        hint: str = "",
        detail: str = "",
        status: int = 0,
        message: str = "",
        parameters: Mapping[str, str] | None = None,
        upid: str = "",
    ) -> None:
        super().__init__(what, hint=hint, detail=detail)
        self.status = status
        self.message = message or what
        self.parameters = dict(parameters or {})
        self.upid = upid


class Invalid(PveError):
    """A parameter was refused (HTTP 400)."""


class Missing(PveError):
    """Something that is named does not exist. It may be another thing than the one that was asked for."""

    @property
    def guest(self) -> int | None:
        """The VMID, when it is a VM or a container that does not exist."""
        found = _NO_GUEST.search(self.message)
        return int(next(filter(None, found.groups()))) if found else None


class Exists(PveError):
    """The name or VMID is taken."""


class Denied(PveError):
    """A privilege is missing (HTTP 403), or only root@pam may do it. `privileges`: any one of them at `path` would do;
    both empty when PVE does not tell."""

    path = ""
    privileges: tuple[str, ...] = ()


class Unauthorized(PveError):
    """The login was refused (HTTP 401)."""


class Locked(PveError, Refused):
    """A lock that somebody else holds: nothing was done."""


class Changed(PveError, Refused):
    """The configuration changed since it was read (`digest`): nothing was done."""


class NoQuorum(PveError, Refused):
    """The cluster has no quorum and lets nothing be written."""


class NodeUnreachable(PveError, Unreachable):
    """A node does not answer the one that was asked."""


_NO_GUEST = re.compile(
    r"nodes/[^/']+/(?:qemu-server|lxc)/(\d{1,9})\.conf' does not exist"
    r"|unable to find configuration file for (?:VM|CT) (\d{1,9})|no such (?:VM|CT) \('?(\d{1,9})"
)
_LOCKED = re.compile(
    r"can't lock file|got lock request timeout|cfs-lock '[^']*' error: (?!no quorum)|(?:VM|CT) is locked"
    r"|invalid lock token provided|configuration has pending changes|got lock timeout"
)
_LOCK_TIMEOUT = re.compile(r"can't lock file .* - got timeout|got lock request timeout|got lock timeout")
_CHANGED = re.compile(r"detected modified configuration|checksum mismatch \(file change by other user")
_EXISTS = re.compile(
    r"already exists|already defined(?! in URI)|name '[^']*' already used|refusing to override existing"
)
_MISSING = re.compile(
    r"does not exist|no such (?!file or directory|option)\w|unknown node '|hostname lookup '[^']*' failed"
    r"|unable to find configuration file|is not a known host",
    re.IGNORECASE,
)
_NODE = re.compile(r"^(?:59[5-9] |proxy handler failed)")
_DENIED = re.compile(r"Permission check failed(?: \((?P<inside>.*)\))?", re.DOTALL)
_ROOT = re.compile(
    r"only root can|only allowed for root@pam|Only root (?:may|can)|root-only command|limiting to root|user != root@pam"
)
_NESTED = re.compile(r"Parameter verification failed\.?\s+(?P<rest>.+)", re.DOTALL)
_COMMAND = re.compile(r"command '(\S+(?: \S+){0,2}) .{80,}'(?= failed|$)")
_QUORUM = re.compile(r"no quorum|/etc/pve/\S+' - Permission denied")


def is_lock_timeout(message: str) -> bool:
    """Whether a lock was not free in time: PVE has then done nothing, and it may be asked again."""
    return bool(_LOCK_TIMEOUT.search(message))


def refusal(
    where: str,
    request: str,
    status: int,
    message: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    upid: str = "",
    log: str = "",
) -> PveError:
    """The error for a request ("POST /pools") that was refused, or a task that failed, on the PVE `where`."""
    message = message.strip()
    wrong = {name: str(text).strip() for name, text in (parameters or {}).items()}
    if not wrong:
        message, wrong = _nested(message)
    said = "; ".join([message.rstrip("."), *(f"{name}: {text}" for name, text in wrong.items())])
    shown = shortened(" ".join(said.split())) or f"HTTP status {status} without a word"
    end = "" if shown.endswith((".", "!", "?")) else "."
    what = f"Task {request} failed on {where}: {shown}{end}" if upid else f"{where} refused {request}: {shown}{end}"
    log = "\n".join(map(shortened, log.splitlines()))
    kind, hint, extra = _kind(status, message, wrong)
    if kind is PveError and not wrong:
        from nestlab.explain.explain import with_advice

        hint = with_advice(hint, "\n".join([log, message]))
    error = kind(what, hint=hint, detail=log, status=status, message=said, parameters=wrong, upid=upid)
    for name, value in extra.items():
        setattr(error, name, value)
    return error


def shortened(text: str) -> str:
    """A line in which no command fills a page: PVE tells QEMU's whole command line, 5 KB, when a start fails."""
    return _COMMAND.sub(lambda found: f"command '{found[1]} …'", text)


def _nested(message: str) -> tuple[str, dict[str, str]]:
    """Parameters that a 500 or a task tells only in its message: `… 400 Parameter verification failed.` and a line each
    (a task's exit status has them on one line). The message without them."""
    found = _NESTED.search(message)
    lines = [re.fullmatch(r"([\w.-]+): (.+)", line.strip()) for line in found["rest"].splitlines()] if found else []
    if not found or not all(lines):
        return message, {}
    return message[: found.start("rest")].strip(), {line[1]: line[2] for line in lines if line}


_Kind = tuple[type[PveError], str, dict[str, Any]]


def _kind(status: int, message: str, wrong: Mapping[str, str]) -> _Kind:
    """Which error it is, what to do, and what more it holds."""
    if status == 401:
        return Unauthorized, _login_hint(message), {}
    if status == 403 or message.startswith(("Permission check failed", "403 ")) or _ROOT.search(message):
        return _denied(message)
    if nested := next((text for text in wrong.values() if "Permission check failed" in text or _ROOT.search(text)), ""):
        return _denied(nested)
    told = "\n".join([message, *wrong.values()])
    if status in (595, 596, 597, 598, 599) or _NODE.search(message):
        return NodeUnreachable, "See whether that node is up (Datacenter > Summary), then try again.", {}
    if _QUORUM.search(told):
        return NoQuorum, "The cluster has no quorum: start its other nodes, then try again (pvecm status).", {}
    if _LOCKED.search(told):
        return Locked, _lock_hint(told), {}
    if _CHANGED.search(told):
        return Changed, "Somebody else changed it meanwhile: try again.", {}
    if _EXISTS.search(told):
        return Exists, "Choose another name or number, or remove the one that is there.", {}
    if _MISSING.search(told) and not message.startswith("invalid "):
        return Missing, "See what there is: `pvesh get /cluster/resources`.", {}
    if status == 400 or wrong or message.startswith("400 "):
        return Invalid, "Correct what is named above.", {}
    if status == 501:
        return PveError, "This version of Proxmox VE does not know the request; nestlab needs PVE 8 or 9.", {}
    return PveError, "See the node's log (`journalctl -u pvedaemon -u pveproxy`) for more.", {}


def _lock_hint(message: str) -> str:
    if held := re.search(r"is locked \(([^)]*)\)", message):
        return f"A task ({held[1]}) holds it: wait for its end, or `qm unlock VMID` if that task was killed."
    if "SDN" in message or "sdn" in message:
        return "Somebody else changes the SDN: apply or roll back what is pending (Datacenter > SDN), then try again."
    return "Another task works on it (a full clone holds its source and its target): try again when that has ended."


def _login_hint(message: str) -> str:
    if "No ticket" in message:
        return "Give an API token (NESTLAB_PVE_TOKEN=USER@REALM!ID=SECRET) or a user and a password."
    return (
        "Check user, realm, token id and secret (PVE tells them not apart), that the token has not expired, and that "
        "the node's clock is right: `pveum user token list USER@REALM`."
    )


def _denied(message: str) -> _Kind:
    """PVE names the path and the privileges, of which one is enough: `(/vms/100, VM.Audit|VM.Console)`."""
    found = _DENIED.search(message)
    inside = (found["inside"] or "") if found else ""
    if _ROOT.search(message):
        return Denied, "Only root@pam with a password (no API token) may do that: leave it out, or do it there.", {}
    if "need proper ticket" in inside:
        return Denied, "An API token may not do that: log in with a password.", {}
    if "for modifying tag" in inside:
        hint = (
            "nestlab marks machines by tags: let everybody choose them (Datacenter > Options, User Tag Access: free)."
        )
        return Denied, hint, {}
    named = re.fullmatch(r"(/\S*|), ([\w.|]+)", inside.strip())
    if not named or not named[1]:
        rest = f" PVE says: {inside.strip()}." if inside else ""
        hint = f"PVE does not tell which privilege: `nestlab pve check` compares them with what is needed.{rest}"
        return Denied, hint, {}
    wanted = tuple(named[2].split("|"))
    return Denied, privileges.grant(named[1], wanted), {"path": named[1], "privileges": wanted}
