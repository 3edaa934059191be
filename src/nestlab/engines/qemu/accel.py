"""Chooses KVM or TCG for a machine from what the host proved. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.hosts.facts import Facts, Kvm
from nestlab.kinds import could_be_container, kinds
from nestlab.kinds.base import SMP_EMULATED
from nestlab.lab.hardware import emulates, model_of
from nestlab.lab.model import Machine, level_of, parent_of

Accelerator = Literal["kvm", "tcg"]


@frozen
class Choice:
    """`why` is a sentence for a person; `cost` says what emulation means for this machine ("" under KVM). `presumed`:
    the machine itself is the proof still to come."""

    accel: Accelerator
    why: str
    cost: str = ""
    presumed: bool = False


def choose(facts: Facts, machine: Machine, path: str, where: str, *, containers: bool = True) -> Choice:
    """The accelerator for `machine` on the host that said `facts`. `containers`: nestlab makes some there, too.

    LabError when the lab file insists on KVM and the host cannot give it. Costs: measured, docs/engine.md.
    """
    if machine.accel == "tcg":
        return Choice("tcg", "the lab file says accel: tcg", _cost(machine, path, containers))
    reason = why_not(facts, hypervisor=machine.hypervisor is not None) or _no_uefi(facts, machine, path)
    reason = reason or _no_tpm(facts, machine, path)
    if not reason:
        return Choice("kvm", f"{facts.provider} on {where} ran a guest")
    if machine.accel == "kvm":
        raise LabError(
            f"{path}: accel: kvm is not possible on {where}: {reason}.",
            hint=f"{_cure(facts, where)} Or leave accel out, to emulate.",
        )
    _emulated(machine, path, where, reason)
    return Choice("tcg", reason, _cost(machine, path, containers))


def contained(where: str) -> str:
    """What a container in a hypervisor runs on, in place of an accelerator."""
    return f"on the kernel of {where}"


def _emulated(machine: Machine, path: str, where: str, reason: str) -> None:
    """LabError where a hypervisor could run nothing: its CPU has no svm, which is all that is emulated."""
    cpu = machine.hardware.cpu
    if machine.hypervisor and cpu is not None and not emulates(cpu):
        what = f"{path}: it must be emulated on {where} ({reason}), and with cpu: {cpu} it could run no machines."
        raise LabError(what, hint="QEMU emulates AMD's svm only: say `cpu: EPYC,+svm`, or leave `cpu` out.")


def _no_uefi(facts: Facts, machine: Machine, path: str) -> str:
    """Why UEFI cannot run under KVM there: QEMU's emulation of SVM ends the whole hypervisor when OVMF starts in it
    (seen with QEMU 10.0: tcg_handle_interrupt, assertion failed: bql_locked)."""
    if not machine.hardware.uefi or level_of(path) < 2 or facts.virtualization != "qemu":
        return ""
    return "that hypervisor is emulated, and QEMU's emulation ends when UEFI starts under KVM in it"


def _no_tpm(facts: Facts, machine: Machine, path: str) -> str:
    """Why a system with a boot loader of its own is not given to KVM there: that it finds its TPM then was not tried.
    nestlab's images do (`hardware_argv.lowered`)."""
    hardware = machine.hardware
    if not hardware.tpm or hardware.uefi or machine.image.own or level_of(path) < 2 or facts.virtualization != "qemu":
        return ""
    return "that hypervisor is emulated, and that a disk of yours finds its TPM by BIOS under KVM in it was not tried"


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


def surely_emulated(machine: Machine, path: str, *, containers: bool = True) -> Choice | None:
    """Emulation for a machine in a hypervisor that is to be emulated, and does not run yet: what KVM there never runs.
    None where that hypervisor decides. LabError as `choose`."""
    kvm = Kvm(opened=True, api=12, ran=True, nested_cpuid="svm")
    soon = Facts(virtualization="qemu", provider="kvm_amd", flags=frozenset({"svm"}), kvm=kvm)
    chosen = choose(soon, machine, path, parent_of(path), containers=containers)
    return chosen if chosen.accel == "tcg" else None


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


def _cost(machine: Machine, path: str, containers: bool) -> str:
    cpu = machine.hardware.cpu
    there = "; `cpu: host` is then all that QEMU emulates" if cpu is not None and model_of(cpu) == "host" else ""
    return _slower(machine, path, containers) + there


def _services(machine: Machine) -> str:
    """How long its kind needs until its services work, emulated."""
    kind = kinds().get(machine.hypervisor or "")
    if kind is None or not kind.services or not machine.image.own:
        return ""
    return f"; after a start its services take about {round(kind.services / 60)} minutes of a whole CPU"


def _slower(machine: Machine, path: str, containers: bool) -> str:
    if level_of(path) > 1:
        cost = "emulated inside a guest: about 10 times slower to boot and 25 to 60 times slower to compute"
        better = f"; with `container: true` it would run as fast as {parent_of(path)} does"
        return cost + (better if containers and could_be_container(machine) else "")
    if machine.hypervisor:
        cost = "emulated, with AMD SVM emulated for its guests: about 20 times slower than hardware"
        return cost + _services(machine) + (SMP_EMULATED if machine.cpus > 1 else "")
    return "emulated: about 20 times slower than hardware"
