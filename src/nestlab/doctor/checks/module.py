"""Checks of kvm_intel or kvm_amd and their parameters."""

from __future__ import annotations

import re

from nestlab.doctor import modprobe_options
from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

TOOLS = Voice("tools", "module")
PROVIDER = Voice("provider", "module")
NESTED = Voice("nested", "module")
PAGING = Voice("paging", "module")
UNRESTRICTED = Voice("unrestricted", "module")
SHORTCUTS = Voice("shortcuts", "module")

_REFUSED = re.compile(r"invalid for parameter|parameters? .*invalid")
"""The kernel's `kvm_amd: `Y' invalid for parameter `nested'` (kernel/params.c)."""


@checks(*TOOLS)
def tools(facts: Facts, want: Want) -> Finding | None:
    """modprobe is there to load modules with"""
    if not facts.examined or questions.container(facts) or "modprobe" in facts.tools:
        return None
    return TOOLS.note(
        "There is no modprobe here",
        "Modules cannot be loaded again with other parameters, so changes need another way, or a reboot.",
        "Install kmod, the package with modprobe.",
    )


@checks(*PROVIDER)
def provider(facts: Facts, want: Want) -> Finding | None:
    """KVM is kvm_intel's or kvm_amd's, on the CPU's own virtualization"""
    name = facts.provider
    if name and name not in questions.VENDORS:
        opens = "/dev/kvm opens" + (f" and reports API {facts.kvm.api}" if facts.kvm.api else "")
        return PROVIDER.fail(
            f"KVM here is {name}, not kvm_intel or kvm_amd{f'; {opens}' if facts.kvm.opened else ''}",
            f"{name} runs guests in software, without VMX or SVM: what it runs cannot have KVM of its own, and QEMU may"
            " abort or hang on it.",
            "Use a host with VMX or SVM. nestlab emulates here instead, which nests, slowly.",
        )
    if name:
        return PROVIDER.ok(f"{name} is {_how(facts, name)}")
    if not questions.x86(facts) or not questions.flag(facts) or questions.locked(facts):
        return None  # the cpu layer says why there is none
    return _missing(facts, questions.vendor(facts))


def _how(facts: Facts, name: str) -> str:
    known = facts.kernel_modules.get(name)
    if known is None:
        return "loaded"
    if known.builtin:
        return "built into the kernel"
    return "loaded" if known.refcnt is None else f"loaded, with {known.refcnt} users"


def _missing(facts: Facts, module: str) -> Finding:
    """Why no vendor module is loaded although the CPU could."""
    what = f"{module} is not loaded, though the CPU has {questions.flag(facts)}"
    why = f"KVM is {module}: without it there is neither /dev/kvm nor nesting."
    if hurdle := modprobe_options.blocking(facts, module):
        said = f"{hurdle.how} {module} {hurdle.value}".strip()
        do = f"Remove that line, then load {module}."
        return PROVIDER.fail(f"{what}: {hurdle.where} says `{said}`", why, do, f"modprobe {module}")
    setting = modprobe_options.effective(facts, module, "nested")
    if setting and questions.accepts(module, setting.value) is None:
        return PROVIDER.fail(
            f"{what}: {setting.where} sets nested={setting.value}, which {module} does not accept",
            f"{module} refuses to load with a value it cannot read; its `nested` is a number, 1 or 0.",
            f"Write `options {module} nested=1` there, then load it.",
            f"modprobe {module}",
        )
    refused = next((message for message in facts.messages if _REFUSED.search(message)), "")
    if refused:
        do = "Mend that option, then load the module."
        return PROVIDER.fail(f"{what}: the kernel says `{refused.strip()}`", why, do, f"modprobe {module}")
    if questions.container(facts):
        do = "Load it on the container's host."
        return PROVIDER.fail(what, why, do, f"modprobe {module}")
    known = facts.kernel_modules.get(module)
    if facts.examined and (known is None or not (known.available or known.builtin)):
        do = "Install the kernel's full package (on clouds: the generic one, not the cloud or virtual one) and boot it."
        return PROVIDER.fail(f"{what}, and kernel {facts.kernel} has no such module", why, do)
    return PROVIDER.fail(what, why, "Load it; the kernel's messages say why if that fails.", f"modprobe {module}")


