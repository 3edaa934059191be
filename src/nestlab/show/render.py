"""Plans, proofs, events, images and errors as text for a person. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError, continued
from nestlab.base.events import Began, Ended, Event, Failed, Finished, Said, Started
from nestlab.base.frozen import frozen
from nestlab.base.paint import PLAIN, Paint, Style, columns, elapsed, human
from nestlab.base.printable import brief, printable
from nestlab.base.proofs import Proof, Verdict
from nestlab.images.inventory import StoredImage
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import Image
from nestlab.plan.steps import (
    Boot,
    Build,
    Clear,
    Connect,
    Discard,
    Disconnect,
    Form,
    Install,
    Leave,
    Plan,
    Remove,
    Step,
)
from nestlab.show.machine_table import counted

if TYPE_CHECKING:
    from nestlab.images.unused import Unused


@frozen
class Acceleration:
    """The accelerator of one machine: `kvm`, `tcg` or "" (not known yet), why, and what emulation costs ("" under KVM).
    On a Proxmox VE also where, with which CPU, and under which number if it is there already."""

    path: str
    accel: str
    why: str
    cost: str = ""
    node: str = ""
    storage: str = ""
    cpu: str = ""
    vmid: int | None = None


def plan(
    todo: Plan,
    blueprint: Blueprint | None = None,
    paint: Paint = PLAIN,
    *,
    most: int | None = None,
    usual: Mapping[str, float] = MappingProxyType({}),
    left: Collection[str] = (),
    ports: Mapping[str, str] = MappingProxyType({}),
    in_all: float | None = None,
) -> str:
    """The plan as text, one line per thing with its reason; `most`: so many lines, then how many more there are.
    `usual`: seconds that steps usually take, by id, and `in_all` all of them (None: not known); `left`: machines that
    were killed, and are left off; `ports`: what changes with the ports of machines, by path."""
    if not todo and ports:
        return "\n".join([f"{paint('bold', todo.lab)}: only ports change", *_ports(ports, paint)])
    if not todo and left:
        return f"{paint('bold', todo.lab)}: nothing to do; {', '.join(sorted(left))} stays off, as it was killed."
    if not todo:
        return f"{paint('bold', todo.lab)}: nothing to do; all is as wanted."
    groups = _grouped(todo.steps)
    shown = groups if most is None or len(groups) <= most else groups[: most - 1]
    images = blueprint.images if blueprint else {}
    words = [", ".join(_word(step, blueprint) for step in steps) for steps in shown]
    cells = [[subject(each[0], images), what, _why(each, usual)] for each, what in zip(shown, words, strict=True)]
    styles: list[list[Style | None]] = [["bold", _tint(steps), None] for steps in shown]
    head = usually(f"{counted(len(todo.steps), 'step')} to do", in_all)
    lines = [f"{paint('bold', todo.lab)}: {head}"]
    lines += columns(cells, styles, paint, indent="  ")
    if len(shown) < len(groups):
        lines.append(f"  … and {len(groups) - len(shown)} more; `nestlab plan` shows them all")
    return "\n".join([*lines, *_ports(ports, paint)])


def _ports(changes: Mapping[str, str], paint: Paint) -> list[str]:
    rows = [[path, "ports", why] for path, why in changes.items()]
    return columns(rows, [["bold", "green", None] for _ in rows], paint, indent="  ")


def _word(step: Step, blueprint: Blueprint | None) -> str:
    """What is done: a container is started, and boots nothing."""
    spec = blueprint.by_path().get(step.path) if blueprint is not None and isinstance(step, Boot) else None
    return "start" if spec is not None and spec.machine.container else step.verb


def _why(steps: Sequence[Step], usual: Mapping[str, float]) -> str:
    """Why, and how long these usually take, if that is known of each."""
    known = [usual[step.id] for step in steps if step.id in usual]
    return usually(steps[0].why, sum(known) if len(known) == len(steps) else None)


def usually(why: str, seconds: float | None) -> str:
    """`not there yet (usually 14s)`. Of what takes less than a second nothing is said."""
    return why if seconds is None or seconds < 1 else f"{why} (usually {elapsed(round(seconds))})"


def _grouped(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps on one subject for one reason stand together, where the first of them stands."""
    groups: dict[tuple[str, str, str], list[Step]] = {}
    for step in steps:
        groups.setdefault((step.path or type(step).__name__, step.subject, step.why), []).append(step)
    return list(groups.values())


