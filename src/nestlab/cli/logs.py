"""The logs command: what a machine's console said, fit for a terminal or as data."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.cli import complete
from nestlab.cli.common import lab_named, meant, paint, print_json, site
from nestlab.cli.exit_status import guarded, out, run, untouched
from nestlab.cli.machines import below, the_one
from nestlab.cli.options import Debug, Json, MachineWord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nestlab.home.targets import Which
    from nestlab.verbs.pve_consoles import Afar

BootNumber = Annotated[
    int, typer.Option("--boot", metavar="N", help="1 is the oldest boot kept, 0 the last, -1 the one before it.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")]
Raw = Annotated[bool, typer.Option("--raw", help="Every byte as it came: escape sequences act on your terminal.")]
Netboot = Annotated[
    str,
    typer.Option(
        "--netboot",
        metavar="SEGMENT",
        help="Instead: what this segment served to machines that boot from the network, and who asked.",
        autocompletion=complete.segments,
    ),
]
List = Annotated[bool, typer.Option("--list", help="List the boots whose consoles are kept.")]


@guarded
def logs(
    machine: MachineWord,
    boot: BootNumber = 0,
    follow: Follow = False,
    listed: List = False,
    netboot: Netboot = "",
    raw: Raw = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Print what a machine's console said, in this boot or an earlier one; also of a machine that died. Of one on a
    Proxmox VE, which keeps no consoles, it is the machine's own journal. Escape sequences are left out.

    \b
    Examples:
      nestlab logs hv1/web
      nestlab logs hv1/web --follow
      nestlab logs hv1/web --boot -1             the boot before the last
      nestlab logs hv1/web --netboot wire        what it got from segment wire, to boot from
    """
    if netboot:
        return run(_netboot(meant([machine]), netboot, raw=raw, follow=follow, as_json=as_json))
    return run(_logs(meant([machine]), boot, follow=follow, listed=listed, raw=raw, as_json=as_json))


async def _logs(found: Which, number: int, *, follow: bool, listed: bool, raw: bool, as_json: bool) -> None:
    from nestlab.verbs import logs as kept

    async with below(found) as (path, host, place, far):
        show = Lines(path, raw=raw, follow=follow, as_json=as_json)
        if far is not None:
            await _logs_afar(far, path, number, show, listed=listed)
            return
        boots = await kept.boots(host, place, path)
        if listed:
            _print_boots(boots, as_json=as_json)
            return
        boot = kept.chosen(boots, number, path)
        show.boot = boot.number
        async with kept.lines(host, boot, follow=follow) as lines:
            await show.all(lines)


async def _netboot(found: Which, segment: str, *, raw: bool, follow: bool, as_json: bool) -> None:
    from nestlab.home.paths import Place
    from nestlab.verbs import logs as kept
    from nestlab.verbs import session as verbs
    from nestlab.verbs.ssh_platform import SshPlatform

    async with verbs.looking(site(), name=lab_named(found)) as session:
        path = the_one(session, found)
        host, platform = await session.nest.host(""), session.platform
        place = platform.place if isinstance(platform, SshPlatform) else Place(str(session.place.root))
        log = await kept.netboot(session.blueprint, segment, host, place)
        async with kept.lines(host, log, follow=follow) as lines:
            await Lines(path, raw=raw, follow=follow, as_json=as_json).all(lines)


class Lines:
    """Shows the lines of a log: fit for a terminal, as they are (`raw`), or as JSON: one document, or one for each line
    where they are followed."""

    def __init__(self, path: str, *, raw: bool, follow: bool, as_json: bool) -> None:
        self.boot: int | None = None
        self.follow = follow
        self._machine, self._raw, self._json = path, raw, as_json
        self._kept: list[str] = []

    async def all(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            self._one(line)
            if self.follow:
                sys.stdout.flush()
        if self._json and not self.follow:
            print_json({"machine": self._machine, "boot": self.boot, "lines": self._kept})

    def _one(self, line: bytes) -> None:
        from nestlab.base.printable import console_lines

        if self._raw and not self._json:
            untouched(line + b"\n")
            return
        shown = [line.decode(errors="replace")] if self._raw else console_lines(line)
        for each in shown:
            if not self._json:
                out(each)
            elif self.follow:
                print_json({"machine": self._machine, "boot": self.boot, "line": each}, indent=None)
            else:
                self._kept.append(each)


async def _each(lines: Sequence[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


async def _logs_afar(far: Afar, path: str, number: int, show: Lines, *, listed: bool) -> None:
    """Of a machine on a Proxmox VE, which keeps nothing of what consoles say: its own journal."""
    if listed:
        what = f"Proxmox VE keeps no consoles: which boots {path} remembers, its own journal says."
        raise LabError(what, hint=f"nestlab exec {path} -- journalctl --list-boots")
    if not show.follow:
        await show.all(_each((await far.log(path, number)).splitlines()))
        return
    async with far.following(path) as lines:
        await show.all(lines)


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
