"""How the machines of a lab are reached by the user's own OpenSSH, and what other programs are told of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.files import replace
from nestlab.base.frozen import frozen
from nestlab.engines import Listening, Sshd
from nestlab.home.lab_keys import LabKeys
from nestlab.show.ssh_config import SshEntry, known_hosts, ssh_config, ssh_name, unfit

if TYPE_CHECKING:
    from nestlab.verbs.session import Session

NO_TCP = "no TCP connection leads to its sshd; `nestlab ssh` reaches it"
CONTAINER = "it is a container, and nothing of Proxmox VE's API leads into one"
NOT_RUNNING = "it does not run"


@frozen
class Connections:
    """`entries`: machines that run and can be reached, outer ones first. `left_out`: the others, and why."""

    entries: tuple[SshEntry, ...]
    left_out: Mapping[str, str]


async def connections(session: Session) -> Connections:
    """Where the sshd of every machine listens now, asked at every level."""
    found: dict[str, Sshd] = {}
    why: dict[str, str] = {}
    await _inside(session, "", found, why)
    keys = LabKeys(session.place.root)
    entries: list[SshEntry] = []
    left_out: dict[str, str] = {}
    for spec in session.blueprint.specs:
        sshd = found.get(spec.path)
        if sshd is None:
            inside = f"{spec.parent}, in which it runs, cannot be reached"
            left_out[spec.path] = why.get(spec.path) or (inside if spec.parent in left_out else NOT_RUNNING)
            continue
        host_key = keys.host_key(spec.path).public
        lab = session.blueprint.lab
        host = ssh_name(lab, spec.path) if sshd.carried else sshd.host
        proxy = proxy_command(session, spec.path) if sshd.carried else ()
        entry = SshEntry(lab, spec.path, host, sshd.port, sshd.user, str(keys.key), host_key, proxy)
        if odd := unfit(entry):
            left_out[spec.path] = odd
        else:
            entries.append(entry)
    return Connections(tuple(entries), left_out)


def proxy_command(session: Session, path: str) -> tuple[str, ...]:
    """The command that carries a connection to a machine's sshd: this nestlab, from wherever ssh starts it."""
    home = f"NESTLAB_HOME={session.site.home.state.absolute()}"
    return ("env", home, sys.executable, "-m", "nestlab", "ssh", "--stdio", f"{session.blueprint.lab}:{path}")


async def _inside(session: Session, parent: str, found: dict[str, Sshd], why: dict[str, str]) -> None:
    """What listens on one host, and on the hypervisors that run there."""
    inner = [spec.path for spec in session.blueprint.children(parent)]
    if not inner:
        return
    try:
        engine = await session.nest.engine(parent)
        if not isinstance(engine, Listening):
            why.update(dict.fromkeys(inner, NO_TCP))
            return
        sshds = {each.path: each for each in await engine.sshds() if each.path in inner}
    except LabError as error:
        if not parent:
            raise
        why.update(dict.fromkeys(inner, error.what.rstrip(".")))
        return
    sshds = {path: each for path, each in sshds.items() if session.blueprint[path].machine.by_ssh}
    found.update(sshds)
    why.update({path: CONTAINER for path in inner if path not in sshds and _contained(session, path)})
    why.update({path: _no_login(session, path) for path in inner if not session.blueprint[path].machine.by_ssh})
    await asyncio.gather(*(_inside(session, path, found, why) for path in inner if path in sshds))


def _no_login(session: Session, path: str) -> str:
    return f"nestlab does not log in to it (`{session.blueprint[path].machine.ready.said}`)"


def _contained(session: Session, path: str) -> bool:
    return session.blueprint[path].sealed


async def write(session: Session) -> tuple[Connections, str]:
    """Write the lab's ssh_config and known_hosts, each replaced whole (0600); what they say, and the text of the
    first."""
    place = session.place
    known = await connections(session)
    text = ssh_config(session.blueprint.lab, known.entries, known.left_out, str(place.known_hosts))
    _replace(place.known_hosts, known_hosts(known.entries))
    _replace(place.ssh_config, text)
    return known, text


async def refresh(session: Session) -> None:
    """Write them anew after machines started or stopped, if somebody uses them. What keeps that from being done keeps
    nobody from working: the next `nestlab ssh-config` tells."""
    if session.place.ssh_config.exists():
        with contextlib.suppress(LabError):
            await write(session)


def _replace(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    replace(path, text.encode(), 0o600)
