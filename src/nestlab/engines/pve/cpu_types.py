"""Chooses the CPU type of a machine on a Proxmox VE, and says why. Pure.

`host` does not start without KVM, `x86-64-v2-AES` and its like break the kernels of machines inside even with
`+nested-virt`, and raw `+vmx` or `+svm` are refused (qemu-server, CPUConfig.pm; facts are in docs/proxmox.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.kinds.base import SMP_EMULATED
from nestlab.lab.cpu_models import NESTED, on_pve
from nestlab.lab.hardware import emulates, model_of
from nestlab.lab.model import Machine

PLAIN = "x86-64-v2-AES"
"""What the web interface gives a new machine."""

PLAIN_FLAGS = frozenset({"aes", "cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"})

EMULATED = "max"
"""All that QEMU can emulate, svm included."""

FAMILIES: dict[str, tuple[tuple[str, frozenset[str]], ...]] = {
    "AuthenticAMD": (
        ("EPYC-Genoa", frozenset({"avx512f", "avx512_bf16", "avx512_vnni", "vaes", "gfni", "fsrm", "pku"})),
        ("EPYC-Milan", frozenset({"vaes", "vpclmulqdq", "fsrm", "erms", "pku", "invpcid", "pcid", "clwb"})),
        ("EPYC-Rome", frozenset({"clwb", "rdpid", "umip", "wbnoinvd", "clzero", "xsaveerptr"})),
        ("EPYC", frozenset({"avx2", "sha_ni", "smap", "clflushopt", "xsavec"})),
    ),
    "GenuineIntel": (
        ("SapphireRapids", frozenset({"amx_tile", "avx512_fp16", "avx512_bf16", "serialize", "la57"})),
        ("Icelake-Server-noTSX", frozenset({"avx512_vbmi2", "gfni", "vaes", "vpclmulqdq", "la57", "avx512_vnni"})),
        ("Cascadelake-Server-noTSX", frozenset({"avx512f", "avx512_vnni", "pku", "clwb", "arch_capabilities"})),
        ("Skylake-Server-noTSX-IBRS", frozenset({"avx512f", "avx512dq", "avx512cd", "avx512bw", "pku", "ibrs"})),
        ("Broadwell-noTSX", frozenset({"avx2", "adx", "rdseed", "smap", "3dnowprefetch", "invpcid"})),
        ("Haswell-noTSX", frozenset({"avx2", "bmi1", "bmi2", "fma", "movbe", "invpcid"})),
        ("IvyBridge", frozenset({"avx", "f16c", "rdrand", "fsgsbase", "smep", "erms"})),
        ("Westmere", frozenset({"aes", "popcnt", "sse4_2", "pclmulqdq"})),
    ),
}
"""By vendor, models that PVE 8 and 9 know (qemu-server, CPUConfig.pm), best first, each with flags of /proc/cpuinfo
that only CPUs have which have all of the model (QEMU, target/i386/cpu.c). PVE starts none whose flags a CPU lacks."""


@frozen
class Processor:
    """The CPU of a node. `kvm`: None where the node does not tell, and `why` then says why not. `nests`: whether what
    is given to guests can be used by them, as the node's QEMU found (None: this PVE does not tell, or, `early`, not
    yet). `word`: whether it knows `nested-virt`."""

    node: str
    vendor: str = ""
    model: str = ""
    flags: frozenset[str] = field(default=frozenset())
    kvm: bool | None = None
    nests: bool | None = None
    word: bool = False
    early: bool = False
    why: str = "it is not asked"


@frozen
class Cpu:
    """`line`: the `cpu` option. `kvm`: its `kvm` option. `cost` says what it costs to do without ("" with KVM)."""

    line: str
    kvm: bool
    why: str
    cost: str = ""


def choose(machine: Machine, path: str, here: Processor, others: Sequence[Processor], given: str | None) -> Cpu:
    """The CPU of a machine on the node `here`, which may move to `others`; `given`: what the lab file says of
    hypervisors. LabError when the lab file insists on KVM and the node has none."""
    if machine.accel == "tcg":
        return _emulated(machine, path, "the lab file says accel: tcg")
    if here.kvm is False:
        if machine.accel == "kvm":
            what = f"{path}: accel: kvm is not possible on node {here.node}: its CPU offers no vmx or svm."
            raise LabError(what, hint="Leave accel out (or say accel: tcg) to emulate, or name another node.")
        return _emulated(machine, path, f"node {here.node} has no KVM: its CPU offers no vmx or svm")
    if machine.hardware.cpu is not None:
        return _said(machine.hardware.cpu, path, (here, *others))
    if machine.hypervisor is None:
        return _plain(here, others)
    return _nesting(here, others, given)


def _said(cpu: str, path: str, nodes: Sequence[Processor]) -> Cpu:
    """What the lab file says of the machine. LabError where a node's PVE is too old for it."""
    line = on_pve(cpu)
    old = sorted(each.node for each in nodes if not each.word)
    if NESTED in line and old:
        what = f"{path}: cpu: {cpu} is not possible on {', '.join(old)}: this Proxmox VE knows no {NESTED} yet."
        raise LabError(what, hint="Say `cpu: host`, or update qemu-server to 9.0.27 or newer.")
    return Cpu(line, True, "the lab file says so")


