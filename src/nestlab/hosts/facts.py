"""Facts about a host, parsed. Pure; JSON round trip.

`probe.py` runs on the host and prints the JSON that `Facts.from_json` reads: the little that engines need. The doctor
(`doctor.gather`) fills in the rest, in one round trip as well. A field that could not be seen keeps its default, and
`unseen` says why where that is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nestlab.base.frozen import frozen
from nestlab.base.printable import to_json


@frozen
class Kvm:
    """/dev/kvm, asked rather than looked at.

    `opened`: it could be opened read-write; else `error` says why not. `nested_cpuid`: KVM_GET_SUPPORTED_CPUID offers
    VMX or SVM to guests. `ran`: a 64-bit (long mode) guest of a few instructions ran to its end; `ran_error` if not.
    """

    opened: bool = False
    error: str = ""
    api: int | None = None
    nested_cpuid: Literal["vmx", "svm"] | None = None
    nested_state: int | None = None
    ran: bool | None = None
    ran_error: str = ""


@frozen
class Module:
    """A kernel module that the doctor asks about, present (loaded or built in) or available to the running kernel.

    `refcnt`: users, as /sys/module/NAME/refcnt; None where the kernel does not say (built in). `users`: modules that
    use it."""

    loaded: bool = False
    builtin: bool = False
    available: bool = False
    refcnt: int | None = None
    users: tuple[str, ...] = ()


@frozen
class Holder:
    """A process that has a virtual machine (or /dev/kvm) open, and the guest it runs where that can be told:
    `pve` (VMID and name), `libvirt`, `nestlab` (lab and machine), `qemu` (its -name), else `other`."""

    pid: int
    command: str = ""
    kind: Literal["pve", "libvirt", "nestlab", "qemu", "other"] = "other"
    guest: str = ""


@frozen
class Device:
    """/dev/kvm as a file. `mode`: permission bits (0o660)."""

    exists: bool = False
    mode: int = 0
    owner: str = ""
    group: str = ""


@frozen
class Package:
    """The package of the running kernel. `changelog`: its changelog was read to the end; `cves`: those in it."""

    name: str = ""
    version: str = ""
    changelog: bool = False
    cves: tuple[str, ...] = ()


@frozen
class Facts:
    """`provider`: the loaded vendor module (`kvm_intel`, `kvm_amd`, `kvm_pvm`…). `flags`: only vmx, svm, hypervisor,
    lm, ept, npt and the like that decide something. Memory and disk in bytes."""

    kernel: str = ""
    arch: str = ""
    distribution: str = ""
    vendor: str = ""
    model: str = ""
    flags: frozenset[str] = frozenset()
    virtualization: str = ""
    """What it runs in, as systemd-detect-virt names it (`kvm`, `qemu`, `docker`…); "" where nothing shows."""
    provider: str = ""
    modules: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    """`kvm_amd.nested` -> `1`, verbatim."""
    kvm: Kvm = field(default_factory=Kvm)
    cpus: int = 0
    memory: int = 0
    memory_available: int = 0
    routes: tuple[str, ...] = ()
    """IPv4 and IPv6 networks (CIDR) it has routes to, without default routes and link-local ones."""
    user: str = ""
    uid: int = -1
    clock: float = 0.0
    """Its clock when it was asked, seconds since the epoch."""

    slowness: float = 0.0
    """How many times slower it is than a machine at full speed, as measured with them; 0: not measured."""

    # What follows only the doctor asks for; `examined` says that it did.
    examined: bool = False
    python: bool = False
    """It has python3, so the functional probe ran: `kvm` is more than whether the device opens."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """What could not be seen (`messages`, `holders`, `changelog`, `msr`, a path…) -> why."""
    container: str = ""
    """The container it is in, as systemd-detect-virt names it."""
    machine: str = ""
    """The virtual machine it is in (also when in a container inside it), as systemd-detect-virt names it."""
    dmi: Mapping[str, str] = field(default_factory=dict)
    """Names of /sys/class/dmi/id -> value: `sys_vendor`, `product_name`, `product_version`, `bios_vendor`…"""
    kernel_build: str = ""
    """`uname -v`, which on Debian and PVE names the package's version."""
    cmdline: str = ""
    """/proc/cmdline."""
    boot_id: str = ""
    lockdown: str = ""
    """The kernel's lockdown mode (`none`, `integrity`, `confidentiality`); "" where it has none."""
    package: Package = field(default_factory=Package)
    versions: Mapping[str, str] = field(default_factory=dict)
    """`pve`, `qemu`, `libvirt` -> version, of what is installed."""
    kernel_modules: Mapping[str, Module] = field(default_factory=dict)
    """By name, with underscores: kvm and its vendor modules, msr, and what may hold VMX or SVM (vboxdrv, vmmon…)."""
    device: Device = field(default_factory=Device)
    nodes: frozenset[str] | None = None
    """Which of /dev/vhost-net and /dev/net/tun are there; None where that was not asked."""
    cgroups: frozenset[str] | None = None
    """Controllers of control groups that the kernel offers (`cpu`, `memory`, `io`…)."""
    groups: tuple[str, ...] = ()
    """The user's groups."""
    holders: tuple[Holder, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> content of the configuration that sets parameters: files of modprobe.d that name a kvm module,
    /etc/default/grub (and grub.d), /etc/kernel/cmdline, /etc/kernel/proxmox-boot-uuids, the doctor's own record."""
    tools: frozenset[str] = frozenset()
    """Which of modprobe, update-grub, grub2-mkconfig, grubby, proxmox-boot-tool, kernelstub… are there."""
    readonly: str = ""
    """Why /etc/modprobe.d cannot be written by this user (`not root`, `read-only file system`); "" when it can."""
    messages: tuple[str, ...] = ()
    """The kernel's messages about KVM, VMX, SVM, SEV and the firmware's locks, since boot."""
    msr: Mapping[str, int] = field(default_factory=dict)
    """Model-specific registers that could be read, `0x3a`, `0xc0010114` -> value of CPU 0."""
    disk: Mapping[str, int] = field(default_factory=dict)
    """Path -> free bytes: `/`, `/var/lib`."""
    swap: int = 0
    ksm: bool | None = None
    hugepages: Mapping[str, int] = field(default_factory=dict)
    """Page size in KiB, as a word (`2048`) -> how many are reserved."""
    iommu: int | None = None
    """IOMMU groups."""

    @property
    def nested(self) -> bool:
        """The vendor module's `nested` parameter is on, in either vendor's spelling."""
        return self.parameters.get(f"{self.provider}.nested", "") in ("Y", "y", "1")

    @property
    def hardware(self) -> bool:
        """Its guests can run on real KVM: a vendor module, its CPU flag, and code that really ran."""
        flag = {"kvm_intel": "vmx", "kvm_amd": "svm"}.get(self.provider)
        return flag in self.flags and self.kvm.opened and self.kvm.api == 12 and self.kvm.ran is True

    @property
    def can_nest(self) -> bool:
        """Its guests can have KVM of their own: `hardware`, and SUPPORTED_CPUID offers them VMX or SVM."""
        return self.hardware and self.kvm.nested_cpuid is not None

    @property
    def family(self) -> Literal["intel", "amd"] | None:
        """Which vendor's virtualization it would be: by the CPU's name for itself."""
        return _FAMILIES.get(self.vendor)

    def to_json(self) -> str:
        return to_json(asdict(self), ensure_ascii=True, indent=1, sort_keys=True, default=sorted)

    @staticmethod
    def from_json(text: str) -> Facts:
        """ValueError or TypeError when it is not JSON of facts, or has none of their keys. Unknown keys beside them
        (of a newer nestlab) are ignored."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise ValueError("facts are a JSON object")
            if "findings" in data or not _hints(Facts).keys() & data.keys():
                raise ValueError(_what_else(data))
            found: Facts = _decode(Facts, data, "facts")
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except OverflowError:
            raise ValueError("a number in it is too large") from None
        return found


_FAMILIES: Mapping[str, Literal["intel", "amd"]] = {
    "GenuineIntel": "intel",
    "CentaurHauls": "intel",
    "  Shanghai  ": "intel",
    "AuthenticAMD": "amd",
    "HygonGenuine": "amd",
}


def _what_else(data: Mapping[str, Any]) -> str:
    """What an object is that has no key of facts."""
    if "findings" in data or "hosts" in data:
        return "it is what was found (--json), not what the host said (--facts)"
    inner = [name for name, value in data.items() if isinstance(value, dict) and _hints(Facts).keys() & value.keys()]
    if inner:
        return f"it holds those of several, each for itself: {', '.join(inner)}"
    return "it has none of their keys"


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as `kind` says; ValueError, naming the key, where it is something else."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        given = _is(value, dict, where)
        hints = _hints(kind)
        names = [item.name for item in fields(kind) if item.name in given]
        return kind(**{name: _decode(hints[name], given[name], f"{where}.{name}") for name in names})
    if origin in (tuple, frozenset):
        return origin(_decode(inner[0], item, where) for item in _is(value, list, where))
    if origin is not None and _is_mapping(origin):
        return {name: _decode(inner[1], item, f"{where}.{name}") for name, item in _is(value, dict, where).items()}
    if origin in (UnionType, Union):
        if value is None and NoneType in inner:
            return None
        return _decode(next(each for each in inner if each is not NoneType), value, where)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{where} is {value!r}, not one of {', '.join(map(str, inner))}")
        return value
    return float(_is(value, (int, float), where)) if kind is float else _is(value, kind, where)


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} is {repr(value)[:60]}")
    return value
