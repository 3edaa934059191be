"""Habits that a real Proxmox VE showed: what is not known yet, what takes long, what breaks off, and in which words."""

from __future__ import annotations

import fcntl
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve import resources, tags
from nestlab.engines.pve.assignment import NO_CPU
from nestlab.engines.pve.engine import PveEngine
from nestlab.home.directories import Home
from nestlab.home.lock_holder import Holder
from nestlab.lab import addresses, blueprint_file
from nestlab.lab.blueprint import Blueprint, Leases, settle
from nestlab.lab.model import Image
from nestlab.lab.places import Pve
from nestlab.plan.steps import Boot, Build, Connect, Create, Disconnect, Remove, Step, Stop
from nestlab.proxmox import setup
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.world import Guest
from nestlab.verbs import session as verbs
from nestlab.wire.pve.errors import PveError, refusal, shortened
from nestlab.wire.pve.pvesh import Pvesh
from nestlab.wire.pve.retries import Lost
from pve_lab import ONE, Bench, Meddled, PretendStock, assert_valid, bench, cluster, config, machine_of, once, up, vmid
from pve_shell import Node
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
    [outlook] = await engine.outlook(lab, {"box"})
    assert outlook.cpu == NO_CPU


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


def test_status_says_that_an_up_is_at_work_and_nothing_has_died_meanwhile(
    shell: Shell, fake: FakePve, tmp_path: Path
) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"lab: one\non: {shell.on}\nmachines:\n  web: {{image: debian}}\n")
    place = Home(tmp_path / "state", tmp_path / "cache").lab("one")
    lab, _ = verbs.read(file, {})
    settled = settle(lab, addresses.lease(lab, Leases(), ()), dict.fromkeys([lab.machines[0].image], "image-1"))
    blueprint_file.save(place.blueprint, settled)
    mark = tags.Mark("one", "web", 100, "d", wanted="running")
    options: dict[str, Any] = {"description": tags.line(mark), "tags": tags.tags("", mark), "name": "one-web"}
    with fake.world.lock:
        fake.world.guests[100] = Guest(100, "pve1", "qemu", config=options)
    assert shell.json("status", "one")["machines"][0]["state"] == "died"

    with place.lock.open("w") as held:  # as `home.lock` holds it, in another process
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(json.dumps(asdict(Holder(4711, "up", 0.0))))
        held.flush()
        said = shell.run("status", "one").stdout
        assert "`nestlab up` (process 4711" in said.splitlines()[0]
        assert "is at work on it" in said.splitlines()[0]
        assert "nobody stopped it" not in said
        data = shell.json("status", "one")
        assert (data["at_work"]["verb"], data["machines"][0]["state"]) == ("up", "stopped")
    assert shell.json("status", "one")["at_work"] is None


# -- what was not seen on a real one


async def test_daemons_that_are_restarted_in_the_middle_of_an_up_are_waited_for(fake: FakePve, tmp_path: Path) -> None:
    """Requests find nobody for a while; what is being asked at that moment is cut off, and `up` again goes on."""
    async with bench(fake, tmp_path) as made:
        count = 0

        def restart(method: str, path: str) -> None:
            nonlocal count
            count += 1
            if count in (3, 9, 16, 24, 33, 43):
                fake.restart_daemons(0.05)

        api = Meddled(made.api, restart)
        engine = made.engine_on(api, stock=PretendStock(api, made.on, made.built))
        for _ in range(12):
            try:
                await up(made, engine=engine)
                break
            except Lost:
                continue
        assert count > 8
        machines = [each for each in fake.vms.values() if not each.template]
        assert [each.running for each in machines] == [True]


async def test_a_task_outlives_the_daemons_that_began_it(made: Bench) -> None:
    made.fake.slow("qmstart", 0.6)
    cut = Meddled(made.api, once(lambda: made.fake.restart_daemons(0.2), "create", "/status/start"), after=True)
    await up(made, engine=made.engine_on(cut))
    assert [task.status for task in made.fake.tasks.all if task.kind == "qmstart"] == ["OK"]


