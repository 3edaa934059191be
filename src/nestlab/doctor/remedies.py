"""Remedies: what the doctor would change on a host so that it nests, or why it may not. Pure.

nestlab has one file of its own in /etc/modprobe.d and writes to nobody else's; only where the module is built in does
it edit the boot loader's command line (`bootline`). A remedy without changes is refused, or waits for a reboot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.doctor import kernel_command_line, modprobe_options
from nestlab.doctor.checks import questions
from nestlab.doctor.finding import Change, Reload, Remedy, SetParameter, Want, Write
from nestlab.hosts.facts import Facts, Holder

OWN = "/etc/modprobe.d/zz-nestlab.conf"
"""Its name sorts last, so that what it says wins over other files."""

RECORD = "/var/lib/nestlab/doctor/record.json"
"""The record of what was there before nestlab changed it, on the host that was changed."""

AS_ROOT = "Run the same command with sudo; on another host, log in as root there (ssh://root@HOST)."

FIXABLE = ("nested", "lasting", "ignore-msrs")

HEADER = """\
# Written by nestlab (nestlab doctor --fix); `nestlab doctor --undo` restores what was there before.
"""

_SWITCHES = frozenset({"ept", "npt"})
"""Parameters that are a yes or no, as kvm_intel's `nested` is (kvm_amd's is a number)."""

GUESTS = frozenset({"windows", "esxi", "macos"})
"""Guests that want ignore_msrs."""

_NOTHING_WANTED = Want()


@frozen
class _Asked:
    named: bool
    want: Want
    temporary: bool
    accept_risk: bool
    risk: str


def remedies(
    facts: Facts,
    checks: Collection[str] = (),
    *,
    want: Want = _NOTHING_WANTED,
    temporary: bool = False,
    accept_risk: bool = False,
    risk: str = "",
) -> tuple[Remedy, ...]:
    """Remedies for these checks (none named: those that need one), in this order; none if all is well.

    Later remedies build on the files of the earlier ones. `temporary`: no files, gone with the next boot. `risk`: why
    nesting is dangerous on this kernel, which refuses it unless `accept_risk`. LabError for a check that has no fix."""
    if unknown := sorted(set(checks) - set(FIXABLE)):
        hint = f"nestlab can fix: {', '.join(FIXABLE)}."
        raise LabError(f"There is no fix for {', '.join(f'`{name}`' for name in unknown)}.", hint=hint)
    asked = _Asked(bool(checks), want, temporary, accept_risk, risk)
    found = []
    for name in FIXABLE:
        remedy = _RULES[name](facts, asked) if not checks or name in checks else None
        if remedy is not None:
            found.append(remedy)
            facts = kernel_command_line.written(facts, remedy.changes)
    return tuple(found)


# -- rules: one each for FIXABLE; None when nothing is to do


def _nested(facts: Facts, asked: _Asked) -> Remedy | None:
    """Switch the vendor module's `nested` on."""
    module = facts.provider
    if module in questions.VENDORS and facts.nested:
        return None
    refused = _hopeless(facts, "nested") or _forbidden(facts, asked, "nested") or _risky("nested", asked)
    if refused:
        return refused
    if questions.builtin(facts, module):
        return _nested_built_in(facts, asked)
    if blocked := _unloadable(facts, "nested", module):
        return blocked
    value = questions.parameter(facts, f"{module}.nested")
    holders = _in_use(facts, module)
    if asked.temporary:
        if holders is not None:
            why = f"{module} is in use, and its `nested` changes only when it is loaded again."
            hint = "Stop these guests first; or leave --temporary out, and reboot to finish."
            return Remedy("nested", refused=why, hint=hint, holders=holders)
        return Remedy("nested", (Reload(module, ("nested=1",), value),), notes=_warnings(facts, asked, module))
    write, rival = _lasts(facts, module, "nested")
    if holders is not None:
        if rival:
            return _outvoted("nested", rival, module, "nested")
        staged = f"{module} is in use and keeps nested={value} until it is loaded again: reboot to finish."
        return Remedy("nested", write, staged, holders, notes=_warnings(facts, asked, module))
    now = modprobe_options.effective(kernel_command_line.written(facts, write), module, "nested")
    extra = () if now is not None and questions.accepts(module, now.value) else ("nested=1",)
    notes = (*_warnings(facts, asked, module), *((_brief(rival, module, "nested"),) if rival else ()))
    return Remedy("nested", (*write, Reload(module, extra, value)), notes=notes)