def _tint(steps: Sequence[Step]) -> Style:
    return "red" if any(isinstance(step, Remove | Discard | Disconnect | Clear) for step in steps) else "green"


def subject(step: Step, images: Mapping[str, Image]) -> str:
    """The subject of a step: a machine's path, `image kvm`, `segment wire`."""
    if isinstance(step, Build):
        return f"image {image_name(step.image, images.get(step.image))}"
    if isinstance(step, Connect | Disconnect):
        return f"segment {step.segment}"
    if isinstance(step, Install):
        return PROGRAMS.get(step.program, step.program)
    if isinstance(step, Form | Leave):
        return f"cluster {step.cluster}" if isinstance(step, Form) else (step.machine or step.node)
    return step.subject


PROGRAMS: Mapping[str, str] = {"qemu": "nestlab's QEMU"}
"""The names of programs that are fetched."""


def image_name(key: str, image: Image | None) -> str:
    """The name of an image for a person."""
    if image is None:
        return key if len(key) < 20 else key[:12]
    return title_of(image)


_RUNS: Mapping[str, tuple[tuple[str, str], Style]] = {
    "kvm": (("runs on KVM", "run on KVM"), "green"),
    "tcg": (("is emulated (KVM off)", "are emulated (KVM off)"), "yellow"),
    "container": (("is a container", "are containers"), "green"),
    "": (("runs on KVM or is emulated", "run on KVM or are emulated"), "dim"),
}


def accelerations(machines: Sequence[Acceleration], paint: Paint = PLAIN) -> str:
    """The accelerators of all machines, those with the same reason together; emulation says what it costs."""
    placed = [each for each in machines if each.node]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in machines:
        if each.node:
            continue
        groups.setdefault((each.accel, each.why, each.cost), []).append(each.path)
    lines = []
    for (accel, why, cost), paths in groups.items():
        names = ", ".join(map(brief, paths[:6])) + (f" and {len(paths) - 6} more" if len(paths) > 6 else "")
        one = len(paths) == 1
        verb, style = _RUNS[accel]
        lines.append(f"{paint('bold', names)} {paint(style, verb[0] if one else verb[1])}: {brief(why)}")
        if cost:
            lines.append(f"  {brief(cost)}")
    return "\n".join([*_placements(placed, paint), *lines])


def _placements(machines: Sequence[Acceleration], paint: Paint) -> list[str]:
    """Where machines are or will be on a Proxmox VE, and why; what emulation costs, once."""
    if not machines:
        return []
    cells = [["MACHINE", "NODE", "STORAGE", "VMID", "CPU", "WHY"]]
    styles: list[list[Style | None]] = [["dim"] * 6]
    for each in machines:
        cpu = f"kvm: 0, {each.cpu}" if each.accel == "tcg" else each.cpu
        vmid = str(each.vmid) if each.vmid is not None else "next free"
        cells.append([each.path, each.node, each.storage or "-", vmid, cpu, each.why])
        styles.append(["bold", None, None, None, "yellow" if each.accel == "tcg" else None, "dim"])
    costs = dict.fromkeys(each.cost for each in machines if each.cost)
    return [*columns(cells, styles, paint), *(paint("yellow", brief(cost)) for cost in costs)]


