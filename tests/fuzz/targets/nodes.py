"""What hypervisors say of their clusters, of themselves, of machines that move and of installations in them, the disks
that they send, what their libvirt says, and frames that machines send to who serves a segment.

A member may be hostile: what nestlab makes of its words is told to others, so that is looked at as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import cast

import blueprints
from fuzz import clock, mutate
from fuzz.said import REPO, printed
from fuzz.target import Broken, shown
from nestlab.base.errors import LabError
from nestlab.base.printable import printable
from nestlab.engines.libvirt import observed
from nestlab.engines.qemu import sparse_copy
from nestlab.hosts.local import LocalHost
from nestlab.install import inside
from nestlab.kinds import corosync_conf, kvm, pve
from nestlab.kinds.clustering import (
    AUTHKEY,
    Answer,
    Clustering,
    Goal,
    Known,
    Node,
    Refused,
    Request,
    Requests,
    Wait,
    password_of,
)
from nestlab.lab.clusters import Cluster
from nestlab.network import dhcp, http, packets, tftp
from nestlab.plan.steps import Observed
from nestlab.show import cluster_table
from nestlab.verbs import moving, node_identity, verify_clusters
from nestlab.wire.command_streams import Flow
from nestlab.wire.pve import daemon
from nestlab.wire.result import Result, Running

NAMES = ("hv1", "hv2")
LAB = replace(blueprints.pair(), clusters=(Cluster("pair", NAMES, ("wire",), "wire"),))
GOLDEN = REPO / "tests/golden"
CUT = "nestlab-cut-0123"

CONF = (GOLDEN / "corosync/two.conf").read_text()
QUORUM = """\
Nodes:            2
Node ID:          1
Quorate:          Yes
Expected votes:   2
Total votes:      2
Quorum:           2
Flags:            Quorate Qdevice

    Nodeid      Votes    Qdevice Name
         1          1         NR hv1 (local)
         2          1    A,V,NMW hv2
         0          1            Qdevice
