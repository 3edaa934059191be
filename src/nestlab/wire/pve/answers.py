"""What a Proxmox VE may answer: for each path of the API that is asked, a reader of its answer (`wire.shapes`). Pure.

Keys that are not named here are not handed on: whoever needs one adds it. PVE writes numbers as texts here and there,
and leaves out what it does not know; names of nodes and storages become parts of paths.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from nestlab.wire.shapes import (
    Reader,
    Unfit,
    anything,
    count,
    flag,
    maybe,
    read,
    real,
    record,
    rows,
    scalars,
    status,
    table,
    text,
    token,
    whole,
    word,
)

NUMBER = 999_999_999
"""The largest VMID."""


def vmid(value: Any) -> int:
    """The number of a machine or container."""
    found = whole(value)
    if not 0 < found <= NUMBER:
        raise Unfit(f"is {found}, which is no VMID")
    return found


_GUEST: dict[str, Reader[Any]] = {
    "name": text,
    "status": text,
    "qmpstatus": text,
    "tags": text,
    "template": flag,
    "uptime": real,
    "cpu": real,
    "mem": count,
    "memhost": count,
    "maxmem": count,
    "maxcpu": real,
    "cpus": real,
    "lock": text,
    "hastate": text,
    "pool": text,
}
_RESOURCE = _GUEST | {"storage": word, "disk": count, "maxdisk": count, "shared": flag, "plugintype": text}
_NEEDED = {
    "qemu": ("vmid", "node"),
    "lxc": ("vmid", "node"),
    "node": ("node",),
    "storage": ("storage", "node"),
    "pool": ("pool",),
}
_any_resource = record({"type": text}, vmid=vmid, node=word, content=text, **_RESOURCE)


def _resource(value: Any) -> dict[str, Any]:
    """A row of /cluster/resources, which has what its type needs."""
    found = _any_resource(value)
    for key in _NEEDED.get(found["type"], ()):
        if not found.get(key):
            raise Unfit(f"has no {key}")
    return found


def _settings(value: Any) -> dict[str, Any]:
    """The configuration of a guest: options by name, and the digest of all."""
    found = scalars(value)
    if "digest" not in found:
        raise Unfit("has no digest")
    return found


def _cards(value: Any) -> Any:
    """The network cards that an agent tells, or its refusal, which PVE passes on as if it were an answer."""
    if isinstance(value, dict):
        return record({}, error=record({}, desc=text))(value)
    return rows(record({}, hardware_address=text, ip_addresses=rows(record({}, ip_address=text))))(value)


def _waiting(value: Any) -> Any:
    """Rows of what may wait to be applied; of fabrics there are several lists."""
    states = rows(record({}, state=text))
    return table(states)(value) if isinstance(value, dict) else states(value)


def _tag(value: Any) -> int:
    """The number of a vnet; of one that is to lose it PVE says `deleted`."""
    return 0 if value == "deleted" else count(value)


def _aware(value: Any) -> bool:
    """Whether a vnet tells VLANs apart; `deleted`: it is to do so no more."""
    return value != "deleted" and flag(value)


_SWITCH = record({}, alias=text, tag=_tag, vlanaware=_aware)
_VNET = record({"vnet": word}, zone=text, alias=text, tag=_tag, vlanaware=_aware, state=text, pending=_SWITCH)
_CARD = record({"iface": text}, {"bridge_vlan_aware": flag}, cidr=text, cidr6=text, type=text, vlanaware=flag)
_STORAGE = record({"storage": word}, content=text, shared=flag, active=flag, avail=count, type=text)
_CPU = record({}, vendor=text, model=text, flags=text, hvm=text)
_NODE = {
    "memory": record({"total": count}, available=count, free=count),
    "cpuinfo": _CPU,
    "current_kernel": record({}, release=text),
    "kversion": text,
    "pveversion": text,
    "avail": count,
}
_VOLUME = record({"volid": text}, size=count, ctime=count)
_TASK = record({"upid": text}, id=text, type=text, status=text, starttime=count)
_OPTION = record({"key": text}, value=text, pending=text, delete=flag)
_SNAPSHOT = record({"name": text}, snaptime=count, vmstate=flag, description=text, parent=text)
_PLACE = record({}, type=text, name=text, ip=text, local=flag)

_GET: tuple[tuple[str, Reader[Any]], ...] = (
    ("/version", record({"version": text})),
    ("/access/permissions", table(table(flag))),
    ("/cluster/nextid", vmid),
    ("/cluster/resources", rows(_resource)),
    ("/cluster/status", rows(_PLACE)),
    ("/cluster/sdn/zones", rows(record({"zone": word}, type=text, state=text))),
    ("/cluster/sdn/zones/*", record({}, type=text)),
    ("/cluster/sdn/vnets", rows(_VNET)),
    ("/cluster/sdn/vnets/*/subnets", _waiting),
    ("/cluster/sdn/controllers", _waiting),
    ("/cluster/sdn/fabrics/all", _waiting),
    ("/cluster/ha/resources", rows(record({"sid": text}, state=text, group=text))),
    ("/cluster/ha/groups", rows(record({"group": word}, nodes=text))),
    ("/cluster/ha/rules", rows(record({"rule": word}, nodes=text, resources=text))),
    ("/cluster/ha/status/current", rows(record({"id": text}, type=text, node=text, status=text, sid=text, state=text))),
    ("/storage", rows(_STORAGE)),
    ("/storage/*", record({"storage": word}, path=text, content=text)),
    ("/nodes", rows(record({"node": word}, status=text))),
    ("/nodes/*/status", record({}, **_NODE)),
    ("/nodes/*/capabilities/qemu/cpu-flags", rows(record({}, name=text, supported_on=rows(text)))),
    ("/nodes/*/network", rows(_CARD)),
    ("/nodes/*/sdn/zones", rows(record({}, zone=text, status=text))),
    ("/nodes/*/storage", rows(_STORAGE)),
    ("/nodes/*/storage/*/status", record({}, avail=count)),
    ("/nodes/*/storage/*/content", rows(_VOLUME)),
    ("/nodes/*/services/*/state", record({}, state=text)),
    ("/nodes/*/tasks", rows(_TASK)),
    ("/nodes/*/tasks/*/status", record({}, status=text, exitstatus=text)),
    ("/nodes/*/tasks/*/log", rows(record({}, t=text))),
    ("/nodes/*/(qemu|lxc)", rows(record({"vmid": vmid}, **_GUEST))),
    ("/nodes/*/(qemu|lxc)/*/status/current", record({}, running_qemu=text, **_GUEST)),
    ("/nodes/*/(qemu|lxc)/*/config", _settings),
    ("/nodes/*/(qemu|lxc)/*/pending", rows(_OPTION)),
    ("/nodes/*/(qemu|lxc)/*/snapshot", rows(_SNAPSHOT)),
    ("/nodes/*/qemu/*/agent/file-read", record({}, content=text)),
    ("/nodes/*/qemu/*/agent/network-get-interfaces", record({}, result=_cards)),
    (
        "/nodes/*/qemu/*/agent/exec-status",
        record(
            {"exited": flag},
            exitcode=status,
            signal=status,
            out_data=text,
            err_data=text,
            out_truncated=flag,
            err_truncated=flag,
        ),
    ),
)
_POST: tuple[tuple[str, Reader[Any]], ...] = (
    ("/access/ticket", record({}, ticket=text, CSRFPreventionToken=token, NeedTFA=flag)),
    ("/access/users/*/token/*", record({"value": token})),
    ("/nodes/*/(qemu|lxc)/*/termproxy", record({"user": text, "ticket": text, "port": count})),
    ("/nodes/*/qemu/*/vncproxy", record({"ticket": text, "port": count, "password": text})),
    ("/nodes/*/qemu/*/agent/exec", record({"pid": count})),
    ("/nodes/*/qemu/*/agent/file-write", anything),
    ("/nodes/*/qemu/*/agent/ping", anything),
)
_TABLES = {"GET": _GET, "POST": _POST}


def _done(value: Any) -> str | None:
    """What a change is answered with: nothing, or the name of a task or of a lock. (Nobody reads more of it.)"""
    return None if isinstance(value, dict | list) else maybe(text)(value)


@cache
def _patterns(method: str) -> tuple[tuple[re.Pattern[str], Reader[Any]], ...]:
    found = _TABLES.get(method, ())
    return tuple((re.compile(path.replace("*", "[^/]+")), reader) for path, reader in found)


def reader_of(method: str, path: str) -> Reader[Any] | None:
    """The reader of an answer; None for a path that nestlab never asks for something."""
    for pattern, reader in _patterns(method):
        if pattern.fullmatch(path):
            return reader
    return None if method == "GET" else _done


def answered(value: Any, who: str, method: str, path: str) -> Any:
    """An answer of `who`, read as what it must be. Odd if it is not that."""
    return read(value, reader_of(method, path) or anything, who, f"{method} {path}")


def paths() -> tuple[tuple[str, str], ...]:
    """Methods and paths that have a reader of their own, with `*` for a name."""
    return tuple((method, path) for method, found in _TABLES.items() for path, _ in found)
