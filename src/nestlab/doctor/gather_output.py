"""Parsers of single parts of the output of `gather`. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

from nestlab.hosts import probe
from nestlab.hosts.facts import Device, Facts, Holder, Kvm, Module

PROBED = '{"arch": '
"""How what the probe prints begins."""

ROUTES = ("/proc/net/route", "/proc/net/ipv6_route")

_CONTAINERS = ("/run/systemd/container", "/run/host/container-manager")
_LAYERS = re.compile(r"^overlay / .*(/containerd|/docker/|/containers/storage/)", re.MULTILINE)
"""Kubernetes leaves no mark but the directories of its image's layers."""
_EMULATOR = re.compile(r"qemu.*|kvm|.*/(qemu-[\w.-]+|kvm)")


def files(text: str) -> dict[str, str]:
    """Path -> content, of grep's lines `path:line`."""
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        path, colon, rest = line.partition(":")
        if colon and path.startswith("/"):
            found.setdefault(path, []).append(rest + "\n")
    return {path: "".join(lines) for path, lines in found.items()}


def of_probe(text: str) -> dict[str, Any] | None:
    """Fields of Facts that the probe printed; None if it printed none. ValueError or TypeError for wrong ones."""
    start = text.find(PROBED)
    if start < 0:
        return None
    data, _ = json.JSONDecoder().raw_decode(text[start:])
    facts = Facts.from_json(json.dumps(data))
    return {**{name: getattr(facts, name) for name in data if hasattr(facts, name)}, "python": True}


def of_files(parts: dict[str, str], read: dict[str, str]) -> dict[str, Any]:
    """The same fields, as far as a shell sees them: of /dev/kvm whether it opens."""
    loaded = [name for name in probe.MODULES if re.search(rf"^{name} ", parts.get("modules", ""), re.MULTILINE)]
    found: dict[str, Any] = probe.facts({**read, "/proc/cpuinfo": parts.get("cpu", "")}, loaded)
    said = parts.get("kvm", "").strip()
    opened = said == "opened"
    reason = said.splitlines()[-1].rpartition(": ")[2] if said else "it was not asked"
    clock = parts.get("clock", "").strip()
    return {
        **found,
        "flags": frozenset(found["flags"]),
        "routes": tuple(found["routes"]),
        "modules": tuple(found["modules"]),
        "cpus": listed(read.get("/sys/devices/system/cpu/online", "")) or found["cpus"],
        "arch": parts.get("arch", "").strip(),
        "kvm": Kvm(opened=opened, error="" if opened else f"/dev/kvm: {reason}"),
        "user": identity(parts.get("id", ""))[1],
        "clock": float(clock) if clock.isdigit() else 0.0,
        "python": False,
    }