def _emulated(machine: Machine, path: str, why: str) -> Cpu:
    cost = "emulated: about 20 times slower than hardware"
    if machine.hypervisor:
        cost = "emulated, with AMD SVM emulated for its guests: about 20 times slower than hardware; containers are not"
        cost += SMP_EMULATED if machine.cpus > 1 else ""
    return Cpu(_emulated_line(machine, path, why), False, why, cost)


def _emulated_line(machine: Machine, path: str, why: str) -> str:
    """There is no `host` where a machine is emulated: it is then all that is emulated."""
    cpu = machine.hardware.cpu
    if cpu is None:
        return EMULATED
    if machine.hypervisor and not emulates(cpu):
        what = f"{path}: it must be emulated ({why}), and with cpu: {cpu} it could run no machines."
        raise LabError(what, hint="QEMU emulates AMD's svm only: say `cpu: EPYC,+svm`, or leave `cpu` out.")
    line = on_pve(cpu)
    return EMULATED + line.removeprefix("host") if model_of(cpu) == "host" else line


def _plain(here: Processor, others: Sequence[Processor]) -> Cpu:
    lacking = [each.node for each in (here, *others) if each.flags and not each.flags >= PLAIN_FLAGS]
    if lacking:
        return Cpu("host", True, f"{PLAIN} is more than the CPU of {', '.join(lacking)} has")
    return Cpu(PLAIN, True, "nothing runs inside it")


def _nesting(here: Processor, others: Sequence[Processor], given: str | None) -> Cpu:
    if given is not None:
        return Cpu(given, True, "the lab file says so")
    if here.nests is False:
        offered = f"node {here.node} does not offer nesting to its guests (its kernel's parameter `nested` is off)"
        return Cpu(
            "host", True, f"machines run inside it; {offered}", "without KVM inside: about 20 times slower there"
        )
    unequal = [each for each in others if each.model and here.model and _kind(each) != _kind(here)]
    if not unequal:
        return Cpu("host", True, "machines run inside it")
    names = ", ".join(sorted(each.node for each in unequal))
    if any(each.vendor != here.vendor for each in unequal):
        return Cpu("host", True, f"machines run inside it; {names} has another vendor's CPU: there only switched off")
    if not all(each.word for each in (here, *others)):
        return Cpu("host", True, f"machines run inside it; to {names}, with another CPU, it moves only switched off")
    model = common_model((here, *others))
    if model is None:
        return Cpu("host", True, f"machines run inside it; no model fits the CPUs of {here.node} and {names}")
    return Cpu(
        f"{model},flags=+nested-virt", True, f"machines run inside it, and it may move to {names}, whose CPU is another"
    )


def _kind(each: Processor) -> tuple[str, str]:
    return each.vendor, each.model


def common_model(processors: Sequence[Processor]) -> str | None:
    """The best model that every one of these has the flags of; None when there is none, or vendors differ."""
    vendors = {each.vendor for each in processors}
    if len(vendors) != 1:
        return None
    common = frozenset.intersection(*(each.flags for each in processors))
    return next((model for model, needs in FAMILIES.get(vendors.pop(), ()) if needs <= common), None)
