"""Habits that a real Proxmox VE showed: what is not known yet, what takes long, what breaks off, and in which words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines.pve import resources
from nestlab.engines.pve.engine import PveEngine
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image, Pve
from nestlab.plan.steps import Boot, Build, Create
from nestlab.proxmox import setup
from nestlab.testing.fake_pve import FakePve
from nestlab.wire.pve.errors import PveError, refusal, shortened
from nestlab.wire.pve.retries import Lost
from pve_lab import ONE, Bench, PretendStock, assert_valid, bench, cluster, up
from test_pve_cli import Shell, shell

__all__ = ["shell"]


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2", version="9.2") as pve:
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(fake, tmp_path) as found:
        yield found
        assert_valid(fake)


def containers(folder: Path) -> Blueprint:
    """A lab of one container."""
    (folder / "debian.tar.zst").write_bytes(b"a template")
    image = Image(file=str(folder / "debian.tar.zst"))
    lab = draft("lab", replace(guest("box", on=()), image=image, container=True), hosts="h")
    specs = tuple(replace(spec, image="file-1") for spec in lab.specs)
    return replace(lab, images=MappingProxyType({"file-1": image}), specs=specs)


async def point(made: Bench, what: str, on: Pve | None = None, *, hypervisors: bool = True) -> setup.Point:
    points = await setup.check(made.api, on or made.on, hypervisors=hypervisors)
    return next(each for each in points if each.what == what)


async def test_before_the_statistics_daemon_has_reported_nesting_is_not_known_and_not_off(made: Bench) -> None:
    made.fake.nodes["pve1"].reported = False
    early = await point(made, "nesting on pve1")
    assert early.ok is None
    assert "not known yet" in early.seen
    assert "`nested` is off" not in early.seen
    assert (await point(made, "nesting on pve2")).ok is True
    lab = draft("lab", replace(hypervisor("hv1", guest("web")), node="pve1"), hosts="h")
    [outlook] = await made.engine().outlook(lab, {"hv1"})
    assert outlook.cost == ""
    assert "does not offer nesting" not in outlook.why
    assert "nesting not known yet" in (await made.engine().platform()).line


async def test_a_lab_without_hypervisors_is_ready_where_nothing_nests(made: Bench) -> None:
    made.fake.nodes["pve1"].nested = False
    assert (await point(made, "nesting on pve1")).ok is False
    assert (await point(made, "nesting on pve1", hypervisors=False)).ok is None


async def test_a_start_that_takes_longer_than_pves_own_half_minute_is_waited_for(made: Bench) -> None:
    for node in made.fake.nodes.values():
        node.starting = 120
    await up(made)
    [start] = made.fake.calls("POST", "/status/start")
    assert str(start.params["timeout"]) == "300"


async def test_a_failed_start_does_not_fill_the_screen_with_qemus_command_line(made: Bench) -> None:
    for node in made.fake.nodes.values():
        node.starting = 9999
    with pytest.raises(PveError, match=r"start failed: command '/usr/bin/kvm -id \d+ …' failed: got timeout") as caught:
        await up(made)
    assert len(caught.value.what) + len(caught.value.detail) < 1000


def test_only_what_is_long_is_shortened() -> None:
    assert shortened("command 'cp -- /a /b' failed: exit code 1") == "command 'cp -- /a /b' failed: exit code 1"
    long = "start failed: command '/usr/bin/kvm -id 100 -name 'a b' " + "-x " * 99 + "' failed: exit code 1"
    assert shortened(long) == "start failed: command '/usr/bin/kvm -id 100 …' failed: exit code 1"


def test_a_refusal_ends_as_pve_ended_it() -> None:
    assert refusal("pve", "GET /x", 401, "Authentication failed!").what == "pve refused GET /x: Authentication failed!"
    assert refusal("pve", "GET /x", 500, "no such thing.").what.endswith("no such thing.")


async def test_an_upload_whose_connection_breaks_is_sent_again(made: Bench, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"QFI\xfb".ljust(24, b"\0") + (512).to_bytes(8, "big") + bytes(512))
    for status in (0, 596):
        made.fake.fail_next("/upload", status, "Broken pipe", method="POST", times=2)
        await made.api.upload("pve2", "local", "import", disk, "nestlab-a.qcow2")
        assert "local:import/nestlab-a.qcow2" in made.fake.volumes
    made.fake.fail_next("/upload", 0, method="POST", times=99)
    with pytest.raises(Lost, match="lost before it answered"):
        await made.api.upload("pve2", "local", "import", disk, "nestlab-a.qcow2")
    made.fake.faults.clear()


class Watched(PretendStock):
    """Remembers where images were first wanted."""

    first = ""

    async def build(self, key: str, image: Image, say: object, node: str = "") -> None:
        self.first = node
        self.built.add(key)


async def test_an_image_goes_first_to_the_node_whose_machine_needs_it(made: Bench) -> None:
    lab = draft("lab", replace(guest("web"), node="pve2"), hosts="h")
    stock = Watched(made.api, made.on, made.built)
    engine: PveEngine = made.engine(stock=stock)
    await engine.perform(Build("", lab["web"].image), lab, made.say)
    assert stock.first == "pve2"


async def test_a_node_that_is_none_is_told_as_that(made: Bench) -> None:
    wrong = replace(made.on, nodes=("pve9",))
    found = await point(made, "nodes", wrong)
    assert (found.ok, found.seen) == (False, "there is no node pve9; it has: pve1, pve2")
    made.on = wrong
    with pytest.raises(LabError, match="There is no node pve9, which the lab names; the cluster has: pve1, pve2"):
        await made.engine().check(ONE, {"web"})


async def test_why_a_cpu_is_not_told_is_told(made: Bench) -> None:
    assert resources.processor("pve1", None, None).why == "Sys.Audit on /nodes is missing"
    made.fake.node_down("pve2")
    made.on = replace(made.on, nodes=("pve1",))
    line = (await made.engine().platform()).line
    assert "pve1 (" in line
    assert "pve2" not in line
    assert "Sys.Audit" not in line


async def test_a_container_is_not_told_to_be_emulated(made: Bench, tmp_path: Path) -> None:
    made.fake.storages["local"].content += ",vztmpl"
    for node in made.fake.nodes.values():
        node.kvm, node.flags = False, "fpu lm"
    lab, engine = containers(tmp_path), made.engine()
    for step in (Create("", "box"), Boot("", "box")):
        await engine.perform(step, lab, made.say)
    assert "starting" in made.said
    assert not [text for text in made.said if "emulation" in text]
    assert (await engine.observe()).machines["box"].accel is None


def test_check_says_a_hint_once(shell: Shell, fake: FakePve) -> None:
    name, secret = fake.add_token("lab@pve", "poor", {"/pool/nestlab": "Pool.Audit", "/": "Sys.Audit"})
    text = shell.run("pve", "check", shell.on, status=2, env={"NESTLAB_PVE_TOKEN": f"{name}={secret}"}).stdout
    assert text.count("tells the commands that grant all of them") == 1


def test_check_of_a_lab_file_knows_whether_it_nests(shell: Shell, fake: FakePve, tmp_path: Path) -> None:
    for node in fake.nodes.values():
        node.nested = False
    file = tmp_path / "lab.yaml"
    file.write_text(f"lab: plain\non: {shell.on}\nmachines:\n  web: {{image: debian}}\n")
    assert "ready" in shell.run("pve", "check", str(file)).stdout
    file.write_text(f"lab: nest\non: {shell.on}\nmachines:\n  hv: {{hypervisor: kvm}}\n")
    assert "not ready" in shell.run("pve", "check", str(file), status=2).stdout
