"""Commands that enter machines: ssh, exec, console."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.printable import brief, one_line
from nestlab.cli import complete
from nestlab.cli.command_words import TAIL
from nestlab.cli.common import lab_named, meant, print_json, site
from nestlab.cli.exit_status import guarded, out, run, say, untouched
from nestlab.cli.options import Debug, Json, MachineWord
from nestlab.lab.model import parent_of
from nestlab.lab.places import Pve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nestlab.home.paths import Place
    from nestlab.home.targets import Which
    from nestlab.hosts.host import Host, Running
    from nestlab.verbs.pve_consoles import Afar
    from nestlab.verbs.session import Session

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MACHINE COMMAND",
        help="Machines, such as hv1/web, hv1,hv2 or hv*, and the command.",
        autocompletion=complete.machines_then_command,
    ),
]
All = Annotated[bool, typer.Option("--all", help="On all machines that run.")]
On = Annotated[list[str] | None, typer.Option("--on", metavar="GLOB", help="On these machines; a * is within a name.")]
LabOption = Annotated[str, typer.Option("--lab", metavar="LAB", help="Of this lab.", autocompletion=complete.labs)]


SshWords = Annotated[
    list[str],
    typer.Argument(
        metavar="MACHINE [COMMAND]",
        help="Such as hv1/web, or LAB:hv1/web.",
        autocompletion=complete.machine_then_command,
    ),
]


Stdio = Annotated[
    bool,
    typer.Option("--stdio", help="Carry a connection to its sshd, as a ProxyCommand does.", hidden=True),
]


@guarded
def ssh(ctx: typer.Context, words: SshWords, stdio: Stdio = False, debug: Debug = False) -> int | None:
    """A shell on a machine, through as many levels as there are; or a command, on a terminal if there is one here.
    The machine has the terminal meanwhile, as with any ssh; its modes are set back after. What follows the machine is
    the command, with its options; a `--` before it may be there.

    \b
    Examples:
      nestlab ssh hv1/web
      nestlab ssh hv1 journalctl -b
    """
    if stdio:
        return run(_stdio(meant(words)), quiet=True)  # ssh hangs up on it
    return run(_ssh(meant(words), ctx.meta.get(TAIL, [])))


async def _ssh(found: Which, command: Sequence[str]) -> int:
    async with at(found) as (_, path, host):
        return await _attach(host, path, command, pty=os.isatty(0))


async def _stdio(found: Which) -> None:
    """What `ssh-config` has ssh do for a machine that no network leads to."""
    from nestlab.engines import Carrying
    from nestlab.verbs import session as verbs
    from nestlab.wire import stdio

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        engine = await session.nest.engine(parent_of(path))
        if not isinstance(engine, Carrying):
            raise LabError(f"TCP leads to the sshd of {path}.", hint="Use its entry in `nestlab ssh-config`.")
        async with engine.carried(path) as far:
            await stdio.join(far)


async def _attach(host: Host, path: str, command: Sequence[str], *, pty: bool, harmless: bool = False) -> int:
    from nestlab.hosts.ssh import SshHost

    if not isinstance(host, SshHost):
        raise LabError(f"{path} is not reached by ssh.", hint="Use `nestlab exec`.")
    return await host.attach(command, pty=pty, harmless=harmless)


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
    is the command's; of several the highest. What they print goes on as it is; to a terminal without effect on it,
    control characters as escapes. What follows the machines is the command, with its options; a `--` before it may be
    there.

    \b
    Examples:
      nestlab exec hv1/web uname -a
      nestlab exec hv1,hv2 -- systemctl is-system-running
      nestlab exec --all cat /proc/uptime
      nestlab exec --json --on 'hv*' nproc
    """
    command = ctx.meta.get(TAIL)
    if not command:
        raise LabError("There is no command.", hint="Write it after the machine: nestlab exec hv1 uname -a")
    patterns = [*(words or []), *(on or [])]
    found = meant([*([lab] if lab else []), *patterns])
    return run(_execute(found, command, everywhere=everywhere, several=bool(on) or everywhere, as_json=as_json))


async def _execute(found: Which, command: list[str], *, everywhere: bool, several: bool, as_json: bool) -> int:
    from nestlab.home.targets import expand
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        known = [spec.path for spec in session.blueprint.specs]
        if everywhere:
            observed = await session.look()
            paths: tuple[str, ...] = tuple(
                p for p in known if session.blueprint[p].machine.by_ssh and _runs(observed.machines.get(p))
            )
        else:
            paths = expand(found.machines, known, session.blueprint.lab)
        if not paths:
            raise LabError("No machine is meant.", hint="Name some, or say --all: nestlab exec --all -- uname -a")
        if len(paths) == 1 and not several and not as_json:
            host = await session.nest.host(paths[0])
            return await _attach(host, paths[0], command, pty=False, harmless=True)
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
        say(f"{path:<{width}} | {brief(error.what)}")
        return 255


async def _prefixed(running: Running, prefix: str) -> int:
    """Its lines as they come, each behind the machine's name: stdout on stdout, stderr, at the end, on stderr."""
    running.close_input()
    rest = b""
    async for chunk in running.chunks():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _line(prefix, line)
        sys.stdout.flush()
    if rest:
        _line(prefix, rest)
    result = await running.result()
    for line in result.stderr.splitlines():
        say(prefix + one_line(line.decode(errors="replace")))
    return result.status


def _line(prefix: str, line: bytes) -> None:
    """A line that a command printed: harmless on a terminal, elsewhere as it is."""
    if sys.stdout.isatty():
        out(prefix + one_line(line.removesuffix(b"\r").decode(errors="replace")))
    else:
        untouched(prefix.encode() + line + b"\n")


@guarded
def console(machine: MachineWord, debug: Debug = False) -> int | None:
    """Attach to a machine's serial console. Ctrl-] leaves it. What stdin holds is typed, if it is no terminal. The
    machine has the terminal meanwhile; its modes are set back after."""
    return run(_console(meant([machine])))


async def _console(found: Which) -> None:
    from nestlab.hosts import terminal

    async with below(found) as (path, host, place, far):
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
            say(f"\nleft the console of {path}; it runs on")


@asynccontextmanager
async def at(found: Which) -> AsyncIterator[tuple[Session, str, Host]]:
    """The one machine that is meant, as a host."""
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        yield session, path, await session.nest.host(path)


@asynccontextmanager
async def below(found: Which) -> AsyncIterator[tuple[str, Host, Place, Afar | None]]:
    """The one machine that is meant, the host it runs on, and where the lab's things are there; instead of that the
    Proxmox VE, where it is directly on one."""
    from nestlab.engines.qemu.quick_status import guest_place
    from nestlab.home import former_names
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        outer = parent_of(path)
        place = guest_place(former_names.first(session.place)) if outer else session.platform.place
        yield path, await session.nest.host(outer), place, await _afar(session, path)


async def _afar(session: Session, path: str) -> Afar | None:
    outer = parent_of(path)
    spec = session.blueprint.by_path().get(outer)
    if not isinstance(session.blueprint.on, Pve) and (spec is None or spec.machine.hypervisor != "pve"):
        return None  # the import takes longer than the answer
    from nestlab.verbs.pve_consoles import afar

    return await afar(session, path)


def the_one(session: Session, found: Which) -> str:
    """The path of the one machine that is meant. LabError for several, or none."""
    from nestlab.home.targets import expand

    paths = expand(found.machines, [spec.path for spec in session.blueprint.specs], session.blueprint.lab)
    if len(paths) != 1:
        raise LabError("One machine should be named.", hint="Such as hv1/web; `nestlab status` lists them.")
    return paths[0]
