"""Machines inside a node for real: a hypervisor of nestlab's with a pvedaemon that stands in for Proxmox VE's, behind
which QEMUs and LXC containers really run, on its bridges. nestlab's engine makes them, reaches them and proves them."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import nestlab
from nestlab.base.errors import LabError
from nestlab.base.events import Event
from nestlab.engines import Engine
from nestlab.engines.port_rules import Forwarding
from nestlab.engines.pve import in_node
from nestlab.home.directories import Home
from nestlab.home.lab_keys import LabKeys
from nestlab.home.ports import Kept
from nestlab.hosts.host import Host
from nestlab.images.image_files import Cache
from nestlab.install import make
from nestlab.plan import planner
from nestlab.verbs import local, ports, screens
from nestlab.verbs import session as verbs
from nestlab.verbs.session import Session
from nestlab.verbs.site import Site
from pve_repository import STAND_IN
from waiting import LONG

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: inside
segments: {lan: {cidr: 10.87.0.0/24}}
machines:
  hv1:
    hypervisor: kvm
    image: {from: kvm, packages: [zstd]}
    memory: 1536M
    segments: {lan: 10.87.0.11}
    machines:
      web: {image: tiny, display: true, segments: [lan]}
      box: {container: true, image: debian, segments: [lan]}
"""

BEGIN = """
set -e
mkdir -p /usr/lib/pve-stand-in/tree /usr/share/perl5/PVE
tar -x -C /usr/lib/pve-stand-in/tree -f -
cd /usr/lib/pve-stand-in/tree
mv pvedaemon ..
mv AccessControl.pm /usr/share/perl5/PVE/
systemd-run -q --unit=pvedaemon -p KillMode=process python3 /usr/lib/pve-stand-in/pvedaemon
"""


def stand_in() -> bytes:
    """nestlab's own source, with what stands in for pvedaemon."""
    source, buffer = Path(nestlab.__file__).parent, io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(source.rglob("*.py")):
            tar.add(path, f"nestlab/{path.relative_to(source)}")
        for name in ("pvedaemon", "AccessControl.pm"):
            tar.add(STAND_IN / name, name)
    return buffer.getvalue()


def told(event: Event) -> None:
    print(event)


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="nl-pvi", dir="/tmp") as folder:
        yield replace(Home.of(os.environ, Path.home()), state=Path(folder))


def site_of(home: Home) -> Site:
    """As on any machine, but that what is in a hypervisor is made by its Proxmox VE."""
    usual = local.site(home)

    def inside(lab: str, parent: Host) -> Engine:
        bare, at = usual.inside["kvm"](lab, parent), home.lab(lab)
        return in_node.engine(lab, parent, bare, LabKeys(at.root), Cache(home.cache, make), at, home.cache)

    return replace(usual, inside={**usual.inside, "kvm": inside})


async def test_a_vm_and_a_container_are_made_reached_proven_stopped_and_started(home: Home, tmp_path: Path) -> None:
    site, file = site_of(home), tmp_path / "lab.yaml"
    file.write_text(LAB)
    lab, source = verbs.read(file, {})
    async with verbs.changing(site, "up", lab=lab, source=source) as session:
        try:
            first = planner.plan(session.blueprint, session.observed, {"hv1": "running"})
            await session.apply(first, told)
            node = await session.nest.host("hv1")
            await node.run(("sh", "-c", BEGIN), input=stand_in())
            await session.look()
            await session.apply(session.plan(), told)
            await session.look()
            assert not session.plan()
            await proven(session)
            await led(session)
            picture = await screens.picture(session, "hv1/web")
            assert picture.width >= 640
            assert picture.height >= 400
            await session.apply(session.plan("stopped", ["hv1/web", "hv1/box"]), told, verb="stop")
            states = {path: seen.state for path, seen in (await session.look()).machines.items()}
            assert states == {"hv1": "running", "hv1/web": "stopped", "hv1/box": "stopped"}
            await session.apply(session.plan(), told)
            await session.look()
            await proven(session)
        except LabError as error:
            raise AssertionError(f"{error.what}\n{error.hint}\n{error.detail}") from error
        finally:
            await session.look()
            await session.apply(session.plan("gone"), told, verb="down")


BANNER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as there:
    print(there.recv(4).decode())
"""


async def led(session: Session) -> None:
    """Ports of this computer lead to the sshds of both, through the node, until they are closed."""
    node = await session.nest.host("hv1")
    for path in ("hv1/web", "hv1/box"):
        local = await ports.open_port(session, path, 22, None)
        with socket.create_connection(("127.0.0.1", local), timeout=LONG) as there:
            assert there.recv(4) == b"SSH-"
        engine = await session.nest.engine("hv1")
        assert isinstance(engine, Forwarding)
        async with engine.forwards(path) as rules:
            (rule,) = await rules.all()
            said = (await node.run(("python3", "-c", BANNER, str(rule.local)))).text
            assert said.strip() == "SSH-"
            await ports.close_port(session, Kept(path, 22, local), ())
            assert await rules.all() == ()


async def proven(session: Session) -> None:
    """Both can be worked in, know each other by name, and hold what is claimed of them."""
    for path, other in (("hv1/web", "box"), ("hv1/box", "web")):
        host = await session.nest.host(path)
        assert (await host.run(("hostname",))).text.strip() == path.rpartition("/")[2]
        await host.run(("ping", "-c", "1", "-w", "60", other))
    verdict = await session.verify(told)
    wrong = [proof for proof in verdict.proofs if proof.ok is False]
    assert wrong == []
    sure = {(proof.path, proof.claim) for proof in verdict.proofs if proof.ok}
    assert {("hv1/web", "accelerated"), ("hv1/web", "segment lan"), ("hv1/box", "segment lan")} <= sure
