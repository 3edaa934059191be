"""Commands that enter machines: ssh, exec, cp, console, logs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from nestlab.base.errors import LabError
from nestlab.cli import complete
from nestlab.cli.common import home, lab_named, meant, paint, print_json, site
from nestlab.cli.guard import guarded, out, run, say
from nestlab.cli.options import Debug, Json, MachineWord
from nestlab.lab.model import parent_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nestlab.home.paths import Place
    from nestlab.home.targets import Which
    from nestlab.hosts.host import Host, Running
    from nestlab.proxmox.platform import ProxmoxPlatform
    from nestlab.verbs.session import Session

TAIL = "nestlab.tail"


class WithTail(TyperCommand):
    """A command of which everything after `--` belongs to the command that it runs, options too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[TAIL] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MACHINE -- COMMAND",
        help="Machines, such as hv1/web, hv1,hv2 or hv*, and the command.",
        autocompletion=complete.machines,
    ),
]
All = Annotated[bool, typer.Option("--all", help="On all machines that run.")]
On = Annotated[list[str] | None, typer.Option("--on", metavar="GLOB", help="On these machines; a * is within a name.")]
LabOption = Annotated[str, typer.Option("--lab", metavar="LAB", help="Of this lab.", autocompletion=complete.labs)]


@guarded
def ssh(ctx: typer.Context, machine: MachineWord, debug: Debug = False) -> int | None:
    """A shell on a machine, through as many levels as there are; or a command, after `--`, on a terminal.

    \b
    Examples:
      nestlab ssh hv1/web
      nestlab ssh hv1 -- journalctl -b
    """
    return run(_ssh(meant([machine]), ctx.meta.get(TAIL, [])))


async def _ssh(found: Which, command: Sequence[str]) -> int:
    async with at(found) as (_, path, host):
        return await _attach(host, path, command, pty=os.isatty(0))


async def _attach(host: Host, path: str, command: Sequence[str], *, pty: bool) -> int:
    from nestlab.hosts.ssh import SshHost

    if not isinstance(host, SshHost):
        raise LabError(f"{path} is not reached by ssh.", hint="Use `nestlab exec`.")
    return await host.attach(command, pty=pty)


