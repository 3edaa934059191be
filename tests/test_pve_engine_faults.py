"""What the engine for a Proxmox VE makes of one that fails, is busy, is away for a while, or is changed by others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blueprints import draft, guest
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve import guests, power
from nestlab.engines.pve.engine import PveEngine
from nestlab.engines.pve.vmids import Vmids
from nestlab.lab.model import GIB, Segment
from nestlab.lab.places import Pve
from nestlab.plan.steps import Boot, Connect, Create, Disconnect, Remove, Stop
from nestlab.testing.fake_pve import FakePve, mistakes
from nestlab.wire.pve import tasks
from nestlab.wire.pve.api import Params
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.errors import Changed, Locked, NodeUnreachable, PveError
from nestlab.wire.pve.login import Password
from nestlab.wire.pve.retries import Lost
from nestlab.wire.pve.trust import Trust
from pve_lab import ONE, QUICK, Bench, Meddled, assert_valid, bench, cluster, config, machine_of, once, seen, up, vmid

LOCKED = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout"
STORAGE_LOCKED = "import failed - cfs-lock 'storage-local' error: got lock request timeout"


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2") as pve:
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(guests, "BUSY", QUICK)
    async with bench(fake, tmp_path) as found:
        yield found
        assert_valid(fake)


def machines(made: Bench) -> list[int]:
    return [number for number, each in made.fake.vms.items() if not each.template]


async def test_two_labs_at_once_do_not_touch_each_other(made: Bench) -> None:
    labs = {name: draft(name, guest("web"), hosts="h") for name in ("one", "two")}
    engines = {name: made.engine(name) for name in labs}

    async def bring(name: str) -> None:
        await engines[name].perform(Connect("", "wire"), labs[name], made.say)
        await up(made, labs[name], engine=engines[name])

    await asyncio.gather(*map(bring, labs))
    both = {name: machine_of(made.fake, name, "web") for name in labs}
    assert both["one"] is not None
    assert both["two"] is not None
    assert both["one"].vmid != both["two"].vmid
    assert both["one"].config["net0"] != both["two"].config["net0"]
    await engines["one"].perform(Remove("", "web"), labs["one"], made.say)
    await engines["one"].perform(Disconnect("", "wire"), labs["one"], made.say)
    assert machine_of(made.fake, "one", "web") is None
    left = await made.engine("two").observe()
    assert (left.machines["web"].state, set(left.links)) == ("running", {"wire"})
    assert both["two"].running


async def test_a_request_that_is_not_published_fails_these_tests(made: Bench) -> None:
    with pytest.raises(PveError, match="not defined in schema"):
        await made.api.set("/cluster/sdn", {"hurry": True})
    with pytest.raises(AssertionError, match="hurry"):
        assert_valid(made.fake)
    for version in ("9.1", "9.2"):
        assert mistakes(version, "POST", "/nodes/pve1/qemu", {"vmid": 101, "hotplug": "everything", "pool": "a b"})
    made.fake.requests.clear()


@pytest.mark.parametrize("kind", ["qmclone", "qmconfig", "qmstart"])
async def test_a_task_that_fails_is_told_with_the_end_of_its_log(made: Bench, kind: str) -> None:
    made.fake.fail_task(kind, "no luck today", log="first line\nlast line")
    with pytest.raises(PveError, match=rf"{kind}.* failed on .*: no luck today") as caught:
        await up(made)
    *_, first, last, error = caught.value.detail.splitlines()
    assert (first, last) == ("first line", "last line")
    assert error.startswith("TASK ERROR: ")
    assert caught.value.upid.startswith("UPID:pve1:")
    await up(made)
    assert len(machines(made)) == 1


@pytest.mark.parametrize("kind", ["qmclone", "qmconfig", "qmstart", "qmshutdown", "qmdestroy"])
async def test_what_a_task_warns_of_is_told_and_is_no_failure(made: Bench, kind: str) -> None:
    made.fake.warn_task(kind, "iothread is only valid with virtio", "and another")
    engine = await up(made)
    await engine.perform(Stop("", "web"), ONE, made.say)
    await engine.perform(Remove("", "web"), ONE, made.say)
    told = [text for text in made.said if text.startswith("warning: ")]
    assert told == ["warning: iothread is only valid with virtio", "warning: and another"]
    assert machines(made) == []


@pytest.mark.parametrize("said", [LOCKED, STORAGE_LOCKED])
@pytest.mark.parametrize("kind", ["qmclone", "qmconfig", "qmstart", "qmshutdown", "qmdestroy"])
async def test_a_task_that_found_a_lock_taken_is_begun_again(made: Bench, kind: str, said: str) -> None:
    made.fake.fail_task(kind, said, times=2)
    engine = await up(made)
    await engine.perform(Stop("", "web"), ONE, made.say)
    await engine.perform(Remove("", "web"), ONE, made.say)
    assert made.said.count("waiting for a lock that somebody else holds") == 2
    assert machines(made) == []


async def test_a_lock_that_is_never_free_is_told_after_a_bound(made: Bench) -> None:
    made.fake.fail_task("qmconfig", LOCKED, times=99)
    with pytest.raises(Locked, match="got timeout"):
        await up(made)
    assert len(made.fake.tasks.failing["qmconfig"]) == 99 - QUICK.tries


async def test_a_lock_that_somebody_holds_for_a_while_is_waited_for(made: Bench) -> None:
    engine = await up(made)
    made.fake.world.lock_timeout = 0.01
    release = made.fake.hold(vmid(made))

    def say(text: str) -> None:
        made.say(text)
        if "lock" in text:
            release()

    await engine.perform(Remove("", "web"), ONE, say)
    assert machines(made) == []


@pytest.mark.parametrize(
    ("part", "method", "status", "message"),
    [
        ("/clone", "POST", 595, "No route to host"),
        ("/config", "PUT", 595, "Connection refused"),
        ("/config", "POST", 500, LOCKED),
        ("/status/current", "GET", 596, "Connection timed out"),
        ("/tasks/", "GET", 597, "Broken pipe"),
        ("/cluster/resources", "GET", 500, "got timeout"),
        ("/cluster/nextid", "GET", 503, "Service Unavailable"),
        ("/config", "GET", 0, ""),
    ],
)
async def test_what_passes_is_asked_again(made: Bench, part: str, method: str, status: int, message: str) -> None:
    made.fake.fail_next(part, status, message, method=method, times=QUICK.tries - 1)
    await up(made)
    assert [fault.times for fault in made.fake.faults] == [0]
    assert len(machines(made)) == 1


@pytest.mark.parametrize(("part", "method"), [("/clone", "POST"), ("/config", "GET"), ("/status/start", "POST")])
async def test_a_node_that_stays_away_is_told_after_a_bound(made: Bench, part: str, method: str) -> None:
    made.fake.fail_next(part, 595, "No route to host", method=method, times=99)
    with pytest.raises(NodeUnreachable, match="No route to host") as caught:
        await up(made)
    assert "that node is up" in caught.value.hint
    assert made.fake.faults[0].times == 99 - QUICK.tries


@pytest.mark.parametrize("part", ["/clone", "/config", "/status/start"])
async def test_what_may_have_been_done_is_not_asked_again_and_up_goes_on_from_it(made: Bench, part: str) -> None:
    made.fake.fail_next(part, 0, method="POST", after=True)
    with pytest.raises(Lost, match="Whether it was done is not known"):
        await up(made)
    assert len(made.fake.calls("POST", part)) == 1
    await up(made)
    assert len(machines(made)) == 1


async def test_tickets_that_expire_all_the_time_are_renewed(fake: FakePve, tmp_path: Path) -> None:
    login = Password(fake.user, fake.password)
    async with Client("127.0.0.1", login, Trust.of(fake.fingerprint), port=fake.port, patience=QUICK) as api:
        made = Bench(fake, api, tmp_path, Pve("pve://127.0.0.1"))
        asked = [0]

        def expire(name: str, path: str) -> None:
            asked[0] += 1
            if asked[0] % 5 == 0:
                fake.expire_tickets()

        engine = await up(made, engine=made.engine_on(Meddled(api, expire)))
        await engine.perform(Remove("", "web"), ONE, made.say)
        assert machines(made) == []
        assert len(fake.calls("POST", "/access/ticket")) > 3


async def test_a_certificate_that_is_renewed_between_two_steps_must_be_a_stated_one(
    fake: FakePve, tmp_path: Path
) -> None:
    async with bench(fake, tmp_path) as made:
        engine = made.engine()
        await engine.perform(Create("", "web"), ONE, made.say)
        fake.new_certificate()
        await made.api._https.drop()  # its connections are gone, as after a restart of pveproxy
        before = len(fake.requests)
        with pytest.raises(LabError, match="another certificate than it should"):
            await engine.perform(Boot("", "web"), ONE, made.say)
        assert len(fake.requests) == before
    async with bench(fake, tmp_path) as later:
        await up(later)
        assert len(machines(later)) == 1


async def test_what_somebody_writes_at_the_same_moment_is_kept(made: Bench) -> None:
    engine = await up(made)
    number = vmid(made)

    def scribble() -> None:
        made.fake.set_config(number, description="Anna was here\n" + str(config(made)["description"]), memory=333)

    meddled = made.engine_on(Meddled(made.api, once(scribble, "set", f"/{number}/config")))
    await meddled.perform(Stop("", "web"), ONE, made.say)
    assert str(config(made)["description"]).startswith("Anna was here")
    assert config(made)["memory"] == 333
    assert await state_of(made) == "stopped"
    await engine.perform(Boot("", "web"), ONE, made.say)
    made.fake.fail_next(f"/{number}/config", 500, "detected modified configuration", method="PUT", times=99)
    with pytest.raises(Changed, match="detected modified configuration"):
        await engine.perform(Stop("", "web"), ONE, made.say)
    assert made.fake.faults[-1].times == 99 - guests.TRIES


async def state_of(made: Bench) -> str:
    state = await seen(made)
    return state.state if state is not None else "absent"


async def test_a_machine_that_moves_while_it_is_looked_for_is_not_made_twice(made: Bench) -> None:
    await up(made)
    number = vmid(made)

    def move() -> None:
        made.fake.vms[number].node = "pve2"

    for part in ("/nodes/pve1/qemu", f"/qemu/{number}/config"):
        made.fake.vms[number].node = "pve1"
        engine = made.engine_on(Meddled(made.api, once(move, "get", part)))
        assert (await engine.observe()).machines["web"].state == "running"
        await engine.perform(Create("", "web"), ONE, made.say)
    assert machines(made) == [number]
    assert await made.engine().node_of("web") == "pve2"


async def test_a_number_in_between_that_is_taken_is_not_given(made: Bench) -> None:
    numbers = Vmids(made.api)

    async def nothing(number: int) -> None:
        given.append(number)
        if len(given) == 1:  # it is not there yet when the next one is asked for
            params: Params = {"vmid": number + 1, "memory": 16, "pool": "nestlab"}
            await made.api.task(await made.api.create("/nodes/pve1/qemu", params))
            await numbers.use(nothing)

    given: list[int] = []
    await numbers.use(nothing)
    assert given[1] == given[0] + 2


async def test_a_node_that_is_away_for_a_while_in_the_middle_is_waited_for(made: Bench) -> None:
    made.fake.slow("qmclone", 0.2)
    lab = draft("lab", replace(guest("web"), node="pve2"), hosts="before")

    def restart() -> None:
        made.fake.node_down("pve2")
        asyncio.get_running_loop().call_later(0.6, made.fake.node_down, "pve2", False)

    engine = made.engine_on(Meddled(made.api, once(restart, "create", "/clone"), after=True))
    await up(made, lab, engine=engine)
    assert (await state_of(made), made.fake.vms[vmid(made)].node) == ("running", "pve2")


async def test_a_node_that_does_not_come_back_is_told_and_up_goes_on_when_it_does(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", 0.1)
    lab = draft("lab", replace(guest("web"), node="pve2"), hosts="before")
    for method, part in (("create", "/clone"), ("create", "/config"), ("set", "/config"), ("create", "/start")):
        down = once(lambda: made.fake.node_down("pve2"), method, part)
        with pytest.raises(NodeUnreachable, match="No route to host"):
            await up(made, lab, engine=made.engine_on(Meddled(made.api, down, after=True)))
        with pytest.raises(LabError, match=r"pve2"):
            await up(made, lab)
        made.fake.node_down("pve2", down=False)
    await up(made, lab)
    assert await state_of(made) == "running"
    assert len(machines(made)) == 1


async def test_a_network_that_a_node_missed_while_it_was_away_is_applied_once_more(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SETTLING", 0.0)
    lab = draft("lab", *(replace(guest(name), node="pve2") for name in ("web", "two")), hosts="before")
    engine = made.engine()
    made.fake.node_down("pve2")
    await engine.perform(Connect("", "wire"), lab, made.say)
    made.fake.node_down("pve2", down=False)
    before = len(made.fake.calls("PUT", "/cluster/sdn"))
    await asyncio.gather(*(up(made, lab, path, engine) for path in ("web", "two")))
    assert len(made.fake.calls("PUT", "/cluster/sdn")) == before + 1
    assert made.fake.world.sdn.lock == ""


async def test_a_bridge_that_is_not_there_is_told_and_changes_nothing(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SETTLING", 0.0)
    lab = draft("lab", guest("web"), segments=(Segment("wire", bridge="vmbr7"),), hosts="before")
    with pytest.raises(PveError, match="bridge 'vmbr7' does not exist"):
        await up(made, lab)
    assert made.fake.calls("PUT", "/cluster/sdn") == []


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("bridge 'nlabcdef' does not exist\nnetwork script failed with status 512", "waiting for its network"),
        ("KVM virtualisation configured, but not available.", "node pve1 has no KVM"),
    ],
)
async def test_what_only_the_log_of_a_start_tells_is_understood(made: Bench, log: str, said: str) -> None:
    made.fake.fail_task("qmstart", "start failed: QEMU exited with code 1", log=log)
    await up(made)
    assert any(text.startswith(said) for text in made.said)
    assert await state_of(made) == "running"


@pytest.mark.parametrize(
    ("on", "lab", "said"),
    [
        ({"storage": "nowhere"}, ONE, r"pve1: it has no storage nowhere; it has: iso, local"),
        ({"storage": "iso"}, ONE, r"storage iso takes no content images \(pvesm set iso --content"),
        ({"nodes": ("pve9",)}, ONE, r"There is no node pve9, which the lab names; the cluster has: pve1, pve2"),
        ({}, draft("lab", replace(guest("web"), node="pve9")), r"web is to run on node pve9, which the cluster does"),
        ({"zone": "nozone"}, ONE, r"has no SDN zone nozone that can be seen; it has: nestlab"),
        ({"pool": "nopool"}, ONE, r"has no pool nopool that can be seen; it has: nestlab"),
    ],
)
async def test_a_name_that_is_not_there_is_told_before_anything_is_made(
    made: Bench, on: dict[str, Any], lab: Any, said: str
) -> None:
    made.fake.add_storage("iso", content="iso")
    made.on = replace(made.on, **on)
    with pytest.raises(LabError, match=said) as caught:
        await made.engine().check(lab, {"web"})
    assert caught.value.hint
    assert made.fake.calls("POST") == []


async def test_machines_are_linked_clones_where_the_storage_can_and_grow_but_never_shrink(made: Bench) -> None:
    large, small = replace(guest("large"), disk=5 * GIB), replace(guest("small"), disk=GIB // 2)
    lab = draft("lab", large, small, hosts="before")
    for path in ("large", "small"):
        await up(made, lab, path)
        disk = str(config(made, path)["virtio0"])
        assert disk.startswith("local:")
        assert "base-" in disk.split(",")[0], "it hangs on its template"
    assert "size=5G" in str(config(made, "large")["virtio0"])
    assert "size=1G" in str(config(made, "small")["virtio0"])
    assert len(made.fake.calls("PUT", "/resize")) == 1


async def test_a_network_that_cannot_be_applied_leaves_nothing_waiting(made: Bench) -> None:
    engine: PveEngine = made.engine()
    made.fake.fail_next("/cluster/sdn", 500, "could not commit SDN config", method="PUT")
    with pytest.raises(PveError, match="could not commit"):
        await engine.perform(Connect("", "wire"), ONE, made.say)
    assert not made.fake.world.sdn.pending
    made.fake.fail_task("reloadnetworkall", "got no worker upid - start worker failed", log="pve2: reloading")
    with pytest.raises(PveError, match=r"reloadnetworkall.* failed") as caught:
        await engine.perform(Connect("", "wire"), ONE, made.say)
    assert "pve2: reloading" in caught.value.detail
    assert (made.fake.world.sdn.pending, made.fake.world.sdn.lock) == (False, "")
    await up(made, engine=engine)
    await engine.perform(Remove("", "web"), ONE, made.say)
    await engine.perform(Disconnect("", "wire"), ONE, made.say)
    assert made.fake.world.sdn.applied["vnets"] == {}
    assert not isinstance(caught.value, Unreachable)


async def test_a_network_that_a_node_failed_to_load_is_told_with_the_nodes_reason(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PVE's task ends well all the same."""
    monkeypatch.setattr(power, "SETTLING", 0.0)
    made.fake.nodes["pve1"].reload_fails = "error: incompatible ifupdown2 1.2.8"
    lab = draft("lab", replace(guest("web"), node="pve1"), hosts="h")
    engine = made.engine()
    await engine.perform(Connect("", "wire"), lab, made.say)
    with pytest.raises(PveError, match=r"does not exist.*Node pve1 did not reload its network: error: incompatible"):
        await up(made, lab, engine=engine)
    assert [task.status for task in made.fake.tasks.all if task.kind == "reloadnetworkall"] == ["OK", "OK"]
    made.fake.nodes["pve1"].reload_fails = ""
    await up(made, lab)
