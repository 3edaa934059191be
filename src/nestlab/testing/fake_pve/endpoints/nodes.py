"""/nodes/{node}: what a node says of its hardware and its QEMU."""

from __future__ import annotations

import time
from typing import Any

from nestlab.testing.fake_pve.endpoints.cluster import memory, release
from nestlab.testing.fake_pve.formats import CPU_FLAGS, CPU_MODELS
from nestlab.testing.fake_pve.refusals import Refusal
from nestlab.testing.fake_pve.routes import Ask, serve

MACHINES = ("10.0+pve1", "10.0", "9.2+pve1", "9.2", "9.1", "9.0", "8.2", "8.1", "8.0", "7.2", "6.2")
NESTED = "Controls nested virtualization, namely 'svm' for AMD CPUs and 'vmx' for Intel CPUs."


@serve("GET", "/nodes/{node}/status")
def status(ask: Ask) -> Any:
    """Load and hardware. `hvm` is empty where the CPU has no virtualization, else "1"."""
    node = ask.world.nodes[ask.node]
    used = node.memory_used + sum(memory(guest) for guest in ask.world.guests.values()
                                  if guest.node == node.name and guest.running)  # fmt: skip
    virtual = bool({"vmx", "svm"} & set(node.flags.split()))
    return {
        "cpuinfo": {"flags": node.flags, "vendor": node.vendor, "model": node.model, "cpus": node.cpus,
                    "cores": node.cpus, "sockets": 1, "mhz": "2445.432", "family": "25", "user_hz": 100,
                    "hvm": "1" if virtual else ""},
        "memory": {"total": node.memory, "used": used, "free": max(0, node.memory - used),
                   "available": max(0, node.memory - used)},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {"total": 100 << 30, "used": 10 << 30, "free": 90 << 30, "avail": 90 << 30},
        "loadavg": ["0.02", "0.05", "0.10"],
        "uptime": int(time.time() - node.started), "cpu": 0, "wait": 0, "idle": 0,
        "ksm": {"shared": 0},
        "kversion": "Linux 6.17.2-1-pve #1 SMP PREEMPT_DYNAMIC",
        "current-kernel": {"sysname": "Linux", "release": "6.17.2-1-pve", "machine": "x86_64", "version": "#1 SMP"},
        "boot-info": {"mode": "legacy-bios"},
        "pveversion": f"pve-manager/{release(ask.world.version)['version']}/9aa9263f00000000",
    }  # fmt: skip


@serve("GET", "/nodes/{node}/time")
def clock(ask: Ask) -> Any:
    now = int(time.time())
    return {"time": now, "localtime": now, "timezone": "Etc/UTC"}


@serve("GET", "/nodes/{node}/capabilities/qemu/cpu")
def cpus(ask: Ask) -> Any:
    def vendor(name: str) -> str:
        if name in ("host", "max", "kvm32", "kvm64", "qemu32", "qemu64") or name.startswith("x86-64"):
            return "default"
        return "AuthenticAMD" if name.startswith(("EPYC", "Opteron", "athlon", "phenom")) else "GenuineIntel"

    return [{"name": name, "custom": 0, "vendor": vendor(name)} for name in sorted(CPU_MODELS)]


@serve("GET", "/nodes/{node}/capabilities/qemu/cpu-flags")
def cpu_flags(ask: Ask) -> Any:
    """The flags that a VM may choose; from 9.2 on with the nodes on which each works."""
    rows: list[dict[str, Any]] = [{"name": name, "description": NESTED if name == "nested-virt" else name}
                                  for name in CPU_FLAGS if name != "nested-virt" or ask.world.major >= 9]  # fmt: skip
    if ask.world.version >= "9.2":
        for row in rows:
            nested = row["name"] == "nested-virt"
            row["supported-on"] = [
                node.name for node in ask.world.nodes.values() if node.reported and (node.nested or not nested)
            ]
    return rows


@serve("GET", "/nodes/{node}/capabilities/qemu/machines")
def machines(ask: Ask) -> Any:
    return [{"id": f"pc-{kind}-{version}", "type": kind, "version": version}
            for version in MACHINES for kind in ("i440fx", "q35")]  # fmt: skip


@serve("GET", "/nodes/{node}/capabilities/qemu/migration")
def migration(ask: Ask) -> Any:
    return {"has-dbus-vmstate": True}


@serve("GET", "/nodes/{node}/query-url-metadata")
def url_metadata(ask: Ask) -> Any:
    raise Refusal(500, "invalid server response: '500 Can't connect (no network here)'")