def _nested_built_in(facts: Facts, asked: _Asked) -> Remedy:
    module = facts.provider
    if asked.temporary:
        why = f"{module} is built into the kernel: its `nested` changes only at boot."
        return Remedy("nested", refused=why, hint="Leave --temporary out, and reboot to finish.")
    staged = f"{module} is built into the kernel, which reads its command line at boot: reboot to finish."
    there = modprobe_options.lasting(facts, module, "nested")
    if there is not None and there.path != modprobe_options.CMDLINE and questions.accepts(module, there.value):
        command = " ".join(kernel_command_line.carrier(facts)) or "the boot loader's own command"
        note = f"{there.where} has it already. If it is still off after a reboot, run {command} and boot again."
        return Remedy("nested", staged=staged, notes=(note,))
    changes = kernel_command_line.changes(facts, module, "nested", "1")
    if not changes:
        return _by_hand("nested", facts, module, "nested", "1")
    return Remedy("nested", changes, staged, notes=_warnings(facts, asked, module))


def _lasting(facts: Facts, asked: _Asked) -> Remedy | None:
    """Keep `nested` on over a reboot."""
    module = questions.vendor(facts)
    if not module or (facts.provider == module and not facts.nested):
        return None
    setting = modprobe_options.lasting(facts, module, "nested")
    if facts.provider == module:
        if questions.accepts(module, setting.value) if setting else _default(facts, module):
            return None
    elif setting is None or facts.provider or questions.accepts(module, setting.value) is not None:
        return None
    if asked.temporary:
        why = "An option that lasts is a file, and --temporary leaves none."
        return Remedy("lasting", refused=why, hint="Leave --temporary out.") if asked.named else None
    if refused := _forbidden(facts, asked, "lasting") or _risky("lasting", asked):
        return refused
    notes = _warnings(facts, asked, module)
    if questions.builtin(facts, module):
        changes = kernel_command_line.changes(facts, module, "nested", "1")
        return Remedy("lasting", changes, notes=notes) if changes else _by_hand("lasting", facts, module, "nested", "1")
    if blocked := _unloadable(facts, "lasting", module):
        return blocked
    write, rival = _lasts(facts, module, "nested")
    if rival:
        return _outvoted("lasting", rival, module, "nested")
    return Remedy("lasting", write, notes=notes)


def _ignore_msrs(facts: Facts, asked: _Asked) -> Remedy | None:
    """Let kvm ignore unknown model-specific registers, now and after a reboot."""
    if not asked.named and not asked.want.guests & GUESTS:
        return None
    value = questions.parameter(facts, "kvm.ignore_msrs")
    setting = modprobe_options.lasting(facts, "kvm", "ignore_msrs")
    kept = setting is not None and bool(questions.accepts("kvm", setting.value))
    if questions.on(value) and (kept or asked.temporary):
        return None
    if refused := _hopeless(facts, "ignore-msrs") or _forbidden(facts, asked, "ignore-msrs"):
        return refused
    if not value:
        why = "kvm's ignore_msrs was not seen."
        return Remedy("ignore-msrs", refused=why, hint="See whether /sys/module/kvm/parameters/ignore_msrs exists.")
    now: tuple[Change, ...] = () if questions.on(value) else (SetParameter("kvm", "ignore_msrs", "Y", value),)
    if kept or asked.temporary:
        return Remedy("ignore-msrs", now)
    if questions.builtin(facts, "kvm"):
        changes = kernel_command_line.changes(facts, "kvm", "ignore_msrs", "1")
        if not changes and not now:
            return _by_hand("ignore-msrs", facts, "kvm", "ignore_msrs", "1")
        lost = "It will not outlast a reboot: kvm is built in, and nestlab cannot edit this boot loader's command line."
        notes = () if changes else (f"{lost} Add `kvm.ignore_msrs=1` to it.",)
        return Remedy("ignore-msrs", (*now, *changes), notes=notes)
    write, rival = _lasts(facts, "kvm", "ignore_msrs")
    if rival and not now:
        return _outvoted("ignore-msrs", rival, "kvm", "ignore_msrs")
    notes = (_brief(rival, "kvm", "ignore_msrs"),) if rival else ()
    return Remedy("ignore-msrs", (*write, *now), notes=notes)


_RULES: Mapping[str, Callable[[Facts, _Asked], Remedy | None]] = {
    "nested": _nested,
    "lasting": _lasting,
    "ignore-msrs": _ignore_msrs,
}


# -- refusals