@pytest.mark.parametrize("at", ["Create", "Boot"])
async def test_a_storage_that_is_full_is_told_and_leaves_what_up_goes_on_from(made: Bench, at: str) -> None:
    engine, lab = made.engine(), ONE
    if at == "Boot":
        await engine.perform(Create("", "web"), ONE, made.say)
        lab = draft("lab", guest("web"), hosts="after")
    step: Step = Create("", "web") if at == "Create" else Boot("", "web")
    total = made.fake.storages["local"].total
    made.fake.fill("local")
    with pytest.raises(LabError) as caught:
        await engine.perform(step, lab, made.say)
    assert caught.value.hint
    made.fake.storages["local"].total = total
    await up(made, lab)
    assert len([each for each in made.fake.vms.values() if not each.template]) == 1
    assert [volid for volid in made.fake.volumes if "once" in volid] == []


async def test_a_node_that_goes_off_in_the_middle_is_told_and_nothing_is_made_twice(made: Bench) -> None:
    lab = draft("lab", replace(guest("web"), node="pve2"), hosts="h")
    off = Meddled(made.api, once(lambda: made.fake.node_down("pve2"), "create", "/status/start"))
    with pytest.raises(Unreachable, match="pve2"):
        await up(made, lab, engine=made.engine_on(off))
    with pytest.raises(LabError):
        await up(made, lab, engine=made.engine())
    made.fake.node_down("pve2", down=False)
    await up(made, lab)
    assert [each.node for each in made.fake.vms.values() if not each.template] == ["pve2"]


def test_a_certificate_that_is_renewed_is_told_with_both_fingerprints_and_believed_after_trust(
    shell: Shell, fake: FakePve
) -> None:
    old = fake.fingerprint
    new = fake.new_certificate()
    said = shell.run("pve", "check", shell.on, status=2).output
    assert old in said
    assert new in said
    kept = {"NESTLAB_PVE_FINGERPRINT": None}
    shell.run("pve", "trust", shell.on, "--yes", env=kept)
    assert "ready" in shell.run("pve", "check", shell.on, env=kept).stdout


async def test_a_segment_of_a_zone_that_reaches_from_node_to_node_connects_machines_on_two(
    fake: FakePve, tmp_path: Path
) -> None:
    with fake.world.lock:
        for stage in (fake.world.sdn.config, fake.world.sdn.applied):
            stage["zones"]["wide"] = {"zone": "wide", "type": "vxlan", "peers": "10.99.0.1,10.99.0.2"}
    machines = [replace(guest(name), node=node) for name, node in (("a", "pve1"), ("b", "pve2"))]
    lab = draft("lab", *machines, hosts="h")
    async with bench(fake, tmp_path, Pve("pve://127.0.0.1", zone="wide")) as made:
        await made.engine().check(lab, {"a", "b"})
        for path in ("a", "b"):
            await up(made, lab, path)
        bridges = {str(config(made, path)["net0"]).partition("bridge=")[2].split(",")[0] for path in ("a", "b")}
        assert {machine_of(fake, "lab", path).node for path in ("a", "b")} == {"pve1", "pve2"}  # type: ignore[union-attr]
        assert len(bridges) == 1
    async with bench(fake, tmp_path) as made:
        with pytest.raises(LabError, match="end at a node"):
            await made.engine("other").check(lab, {"a", "b"})


async def test_a_lab_lives_its_life_over_pvesh_as_over_https(fake: FakePve, tmp_path: Path) -> None:
    """`pve+ssh://` and `pve+local`: what is typed on a node is answered by the same stand-in."""
    api = Pvesh(Node(fake, "pve1"))
    lab, other = (draft("lab", replace(guest("web"), node="pve1"), hosts=hosts) for hosts in ("a", "b"))
    async with bench(fake, tmp_path, Pve("pve+local")) as made:
        engine = made.engine_on(api, stock=PretendStock(api, made.on, made.built))
        assert [each for each in await setup.check(api, made.on) if each.ok is False] == []
        await engine.check(lab, {"web"})
        await engine.perform(Connect("", "wire"), lab, made.say)
        await up(made, lab, engine=engine)
        fake.set_config(vmid(made), memory=64)
        assert [each.what for each in (await engine.observe()).machines["web"].drift] == ["memory is 64, wanted 128"]
        await engine.perform(Stop("", "web"), lab, made.say)
        await up(made, other, engine=engine)
        assert config(made)["memory"] == "128"
        with pytest.raises(PveError, match="does not exist"):
            await api.get("/nodes/pve1/qemu/999/config")
        await engine.perform(Remove("", "web"), other, made.say)
        await engine.perform(Disconnect("", "wire"), other, made.say)
    assert [each for each in fake.vms.values() if not each.template] == []
    assert fake.world.sdn.applied["vnets"] == {}
