"""Checks that nesting survives a reboot."""

from __future__ import annotations

from nestlab.doctor import modprobe_options
from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

LASTING = Voice("lasting", "lasting")
BLOCKED = Voice("blocked", "lasting")
OPTIONS = Voice("options", "lasting")

_FIX = "nestlab doctor --fix lasting"


def _elsewhere(facts: Facts) -> bool:
    """The configuration of the kernel is not this host's: a container's, or WSL's."""
    return bool(questions.container(facts)) or questions.wsl(facts)


@checks(*LASTING)
def lasting(facts: Facts, want: Want) -> Finding | None:
    """What is configured for `nested` agrees with what runs"""
    module = questions.vendor(facts)
    value = questions.parameter(facts, f"{module}.nested")
    if not module or _elsewhere(facts) or not questions.flag(facts):
        return None
    if not facts.examined or any(path in facts.unseen for path in modprobe_options.DIRECTORIES):
        return LASTING.note(
            f"Unknown: what modprobe.d says was not seen{questions.reason(facts, *modprobe_options.DIRECTORIES)}",
            "What runs now may be gone after a reboot.",
            "Look.",
            f"modprobe -c | grep '^options {module}'",
        )
    setting = modprobe_options.lasting(facts, module, "nested")
    if setting:
        return _configured(facts, module, value, setting)
    return _default(facts, module, value) if value else None


def _configured(facts: Facts, module: str, value: str, setting: modprobe_options.Setting) -> Finding:
    said = f"{setting.where} sets nested={setting.value}"
    runs = f"{module} runs with nested={value}" if value else f"{module} is not loaded"
    then = questions.accepts(module, setting.value)
    if then is None:
        return LASTING.fail(
            f"{said}, which {module} does not accept; {runs}",
            f"{module}'s `nested` is {'a number' if module == 'kvm_amd' else 'a yes or no'}: with this value the module"
            " does not load, and after a reboot there is no KVM at all.",
            "Write nested=1, which both vendors' modules accept.",
            _FIX,
            fixable=True,
        )
    if not value:
        return LASTING.ok(f"{said}; {runs}")
    if then == facts.nested:
        if then:
            return LASTING.ok(f"{said}, and {runs}")
        return LASTING.note(
            f"{said}, and {runs}",
            "Nesting stays off over reboots; a line that says so was written on purpose.",
            "Find out why before it is switched on: it may be the answer to a security hole (see `security`).",
        )
    if then:
        why = "The option counts only when the module is loaded, and it was loaded without."
        if questions.builtin(facts, module) or not setting.path.startswith(modprobe_options.DIRECTORIES):
            return LASTING.warn(
                f"{said}, but {runs}", "It counts from the next boot on.", "Reboot to finish.", "reboot"
            )
        do = "Reboot to finish, or load the module again when no guest uses it."
        return LASTING.warn(f"{said}, but {runs}", why, do, f"modprobe -r {module} && modprobe {module}")
    return LASTING.warn(
        f"{said}, but {runs}",
        "Nesting works now and is gone when the module is next loaded: after a reboot at the latest.",
        "Let nestlab write an option that wins over it, or change that line.",
        _FIX,
        fixable=True,
    )


def _default(facts: Facts, module: str, value: str) -> Finding:
    """No option is set: the module's default counts (kvm_intel: on since 4.20; kvm_amd: on)."""
    number = questions.version(facts)
    runs = f"{module} runs with nested={value}"
    default = module == "kvm_amd" or (number is not None and number >= (4, 20))
    if default and facts.nested:
        return LASTING.ok(f"No option sets it, {runs}, and on is the default of Linux {facts.kernel}")
    if facts.nested:
        return LASTING.warn(
            f"No option sets it, though {runs}",
            f"Off is the default of kvm_intel before Linux 4.20 (this is {facts.kernel or 'unknown'}): after a reboot"
            " nesting is gone.",
            "Write the option.",
            _FIX,
            fixable=True,
        )
    return LASTING.note(
        f"No option sets it, and {runs}",
        "Somebody loaded the module so by hand; the default of this kernel is on, so a reboot switches it on."
        if default
        else "Off is the default of this kernel (before 4.20), and stays so.",
        "See `nested`.",
    )


@checks(*BLOCKED)
def blocked(facts: Facts, want: Want) -> Finding | None:
    """Nothing keeps the module from being loaded at boot"""
    module = questions.vendor(facts)
    found = [each for each in modprobe_options.hurdles(facts) if each.module in ("kvm", module)]
    if not found or _elsewhere(facts):
        return None
    lines = "; ".join(f"{each.where}: {each.how} {each.module} {each.value}".strip() for each in found[:4])
    hard = any(modprobe_options.blocking(facts, each.module) for each in found)
    return BLOCKED.warn(
        f"modprobe is told not to load it: {lines}",
        "After a reboot there is no KVM."
        if hard
        else "A blacklisted module is not loaded by itself at boot, only by name (`modprobe`, modules-load.d).",
        "Remove these lines if KVM is wanted here; somebody wrote them on purpose.",
    )


@checks(*OPTIONS)
def misplaced(facts: Facts, want: Want) -> Finding | None:
    """Options are given to the module that has them"""
    if not facts.examined or _elsewhere(facts):
        return None
    module = questions.vendor(facts)
    wrong = [each for each in modprobe_options.settings(facts) if each.module == "kvm" and each.parameter == "nested"]
    hidden = [
        each
        for each in modprobe_options.settings(facts)
        if module and each.parameter == "nested" and each.module in questions.VENDORS and each.module != module
    ]
    if not wrong and (not hidden or modprobe_options.lasting(facts, module, "nested")):
        return None
    one = (wrong or hidden)[0]
    return OPTIONS.note(
        f"{one.where} sets `nested` for {one.module}, which "
        + ("has no such parameter" if wrong else "is not this CPU's"),
        f"It has no effect: `nested` is a parameter of {module or 'kvm_intel and kvm_amd'}.",
        f"Write `options {module or 'kvm_intel'} nested=1` instead.",
    )