@checks(*NESTED)
def nested(facts: Facts, want: Want) -> Finding | None:
    """The vendor module's `nested` is on"""
    module = facts.provider
    if module not in questions.VENDORS:
        return None
    value = questions.parameter(facts, f"{module}.nested")
    if facts.nested:
        return NESTED.ok(f"{module} has nested={value}")
    if not value:
        return NESTED.note(
            f"Unknown: /sys/module/{module}/parameters/nested was not seen"
            + questions.reason(facts, f"/sys/module/{module}/parameters/nested"),
            "With it off, guests get no vmx or svm.",
            "Look: Y or 1 is on.",
            f"cat /sys/module/{module}/parameters/nested",
        )
    letter = "a number, 1 or 0" if module == "kvm_amd" else "a yes or no, shown as Y or N"
    number = questions.version(facts)
    why = f"Guests of this host get neither vmx nor svm, whatever CPU they are given ({module}'s `nested` is {letter})."
    if module == "kvm_amd" or (number is not None and number >= (4, 20)):
        why += " On is this kernel's default, so somebody switched it off, perhaps on purpose (see `security`)."
    else:
        why += " Off is the default of kvm_intel before Linux 4.20."
    if questions.machine(facts) and not questions.wsl(facts):
        why += " This is a virtual machine: what runs in it needs nothing of this; what would run in that does."
    do, commands = _switch_on(facts, module)
    here = not questions.container(facts) and not questions.wsl(facts)
    return NESTED.fail(f"{module} has nested={value}: off", why, do, *commands, fixable=here)


def _switch_on(facts: Facts, module: str) -> tuple[str, tuple[str, ...]]:
    """How `nested` is switched on: in words, and as commands. It is read-only while the module is loaded (0444)."""
    if questions.wsl(facts):
        return (
            "WSL's kernel has it built in: in %UserProfile%\\.wslconfig on Windows set these, then shut WSL down.",
            ("[wsl2]", f"kernelCommandLine={module}.nested=1", "wsl --shutdown"),
        )
    if questions.container(facts):
        return "On the container's host, run the doctor.", ("nestlab doctor --fix nested",)
    fix = "nestlab doctor --fix nested"
    setting = modprobe_options.lasting(facts, module, "nested")
    if (
        setting
        and questions.accepts(module, setting.value)
        and modprobe_options.effective(facts, module, "nested") != setting
    ):
        return f"{setting.where} already switches it on for the next boot: reboot to finish.", ("reboot",)
    if questions.builtin(facts, module):
        return f"It is built in, so it needs `{module}.nested=1` on the kernel command line and a reboot.", (fix,)
    if setting and not setting.path.startswith(modprobe_options.DIRECTORIES):
        said = f"{setting.where} sets {module}.nested={setting.value}, which wins over every file of modprobe.d"
        return f"{said}: let nestlab change it, or change it there, and reboot.", (fix,)
    write = f"echo 'options {module} nested=1' > /etc/modprobe.d/zz-nested.conf"
    reload = f"modprobe -r {module} && modprobe {module}"
    if setting and questions.accepts(module, setting.value):
        done = f"{setting.where} already switches it on, but the module was loaded without: load it again, or reboot."
        return _in_use(facts, module) or done, (fix, reload)
    if setting and setting.path.startswith("/etc/"):
        write = f"sed -i 's/nested=[^ ]*/nested=1/' {setting.path}"
    elif setting:  # a file of that name in /etc is read instead
        copy = f"/etc/modprobe.d/{setting.path.rpartition('/')[2]}"
        write = f"sed 's/nested=[^ ]*/nested=1/' {setting.path} > {copy}"
    return _in_use(facts, module) or "Let nestlab do it, or do it by hand as root.", (fix, write, reload)


