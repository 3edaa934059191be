"""Chooses KVM or TCG for a machine from what the host proved. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nestlab.base.errors import LabError
from nestlab.hosts.facts import Facts
from nestlab.kinds.base import SMP_EMULATED
from nestlab.lab.model import Machine, level_of

Accelerator = Literal["kvm", "tcg"]


@dataclass(frozen=True)
class Choice:
    """`why` is a sentence for a person; `cost` says what emulation means for this machine ("" under KVM). `presumed`:
    the machine itself is the proof still to come."""

    accel: Accelerator
    why: str
    cost: str = ""
    presumed: bool = False


def choose(facts: Facts, machine: Machine, path: str, where: str) -> Choice:
    """The accelerator for `machine` on the host that said `facts`.

    LabError when the lab file insists on KVM and the host cannot give it. Costs: measured, docs/engine.md.
    """
    if machine.accel == "tcg":
        return Choice("tcg", "the lab file says accel: tcg", _cost(machine, path))
    reason = why_not(facts, hypervisor=machine.hypervisor is not None)
    if not reason:
        return Choice("kvm", f"{facts.provider} on {where} ran a guest")
    if machine.accel == "kvm":
        raise LabError(
            f"{path}: accel: kvm is not possible on {where}: {reason}.",
            hint=f"{_cure(facts, where)} Or leave accel out, to emulate.",
        )
    return Choice("tcg", reason, _cost(machine, path))


def _cure(facts: Facts, where: str) -> str:
    """What gives that host KVM, for the person who asked for it."""
    doctor = "nestlab doctor" if where == "this machine" else f"nestlab doctor {where}"
    if _forbidden(facts):
        return f"As a rule, as root there: usermod -aG kvm {facts.user or 'USER'}; then log in again. See `{doctor}`."
    return f"`{doctor}` says what is missing there."


def _forbidden(facts: Facts) -> bool:
    return not facts.kvm.opened and "ermission denied" in facts.kvm.error


def presume(glance: Facts, machine: Machine, where: str) -> Choice | None:
    """KVM for a plain guest in a hypervisor that seems to have it: its own boot will prove that, or else what the
    hypervisor can do is asked properly. None where that must be asked first: a hypervisor (for `nested`), or no sign
    of a vendor module, its flag, or a device that opens."""
    seen = replace(glance, kvm=replace(glance.kvm, api=12, ran=True))
    if machine.accel == "tcg" or machine.hypervisor is not None or why_not(seen, hypervisor=False):
        return None
    return Choice("kvm", f"{glance.provider} on {where} is there: its boot proves it", presumed=True)


def why_not(facts: Facts, *, hypervisor: bool) -> str:
    """Why a guest of this host cannot have KVM ("" when it can); a hypervisor must also be given vmx or svm."""
    kvm = facts.kvm
    flag = {"kvm_intel": "vmx", "kvm_amd": "svm"}.get(facts.provider)
    if flag is None and facts.provider:  # nobody's group helps there
        return f"/dev/kvm is there, but it is {facts.provider}, not kvm_intel or kvm_amd"
    if _forbidden(facts):
        who = f"the user {facts.user}" if facts.user else "this user"
        return f"/dev/kvm is there, but {who} may not open it: as a rule its group kvm may (see `nestlab doctor`)"
    if not kvm.opened:
        return f"/dev/kvm cannot be opened ({kvm.error or 'no reason given'})"
    if flag is None:
        return "/dev/kvm is there, but it is no vendor module, not kvm_intel or kvm_amd"
    if flag not in facts.flags:
        return f"the CPU shows no {flag}"
    if kvm.api is None:
        return f"/dev/kvm opens, but does not answer as KVM does ({kvm.ran_error or 'not asked'})"
    if kvm.api != 12:
        return f"/dev/kvm speaks API version {kvm.api}, not 12"
    if kvm.ran is not True:
        return f"/dev/kvm opens but cannot run 64-bit code ({kvm.ran_error or 'not tried'})"
    if hypervisor and kvm.nested_cpuid is None:
        return f"{facts.provider} does not offer {flag} to guests (its parameter `nested` is off)"
    return ""


def _cost(machine: Machine, path: str) -> str:
    if level_of(path) > 1:
        return "emulated inside a guest: about 10 times slower to boot and 25 to 60 times slower to compute"
    if machine.hypervisor:
        cost = "emulated, with AMD SVM emulated for its guests: about 20 times slower than hardware"
        return cost + (SMP_EMULATED if machine.cpus > 1 else "")
    return "emulated: about 20 times slower than hardware"