def _hopeless(facts: Facts, check: str) -> Remedy | None:
    """There is no vendor module whose parameters could be changed."""
    if facts.provider in questions.VENDORS:
        if check == "nested" and not questions.parameter(facts, f"{facts.provider}.nested"):
            path = f"/sys/module/{facts.provider}/parameters/nested"
            return Remedy(
                check, refused=f"{facts.provider}'s `nested` was not seen.", hint=f"See whether {path} exists."
            )
        return None
    if facts.provider:
        why = f"KVM here is {facts.provider}, which runs guests in software: it has no nesting to switch on."
        return Remedy(check, refused=why, hint="Use a host with VMX or SVM; nestlab emulates here.")
    if questions.flags_known(facts) and not questions.flag(facts):
        outer = questions.machine(facts) or questions.wsl(facts)
        where = "its outer host lends it none" if outer else "its firmware hides it, or it has none"
        hint = "Mend the outer host first" if outer else "Switch it on in the firmware's setup first"
        why = f"The CPU shows neither vmx nor svm ({where}): there is nothing to switch on."
        return Remedy(check, refused=why, hint=f"{hint}; `nestlab doctor` says how.")
    module = questions.vendor(facts) or "kvm_intel or kvm_amd"
    hint = f"Load it first (modprobe {module}); `nestlab doctor` says what keeps it from being loaded."
    return Remedy(check, refused=f"No KVM module of the CPU's vendor is loaded ({module}).", hint=hint)


def _forbidden(facts: Facts, asked: _Asked, check: str) -> Remedy | None:
    """This user, or this place, cannot change it."""
    if kind := questions.container(facts):
        why = f"This is a container ({kind}): modules and their options are its host's."
        return Remedy(check, refused=why, hint=f"Run `nestlab doctor --fix {check}` on the container's host.")
    if questions.wsl(facts):
        why = "This is WSL, whose kernel gets its options from Windows."
        word = "kvm.ignore_msrs=1" if check == "ignore-msrs" else f"{questions.vendor(facts) or 'kvm_intel'}.nested=1"
        hint = f"Below [wsl2] in %UserProfile%\\.wslconfig write `kernelCommandLine={word}`, then `wsl --shutdown`."
        return Remedy(check, refused=why, hint=hint)
    if facts.uid != 0:
        return Remedy(check, refused="Only root may change this.", hint=AS_ROOT)
    if facts.readonly and not asked.temporary:
        hint = "Make it writable, or change what this system is made from; --temporary needs no file there."
        return Remedy(check, refused=f"/etc/modprobe.d cannot be written: {facts.readonly}.", hint=hint)
    blind = next((path for path in modprobe_options.DIRECTORIES if path in facts.unseen), "")
    if not facts.examined or blind:
        reason = f" ({facts.unseen[blind]})" if blind else ""
        return Remedy(check, refused=f"What modprobe.d says was not seen{reason}.", hint="Let the doctor look as root.")
    module = "kvm" if check == "ignore-msrs" else questions.vendor(facts)
    if check != "ignore-msrs" and "modprobe" not in facts.tools and not questions.builtin(facts, module):
        return Remedy(check, refused="There is no modprobe here.", hint="Install kmod (`apt-get install kmod`).")
    return None


def _risky(check: str, asked: _Asked) -> Remedy | None:
    if not asked.risk or asked.accept_risk:
        return None
    why = f"{asked.risk.rstrip('.')}: switching nesting on needs --accept-risk."
    return Remedy(check, refused=why, hint="Install and boot a fixed kernel first, or accept the risk.")


def _unloadable(facts: Facts, check: str, module: str) -> Remedy | None:
    """A refusal where modprobe.d would keep the module from being loaded again."""
    for setting in modprobe_options.settings(facts):
        ours = (setting.module, setting.parameter) == (module, "nested")
        if ours and questions.accepts(module, setting.value) is None:
            why = f"{setting.where} sets nested={setting.value}, with which {module} does not load."
            return Remedy(check, refused=why, hint="Write nested=1 there, and try again.")
        if (
            setting.module == module
            and setting.parameter in _SWITCHES
            and questions.accepts("kvm_intel", setting.value) is None
        ):
            why = f"{setting.where} sets {setting.parameter}={setting.value}, with which {module} does not load."
            return Remedy(check, refused=why, hint="Mend that option, and try again.")
    for name in (module, "kvm"):
        if hurdle := modprobe_options.blocking(facts, name):
            said = f"{hurdle.how} {name} {hurdle.value}".strip()
            why = f"{hurdle.where} says `{said}`: once unloaded it could not be loaded again."
            return Remedy(check, refused=why, hint="Remove that line if KVM is wanted here, and try again.")
    return None


def _outvoted(check: str, rival: modprobe_options.Setting, module: str, parameter: str) -> Remedy:
    why = f"{_said(rival)}, which wins over a file of nestlab's."
    return Remedy(check, refused=why, hint=_edit(rival, module, parameter))


def _by_hand(check: str, facts: Facts, module: str, parameter: str, value: str) -> Remedy:
    word = f"{module}.{parameter}={value}"
    rival = modprobe_options.lasting(facts, module, parameter)
    place = f" ({_said(rival)})" if rival else ""
    why = f"{module} is built in, and nestlab cannot edit this boot loader's kernel command line{place}."
    return Remedy(check, refused=why, hint=f"Add `{word}` to the kernel command line by hand, and reboot.")


