"""Capturing what passes a machine's card on a segment, as a pcap file.

At level 1 the lab's switch copies it; inside a hypervisor it is read there, from the machine's port of the bridge; of a
machine directly on a Proxmox VE it is read in the machine itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.engines.qemu.quick_status import guest_place
from nestlab.engines.qemu.vlan_ports import CARD_OF
from nestlab.home import former_names
from nestlab.hosts.host import called
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.places import Ssh
from nestlab.network import pcap
from nestlab.network.network_script import bridge_name

if TYPE_CHECKING:
    from nestlab.hosts.host import Host
    from nestlab.verbs.session import Session

CARD_OF_GUEST = (
    CARD_OF
    + r"""
read -r pid < "$1/pid" || { echo "it does not run" >&2; exit 4; }
card_of "$pid" "$2" "$1"
"""
)
"""Arguments: the machine's directory, a bridge. Finds its port of the bridge."""

OWN_CARD = r"""
for path in /sys/class/net/*; do
  read -r address < "$path/address" 2>/dev/null && [ "$address" = "$1" ] && [ ! -d "$path/bridge" ] && card=${path##*/}
done
"""
"""Argument: the MAC address of a card of this machine."""

READ = r"""
[ -n "$card" ] || { echo "no card of it is on that segment" >&2; exit 4; }
root=
[ -w / ] || root="sudo -n"
if command -v tcpdump >/dev/null; then exec $root tcpdump -q -U -n -s 0 -i "$card" -w -; fi
command -v python3 >/dev/null || { echo "neither tcpdump nor python3 is installed" >&2; exit 5; }
exec $root python3 -c '
import socket, struct, sys, time
card = sys.argv[1]
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
packets.bind((card, 0))
membership = struct.pack("iHH8s", socket.if_nametoindex(card), 1, 0, b"")
packets.setsockopt(263, 1, membership)
packets.setsockopt(263, 8, 1)
out = sys.stdout.buffer
out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
out.flush()
while True:
    frame, said, _, _ = packets.recvmsg(262144, 64)
    at = time.time()
    for _, _, data in said:
        status, _, _, _, _, control, kind = struct.unpack("IIIHHHH", data[:20])
        if status & 0x10:
            kind = kind if status & 0x40 else 0x8100
            frame = frame[:12] + struct.pack(">HH", kind, control) + frame[12:]
    out.write(struct.pack("<IIII", int(at), int(at % 1 * 1000000), len(frame), len(frame)) + frame)
    out.flush()
' "$card"
"""
"""Writes a pcap of `$card` to stdout: by tcpdump, else by Python (packet(7): 263 is SOL_PACKET, 1 is
PACKET_ADD_MEMBERSHIP, its type 1 PACKET_MR_PROMISC; 8 is PACKET_AUXDATA, in which Linux tells a VLAN's tag that it took
out of the frame)."""

BEGINS = 60.0
"""Nominal seconds in which what captures writes the head of its file."""

Frames = AsyncIterator[tuple[float, bytes]]


@dataclass
class Captured:
    """How much was captured. `dropped`: frames that the switch could not hand over in time."""

    frames: int = 0
    bytes: int = 0
    dropped: int = 0


def card(spec: Spec, segment: str) -> Nic:
    """The card of a machine on a segment. LabError where it has none."""
    for nic in spec.nics:
        if nic.segment == segment:
            return nic
    known = ", ".join(nic.segment for nic in spec.nics) or "none"
    raise LabError(f"{spec.path} is not on a segment {segment}.", hint=f"Its segments: {known}.")


async def capture(
    session: Session,
    path: str,
    segment: str,
    write: Callable[[bytes], None],
    *,
    count: int | None = None,
    seconds: float | None = None,
    begun: Callable[[], None] = lambda: None,
) -> Captured:
    """Write a pcap of what passes the machine's card, until `count` frames or `seconds` have passed, the machine goes
    down or this is cancelled (then it returns, too): the file is whole at any time. `begun` is called as soon as
    nothing more is missed."""
    spec = session.blueprint[path]
    nic = card(spec, segment)
    write(pcap.HEADER)
    captured = Captured()
    try:
        async with asyncio.timeout(None) as limit, _opened(session, spec, nic, captured) as frames:
            if seconds is not None:
                limit.reschedule(asyncio.get_running_loop().time() + seconds)
            begun()
            async with aclosing(frames):  # type: ignore[type-var]
                async for at, frame in frames:
                    write(pcap.record(at, frame))
                    captured.frames += 1
                    captured.bytes += len(frame)
                    if count is not None and captured.frames >= count:
                        break
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        pass  # Ctrl-C is how a capture ends
    return captured