"""
COROSYNC = f"key {'0' * 64}\nwished\nrunning\ntotem.config_version (u64) = 3\n{QUORUM}\nconf\n{CONF}"
FINGERPRINT = "sha256 Fingerprint=" + ":".join(["0a"] * 32)
PVE = "".join(
    f"\n== {name}\n{text}\n"
    for name, text in {
        "name": "hv1",
        "node": "yes",
        "job": "join pair\ninactive",
        "log": "waiting for quorum...OK\nsuccessfully added node 'hv1' to cluster.\nnestlab: status 0",
        "authkey": "yes",
        "local": CONF,
        "mounted": "symbolic link 777",
        "conf": CONF,
        "members": '{"nodename": "hv1", "version": 4, "cluster": {"name": "pair", "version": 2, "quorate": 1},'
        ' "nodelist": {"hv1": {"id": 1, "online": 1, "ip": "10.0.0.1"}, "hv2": {"id": 2, "online": 0}}}',
        "guests": '{"version": 1, "ids": {"100": {"node": "hv1", "type": "qemu"}, "101": {"node": "hv2"}}}',
        "nodes": "hv1\nhv2",
        "datacenter": "keyboard: en-us\nmigration: secure,network=10.77.0.0/24",
        "quorum": QUORUM,
        "services": "corosync active\npve-cluster active\npvedaemon active\npveproxy active",
        "addresses": "inet 127.0.0.1 lo 65536\ninet 10.0.0.1 vmbr0 1500",
        "version": "9.2.11",
        "memory": "1505280",
        "signed": "/etc/pve/local/pve-ssl.pem: OK",
        "own": FINGERPRINT,
        "api": "HTTP/1.1 401 No ticket",
        "served": FINGERPRINT,
    }.items()
)
IDENTITY = "name hv1\naddress 10.77.0.2\nmachine-id 00\nhost-key ssh-ed25519 0\ninitiator iqn.x\nmac 52:54\n"
MOVING = "x86_64\nvendor_id : GenuineIntel\nmodel name : A CPU\nflags : fpu vmx lm\nMemAvailable: 900000 kB\n"
XML = (GOLDEN / "libvirt/cargo.xml").read_text()
LIBVIRT = f"{CUT} 0a1b2c3d\n{XML}\n{CUT} defined\n{XML}\n{CUT} running\n{XML}\n"
HTTP = (
    'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{"data": {"version": "9"}}'
    "\r\nTransfer-Encoding: chunked\r\nContent-Length: 99999999999\r\n\r\n"
)
FRAME = (
    b"\x52\x54\0\0\0\1\x52\x54\0\0\0\2\x08\0" + bytes.fromhex("4500002c00000000401100000a4d00020a4d0001") + bytes(24)
)
REPORT = json.dumps({"status": None, "console": "aGVsbG8=", "errors": "", "blocks": 8, "free": 9, "memory": 1 << 30})
SIZE = 4096
DISK = b"".join(at.to_bytes(8, "big") + (16).to_bytes(8, "big") + b"sixteen bytes ok" for at in (0, 64, 4080)) + bytes(
    16
)

SAID: Mapping[str, bytes] = {
    "corosync": COROSYNC.encode(),
    "pvecm": PVE.encode(),
    "identity": IDENTITY.encode(),
    "moving": MOVING.encode(),
    "libvirt": LIBVIRT.encode(),
    "daemon": HTTP.encode(),
    "network": FRAME,
    "installation": REPORT.encode(),
    "disk": DISK,
}
WEIGHTS = (4, 4, 1, 1, 3, 1, 2, 1, 1)
BINARY = ("network", "disk")


class Fuzzed:
    """See `fuzz.target.Target`. A case is a line with what is asked, and what was said."""

    def __init__(self) -> None:
        self._loop = clock.Runner()

    def close(self) -> None:
        self._loop.close()

    def make(self, rng: Random) -> bytes:
        asked = rng.choices(list(SAID), WEIGHTS)[0]
        data, deed = SAID[asked], rng.random()
        if asked not in BINARY and deed < 0.7:
            text = data.decode()
            for _ in range(rng.choice((1, 1, 2, 4))):
                text = mutate.lines(rng, text, text.split("\n"))
            data = text.encode(errors="surrogatepass")
        if deed > 0.5:
            data = mutate.octets(rng, data, (b"\n== conf\n", b"node {", b"}", CUT.encode(), b"nodeid: 1", b"\r\n\r\n"))
        if deed > 0.99:
            data = data * 200
        return f"{asked}\n".encode() + data

    def run(self, case: bytes, place: Path) -> str:
        asked, _, said = case.partition(b"\n")
        ways: dict[str, Callable[[bytes], str]] = {
            "corosync": lambda said: _cluster(kvm.KIND.clustering, said),
            "pvecm": lambda said: _cluster(pve.KIND.clustering, said),
            "identity": _identity,
            "moving": _moving,
            "libvirt": _libvirt,
            "daemon": self._daemon,
            "network": _network,
            "installation": _installation,
            "disk": lambda said: self._disk(said, place),
        }
        what = asked.decode(errors="replace")
        return f"{what} {ways[what](said)}" if what in ways else "nothing asked"

    def _daemon(self, said: bytes) -> str:
        async def answered() -> str:
            reader = asyncio.StreamReader()
            reader.feed_data(said)
            reader.feed_eof()
            try:
                await daemon._answer(reader)
            except (ValueError, EOFError):
                return "refused"
            return "taken"

        word: str = self._loop.run(answered())
        return word

    def _disk(self, said: bytes, place: Path) -> str:
        """A disk of SIZE bytes is made of it, or none."""
        target = place / "disk"
        target.unlink(missing_ok=True)
        word = "taken"
        try:
            self._loop.run(sparse_copy.fetch(_Sender(said), "/disk", target, SIZE))
        except LabError as error:
            shown(str(error))
            word = "refused"
        if target.stat().st_size != SIZE or [*place.iterdir()] != [target]:
            raise Broken("more was written than the disk", str([*place.iterdir()]))
        target.unlink()
        return word


class _Sender(LocalHost):
    """A host whose programs say the same, whatever they are."""

    path = "hv1"

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self._said = said

    @asynccontextmanager
    async def start(self, argv: Sequence[str]) -> AsyncIterator[Running]:
        flow = Flow(argv)
        flow.said(self._said)
        flow.silent()
        yield cast(Running, _Over(flow))


class _Over:
    def __init__(self, flow: Flow) -> None:
        self.chunks = flow.chunks

    async def result(self) -> Result:
        return Result(("python3",), 1, b"", b"it broke off")


def _installation(said: bytes) -> str:
    try:
        found = inside.report_of(said[: 64 << 10].split(b"\n")[0], "pair:hv1")
    except LabError as error:
        shown(str(error))
        return "refused"
    return "ended" if found.get("status") is not None else "read"


def _cluster(how: Clustering | None, said: bytes) -> str:
    """One of two nodes says it; what is decided then."""
    assert how is not None
    view = how.read(said.decode(errors="replace")[: 1 << 18])
    found = Observed(clusters=MappingProxyType({"hv1": view, "hv2": view}))
    printed(lambda: print(cluster_table.text(cluster_table.rows(LAB, found))))
    json.dumps(cluster_table.data(cluster_table.rows(LAB, found)), allow_nan=False)
    for proof in verify_clusters.proofs(LAB, {"hv1": view, "hv2": view}, frozenset()):
        shown(proof.seen)
        if "\n" in proof.seen:
            raise Broken("a proof is no line", proof.seen[:300])
    nodes = tuple(Node(name, name, (f"10.0.0.{at}",), f"10.0.0.{at}") for at, name in enumerate(NAMES, 1))
    secrets = {AUTHKEY: b"k" * 256, **{password_of(name): b"hushed" for name in NAMES}}
    words = set()
    for do, who in (("form", NAMES), ("join", NAMES[1:]), ("leave", NAMES[1:])):
        goal = Goal("pair", do, who, nodes, frozenset(NAMES), secrets=secrets)  # type: ignore[arg-type]
        for views in ({"hv1": view, "hv2": view}, {"hv1": view, "hv2": how.read("")}):
            for answers in ((), (Answer(Request("hv1", "x", "y"), 1, said.decode(errors="replace"), ""),)):
                action = how.next(goal, Known(MappingProxyType(views), answers=answers))
                words.add(type(action).__name__)
                _decided(action)
    return " ".join(sorted(words))


def _decided(action: object) -> None:
    """What is told is one line; what others are told is what they can read, and has no secret in it."""
    if isinstance(action, Wait | Refused):
        shown(printable(action.what))
        if "\n" in action.what or len(action.what) > 5000:
            raise Broken("what is told is no line", action.what[:300])
    if not isinstance(action, Requests):
        return
    for request in action.requests:
        shown(printable(request.title))
        if "hushed" in "".join(request.words):
            raise Broken("a secret is an argument")
        if any("\0" in word for word in request.words):
            raise Broken("no program has such an argument", repr(request.words)[:300])
        if request.words and "cluster_name:" in request.words[0]:
            conf = corosync_conf.read(request.words[0])
            if conf is None or len({node.nodeid for node in conf.nodes}) != len(conf.nodes):
                raise Broken("others are told what corosync does not take", request.words[0][:1000])


def _identity(said: bytes) -> str:
    told = node_identity.said(said.decode(errors="replace"))
    nodes = [node_identity.Node(LAB[path], told) for path in NAMES]
    for proof in node_identity.proofs(nodes):
        shown(proof.seen)
        if "\n" in proof.seen:
            raise Broken("a proof is no line", proof.seen[:300])
    return "read"


def _moving(said: bytes) -> str:
    cpu, free = moving.asked(said.decode(errors="replace"))
    for word in (cpu.arch, cpu.vendor, cpu.model):
        shown(word)
    return "read" if free is not None else "no memory"


def _libvirt(said: bytes) -> str:
    found = observed.drifts(said.decode(errors="replace"), CUT, {"0a1b2c3d": "hv1/web"})
    for changes in found.values():
        for change in changes:
            shown(change.what)
            if "\n" in change.what or len(change.what) > 500:
                raise Broken("a change is no line", change.what[:600])
    return "changed" if any(found.values()) else "as it was" if found else "nothing read"


def _network(said: bytes) -> str:
    me, you = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
    words = [
        packets.frame_of(said),
        packets.question_of(said),
        packets.ip_of(said[14:]),
        packets.datagram_of(me, you, said[34:]),
        packets.segment_of(me, you, said[34:]),
        dhcp.request_of(said[42:]),
        tftp.request_of(said[42:]),
        http.request_of(said[42:]),
    ]
    return f"{sum(word is not None for word in words)} of {len(words)} understood"
