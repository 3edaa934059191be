"""A host's libvirt, asked by its own virsh there: what it says is bounded, typed, and an error names the host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.engines.libvirt import scripts
from nestlab.engines.libvirt.mark import domain_name, domain_uuid, owner_of
from nestlab.engines.libvirt.xml import Unreadable, parsed
from nestlab.hosts.host import Host, called
from nestlab.wire import qmp
from nestlab.wire.qmp import Monitor

SYSTEM = "qemu:///system"

TAKES = 120.0
"""Nominal seconds in which virsh does what does not wait for a guest: a daemon that starts first asks QEMU what it
can, which takes a slow machine most of that."""

_SAID = 400
"""Letters of virsh's words that an error shows."""


@frozen
class Libvirt:
    """Of one host, for one lab. `lab`: the name that domains have; `key`: gives the lab's public key."""

    host: Host
    lab: str
    key: Callable[[], str]
    uri: str = SYSTEM

    @property
    def owner(self) -> str:
        """See `mark.Mark`."""
        return owner_of(self.key())

    def uuid(self, path: str) -> str:
        return domain_uuid(self.lab, path)

    def name(self, path: str) -> str:
        return domain_name(self.lab, path)

    async def define(self, path: str, directory: str, text: str) -> Element:
        """Define a machine's domain; what libvirt has now. LabError when it refuses."""
        words = (self.uri, self.uuid(path), self.owner, directory)
        said = await self.run(scripts.DEFINE, words, f"define {path}", input=text.encode())
        return self.read(said, path)

    async def undefine(self, path: str) -> None:
        """End a machine's domain, and have libvirt forget it. Of what is not there: nothing."""
        await self.run(scripts.UNDEFINE, (self.uri, self.uuid(path), self.owner), f"forget {path}")

    async def does(self, path: str, verb: str, *words: str, input: bytes | None = None) -> None:
        """One of virsh's commands for a machine's domain."""
        words = (self.uri, self.uuid(path), self.owner, verb, *words)
        await self.run(scripts.DOES, words, f"{verb} {path}", input=input)

    async def ask(self, path: str, *commands: Mapping[str, Any]) -> list[Any]:
        """What a machine's QEMU answers to commands of QMP. Unreachable when there is no answer, LabError when it
        refuses one."""
        lines = [f"qemu-monitor-command {self.uuid(path)} '{_quoted(each)}'\n" for each in commands]
        argv = ("sh", "-c", scripts.ASK, "ask", self.uri)
        found = await self.host.run(argv, input="".join(lines).encode(), check=False, timeout=TAKES)
        rows = found.text.splitlines()
        if found.status != 0 or len(rows) != len(commands):
            said = one_line(found.stderr.decode(errors="replace").strip())[:_SAID]
            what = f"QEMU of {path} does not answer: {said or f'virsh printed {len(rows)} answers'}."
            raise Unreachable(what, hint="See whether it runs: nestlab status")
        return [qmp.answer(row, str(each["execute"]), path) for row, each in zip(rows, commands, strict=True)]

    def read(self, text: str, path: str) -> Element:
        """The XML of a domain. LabError where it is none."""
        try:
            return parsed(text)
        except Unreadable as error:
            what = f"libvirt on {self._where} says of {path} what is no domain: {one_line(str(error))[:_SAID]}."
            raise LabError(what, hint=f"See: virsh -c {self.uri} dumpxml {self.name(path)}") from error

    async def version(self) -> tuple[int, int, int] | None:
        """Of the QEMU that libvirt runs, by its own word; None where it says none."""
        said = await self.run(scripts.VERSION, (self.uri,), "tell its version")
        found = re.search(r"QEMU ([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})", said)
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    async def run(self, script: str, words: Sequence[str], what: str, *, input: bytes | None = None) -> str:
        """What a script with arguments prints there. LabError in the host's name where it fails: it does not do
        `what`."""
        argv = ("sh", "-c", script, "libvirt", *words)
        found = await self.host.run(argv, input=input, check=False, timeout=TAKES)
        if found.status == 0:
            return found.text
        raise refused(what, self._where, found.stderr.decode(errors="replace"))

    @property
    def _where(self) -> str:
        return called(self.host)


_CAUSES = (
    ("virsh: not found", "It has no virsh.", "Install libvirt there (Debian: libvirt-daemon-system libvirt-clients)."),
    ("virsh: command not found", "It has no virsh.", "Install libvirt there (Debian: libvirt-daemon-system)."),
    ("authentication unavailable", "It does not let this user in.", "As a rule, as root: usermod -aG libvirt USER"),
    ("Failed to connect socket", "Its libvirt does not run.", "systemctl enable --now libvirtd.socket"),
    ("already exists with uuid", "Somebody else's is in its place.", "Rename the lab, or what is in its place."),
    ("already in use by", "Somebody else's is in its place.", "Rename the lab, or what is in its place."),
    ("is not of this lab", "Somebody else's is in its place.", "Rename the lab, or what is in its place."),
)
"""What virsh's words mean: part of them, a cause, and what helps."""


def refused(what: str, where: str, said: str) -> LabError:
    """The error of a libvirt that does not do what it is asked."""
    shown = [line for line in (one_line(line)[:_SAID] for line in said.strip().splitlines()) if line][-8:]
    cause, hint = "", ""
    for part, meaning, helps in _CAUSES:
        if part in said:
            cause, hint = f" {meaning}", helps
            break
    from nestlab.explain.explain import with_advice

    hint = hint or with_advice("What follows is libvirt's own.", said)
    return LabError(
        f"libvirt on {where} does not {what}.{cause}", hint=hint, detail="\n".join(f"  | {x}" for x in shown)
    )


def _quoted(command: Mapping[str, Any]) -> str:
    """A command of QMP's in ASCII and without an apostrophe: virsh takes what is between two as it is."""
    return json.dumps(command, separators=(",", ":")).replace("'", r"\u0027")


class VirshMonitor(Monitor):
    """A QEMU's monitor through its libvirt, which keeps that to itself."""

    def __init__(self, libvirt: Libvirt, path: str) -> None:
        self._libvirt = libvirt
        self._path = path

    async def command(self, command: str, named: Mapping[str, Any]) -> Any:
        asked = {"execute": command, **({"arguments": dict(named)} if named else {})}
        return (await self._libvirt.ask(self._path, asked))[0]

    async def grow(self, drive: str, size: int) -> None:
        """Its own disk is the first virtio disk that it has."""
        await self._libvirt.does(self._path, "blockresize", "vda", f"{size}B")


__all__ = ["SYSTEM", "Libvirt", "VirshMonitor", "refused"]
