"""Verbs that wait for machines and look at what passes between them: wait, capture, graph."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.cli import complete
from nestlab.cli.common import lab_named, made, meant, print_json, site
from nestlab.cli.exit_status import MEND, bytes_out, guarded, out, run, say
from nestlab.cli.options import Debug, Json, Words

if TYPE_CHECKING:
    from nestlab.home.targets import Which
    from nestlab.lab.model import Lab
    from nestlab.verbs.wait import Goal

For = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="GOAL",
        help="ready, ssh, proofs, quorum, port:8006 or unit:NAME.",
        autocompletion=complete.goals,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Give up after this; 0: never.", min=0)]


@guarded
def wait(
    words: Words = None,
    goal: For = "ready",
    timeout: Timeout = 600.0,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Wait until machines are up, by ssh or what else their `ready:` names, or are further: all claims about them
    proven, their cluster quorate, a TCP port listened on in them, a systemd unit active. Status 0 when all are; else 2,
    with what was last seen of each that is not.

    It starts nothing: a machine that is not made or does not run is waited for, as somebody else may bring it up. A
    unit that failed is not.

    \b
    Examples:
      nestlab wait hv1/web
      nestlab wait pair --for proofs
      nestlab wait quorum --for quorum
      nestlab wait pve1 --for port:8006 --timeout 900
      nestlab wait hv1 --for unit:ssh
    """
    from nestlab.verbs.wait import parse_goal

    return run(_wait(meant(words), parse_goal(goal), timeout or None, as_json=as_json))


async def _wait(found: Which, goal: Goal, timeout: float | None, *, as_json: bool) -> int | None:
    from dataclasses import asdict

    from nestlab.home.targets import expand
    from nestlab.verbs import session as verbs
    from nestlab.verbs.wait import wait as wait_for

    name = lab_named(found)
    async with verbs.looking(site(), name=name) as session:
        known = [spec.path for spec in session.blueprint.specs]
        paths = expand(found.machines, known, name) if found.machines else tuple(known)
        if not paths:
            raise LabError(f"Lab {name} has no machines.", hint="`nestlab up` makes them.")

        def tell(path: str, text: str) -> None:
            say(brief(f"{path or name}: {text}"))

        outcomes = await wait_for(session, paths, goal, timeout, tell)
    if as_json:
        rows = [{**asdict(each), "path": each.path} for each in outcomes]
        print_json({"lab": name, "for": str(goal), "ok": all(each.ok for each in outcomes), "machines": rows})
        return None if all(each.ok for each in outcomes) else MEND
    for each in outcomes:
        if each.ok:
            out(brief(f"{each.path or name}: {each.seen}"))
    late = [each for each in outcomes if not each.ok]
    if late:
        what = "\n".join(brief(f"{each.path or name} is not there yet ({goal}): {each.seen}.") for each in late)
        raise LabError(what, hint=f"`nestlab status {name}` shows the machines; --timeout gives them longer.")
    return None


Segment = Annotated[
    str, typer.Argument(metavar="SEGMENT", help="A segment that it is on.", autocompletion=complete.segments)
]
Machine = Annotated[
    str, typer.Argument(metavar="MACHINE", help="Such as hv1/web, or LAB:hv1/web.", autocompletion=complete.machines)
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file; left out: to stdout.")
]
Count = Annotated[int | None, typer.Option("--count", "-c", metavar="N", help="End after N frames.", min=1)]
Seconds = Annotated[float | None, typer.Option("--seconds", metavar="S", help="End after S seconds.", min=0.1)]


@guarded
def capture(
    machine: Machine,
    segment: Segment,
    output: Output = None,
    count: Count = None,
    seconds: Seconds = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Capture what passes a machine's card on a segment, as a pcap that tcpdump and Wireshark read. It ends with
    Ctrl-C, after --count frames or --seconds, or when the machine goes down; the file is whole at any time.

    \b
    Examples:
      nestlab capture hv1 wire -o hv1.pcap
      nestlab capture hv1/web wire --seconds 30 -o web.pcap
      nestlab capture hv1/web wire | wireshark -k -i -
      nestlab capture hv1 wire --count 20 | tcpdump -n -r -
    """
    if output is None and (as_json or sys.stdout.isatty()):
        what = "A capture is no text for a terminal." if not as_json else "stdout cannot hold the capture and JSON."
        raise LabError(what, hint=f"Name a file: nestlab capture {machine} {segment} -o {segment}.pcap")
    return run(_capture(meant([machine]), segment, output, count, seconds, as_json=as_json))


async def _capture(
    found: Which, segment: str, output: Path | None, count: int | None, seconds: float | None, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from nestlab.cli.machines import the_one
    from nestlab.verbs import session as verbs
    from nestlab.verbs.capture import capture as capture_card
    from nestlab.verbs.capture import card

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        card(session.blueprint[path], segment)
        end = "" if count or seconds else "; Ctrl-C ends it"
        with _sink(output) as write:
            done = await capture_card(
                session,
                path,
                segment,
                write,
                count=count,
                seconds=seconds,
                begun=lambda: say(f"capturing {path} on {segment}{end}"),
            )
    if as_json:
        print_json({"machine": path, "segment": segment, "file": str(output), **asdict(done)})
        return
    dropped = f", {done.dropped} more were dropped" if done.dropped else ""
    say(f"{done.frames} frames{dropped}{f' in {output}' if output else ''}")


@contextmanager
def _sink(output: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Where the capture goes: a file for the user alone, as it may hold secrets, or stdout."""
    if output is None:
        stdout = bytes_out()

        def show(data: bytes) -> None:
            stdout.write(data)
            stdout.flush()

        yield show
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LabError(f"{output} cannot be written: {error.strerror}.", hint="Name another file.") from error
    try:
        yield _Whole(output, descriptor).write
    finally:
        os.close(descriptor)


class _Whole:
    """A file that ends with a whole record, also when the disk is full."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append it, or nothing of it: then LabError."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            what = f"{self._path} cannot be written: {error.strerror}. It holds what was captured until then."
            raise LabError(what, hint="Make room there, or end a capture sooner: --count, --seconds.") from error
        self._size += len(data)


Format = Annotated[
    str, typer.Option("--format", "-f", metavar="FORMAT", help="mermaid or dot.", autocompletion=complete.formats)
]


@guarded
def graph(words: Words = None, form: Format = "mermaid", as_json: Json = False, debug: Debug = False) -> int | None:
    """Draw a lab: boxes in boxes for what runs in what, lines to the segments. As text for Mermaid (Markdown on GitHub
    and GitLab) or Graphviz. A lab file is drawn as it stands; a lab that was made, with its addresses.

    \b
    Examples:
      nestlab graph pair
      nestlab graph examples/pair.yaml --format dot | dot -Tsvg > pair.svg
    """
    from dataclasses import asdict

    from nestlab.show import graph as shown

    found = meant(words)
    if found.machines:
        raise LabError(f"{found.machines[0]} is no lab.", hint="graph takes a lab file or the name of a lab.")
    if form not in ("mermaid", "dot"):
        raise LabError(f"There is no format {form}.", hint="--format takes mermaid or dot.")
    drawing = shown.of_lab(_file(found.file)) if found.file else shown.of_blueprint(made(found.lab))
    if as_json:
        print_json({"lab": drawing.lab, "machines": list(map(asdict, drawing.boxes)), "segments": drawing.segments})
        return None
    out(shown.mermaid(drawing) if form == "mermaid" else shown.dot(drawing))
    return None


def _file(path: Path) -> Lab:
    from nestlab.labfile import parse

    return parse(path, environ=os.environ)