# -- notes


def _warnings(facts: Facts, asked: _Asked, module: str) -> tuple[str, ...]:
    """Warnings before nesting is switched on."""
    notes = []
    running, coming = (
        modprobe_options.effective(facts, module, "nested"),
        modprobe_options.lasting(facts, module, "nested"),
    )
    for setting in dict.fromkeys((running, coming)):
        if setting is not None and setting.path != OWN and questions.accepts(module, setting.value) is False:
            notes.append(f"It was switched off on purpose by {setting.where} (nested={setting.value}).")
    if asked.risk:
        notes.append(f"{asked.risk.rstrip('.')}; the risk was accepted.")
    return tuple(notes)


def _brief(rival: modprobe_options.Setting, module: str, parameter: str) -> str:
    return f"It will not outlast a reboot: {_said(rival)} and wins. {_edit(rival, module, parameter)}"


def _said(setting: modprobe_options.Setting) -> str:
    return f"{setting.where} sets {setting.module}'s {setting.parameter}={setting.value}"


def _edit(rival: modprobe_options.Setting, module: str, parameter: str) -> str:
    where = "the boot loader's kernel command line" if rival.path == modprobe_options.CMDLINE else rival.where
    dotted = rival.path.startswith(modprobe_options.DIRECTORIES)
    return f"Write `{'' if dotted else f'{module}.'}{parameter}=1` there, in {where}."


# -- details


def _default(facts: Facts, module: str) -> bool:
    """Whether `nested` is on where nothing sets it: kvm_intel's since Linux 4.20, kvm_amd's always."""
    return module == "kvm_amd" or (questions.version(facts) or (0, 0)) >= (4, 20)


def _lasts(facts: Facts, module: str, parameter: str) -> tuple[tuple[Change, ...], modprobe_options.Setting | None]:
    """The changes that switch a parameter of a loadable module on for good: nestlab's file, or the kernel's command
    line where that says otherwise; and the setting that wins all the same."""
    there = modprobe_options.lasting(facts, module, parameter)
    if there and not there.path.startswith(modprobe_options.DIRECTORIES) and questions.accepts(module, there.value):
        return (), None
    write = _own(facts, module, parameter, "1")
    rival = _rival(kernel_command_line.written(facts, write), module, parameter)
    if rival and not rival.path.startswith(modprobe_options.DIRECTORIES):
        changes = kernel_command_line.changes(facts, module, parameter, "1")
        if changes:
            return changes, None
    return write, rival


def _rival(after: Facts, module: str, parameter: str) -> modprobe_options.Setting | None:
    """The setting that would win over nestlab's file at the next boot and switches the parameter off."""
    setting = modprobe_options.lasting(after, module, parameter)
    return setting if setting is not None and not questions.accepts(module, setting.value) else None


def _in_use(facts: Facts, module: str) -> tuple[str, ...] | None:
    """The users of the module, for people; None when it has none."""
    known = facts.kernel_modules.get(module)
    free = known is not None and known.refcnt == 0 and not known.users
    if free and not facts.holders:
        return None
    users = () if known is None else tuple(f"module {name}" for name in known.users)
    return (*map(_holder, facts.holders), *users)


def _holder(holder: Holder) -> str:
    kind = {"pve": "PVE guest", "libvirt": "libvirt guest", "nestlab": "nestlab machine", "qemu": "QEMU guest"}
    if holder.guest and holder.kind in kind:
        return f"{kind[holder.kind]} {holder.guest} (pid {holder.pid})"
    return f"pid {holder.pid}" + (f" ({holder.command})" if holder.command else "")


def _own(facts: Facts, module: str, parameter: str, value: str) -> tuple[Write, ...]:
    """nestlab's file with this option in it besides what it has; empty when it is there already."""
    before = facts.files.get(OWN)
    line = f"options {module} {parameter}={value}"
    mine = [each for each in modprobe_options.settings(facts) if each.path == OWN]
    same = [each for each in mine if (each.module, each.parameter) == (module, parameter)]
    if same and same[-1].value == value:
        return ()
    kept = []
    for each in (before or HEADER).rstrip("\n").split("\n"):
        words = each.split()
        ours = len(words) == 3 and words[0] == "options" and words[1].replace("-", "_") == module
        if not (ours and words[2].partition("=")[0].replace("-", "_") == parameter):
            kept.append(each)
    while kept and kept[-1].endswith("\\"):
        kept.append("")  # ends a command that is continued
    return (Write(OWN, "".join(f"{each}\n" for each in (*kept, line)), before),)
