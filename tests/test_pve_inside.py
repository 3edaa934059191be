"""Machines inside a node that nestlab made: the engine for a Proxmox VE once more, on the node's own API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import blueprints
from nestlab.base.errors import LabError
from nestlab.lab.blueprint import PROBE_NAME
from nestlab.plan.steps import Boot, Create, Introduce, Other, Remove, Stop, Update
from nestlab.testing.fake_pve import mistakes
from nestlab.testing.fake_pve.world import Guest
from nestlab.wire.pve.daemon import Daemon, Node
from pve_lab import QUICK
from pve_node_bench import NodeBench, bench, container, draft, mark_of

GUEST = draft(blueprints.guest("web"))
CONTAINER = draft(container("box"))


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[NodeBench]:
    async with bench(tmp_path) as found:
        yield found


async def test_a_node_that_has_just_booted_is_given_what_machines_stand_on_and_asked_for_nothing_else(
    made: NodeBench,
) -> None:
    assert "nestlab" not in made.fake.pools
    await made.up(GUEST, "pve1/web")
    assert "nestlab" in made.fake.pools
    assert "import" in made.fake.storages["local"].content.split(",")
    changed = {(call.method, call.path) for call in made.fake.calls() if call.method != "GET"}
    assert not any("/sdn" in path or "/access" in path for _, path in changed)


async def test_a_machine_is_a_vm_of_the_node_on_the_bridge_of_its_segment_and_starts_whenever_the_node_does(
    made: NodeBench,
) -> None:
    await made.up(GUEST, "pve1/web")
    guest, mark = mark_of(made, "pve1/web")
    (nic,) = GUEST["pve1/web"].nics
    assert guest.running
    assert guest.config["net0"] == f"virtio={nic.mac.upper()},bridge=vmbr0,firewall=0"
    assert guest.config["onboot"] == 1
    assert mark.addresses == tuple(each.partition("/")[0] for each in nic.addresses)


async def test_what_is_stopped_stays_stopped_when_its_node_boots_again(made: NodeBench) -> None:
    engine = await made.up(GUEST, "pve1/web")
    await engine.perform(Stop("", "pve1/web"), GUEST, made.say)
    guest, mark = mark_of(made, "pve1/web")
    assert (guest.running, guest.config["onboot"], mark.wanted) == (False, 0, "stopped")


async def test_doing_it_twice_makes_one_machine(made: NodeBench) -> None:
    await made.up(GUEST, "pve1/web")
    before = {vmid: dict(guest.config) for vmid, guest in made.fake.vms.items()}
    await made.up(GUEST, "pve1/web")
    assert {vmid: dict(guest.config) for vmid, guest in made.fake.vms.items()} == before


async def test_what_is_seen_is_right_inside_the_node_and_what_people_made_there_is_told_and_left_alone(
    made: NodeBench,
) -> None:
    engine = await made.up(GUEST, "pve1/web")
    with made.fake.world.lock:
        made.fake.world.guests[700] = Guest(700, "pve1", "qemu", config={"name": "mine"}, machine={}, running=True)
    seen = await made.engine().observe()
    assert set(seen.machines) == {"pve1/web"}
    assert seen.machines["pve1/web"].state == "running"
    assert seen.others == (Other("pve1", "VM 700 (mine), running"),)
    await engine.perform(Remove("", "pve1/web"), GUEST, made.say)
    assert 700 in made.fake.vms
    assert set((await made.engine().observe()).machines) == set()


async def test_a_machine_of_another_node_of_the_cluster_is_that_node_s(made: NodeBench) -> None:
    await made.up(GUEST, "pve1/web")
    made.node.path = "pve2"
    assert (await made.engine().observe()).machines == {}
    made.node.path = "pve1"


async def test_the_node_is_waited_for_while_its_daemons_start(made: NodeBench) -> None:
    made.node.away = 3
    await made.up(GUEST, "pve1/web")
    assert any("its daemons are starting" in each for each in made.said)


async def test_a_daemon_that_failed_is_not_waited_for(made: NodeBench) -> None:
    made.node.away, made.node.states = 1000, "failed"
    with pytest.raises(LabError, match=r"pve-cluster\.service is failed") as caught:
        await made.up(GUEST, "pve1/web")
    assert "journalctl -b -u pve-cluster.service" in caught.value.hint
    assert made.node.away > 900


async def test_to_end_a_machine_nobody_waits_for_a_node_that_does_not_answer(made: NodeBench) -> None:
    await made.up(GUEST, "pve1/web")
    made.node.away = 1000
    for step in (Stop("", "pve1/web"), Remove("", "pve1/web")):
        with pytest.raises(LabError, match="takes no connection"):
            await made.engine().perform(step, GUEST, made.say)
    assert not any("its daemons are starting" in each for each in made.said)


async def test_a_guest_that_somebody_moved_to_another_node_stays_the_lab_s_and_there(made: NodeBench) -> None:
    await made.up(GUEST, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    with made.fake.world.lock:
        made.fake.world.nodes["pve2"] = replace(made.fake.world.nodes["pve1"], name="pve2")
        guest.node = "pve2"
    lab = draft(blueprints.guest("web"), blueprints.guest("db"))
    engine = await made.up(lab, "pve1/db")
    seen = (await engine.observe()).machines
    assert {path: each.node for path, each in seen.items()} == {"pve1/web": "pve2", "pve1/db": "pve1"}
    await engine.perform(Stop("", "pve1/web"), lab, made.say)
    assert not guest.running


async def test_looking_at_a_node_whose_api_is_not_there_yet_waits_for_nothing(made: NodeBench) -> None:
    made.node.away = 1000
    with pytest.raises(LabError, match="takes no connection"):
        await made.engine().observe()
    assert not any(argv[0] == "perl" for argv in made.node.typed)


async def test_a_ticket_that_is_good_no_more_is_made_anew(made: NodeBench) -> None:
    engine = await made.up(GUEST, "pve1/web")
    made.fake.expire_tickets()
    await engine.perform(Stop("", "pve1/web"), GUEST, made.say)
    assert sum(argv[0] == "perl" for argv in made.node.typed) == 2


async def test_a_ticket_is_kept_for_the_next_command_and_one_that_is_refused_is_made_anew(made: NodeBench) -> None:
    kept = made.folder / "ticket"
    for _ in range(2):
        await Daemon(cast(Node, made.node), kept=kept).get("/version")
    assert sum(argv[0] == "perl" for argv in made.node.typed) == 1
    assert kept.stat().st_mode & 0o077 == 0
    made.fake.expire_tickets()
    await Daemon(cast(Node, made.node), kept=kept).get("/version")
    await Daemon(cast(Node, made.node), kept=kept).get("/version")
    assert sum(argv[0] == "perl" for argv in made.node.typed) == 2


async def test_a_lab_that_was_renamed_finds_its_machines_and_makes_others_beside_them(made: NodeBench) -> None:
    lab = draft(blueprints.guest("web"), blueprints.guest("db"))
    await made.up(lab, "pve1/web")
    later = replace(lab, lab="later")
    await made.up(later, "pve1/db")
    assert {mark_of(made, path)[1].lab for path in ("pve1/web", "pve1/db")} == {"lab"}
    assert set((await made.engine().observe()).machines) == {"pve1/web", "pve1/db"}


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"HTTP/1.1 x\r\n\r\n"]
)
async def test_what_is_no_answer_of_pvedaemon_is_an_error_in_the_node_s_name(said: bytes, made: NodeBench) -> None:
    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(liar, "127.0.0.1", 0) as server:
        made.node.port = server.sockets[0].getsockname()[1]
        with pytest.raises(LabError, match="pve1"):
            await Daemon(cast(Node, made.node), patience=QUICK).get("/version")


async def test_no_secret_is_typed_on_the_node(made: NodeBench) -> None:
    await made.up(CONTAINER, "pve1/box")
    tickets = list(made.fake.world.access.tickets)
    keys = [data.decode() for told in made.node.told.values() for name, data in told.items() if name.endswith("_key")]
    words = "\0".join(word for argv in made.node.typed for word in argv)
    assert tickets
    assert keys
    assert not any(secret in words for secret in (*tickets, *keys))


async def test_a_container_is_made_from_nestlab_s_own_debian_and_told_who_it_is(made: NodeBench) -> None:
    await made.up(CONTAINER, "pve1/box")
    guest, mark = mark_of(made, "pve1/box")
    (nic,) = CONTAINER["pve1/box"].nics
    four, six = nic.addresses if len(nic.addresses) == 2 else (nic.addresses[0], "")
    assert guest.kind == "lxc"
    assert guest.running
    assert guest.config["unprivileged"] == 1
    assert guest.config["features"] == "nesting=1"
    card = str(guest.config["net0"])
    assert "bridge=vmbr0," in card
    assert f"hwaddr={nic.mac.upper()}" in card
    assert f"ip={four}" in card
    assert not six or f"ip6={six}" in card
    (template,) = (place for place in made.node.files if place.startswith("/var/lib/vz/template/cache/"))
    assert made.node.files[template].startswith(b"/dev/vdc")
    assert mark.names == CONTAINER["pve1/box"].names
    told = made.node.told[guest.vmid]
    assert set(told) == {"hosts", "authorized_keys", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"}
    assert told["hosts"].decode() == CONTAINER["pve1/box"].hosts


async def test_a_template_is_packed_once_and_containers_share_it(made: NodeBench) -> None:
    lab = draft(container("box"), container("bin"))
    await made.up(lab, "pve1/box")
    await made.up(lab, "pve1/bin")
    assert sum("pack" in argv for argv in made.node.typed) == 1


async def test_a_container_whose_start_was_taken_for_failed_runs_after_all(made: NodeBench) -> None:
    engine = made.engine()
    await engine.perform(Create("", "pve1/box"), CONTAINER, made.say)
    made.fake.fail_task("vzstart", "unable to get PID for CT 100 (not running?)")
    asked = engine.guests.runs
    states = iter(["stopped", "stopped"])

    async def late(guest: Any) -> str:
        """It runs, and the task that started it says that it does not."""
        state = next(states, "")
        if not state:
            with made.fake.world.lock:
                made.fake.world.guests[guest.vmid].running = True
        return state or await asked(guest)

    engine.guests.runs = late  # type: ignore[method-assign]
    await engine.perform(Boot("", "pve1/box"), CONTAINER, made.say)
    assert mark_of(made, "pve1/box")[0].running


async def test_other_names_reach_a_machine_that_runs(made: NodeBench) -> None:
    engine = await made.up(GUEST, "pve1/web")
    after = draft(blueprints.guest("web"), hosts="after")
    await engine.perform(Introduce("", "pve1/web"), after, made.say)
    assert mark_of(made, "pve1/web")[1].names == after["pve1/web"].names


async def test_another_definition_reaches_the_machine_by_a_restart_and_keeps_its_disk(made: NodeBench) -> None:
    engine = await made.up(GUEST, "pve1/web")
    larger = draft(blueprints.guest("web", memory=192))
    disk = mark_of(made, "pve1/web")[0].config["virtio0"]
    await engine.perform(Stop("", "pve1/web"), GUEST, made.say)
    await engine.perform(Update("", "pve1/web"), larger, made.say)
    await engine.perform(Boot("", "pve1/web"), larger, made.say)
    guest, _ = mark_of(made, "pve1/web")
    assert (str(guest.config["memory"]), guest.config["virtio0"], guest.running) == ("192", disk, True)


async def test_the_guest_of_a_proof_runs_on_the_node_without_proxmox_ve(made: NodeBench) -> None:
    engine = made.engine()
    path = f"pve1/{PROBE_NAME}"
    await engine.perform(Create("", path), GUEST, made.say)
    assert made.bare.done == [f"create:{path}"]
    assert (await engine.host(path)).path == f"bare {path}"
    assert await engine.accel(path) == "kvm"
    assert made.fake.calls() == []


async def test_the_sshds_of_its_machines_are_reached_from_the_node(made: NodeBench) -> None:
    lab = draft(blueprints.guest("web"), container("box"), blueprints.guest("alone", on=()))
    for path in ("pve1/web", "pve1/box", "pve1/alone"):
        engine = await made.up(lab, path)
    found = {each.path: each for each in await engine.sshds()}
    address = lab["pve1/web"].nics[0].addresses[0].partition("/")[0]
    assert (found["pve1/web"].host, found["pve1/web"].port, found["pve1/web"].carried) == (address, 22, False)
    assert not found["pve1/box"].carried
    assert found["pve1/alone"].carried


async def test_a_node_without_kvm_starts_its_machines_emulated_and_says_what_that_costs(made: NodeBench) -> None:
    with made.fake.world.lock:
        there = made.fake.world.nodes["pve1"]
        there.kvm, there.nested, there.flags = False, False, "fpu lm sse2 hypervisor"
    engine = await made.up(GUEST, "pve1/web")
    guest, mark = mark_of(made, "pve1/web")
    assert (guest.config["kvm"], guest.config["cpu"], mark.kvm) == (0, "max", False)
    assert await engine.accel("pve1/web") == "tcg"


async def test_what_does_not_fit_into_the_node_is_refused_with_the_numbers(made: NodeBench) -> None:
    with made.fake.world.lock:
        there = made.fake.world.nodes["pve1"]
        there.memory = there.memory_used = 1 << 30
    with pytest.raises(LabError, match=r"memory: 168M needed, 0M of 1\.0G free"):
        await made.up(GUEST, "pve1/web")


async def test_every_request_is_one_that_proxmox_publishes(made: NodeBench) -> None:
    lab = draft(replace(blueprints.guest("web"), disk=3 << 30), container("box"))
    for path in ("pve1/web", "pve1/box"):
        engine = await made.up(lab, path)
        await engine.perform(Stop("", path), lab, made.say)
        await engine.perform(Remove("", path), lab, made.say)
    for version in ("9.1", "9.2"):
        wrong = [
            (call.method, call.path, found)
            for call in made.fake.requests
            if not call.path.endswith("/upload") and (found := mistakes(version, call.method, call.path, call.params))
        ]
        assert wrong == []
