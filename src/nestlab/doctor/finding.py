"""A finding of the doctor: what it saw, how bad it is for nesting, and what to do. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from nestlab.base.frozen import frozen
from nestlab.hosts.facts import Facts

Level = Literal["ok", "note", "warn", "fail"]
Role = Literal["", "hypervisor", "plain"]
Layer = Literal[
    "place",  # what the host itself runs in: a VM, a container, WSL
    "cpu",  # virtualization of the CPU, and the firmware's locks on it
    "kernel",  # its version, and other hypervisors in it
    "module",  # the vendor module and its parameters
    "device",  # /dev/kvm for this user
    "proof",  # what KVM really does
    "lasting",  # whether it stays so after a reboot
    "security",
    "guests",  # what certain guests need
    "capacity",
]
LAYERS: tuple[Layer, ...] = get_args(Layer)
"""From the outermost; each stands on those before it, so the first that fails is the one to mend."""
LEVELS: tuple[Level, ...] = get_args(Level)


@frozen
class Want:
    """The purpose of the host. `guests`: hypervisors or systems that need more (`windows`, `esxi`, `macos`);
    `memory` and `cpus` of guests to come (bytes; 0: not said). `role`: what a lab file makes it, "" for a host that is
    no machine of a lab."""

    guests: frozenset[str] = frozenset()
    memory: int = 0
    cpus: int = 0
    role: Role = ""


@frozen
class Finding:
    """One check's answer. `seen`: what there is, with its values; `why`: what that means for nesting ("" when ok);
    `do`: what to do, a sentence; `commands`: exactly what to type, here or (when `do` says so) on the outer host;
    `fixable`: `nestlab doctor --fix CHECK` can do it."""

    check: str
    layer: Layer
    level: Level
    seen: str
    why: str = ""
    do: str = ""
    commands: tuple[str, ...] = ()
    fixable: bool = False

    def data(self) -> dict[str, object]:
        """For JSON."""
        return {**self.__dict__, "commands": list(self.commands)}


Rule = Callable[[Facts, Want], Finding | None]


@frozen
class Check:
    """`name` as `--fix NAME` takes it; `title` is the first line of the rule's docstring."""

    name: str
    layer: Layer
    title: str
    rule: Rule


@dataclass
class Register:
    """The checks there are. A rule enters itself with `@register("name", "layer")`; None means: does not apply."""

    checks: dict[str, Check] = field(default_factory=dict)

    def __call__(self, name: str, layer: Layer) -> Callable[[Rule], Rule]:
        def enter(rule: Rule) -> Rule:
            title = (rule.__doc__ or "").strip().partition("\n")[0]
            self.checks[name] = Check(name, layer, title, rule)
            return rule

        return enter

    def __iter__(self) -> Iterator[Check]:
        return iter(sorted(self.checks.values(), key=lambda each: LAYERS.index(each.layer)))


# What the doctor would change on a host. A remedy is a sequence of these, in order.


@frozen
class Write:
    """Make a file hold exactly `content` (None: delete it). `before`: what it held when facts were gathered (None:
    it was not there), for the diff that is shown; the backup is taken when it is written."""

    path: str
    content: str | None
    before: str | None = None
    mode: int = 0o644


@frozen
class SetParameter:
    """Write a module's parameter through sysfs, at once. `before`: its value now."""

    module: str
    name: str
    value: str
    before: str


@frozen
class Reload:
    """Unload the vendor module and load it again, with what modprobe.d then says. `before`: `nested` as it is now.
    The host has KVM afterwards, whatever happens."""

    module: str
    options: tuple[str, ...]
    before: str = ""


@frozen
class Run:
    """A command that carries a changed file to where it counts (update-grub, proxmox-boot-tool refresh). It runs again
    on undo, after the files are back."""

    argv: tuple[str, ...]


Change = Write | SetParameter | Reload | Run


@frozen
class Remedy:
    """The changes of one `--fix`. `staged`: why it takes effect only after a reboot ("" when at once), with the
    `holders` (guests that are in the way); `refused`: why nothing of it may be done (no root, a vulnerable kernel…);
    `notes`: what the user should know before saying yes."""

    check: str
    changes: tuple[Change, ...] = ()
    staged: str = ""
    holders: tuple[str, ...] = ()
    refused: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()
