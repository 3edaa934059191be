"""What `pvecm create` and `pvecm add` say where they fail, and what it means. Pure.

The words are Proxmox's (recordings, and PVE/Cluster/Setup.pm, PVE/API2/ClusterConfig.pm, PVE/APIClient/LWP.pm)."""

from __future__ import annotations

import re

from nestlab.kinds.clustering import Refused

ADDED = "successfully added node '"

AGAIN = (
    "can't lock file",
    "got timeout",
    "got lock request timeout",
    "cluster not ready - no quorum",
    "read timeout",
    "timed out",
    "500 Can't connect to",
    "500 read failed",
    "Server closed connection",
    " 59",
)
"""Of a slow or busy member: another time it may go better."""

_HINTS = (
    (
        r"401 (authentication failure|Authentication failed)",
        "Root's password there is not the one that nestlab made. `passwd` there sets it; the lab's is in the lab's"
        " directory, keys/*.node.",
    ),
    (
        r"fingerprint '\S+' not verified",
        "Its certificate changed meanwhile, or somebody else answers there. Run `nestlab up` again.",
    ),
    (r"already contains virtual guests", "A cluster takes empty nodes only. Move or remove its guests first."),
    (
        r"not found on local node",
        "The address of the link must be one of its cards'. `ip address` there shows what it has.",
    ),
    (
        r"can't add existing node",
        "The cluster knows a node of that name. `pvecm delnode` on a member forgets it; then run `nestlab up` again.",
    ),
    (r"address '\S+' already used", "Two nodes with one address bring a cluster down. Give each its own."),
    (
        r"link \d exists in cluster config but wasn't specified|doesn't exist in cluster config",
        "All members have the same links. Those of a cluster that is there are changed by hand (corosync.conf(5)).",
    ),
    (r"incompatible join API version|unsupported old API version", "Update the older of both."),
    (r"no quorum", "Without a majority a cluster changes nothing. Start its other members."),
    (r"value may only be 15 characters long|look like a valid node name", "Give the cluster another name."),
)


def transient(log: str) -> bool:
    """Whether what failed may go better another time."""
    return any(text in log for text in AGAIN)


def of(what: str, log: str) -> Refused:
    """The refusal for a job that failed. `what`: a sentence without its end."""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, log)), "")
    lines = [line for line in log.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("* ", "! ", "400", "401", "500", "error")) or "abort" in line]
    short = "; ".join(line.removeprefix("* ").removeprefix("! ") for line in said[:4]) or (lines or ["nothing"])[-1]
    return Refused(f"{what}: {short}", hint=hint or "Run `nestlab up` again.", detail="\n".join(lines[-12:]))
