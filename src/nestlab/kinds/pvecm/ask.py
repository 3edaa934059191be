"""What a node of Proxmox VE says of its cluster when it is asked (`question`), as a value. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.kinds.pvecm import reports
from nestlab.kinds.pvecm.question import LIMIT, SERVICES
from nestlab.kinds.pvecm.reports import Conf, Guest, Members, Quorum


@frozen
class Job:
    """What nestlab started on a node: `what` with its words. `status`: None while it runs, or when it was ended from
    outside; then `running` tells them apart."""

    what: str
    running: bool
    status: int | None
    log: str


@frozen
class Report:
    """What a node said of itself; of what it did not say, nothing.

    `writable`: the mode of the cluster's filesystem, by which Proxmox itself decides (PVE/Cluster.pm,
    check_cfs_quorum); None: not mounted. `own`, `served`: SHA-256 of the certificate that it should show, and of the
    one that its API shows. `mtus`: of the card of each address. `memory`: bytes."""

    name: str = ""
    authkey: bool = False
    local: Conf | None = None
    conf: Conf | None = None
    conf_there: bool = False
    members: Members | None = None
    guests: tuple[Guest, ...] = ()
    listed: tuple[str, ...] = ()
    quorum: Quorum | None = None
    writable: bool | None = None
    services: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    mtus: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    is_node: bool = False
    """Whether it is a node of Proxmox VE at all."""
    version: str = ""
    memory: int = 0
    signed: bool = False
    own: str = ""
    served: str = ""
    api: int = 0
    job: Job | None = None
    migration: str = ""
    """The network that guests move by, as datacenter.cfg says."""

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]

    @property
    def fingerprint(self) -> str:
        """Of the certificate that its API shows now, or will."""
        return self.served or self.own

    @property
    def alone(self) -> bool:
        """No trace of a cluster."""
        return not (self.authkey or self.conf_there or self.local or self.active("corosync"))

    def active(self, service: str) -> bool:
        return self.services.get(service) == "active"


def parse(said: str) -> Report:
    """What ASK printed. What is not as it must be is left out."""
    parts = _parts(said)
    quorum = reports.quorum(parts.get("quorum", ""))
    status = re.match(r"HTTP/1\.[01] ([1-5]\d\d)\b", parts.get("api", "").strip())
    memory = parts.get("memory", "").strip()
    version = re.fullmatch(r"\d[A-Za-z0-9.+~:-]{0,40}", parts.get("version", "").strip())
    return Report(
        name=_name(parts.get("name", "")),
        authkey=parts.get("authkey", "").strip() == "yes",
        local=reports.conf(parts.get("local", "")),
        conf=reports.conf(parts.get("conf", "")),
        conf_there=bool(parts.get("conf", "").strip()),
        members=reports.members(parts.get("members", "")),
        guests=reports.guests(parts.get("guests", "")),
        listed=tuple(name for line in parts.get("nodes", "").split()[: reports.MANY] if (name := _name(line))),
        quorum=quorum,
        writable=_writable(parts.get("mounted", "")),
        services=_services(parts.get("services", "")),
        mtus=_mtus(parts.get("addresses", "")),
        is_node=parts.get("node", "").strip() == "yes",
        version=version[0] if version else "",
        memory=int(memory) * 1024 if re.fullmatch(r"\d{1,12}", memory) else 0,
        signed=parts.get("signed", "").strip().endswith(": OK"),
        own=_fingerprint(parts.get("own", "")),
        served=_fingerprint(parts.get("served", "")),
        api=int(status[1]) if status else 0,
        migration=_migration(parts.get("datacenter", "")),
        job=_job(parts.get("job", ""), parts.get("log", "")),
    )


def _parts(said: str) -> dict[str, str]:
    found = re.split(r"(?m)^== ([a-z]{1,20})\n", said[: LIMIT * 24])
    return {name: text for name, text in zip(found[-2::-2], found[::-2], strict=False) if name}


def _name(text: str) -> str:
    found = text.strip()
    return found if reports.NODE.fullmatch(found) else ""


def _writable(text: str) -> bool | None:
    match = re.fullmatch(r"[a-z ]+ ([0-7]{3,4})", text.strip())
    return bool(int(match[1], 8) & 0o200) if match else None


def _services(text: str) -> Mapping[str, str]:
    pairs = (line.split() for line in text.splitlines()[: len(SERVICES)])
    return {pair[0]: one_line(pair[1])[:20] for pair in pairs if len(pair) == 2 and pair[0] in SERVICES}


def _mtus(text: str) -> Mapping[str, int]:
    rows = (line.split() for line in text.splitlines()[:1000])
    return {row[1]: int(row[3]) for row in rows if len(row) == 4 and re.fullmatch(r"\d{1,6}", row[3])}


def _fingerprint(text: str) -> str:
    match = re.search(r"(?i)fingerprint=((?:[0-9a-f]{2}:){31}[0-9a-f]{2})\s*$", text.strip()[:300])
    return match[1].upper() if match else ""


def _migration(text: str) -> str:
    match = re.search(r"(?m)^migration:\s*(?:\S*,)?network=([0-9A-Fa-f.:]{2,45}/\d{1,3})(?:,|\s*$)", text)
    return match[1] if match else ""


def _job(text: str, log: str) -> Job | None:
    lines = text.strip().splitlines()
    if not lines or not re.fullmatch(r"[a-z]+( [A-Za-z0-9.:-]+)*", lines[0]):
        return None
    running = lines[-1] in ("active", "activating", "deactivating") and len(lines) > 1
    ended = re.search(r"(?m)^nestlab: status (\d{1,3})\s*\Z", log)
    clean = "\n".join(one_line(line) for line in re.split(r"[\r\n]+", log.strip()) if not line.startswith("nestlab: "))
    return Job(lines[0], running, int(ended[1]) if ended and not running else None, clean)