@asynccontextmanager
async def _opened(session: Session, spec: Spec, nic: Nic, captured: Captured) -> AsyncIterator[Frames]:
    if spec.sealed:
        raise LabError(f"{spec.path} is a container: nothing is captured in one.", hint="Name a virtual machine.")
    if spec.parent and session.blueprint[spec.parent].machine.hypervisor == "pve":
        host = await session.nest.host(spec.path)
        async with _read(host, spec.path, ("sh", "-c", OWN_CARD + READ, "capture", nic.mac)) as frames:
            yield frames
    elif spec.parent:
        host = await session.nest.host(spec.parent)
        place = guest_place(former_names.first(session.place)).of(spec.path).root
        script = CARD_OF_GUEST + READ
        async with _read(host, spec.path, ("sh", "-c", script, "capture", place, bridge_name(nic.segment))) as frames:
            yield frames
    elif isinstance(session.blueprint.on, Ssh):
        argv = await _from_remote_switch(session, spec, nic)
        async with _read(session.platform.host, spec.path, argv) as frames:
            yield frames
    elif session.blueprint.on is not None:
        host = await session.nest.host(spec.path)
        async with _read(host, spec.path, ("sh", "-c", OWN_CARD + READ, "capture", nic.mac)) as frames:
            yield frames
    else:
        async with _from_switch(session, spec, nic, captured) as frames:
            yield frames


async def _from_remote_switch(session: Session, spec: Spec, nic: Nic) -> tuple[str, ...]:
    """The command that captures at the switch, on the lab's own host."""
    from nestlab.verbs.ssh_platform import SshPlatform

    assert isinstance(session.platform, SshPlatform)
    seen = (await session.look()).machines.get(spec.path)
    asked = {"segment": nic.segment, "mac": nic.mac, "pid": seen.pid if seen else None}
    return (*await session.platform.uploads.program("capture"), json.dumps(asked))


@asynccontextmanager
async def _from_switch(session: Session, spec: Spec, nic: Nic, captured: Captured) -> AsyncIterator[Frames]:
    from nestlab.home.paths import Place
    from nestlab.network import switch_capture

    directory = type(session.place.root)(Place(str(session.place.root)).switch)
    seen = (await session.look()).machines.get(spec.path)
    pid = seen.pid if seen else None
    async with switch_capture.capture(directory, nic.segment, pid, nic.mac) as source:

        async def frames() -> Frames:
            async for frame in source.frames():
                yield time.time(), frame

        try:
            yield frames()
        finally:
            await source.count_dropped()
            captured.dropped = source.dropped


@asynccontextmanager
async def _read(host: Host, path: str, argv: tuple[str, ...]) -> AsyncIterator[Frames]:
    """The frames of a pcap that a command on a host writes to its stdout; the command ends with the context."""
    async with host.start(argv) as command:
        command.close_input()
        chunks = command.chunks()
        records = pcap.Records()
        head = b""
        limit = patience.allowed(BEGINS, host.slowness)
        try:
            async with asyncio.timeout(limit):
                async for chunk in chunks:
                    head = chunk
                    break
        except TimeoutError:
            what = f"{called(host)} did not begin to capture {path} within {patience.said(limit)}."
            raise Overdue(what, hint=patience.LONGER) from None
        if not head:
            said = (await command.result()).stderr.decode(errors="replace").strip().splitlines()
            where = called(host)
            what = f"Nothing of {path} can be captured on {where}: {said[-1] if said else 'it said nothing'}."
            raise LabError(what, hint=f"Try by hand: nestlab ssh {where}" if host.path else "Does it run?")

        async def frames() -> Frames:
            try:
                for each in records.feed(head):
                    yield each
                async for more in chunks:
                    for each in records.feed(more):
                        yield each
            except ValueError as error:
                raise LabError(
                    f"What captures {path} writes no capture: {error}.", hint="Is its tcpdump one?"
                ) from error

        yield frames()