@guarded
def execute(
    ctx: typer.Context,
    words: Words = None,
    everywhere: All = False,
    on: On = None,
    lab: LabOption = "",
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Run a command on one machine, or on several at once with the machine's name before each line. The exit status
    is the command's; of several the highest.

    \b
    Examples:
      nestlab exec hv1/web -- uname -a
      nestlab exec hv1,hv2 -- systemctl is-system-running
      nestlab exec --all -- cat /proc/uptime
      nestlab exec --on 'hv*' --json -- nproc
    """
    names, command = _split(words or [], ctx.meta.get(TAIL), bool(on) or everywhere)
    if not command:
        raise LabError("There is no command.", hint="Write it after --: nestlab exec hv1 -- uname -a")
    patterns = [*names, *(on or [])]
    found = meant([*([lab] if lab else []), *patterns])
    return run(_execute(found, command, everywhere=everywhere, several=bool(on) or everywhere, as_json=as_json))


def _split(words: list[str], tail: list[str] | None, chosen: bool) -> tuple[list[str], list[str]]:
    """The machines and the command. Without `--` the first word is the machines, unless options say which."""
    if tail is not None:
        return words, tail
    return ([], words) if chosen else (words[:1], words[1:])


async def _execute(found: Which, command: list[str], *, everywhere: bool, several: bool, as_json: bool) -> int:
    from nestlab.home.targets import expand
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        known = [spec.path for spec in session.blueprint.specs]
        if everywhere:
            observed = await session.look()
            paths: tuple[str, ...] = tuple(p for p in known if _runs(observed.machines.get(p)))
        else:
            paths = expand(found.machines, known, session.blueprint.lab)
        if not paths:
            raise LabError("No machine is meant.", hint="Name some, or say --all: nestlab exec --all -- uname -a")
        if len(paths) == 1 and not several and not as_json:
            return await _attach(await session.nest.host(paths[0]), paths[0], command, pty=False)
        return await _on_several(session, paths, command, as_json=as_json)


def _runs(seen: object) -> bool:
    return getattr(seen, "state", "") == "running"


async def _on_several(session: Session, paths: Sequence[str], command: list[str], *, as_json: bool) -> int:
    """All at once; a machine that does not answer counts as status 255, as with ssh."""
    import asyncio

    width = max(map(len, paths))
    statuses = await asyncio.gather(*(_one_of(session, path, command, width, as_json=as_json) for path in paths))
    return max(statuses)


async def _one_of(session: Session, path: str, command: list[str], width: int, *, as_json: bool) -> int:
    try:
        host = await session.nest.host(path)
        if as_json:
            result = await host.run(command, check=False)
            text = {"stdout": result.text, "stderr": result.stderr.decode(errors="replace")}
            print_json({"machine": path, "status": result.status, **text}, indent=None)
            return result.status
        async with host.start(command) as running:
            return await _prefixed(running, f"{path:<{width}} | ")
    except LabError as error:
        say(f"{path:<{width}} | {error.what}")
        return 255


async def _prefixed(running: Running, prefix: str) -> int:
    """Its lines as they come, each behind the machine's name: stdout on stdout, stderr, at the end, on stderr."""
    running.close_input()
    rest = b""
    async for chunk in running.chunks():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            out(prefix + line.decode(errors="replace"))
        sys.stdout.flush()
    if rest:
        out(prefix + rest.decode(errors="replace"))
    result = await running.result()
    for text in result.stderr.decode(errors="replace").splitlines():
        say(prefix + text)
    return result.status


Source = Annotated[list[str], typer.Argument(metavar="FROM TO", autocompletion=complete.machines_or_files)]


@guarded
def cp(paths: Source, debug: Debug = False) -> int | None:
    """Copy files and directories to or from a machine: modes and times are kept, owners are not. A link that is named
    is followed; links inside a directory are kept.

    \b
    Examples:
      nestlab cp notes.txt hv1/web:/root/
      nestlab cp hv1:/var/log ./log-of-hv1
      nestlab cp pair:hv1/web:/etc/hosts .       with several labs
    """
    return run(_copy(paths))


async def _copy(words: list[str]) -> None:
    from nestlab.home.targets import Remote, remote
    from nestlab.hosts import copy

    if len(words) < 2:
        raise LabError("cp takes at least two places.", hint="nestlab cp notes.txt hv1/web:/root/")
    labs = home().labs()
    *sources, target = (remote(word, labs, complete.paths) for word in words)
    here = isinstance(target, str)
    odd = [word for word, source in zip(words[:-1], sources, strict=True) if isinstance(source, str) == here]
    if odd:
        side = "is here" if here else "is a machine's"
        what = f"It is not clear which way to copy: {odd[0]} {side}, and so is {words[-1]}."
        hint = "One side is a machine's (hv1/web:/root/), the other is here; from machine to machine copy twice."
        raise LabError(what, hint=hint)
    _distinct([(source if isinstance(source, str) else source.path) for source in sources])
    if isinstance(target, Remote):
        async with at(meant([target.machine])) as (_, _, host):
            if len(sources) > 1:
                await copy.want_directory(target.path, host)
            for source in sources:
                if isinstance(source, str):
                    await copy.upload(source, host, target.path)
        return
    if len(sources) > 1:
        await copy.want_directory(target)
    for source in sources:
        if isinstance(source, Remote):
            async with at(meant([source.machine])) as (_, _, host):
                await copy.download(host, source.path, target)


def _distinct(paths: list[str]) -> None:
    """LabError where two sources would become one in the target. (`..` and `/` have no name of their own.)"""
    names = [Path(path).name for path in paths]
    twice = next((name for name in names if name not in ("", "..") and names.count(name) > 1), None)
    if twice is not None:
        what = f"Two of these are called {twice}, and the second would take the first one's place. Nothing was copied."
        raise LabError(what, hint="Copy them one by one, under names of their own.")


@guarded
def console(machine: MachineWord, debug: Debug = False) -> int | None:
    """Attach to a machine's serial console. Ctrl-] leaves it. What stdin holds is typed, if it is no terminal."""
    return run(_console(meant([machine])))


async def _console(found: Which) -> None:
    from nestlab.hosts import terminal

    async with _below(found) as (path, host, place, far):
        way = far.console(path, terminal.size) if far is not None else host.unix(place.of(path).console)
        async with way as socket:
            if os.isatty(0):
                blank = "; press Enter, for nothing of before is shown" if far is not None else ""
                say(f"console of {path}; Ctrl-] leaves it{blank}")
            try:
                await terminal.attach(socket)
            except OSError as error:
                hint = f"`nestlab status` tells whether it runs; `nestlab logs {path}` shows what its console said."
                raise LabError(f"{path} has no console now: {error.strerror or error}.", hint=hint) from error
        if os.isatty(0):
            say(f"\r\nleft the console of {path}; it runs on")


BootNumber = Annotated[
    int, typer.Option("--boot", metavar="N", help="1 is the oldest boot kept, 0 the last, -1 the one before it.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")]
List = Annotated[bool, typer.Option("--list", help="List the boots whose consoles are kept.")]


@guarded
def logs(
    machine: MachineWord,
    boot: BootNumber = 0,
    follow: Follow = False,
    listed: List = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Print what a machine's console said, in this boot or an earlier one; also of a machine that died. Of one on a
    Proxmox VE, which keeps no consoles, it is the machine's own journal.

    \b
    Examples:
      nestlab logs hv1/web
      nestlab logs hv1/web --follow
      nestlab logs hv1/web --boot -1             the boot before the last
    """
    return run(_logs(meant([machine]), boot, follow=follow, listed=listed, as_json=as_json))


async def _logs(found: Which, number: int, *, follow: bool, listed: bool, as_json: bool) -> None:
    from nestlab.verbs import logs as kept

    async with _below(found) as (path, host, place, far):
        if far is not None:
            await _logs_afar(far, path, number, follow=follow, listed=listed)
            return
        boots = await kept.boots(host, place, path)
        if listed:
            _print_boots(boots, as_json=as_json)
            return
        async with kept.lines(host, kept.chosen(boots, number, path), follow=follow) as lines:
            async for line in lines:
                sys.stdout.buffer.write(line + b"\n")
                if follow:
                    sys.stdout.buffer.flush()


async def _logs_afar(far: ProxmoxPlatform, path: str, number: int, *, follow: bool, listed: bool) -> None:
    """Of a machine on a Proxmox VE, which keeps nothing of what consoles say: its own journal."""
    if listed:
        what = f"Proxmox VE keeps no consoles: which boots {path} remembers, its own journal says."
        raise LabError(what, hint=f"nestlab exec {path} -- journalctl --list-boots")
    if not follow:
        sys.stdout.buffer.write(await far.log(path, number))
        return
    async with far.following(path) as lines:
        async for line in lines:
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()


def _print_boots(boots: Sequence[object], *, as_json: bool) -> None:
    from dataclasses import asdict

    from nestlab.base.paint import Style, columns, human
    from nestlab.verbs.logs import Boot

    rows = [boot for boot in boots if isinstance(boot, Boot)]
    if as_json:
        print_json({"boots": [asdict(boot) for boot in rows]})
        return
    cells = [["BOOT", "SIZE", "LAST LINE AT"]]
    styles: list[list[Style | None]] = [["dim"] * 3]
    for boot in rows:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(boot.changed))
        cells.append([str(boot.number), human(boot.size), at])
        styles.append([None] * 3)
    out("\n".join(columns(cells, styles, paint())))


@asynccontextmanager
async def at(found: Which) -> AsyncIterator[tuple[Session, str, Host]]:
    """The one machine that is meant, as a host."""
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        yield session, path, await session.nest.host(path)


@asynccontextmanager
async def _below(found: Which) -> AsyncIterator[tuple[str, Host, Place, ProxmoxPlatform | None]]:
    """The one machine that is meant, the host it runs on, and where the lab's things are there; instead of that the
    Proxmox VE, where it is directly on one."""
    from nestlab.engines.qemu.quick_status import guest_place
    from nestlab.home.paths import Place
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        outer = parent_of(path)
        place = guest_place(session.blueprint.lab) if outer else Place(str(session.place.root))
        far = None
        if not outer and session.blueprint.on is not None:
            from nestlab.proxmox.platform import ProxmoxPlatform

            far = session.platform if isinstance(session.platform, ProxmoxPlatform) else None
        yield path, await session.nest.host(outer), place, far


def the_one(session: Session, found: Which) -> str:
    """The path of the one machine that is meant. LabError for several, or none."""
    from nestlab.home.targets import expand

    paths = expand(found.machines, [spec.path for spec in session.blueprint.specs], session.blueprint.lab)
    if len(paths) != 1:
        raise LabError("One machine should be named.", hint="Such as hv1/web; `nestlab status` lists them.")
    return paths[0]
