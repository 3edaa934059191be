"""What a host said about itself, parsed. Pure; JSON round trip.

`probe.py` runs on the host and prints the JSON that `Facts.from_json` reads; a field that could not be seen is None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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

    def to_json(self) -> str:
        data = asdict(self)
        data["flags"] = sorted(self.flags)
        return json.dumps(data, indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Facts:
        """ValueError when it is not JSON of facts. Unknown keys (of a newer nestlab) are ignored."""
        data: dict[str, Any] = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("facts are a JSON object")
        known = {item.name: data[item.name] for item in fields(Facts) if item.name in data}
        kvm = known.pop("kvm", {})
        known_kvm = {item.name: kvm[item.name] for item in fields(Kvm) if item.name in kvm}
        for name in ("modules", "routes"):
            if name in known:
                known[name] = tuple(known[name])
        if "flags" in known:
            known["flags"] = frozenset(known["flags"])
        return Facts(**known, kvm=Kvm(**known_kvm))