def verdict(found: Verdict, paint: Paint = PLAIN) -> str:
    """The proofs as a table, machine by machine, with the reasons of those that fail, and the sum."""
    cells = [[_mark(proof), proof.claim, proof.seen] for proof in found.proofs]
    styles: list[list[Style | None]] = [[_mark_style(proof), None, "dim"] for proof in found.proofs]
    lines: list[str] = []
    place = None
    for proof, line in zip(found.proofs, columns(cells, styles, paint, indent="  "), strict=True):
        if proof.path != place:
            place = proof.path
            lines.append(f"{paint('bold', brief(place or proof.where))}  {paint('dim', f'level {proof.level}')}")
        lines.append(line)
        if proof.why and proof.ok is not True:
            lines.append(f"        {brief(proof.why)}")
    return "\n".join([*lines, sentence(found, paint)])


def sentence(found: Verdict, paint: Paint = PLAIN) -> str:
    """The verdict in one line."""
    decided = sum(proof.ok is not None for proof in found.proofs)
    failed = sum(1 for _ in found.failed())
    if found.ok:
        return f"{paint('green', 'proven')}: {'the one claim holds' if decided == 1 else f'all {decided} claims hold'}"
    if not decided:
        return f"{paint('red', 'not proven')}: nothing could be tried"
    return f"{paint('red', 'not proven')}: {failed} of {counted(decided, 'claim')} failed"


def _mark(proof: Proof) -> str:
    return {True: "ok  ", False: "FAIL", None: "-   "}[proof.ok]


def _mark_style(proof: Proof) -> Style:
    styles: dict[bool | None, Style] = {True: "green", False: "red", None: "dim"}
    return styles[proof.ok]


def event(happened: Event, start: float, images: Mapping[str, Image], width: int = 12, paint: Paint = PLAIN) -> str:
    """One plain line of progress (`  12.3s  hv1  boot: waiting for ssh`), "" for what needs no line.

    `start`: when the run began; `width`: of the column of names.
    """
    verb = happened.step.partition(":")[0]
    if isinstance(happened, Started):
        text = f"{verb}: {brief(happened.why)}" if happened.why else verb
    elif isinstance(happened, Said):
        text = f"{verb}: {brief(happened.text)}" if verb else brief(happened.text)
    elif isinstance(happened, Finished):
        note = f": {paint('yellow', brief(happened.note))}" if happened.note else ""
        text = f"{verb}: {paint('green', 'done')} in {happened.seconds:.1f}s{note}"
    elif isinstance(happened, Failed):
        text = f"{verb or 'run'}: {paint('red', 'failed')}: {printable(continued(happened.what))}"
    else:
        return ""
    return f"{happened.at - start:7.1f}s  {brief(named(happened, images)):<{width}}  {text}".rstrip()


def named(happened: Event, images: Mapping[str, Image]) -> str:
    """The subject of an event, for the column of names."""
    verb, _, about = happened.step.partition(":")
    if happened.path or not about:
        return happened.path
    if verb in ("build", "pull"):
        return f"image {image_name(about, images.get(about))}"
    if verb == "install":
        return PROGRAMS.get(about, about)
    if verb in ("form", "leave"):
        return f"cluster {about}" if verb == "form" else about.partition(".")[2]
    return f"segment {about}" if verb in ("connect", "disconnect") else about


def width_of(todo: Plan, blueprint: Blueprint | None) -> int:
    """The width of the column of names for this plan (at most 28)."""
    images = blueprint.images if blueprint else {}
    return min(28, max((len(subject(step, images)) for step in todo.steps), default=0))


@dataclass
class Tally:
    """The sum of a run, from its events."""

    began: Began | None = None
    ended: Ended | None = None

    def feed(self, happened: Event) -> None:
        """Takes one event."""
        if isinstance(happened, Began):
            self.began = happened
        elif isinstance(happened, Ended):
            self.ended = happened

    def line(self, paint: Paint = PLAIN) -> str:
        """The last line of a run's progress, "" while it goes on and if there was nothing to do."""
        if self.began is None or self.ended is None or not self.began.steps:
            return ""
        left = len(self.ended.left)
        done = f"{counted(len(self.began.steps) - left, 'step')} in {elapsed(self.ended.seconds)}"
        return (
            f"{paint('green', 'done')}: {done}" if self.ended.ok else f"{paint('red', 'not done')}: {done}, {left} left"
        )