def listed(text: str) -> int:
    """Counts the members of a kernel list such as `0-3,8`."""
    spans = [re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", word) for word in text.strip().split(",")]
    return sum(int(span[2] or span[1]) - int(span[1]) + 1 for span in spans if span)


def identity(text: str) -> tuple[int, str, tuple[str, ...]]:
    """The user's number (-1 for unknown) and name, and the names of the groups, of what `id` printed."""
    user = re.search(r"uid=(\d+)(?:\(([^)]*)\))?", text)
    lists = re.search(r"groups=(\S+)", text) or re.search(r"gid=(\S+)", text)
    pairs = re.findall(r"(\d+)(?:\(([^)]*)\))?", lists[1]) if lists else []
    groups = tuple(name or number for number, name in pairs)
    return (int(user[1]), user[2] or "", groups) if user else (-1, "", groups)


def place(read: dict[str, str], flags: set[str], parts: dict[str, str]) -> tuple[str, str]:
    """The container and the virtual machine it is in, as systemd-detect-virt names them."""
    machine = {path: text for path, text in read.items() if path.startswith("/sys/")}
    rest = {path: text for path, text in read.items() if path not in machine}
    given = parts.get("container", "").strip().removeprefix("container=").strip()
    container = probe.virtualization(rest, set())
    if given and not any(read.get(path, "").strip() for path in _CONTAINERS):
        container = given if container in ("", "wsl") else container
    if not container and _LAYERS.search(parts.get("mounts", "")):
        container = "container-other"
    return container, probe.virtualization(machine, flags)


def modules(present: str, available: str) -> dict[str, Module]:
    """By name: those that /sys/module has, and those that modules.dep and modules.builtin name."""
    found: dict[str, Module] = {}
    for line in available.splitlines():
        path, _, module = line.partition(":")
        if module.endswith(".ko"):
            name = module.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
            builtin = path.endswith("modules.builtin") or (name in found and found[name].builtin)
            found[name] = Module(available=True, builtin=builtin)
    for words in map(str.split, present.splitlines()):
        if len(words) < 3:
            continue
        name, how, count, *users = words
        there = how == "loaded"
        found[name] = replace(
            found.get(name, Module()),
            loaded=there,
            builtin=not there,
            available=True,
            refcnt=int(count) if there and count.isdigit() else None,
            users=tuple(users),
        )
    return found


def device(text: str) -> Device | None:
    """/dev/kvm of `ls -l`."""
    found = re.match(r"\s*[a-z-]([r-][w-][xsS-][r-][w-][xsS-][r-][w-][xtT-])\S*\s+\d+\s+(\S+)\s+(\S+)\s", text)
    if not found:
        return None
    bits = found[1]
    mode = sum(1 << 8 - at for at, bit in enumerate(bits) if bit not in "-ST")
    mode += sum(special for special, at in ((0o4000, 2), (0o2000, 5), (0o1000, 8)) if bits[at] in "sStT")
    return Device(exists=True, mode=mode, owner=found[2], group=found[3])


def holder(pid: int, text: str) -> Holder:
    """A process by its command (the first line) and its arguments, each ended by a NUL."""
    command, _, rest = text.partition("\n")
    argv = rest.split("\0")
    name = _named(argv)
    kind: Literal["pve", "libvirt", "nestlab", "qemu", "other"] = "other"
    guest = ""
    if name.startswith("nestlab:"):
        kind, guest = "nestlab", " ".join(name.split(":", 2)[1:])
    elif _EMULATOR.fullmatch(command) or _EMULATOR.fullmatch(argv[0]):
        number = next((word for option, word in pairwise(argv) if option == "-id"), "")
        if number.isdigit() and argv[0].rpartition("/")[2] == "kvm":
            kind, guest = "pve", f"{number} {name}".strip()
        elif name.startswith("guest="):
            kind, guest = "libvirt", name.removeprefix("guest=")
        else:
            kind, guest = "qemu", name
    return Holder(pid, command, kind, guest)


def _named(argv: list[str]) -> str:
    """The value of QEMU's -name without its further options; a doubled comma is one that is meant."""
    value = next((word for option, word in pairwise(argv) if option in ("-name", "--name")), "")
    return value.replace(",,", "\0").partition(",")[0].replace("\0", ",")


def kernel_package(packages: str, changelog: str) -> tuple[str, str]:
    """The name and version of the running kernel's package, as dpkg or rpm has it."""
    for words in map(str.split, packages.splitlines()):
        if len(words) == 3 and words[0] == "installed" and re.match(r"linux-image|proxmox-kernel|pve-kernel", words[1]):
            return words[1], words[2]
    named = re.search(r"^is (\S+) (\S+)$", changelog, re.MULTILINE)
    return (named[1], named[2]) if named else ("", "")


def versions(parts: dict[str, str]) -> dict[str, str]:
    """`pve`, `qemu`, `libvirt` -> upstream version: of the packages, else of what the programs say."""
    found = {}
    for name, start in (("qemu", "qemu-"), ("qemu", "pve-qemu"), ("libvirt", "libvirt-"), ("pve", "pve-manager")):
        said = re.search(rf"^installed {start}\S* (?:\d+:)?([0-9][0-9.]*)", parts.get("packages", ""), re.MULTILINE)
        if said:
            found[name] = said[1].rstrip(".")
    for name in ("qemu", "libvirt"):
        said = re.search(r"(\d+\.\d+[0-9.]*)", parts.get(name, ""))
        if said:
            found.setdefault(name, said[1].rstrip("."))
    return found


def readonly(text: str, uid: int) -> str:
    """Why /etc/modprobe.d cannot be written; "" when it can. Of its mounts the innermost and last counts."""
    options = {}
    for words in map(str.split, text.splitlines()):
        if len(words) > 3:
            options[words[1]] = words[3].split(",")
    if options and "ro" in options[max(options, key=len)]:
        return "read-only file system"
    if "writable" in text.split():
        return ""
    return "not root" if uid != 0 else "permission denied"


def registers(text: str) -> dict[str, int]:
    """`number byte…` lines, little-endian."""
    found = {}
    for words in map(str.split, text.splitlines()):
        if len(words) == 9 and words[0].isdigit():
            found[hex(int(words[0]))] = int.from_bytes(bytes.fromhex("".join(words[1:])), "little")
    return found


def disk(text: str) -> dict[str, int]:
    """Free bytes of `/` and `/var/lib`, in that order in what `df -Pk` printed."""
    rows = re.findall(r"\s\d+\s+\d+\s+(-?\d+)\s+(?:\d+%|-)\s+/", text)
    return {path: max(int(free), 0) * 1024 for path, free in zip(("/", "/var/lib"), rows, strict=False)}


def hugepages(read: dict[str, str]) -> dict[str, int]:
    found = {}
    for path, text in read.items():
        size = re.fullmatch(r"/sys/kernel/mm/hugepages/hugepages-(\d+)kB/nr_hugepages", path)
        if size and text.strip().isdigit():
            found[size[1]] = int(text)
    return found


def groups(text: str) -> int | None:
    """Counts the IOMMU groups that a glob found: a count and the first, which is the glob itself where there are
    none."""
    words = text.split()
    if len(words) < 2 or not words[0].isdigit():
        return None
    return 0 if words[1].endswith("*") else int(words[0])


def kib(text: str, key: str) -> int:
    """A line of /proc/meminfo, in bytes."""
    found = re.search(rf"^{key}:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
