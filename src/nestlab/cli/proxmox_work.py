"""`nestlab pve` as coroutines: what it does and prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.cli.common import home, paint, print_json
from nestlab.cli.exit_status import MEND, agreed, out, say, show

if TYPE_CHECKING:
    from nestlab.lab.places import Pve
    from nestlab.lab.pve_address import Shell
    from nestlab.proxmox.setup import Point, Setup

UNCHANGED = "nothing was changed"

NEWEST = "9"
"""The version of Proxmox VE that commands are for when it cannot be asked."""


async def setup(
    on: Pve, bridges: Sequence[str], user: str, token: str, *, perform: bool, yes: bool, as_json: bool, named: bool
) -> int | None:
    from nestlab.proxmox import platform, setup
    from nestlab.verbs.local import asked

    try:
        reached = platform.reach(on.address, home(), os.environ, asked() if perform else None, named=named)
    except LabError:
        if perform:
            raise
        _show(setup.unasked(on, NEWEST, user, token, bridges), on, asked_it=False, as_json=as_json)
        return None
    try:
        try:
            todo = await setup.plan(reached.api, platform.narrowed(on), user, token, bridges)
        except LabError as error:
            if perform or isinstance(error, setup.NotThere):
                raise
            _show(setup.unasked(on, NEWEST, user, token, bridges), on, asked_it=False, as_json=as_json)
            return None
        if not perform:
            _show(todo, on, asked_it=True, as_json=as_json)
            return None
        if not as_json:
            _show(todo, on, asked_it=True, as_json=False)
        if not agreed(yes, "Do all of this now?", UNCHANGED):
            return MEND
        done = await setup.perform(reached.api, todo, say)
    finally:
        await reached.close()
    kept = _keep(on, f"{user}!{token}={done.secret}")
    if as_json:
        rows = {"done": [step.command for step in todo.steps], "failures": list(done.failures)}
        print_json({**rows, "token": f"{user}!{token}", "kept": kept})
    else:
        for failure in done.failures:
            out(f"{paint()('red', 'not loaded')} by node {brief(failure)}")
        out(f"done; the token {user}!{token} is kept in {kept}\nnext: nestlab pve check {_for_the_token(on)}")
    return MEND if done.failures else None


def _show(todo: Setup, on: Pve, *, asked_it: bool, as_json: bool) -> None:
    if as_json:
        rows = {"version": todo.version, "commands": list(todo.commands), "back": list(todo.back)}
        print_json({**rows, "notes": list(todo.notes)})
        return
    where = f"Proxmox VE {todo.version} at {on.address}" if asked_it else f"Proxmox VE {todo.version} (not asked)"
    out(brief(f"# {where}: as root on a node"))
    for note in todo.notes:
        out(brief(f"# {note}"))
    out("\n".join(todo.commands))
    out("# The token's secret is shown once. Keep it out of shell histories:")
    out(f'#   NESTLAB_PVE_TOKEN, or `token = "USER@REALM!ID=SECRET"` in {_kept_at(on)} (chmod 600)')
    out("# To take it all back, once no lab is there any more:")
    out("\n".join(f"#   {line}" for line in todo.back))
    out(f"# and here, where its token is kept: rm {_kept_at(on)}")


def _for_the_token(on: Pve) -> str:
    """The address by which the token that is kept is used: without the user who made it."""
    from dataclasses import replace

    from nestlab.lab import pve_address

    where = pve_address.parse(on.address)
    return str(replace(where, user="", token_id="")) if isinstance(where, pve_address.Place) else on.address


def _kept_at(on: Pve) -> str:
    from nestlab.lab import pve_address
    from nestlab.wire.pve import credentials

    where = pve_address.parse(on.address)
    if isinstance(where, pve_address.Place):
        return str(credentials.keep_at(home().state, where))
    return "the file of its pve:// address"


def _keep(on: Pve, token: str) -> str:
    """The token instead of what was kept before, with the certificate that is believed."""
    from nestlab.lab import pve_address
    from nestlab.wire.pve import credentials

    where = pve_address.parse(on.address)
    if not isinstance(where, pve_address.Place):
        raise LabError(
            "The token is made, and not kept: this address needs none.",
            hint="pve:// addresses use it: make its secret anew with `pveum user token` when you need it.",
        )
    held = credentials.held(home().state, where)
    kept = {key: value for key, value in held.items() if key in ("fingerprint", "ca")}
    for key in ("fingerprint", "ca"):
        if told := os.environ.get(f"NESTLAB_PVE_{key.upper()}"):
            kept[key] = told
    return str(credentials.keep(home().state, where, {**kept, "token": token}))


async def check(on: Pve, bridges: Sequence[str], *, hypervisors: bool, as_json: bool, named: bool) -> int | None:
    from nestlab.proxmox import platform, setup
    from nestlab.verbs.local import asked

    reached = platform.reach(on.address, home(), os.environ, asked(), named=named)
    try:
        points = await setup.check(reached.api, platform.narrowed(on), bridges, hypervisors=hypervisors)
    finally:
        await reached.close()
    ok = not any(point.ok is False for point in points)
    if as_json:
        print_json({"address": on.address, "ok": ok, "points": [asdict(point) for point in points]})
    else:
        show(_table(points))
        out(f"{paint()('green', 'ready')}: labs can be made there" if ok else paint()("red", "not ready"))
    return None if ok else MEND


def _table(points: tuple[Point, ...]) -> str:
    from nestlab.base.paint import Style, columns

    marks = {True: "ok  ", False: "FAIL", None: "-   "}
    colours: dict[bool | None, Style] = {True: "green", False: "red", None: "dim"}
    cells = [[marks[point.ok], point.what, point.seen] for point in points]
    styles: list[list[Style | None]] = [[colours[point.ok], "bold", None] for point in points]
    lines = []
    for number, line in enumerate(columns(cells, styles, paint())):
        point, after = points[number], points[number + 1 : number + 2]
        lines.append(line)
        again = any(each.do == point.do and each.ok is not True for each in after)  # it is said once, at the end
        if point.do and point.ok is not True and not again:
            lines.append(f"        {brief(point.do)}")
    return "\n".join(lines)


async def trust(on: Pve, *, yes: bool, named: bool) -> int | None:
    from nestlab.lab import pve_address
    from nestlab.wire.pve import credentials
    from nestlab.wire.pve import known_addresses as known
    from nestlab.wire.pve import trust as believed

    where = pve_address.parse(on.address)
    known.check(where, os.environ, home().state, named=named)
    if isinstance(where, pve_address.Shell):
        return _trust_shell(where, yes=yes)
    held = credentials.held(home().state, where)
    shown = believed.show(await believed.seen(where.host, where.port))
    if held.get("fingerprint") == shown:
        out(f"{where.host} shows the certificate that is believed already: {shown}")
        return None
    if held.get("fingerprint"):
        out(f"{where.host} shows another certificate than the one that is believed:")
        out(f"  believed: {held['fingerprint']}")
    out(f"  shown:    {shown}")
    out(f"{believed.COMPARE}.")
    if not agreed(yes, "Is it the same there, and should it be believed from now on?", UNCHANGED):
        return MEND
    path = credentials.keep(home().state, where, {**held, "fingerprint": shown})
    out(f"kept in {path}")
    return None


def _trust_shell(where: Shell, *, yes: bool) -> int | None:
    """ssh knows its host key; what is agreed to is that lab files name it."""
    from nestlab.wire.pve import known_addresses

    if not where.host:
        raise LabError(f"{where} is this computer: it needs no trust.", hint="Say it in a lab file: `on: pve+local`.")
    if not agreed(yes, f"May lab files of yours be on {where} from now on, as root there?", UNCHANGED):
        return MEND
    out(f"kept in {known_addresses.keep_shell(home().state, where)}")
    return None