def images(shelf: Sequence[StoredImage], paint: Paint = PLAIN) -> str:
    """The images in the cache."""
    if not shelf:
        return "no images are built yet; `nestlab images build kvm` builds one, and `nestlab up` those it needs"
    cells = [["NAME", "DIGEST", "SIZE", "FROM", "KERNEL", "ADDED", "USED BY"]]
    styles: list[list[Style | None]] = [["dim"] * 7]
    for image in shelf:
        made = " ".join(filter(None, (image.base, image.suite)))
        rest = [image.kernel or "-", image.added or "-", " ".join(image.used) or "-"]
        cells.append([image.name, image.digest[:12], human(image.size), made or "-", *rest])
        styles.append(["bold", *[None] * 6])
    return "\n".join(columns(cells, styles, paint))


def unused(found: Sequence[Unused], paint: Paint = PLAIN) -> str:
    """A table of the parts of the cache that can go, with their sizes."""
    if not found:
        return "all that the cache keeps is needed"
    cells = [["UNUSED", "SIZE"], *([each.what, human(each.size)] for each in found)]
    styles: list[list[Style | None]] = [["dim", "dim"]]
    styles += [[None, None] for _ in found]
    return "\n".join(columns(cells, styles, paint))


def error(problem: LabError, paint: Paint = PLAIN) -> str:
    """An error: what, on the next line what to do, then the details."""
    what, hint = (text if problem.many else continued(text) for text in (problem.what, problem.hint))
    lines = [f"{paint('red', 'error:')} {printable(what)}"]
    if hint:
        lines.append(printable(hint))
    if problem.detail:
        detail = printable(problem.detail.replace("\r\n", "\n").rstrip("\n"))
        lines += [line if line.startswith("  ") else f"  {line}" for line in detail.split("\n")]
    return "\n".join(lines)


def next_lines(
    lab: str,
    reach: str | None,
    hypervisor: str | None,
    *,
    several: bool,
    program: str = "nestlab",
    console: str | None = None,
) -> str:
    """Suggests what to type next. `reach`: a machine to go to; `hypervisor`: one that runs others; `several` labs
    exist; `program`: how nestlab is called here; `console`: one that has only that, shown where nothing is to be
    reached."""
    prefix = f"{lab}:" if several else ""
    rows = [[f"{program} status {lab}", "the machines, now"]]
    if reach:
        rows.insert(0, [f"{program} ssh {prefix}{reach}", "a shell there"])
    elif console:
        rows.insert(0, [f"{program} console {prefix}{console}", "its console"])
    if hypervisor and hypervisor != reach:
        rows.append([f"{program} exec {prefix}{hypervisor} -- ls -l /dev/kvm", "a command on a hypervisor"])
    rows.append([f"{program} down {lab}", "end it and delete everything of it"])
    styles: list[list[Style | None]] = [["cyan", "dim"]] * len(rows)
    return "\n".join(["next:", *columns(rows, styles, PLAIN, indent="  ")])


def plan_data(
    todo: Plan,
    accelerated: Sequence[Acceleration],
    usual: Mapping[str, float] = MappingProxyType({}),
    ports: Mapping[str, str] = MappingProxyType({}),
    in_all: float | None = None,
) -> dict[str, Any]:
    """A plan with how its machines will run, as JSON data; of each step that was done before, the seconds that it
    usually takes (`usual`), and of all of them (`in_all`); `ports`: what changes with the ports of machines, by
    path."""
    rows = [{"path": a.path, "accel": a.accel, "why": a.why, "cost": a.cost, **_place(a)} for a in accelerated]
    data = todo.data()
    for step in data["steps"]:
        if step["id"] in usual:
            step["usual"] = usual[step["id"]]
    changes = [{"path": path, "change": why} for path, why in ports.items()]
    return {**data, "usual": in_all, "acceleration": rows, "ports": changes}


def _place(of: Acceleration) -> dict[str, Any]:
    return {"node": of.node, "storage": of.storage, "cpu": of.cpu, "vmid": of.vmid} if of.node else {}