def _in_use(facts: Facts, module: str) -> str:
    """Advice where guests keep the module from being loaded again; "" where none do."""
    then = "stop them first, or write the option and reboot. nestlab can do it."
    if holders := questions.guests(facts):
        return f"KVM is in use by {holders}: {then}"
    known = facts.kernel_modules.get(module)
    if known is not None and known.refcnt:
        return f"{module} has {known.refcnt} users (guests) that could not be named: {then}"
    return ""


@checks(*PAGING)
def paging(facts: Facts, want: Want) -> Finding | None:
    """Nested page tables are on (ept, npt)"""
    name = {"kvm_intel": "ept", "kvm_amd": "npt"}.get(facts.provider)
    if name is None:
        return None
    value = questions.parameter(facts, f"{facts.provider}.{name}")
    if questions.on(value):
        return PAGING.ok(f"{facts.provider} has {name}={value}")
    why = (
        f"Without {name} KVM keeps shadow page tables: nested guests are many times slower, and ESXi, Hyper-V and bhyve"
        " refuse to start theirs."
    )
    if not value:
        return PAGING.note(
            f"Unknown: {facts.provider}'s parameter {name} was not seen",
            why,
            "Look.",
            f"cat /sys/module/{facts.provider}/parameters/{name}",
        )
    if questions.flags_known(facts) and name not in facts.flags:
        do = f"This CPU does not show {name}: " + (
            "the outer hypervisor has to lend it." if questions.machine(facts) else "use a newer one."
        )
        return PAGING.warn(f"{facts.provider} has {name}={value}, and the CPU has no {name}", why, do)
    setting = modprobe_options.effective(facts, facts.provider, name)
    place = f" ({setting.where} sets it)" if setting else ""
    return PAGING.warn(
        f"{facts.provider} has {name}={value}{place}",
        why,
        f"Remove the option that switches {name} off, then load {facts.provider} again.",
        f"modprobe -r {facts.provider} && modprobe {facts.provider}",
    )


@checks(*UNRESTRICTED)
def unrestricted(facts: Facts, want: Want) -> Finding | None:
    """Intel's unrestricted guest is on"""
    if facts.provider != "kvm_intel":
        return None
    value = questions.parameter(facts, "kvm_intel.unrestricted_guest")
    if not value:
        return None
    if questions.on(value):
        return UNRESTRICTED.ok(f"kvm_intel has unrestricted_guest={value}")
    return UNRESTRICTED.warn(
        f"kvm_intel has unrestricted_guest={value}",
        "KVM then emulates guests' real mode, slowly and not wholly; a nested bhyve needs it for guests"
        " that start by firmware.",
        "It needs ept=Y: mend that first; else remove the option that switches it off.",
    )


@checks(*SHORTCUTS)
def shortcuts(facts: Facts, want: Want) -> Finding | None:
    """The CPU's shortcuts for nested guests are on (shadow VMCS; vgif, vls)"""
    names = {"kvm_intel": ("enable_shadow_vmcs",), "kvm_amd": ("vgif", "vls")}.get(facts.provider, ())
    values = {name: questions.parameter(facts, f"{facts.provider}.{name}") for name in names}
    shown = ", ".join(f"{name}={value}" for name, value in values.items() if value)
    if not shown:
        return None
    if all(questions.on(value) for value in values.values() if value):
        return SHORTCUTS.ok(f"{facts.provider} has {shown}")
    why = {
        "kvm_intel": "Each VMREAD and VMWRITE of an inner hypervisor then leaves to this one, so an exit of a nested"
        " guest costs many exits here.",
        "kvm_amd": "Each STGI, CLGI, VMLOAD and VMSAVE of an inner hypervisor then leaves to this one, so nested guests"
        " are slower.",
    }[facts.provider]
    return SHORTCUTS.note(
        f"{facts.provider} has {shown}",
        why,
        "Nothing is broken. CPUs of 2013 (Intel Haswell) and 2017 (AMD Zen) and later have it; in a virtual machine the"
        " outer hypervisor seldom lends it.",
    )
