"""Ports of machines at 127.0.0.1: forward, unforward, open."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.cli.common import lab_named, meant, print_json, site
from nestlab.cli.exit_status import guarded, out, run, say, show
from nestlab.cli.machines import the_one
from nestlab.cli.options import Debug, Json, MachineWord

if TYPE_CHECKING:
    from nestlab.home.targets import Which
    from nestlab.verbs.session import Session

Port = Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="The machine's TCP port.")]
SomePort = Annotated[int | None, typer.Argument(metavar="PORT", min=1, max=65535, help="The machine's TCP port.")]
Local = Annotated[
    int | None,
    typer.Argument(metavar="LOCAL", min=1, max=65535, help="The port here. Unless said: the same, or a free one."),
]
Keep = Annotated[bool, typer.Option("--keep", help="For good: whenever the machine runs, until `unforward`.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Open no browser.")]


@guarded
def forward(
    machine: MachineWord,
    port: Port,
    local: Local = None,
    keep: Keep = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Have a port of 127.0.0.1 here lead to a machine's, at any level, until Ctrl-C, or for good. The lab file says the
    same by `ports:`. `status` shows the ports that are kept.

    \b
    Examples:
      nestlab forward hv1 8006
      nestlab forward hv1/web 80 8080
      nestlab forward hv1/web 443 8443 --keep    undone by `nestlab unforward hv1/web 443`
    """
    if keep:
        return run(_keep(meant([machine]), port, local, as_json=as_json))
    return run(_forward(meant([machine]), port, local, as_json=as_json))


async def _forward(found: Which, port: int, local: int | None, *, as_json: bool) -> None:
    from nestlab.verbs import forward as forwards
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        async with forwards.forwarded(session, path, port, local, say) as got:
            _tell(path, port, got, as_json=as_json)
            if not as_json:
                say("Ctrl-C ends it")
            await _until_interrupted()


async def _keep(found: Which, port: int, local: int | None, *, as_json: bool) -> None:
    from nestlab.home import ports as kept
    from nestlab.verbs import ports
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "forward", name=lab_named(found), say=say) as session:
        path = the_one(session, found)
        there = kept.load(session.place)
        known = [each for each in there if (each.path, each.port) == (path, port)]
        if local is None and known:
            local = known[0].local
        got = await ports.open_port(session, path, port, local, there)
        if got not in {each.local for each in known}:
            kept.save(session.place, [*there, kept.Kept(path, port, got, asked=True)])
    _tell(path, port, got, as_json=as_json)


def _tell(path: str, port: int, local: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"machine": path, "port": port, "address": "127.0.0.1", "local": local}, indent=None)
    else:
        out(f"127.0.0.1:{local} -> {path}:{port}")
    with contextlib.suppress(OSError, ValueError):
        import sys

        sys.stdout.flush()


async def _until_interrupted() -> None:
    import asyncio

    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is how a forward ends
        await asyncio.Event().wait()


@guarded
def unforward(machine: MachineWord, port: SomePort = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Undo `forward --keep`: of one port of a machine, or of all.

    \b
    Examples:
      nestlab unforward hv1/web 443
      nestlab unforward hv1
    """
    return run(_unforward(meant([machine]), port, as_json=as_json))


async def _unforward(found: Which, port: int | None, *, as_json: bool) -> None:
    from nestlab.home import ports as kept
    from nestlab.verbs import ports
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "unforward", name=lab_named(found), say=say) as session:
        path = the_one(session, found)
        there = kept.load(session.place)
        doomed = [each for each in there if each.path == path and port in (None, each.port) and each.asked]
        if not doomed:
            said = any(each.path == path and port in (None, each.port) for each in there)
            what = f"No port of {path} is kept open" if port is None else f"Port {port} of {path} is not kept open"
            hint = "Its lab file says it: take it out of `ports:`, then `nestlab up`."
            hint = hint if said else "`nestlab status` shows those that are."
            raise LabError(f"{what} by `nestlab forward --keep`.", hint=hint)
        rest = [each for each in there if each not in doomed]
        kept.save(session.place, rest)
        for each in doomed:
            await ports.close_port(session, each, rest)
    if as_json:
        print_json({"machine": path, "closed": [{"port": each.port, "local": each.local} for each in doomed]})
    else:
        for each in doomed:
            say(f"127.0.0.1:{each.local} no longer leads to {path}:{each.port}")


@guarded
def open_page(
    machine: MachineWord,
    port: SomePort = None,
    no_browser: NoBrowser = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Forward a machine's web page until Ctrl-C, print its address, whom to log in as and the fingerprint of its
    certificate, and open it in the browser of a desktop. The port is the first of the usual ones at which something
    listens, unless it is named.

    \b
    Examples:
      nestlab open pve1
      nestlab open hv1/web 8080 --no-browser
    """
    return run(_open(meant([machine]), port, browser=not no_browser, as_json=as_json))


async def _open(found: Which, port: int | None, *, browser: bool, as_json: bool) -> None:
    from nestlab.verbs import forward as forwards
    from nestlab.verbs import session as verbs

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        port = port if port is not None else await forwards.page(session, path)
        async with forwards.forwarded(session, path, port, None, say) as local:
            served = await forwards.served(local)
            address = f"{served.scheme}://127.0.0.1:{local}/"
            user, password = _login(session, path)
            if as_json:
                data = {"machine": path, "port": port, "address": address, "user": user, "password": password}
                print_json({**data, "fingerprint": served.fingerprint or None}, indent=None)
            else:
                out(address)
                show(f"user: {user}\npassword: {password}")
                if served.fingerprint:
                    show(f"certificate (SHA-256): {served.fingerprint}")
            import sys

            sys.stdout.flush()
            if browser and not as_json:
                await _browse(address)
                say("Ctrl-C ends it")
            await _until_interrupted()


def _login(session: Session, path: str) -> tuple[str, str]:
    """Whom to log in as, and where the password is."""
    image = session.blueprint[path].machine.image
    if image.base is not None:
        return image.user, f"none yet, unless its setup sets one: nestlab ssh {path} passwd"
    return image.user, f"what {image.file or 'its image'}, its cloud_init or its setup set; another: nestlab ssh {path}"


async def _browse(address: str) -> None:
    """On a desktop that can; else the reader opens it."""
    program = shutil.which("xdg-open")
    if program is None or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    import asyncio

    nowhere = asyncio.subprocess.DEVNULL
    await asyncio.create_subprocess_exec(
        program, address, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
    )
