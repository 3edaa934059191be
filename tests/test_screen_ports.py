"""Ports of machines at 127.0.0.1: what the lab file says, what is kept, and the hops that lead there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError, Mistakes, Unreachable
from nestlab.engines.port_rules import PortTaken, Rule
from nestlab.engines.qemu import usernet
from nestlab.home import ports as kept
from nestlab.home.directories import LabHome
from nestlab.home.ports import Kept
from nestlab.hosts.listeners import listener
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Tool
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json
from nestlab.lab.model import Lab
from nestlab.lab.ports import Port
from nestlab.lab.readiness import Ready
from nestlab.labfile import parse_text
from nestlab.labfile.render import render
from nestlab.verbs import forward, ports
from nestlab.verbs.session import Session
from nestlab.wire import qmp
from nestlab.wire.passing import passing
from waiting import LONG

# -- the lab file


def lab(said: str) -> Lab:
    return parse_text(f"lab: x\nmachines: {{m: {{{said}}}}}\n", "lab.yaml", environ={})


def test_ports_are_a_list_or_a_mapping() -> None:
    assert lab("ports: [8006, 80]").machines[0].ports == (Port(8006), Port(80))
    assert lab("ports: {8006: 18006, 80: }").machines[0].ports == (Port(8006, 18006), Port(80))


def test_a_lab_with_ports_is_written_as_it_is_read() -> None:
    wanted = lab("ports: {8006: 18006, 80: }")
    assert parse_text(render(wanted), "lab.yaml", environ={}) == wanted


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("ports: [0]", "expected a whole number from 1 to 65535"),
        ("ports: [80, 80]", "port 80 is here twice"),
        ("ports: {80: 80}", "found 80, expected a whole number from 1024 to 65535"),
        ("ports: {web: 8080}", 'found the text "web", expected a whole number'),
        ("ports: {80: 8080, 81: 8080}", "port 8080 of 127.0.0.1 is said of m already"),
        ("ports: 80", "expected a list or a mapping"),
        (f"ports: {list(range(1, 66))}", "more than 64 ports"),
    ],
)
def test_a_mistake_in_ports_has_its_place(said: str, what: str) -> None:
    with pytest.raises(Mistakes) as caught:
        lab(said)
    assert [what in each.what for each in caught.value.mistakes] == [True]
    assert caught.value.mistakes[0].line == 2


def test_ports_mean_nothing_on_a_proxmox_ve() -> None:
    text = "lab: x\non: pve://root@pam!lab@pve1\nmachines: {m: {ports: [80]}}\n"
    with pytest.raises(Mistakes, match="for a lab on a Proxmox VE nothing keeps a port"):
        parse_text(text, "lab.yaml", environ={})


def test_ports_change_no_digest_and_are_in_the_blueprint() -> None:
    plain = draft("x", guest("m"))
    with_ports = draft("x", replace(guest("m"), ports=(Port(80, 8080),)))
    assert with_ports["m"].digest == plain["m"].digest
    assert blueprint_from_json(blueprint_to_json(with_ports)) == with_ports


# -- what is kept


def test_what_is_kept_is_read_again_and_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    place = LabHome("x", tmp_path)
    assert kept.load(place) == ()
    rows = (Kept("hv1/web", 80, 8080, asked=True), Kept("hv1", 8006, 18006))
    kept.save(place, rows)
    assert kept.load(place) == rows
    file = tmp_path / kept.NAME
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().replace("8080", "0").replace("hv1/web", "../x"))
    assert kept.load(place) == rows[1:]
    for damaged in ("", "{}", "[1, null, {}]", "[" * 9000, '[{"path": "a", "port": true, "local": 1}]'):
        file.write_text(damaged)
        assert kept.load(place) == ()


# -- QEMU's own words

USERNET = (
    "Hub -1 (other):\r\n"
    "  TCP[HOST_FORWARD]  16       127.0.0.1  1111       10.9.8.15    11     0     0\r\n"
    "Hub -1 (mgmt):\r\n"
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[ESTABLISHED]   17       127.0.0.1 22023       10.9.8.15  8006     0     0\r\n"
    "  TCP[HOST_FORWARD]  15       127.0.0.1 35051       10.9.8.15  8006     0     0\r\n"
    "  TCP[HOST_FORWARD]   8       127.0.0.1 22022       10.9.8.15    22     0     0\r\n"
)


def test_the_forwards_of_the_management_card_are_read() -> None:
    assert usernet.rules(USERNET) == (
        Rule("127.0.0.1", 35051, "10.9.8.15", 8006),
        Rule("127.0.0.1", 22022, "10.9.8.15", 22),
    )


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert len(usernet.rules(f"mgmt:\n{text}")) < 10


@pytest.fixture
def qemu(tmp_path: Path, qemu_tool: Tool) -> Iterator[str]:
    path = tmp_path / "q"
    card = "user,id=mgmt,ipv6=off,net=10.9.8.0/24,host=10.9.8.2,dhcpstart=10.9.8.15,restrict=on"
    words = ["-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-qmp", f"unix:{path},server=on,wait=off"]
    words += ["-netdev", card, "-device", "virtio-net-pci,netdev=mgmt", "-m", "16"]
    process = subprocess.Popen([*qemu_tool.argv, *words], env={**os.environ, **qemu_tool.env})
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            break
        time.sleep(0.01)
    yield str(path)
    process.kill()
    process.wait()


@pytest.mark.guest
async def test_a_real_qemu_forwards_and_stops_forwarding(qemu: str) -> None:
    async with usernet.opened(lambda: qmp.connect(qemu), "hv1") as rules:
        assert await rules.all() == ()
        any_port = await rules.add(Rule("127.0.0.1", 0, "10.9.8.15", 8006))
        assert any_port.local > 0
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken):
            await rules.add(Rule("127.0.0.1", taken.getsockname()[1], "10.9.8.15", 8006))
        assert "qemu" in listener(any_port.local) or listener(any_port.local)
        socket.create_connection(("127.0.0.1", any_port.local)).close()
        await rules.remove(any_port)
        await rules.remove(any_port)
        assert await rules.all() == ()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", any_port.local))


# -- hops

BLUEPRINT = draft("x", hypervisor("a", hypervisor("b", guest("c"))), guest("d"))


class World:
    """The forwards of machines, by path; those that do not run are not in it. `busy`: ports that others have."""

    def __init__(self) -> None:
        self.rules: dict[str, list[Rule]] = {"a": [], "a/b": [], "a/b/c": [], "d": []}
        self.busy: set[int] = set()
        self.relays: dict[str, set[int]] = {"a": set(), "a/b": set()}

    async def host(self, path: str) -> World:
        return cast(World, Inside(self, path))

    async def engine(self, parent: str) -> World:
        return self

    @asynccontextmanager
    async def forwards(self, path: str) -> AsyncIterator[Any]:
        if path not in self.rules:
            raise Unreachable(f"{path} does not run.")
        mine = self.rules[path]

        async def all_of() -> tuple[Rule, ...]:
            return tuple(mine)

        async def add(rule: Rule) -> Rule:
            beside = [each for each in self.rules if each.rpartition("/")[0] == path.rpartition("/")[0]]
            here = [each for other in beside for each in self.rules[other]]
            if rule.local in self.busy or rule.local in {each.local for each in here}:
                raise PortTaken(rule.bind, rule.local)
            mine.append(rule if rule.local else replace(rule, local=40000 + len(here)))
            return mine[-1]

        async def remove(rule: Rule) -> None:
            mine[:] = [each for each in mine if (each.bind, each.local) != (rule.bind, rule.local)]

        yield SimpleNamespace(all=all_of, add=add, remove=remove)

    def leads_to(self, local: int) -> tuple[str, int] | None:
        """Where a connection to 127.0.0.1 ends: the path of a machine, and its port."""
        where, port = "", local
        while True:
            inside = [path for path in self.rules if path.rpartition("/")[0] == where]
            rules = [(path, rule) for path in inside for rule in self.rules[path] if rule.local == port]
            if not rules:
                return None
            [(where, rule)] = rules
            port = rule.port
            if port not in self.relays.get(where, ()):
                return where, port


class Inside:
    """A hypervisor as a host."""

    def __init__(self, world: World, path: str) -> None:
        self.relays, self.path = world.relays[path], path


@pytest.fixture(autouse=True)
def _relays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def relay(host: Inside, address: str, port: int) -> None:
        assert address == str(IPv4Network(BLUEPRINT[host.path].management)[15])
        host.relays.add(port)

    async def unrelay(host: Inside, port: int) -> None:
        host.relays.discard(port)

    monkeypatch.setattr(ports, "relay", relay)
    monkeypatch.setattr(ports, "unrelay", unrelay)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def session(world: World, tmp_path: Path) -> Session:
    return made(world, tmp_path)


def made(world: World, folder: Path, *said: tuple[str, Port]) -> Session:
    """A lab whose file says these ports of its machines."""
    by_path: dict[str, tuple[Port, ...]] = {}
    for path, port in said:
        by_path[path] = (*by_path.get(path, ()), port)
    specs = tuple(
        replace(spec, machine=replace(spec.machine, ports=by_path.get(spec.path, ()))) for spec in BLUEPRINT.specs
    )
    here = SimpleNamespace(host=LocalHost())
    blueprint = replace(BLUEPRINT, specs=specs)
    found = SimpleNamespace(blueprint=blueprint, nest=world, place=LabHome("x", folder), platform=here)
    return cast(Session, found)


async def test_a_machine_that_nobody_logs_in_to_is_forwarded_by_its_qemu_while_that_is_wanted(
    world: World, tmp_path: Path
) -> None:
    found = made(world, tmp_path)
    specs = tuple(replace(each, machine=replace(each.machine, ready=Ready("none"))) for each in BLUEPRINT.specs)
    cast(Any, found).blueprint = replace(BLUEPRINT, specs=specs)
    async with forward.forwarded(found, "d", 8006, 18006, print) as got:
        assert world.leads_to(got) == ("d", 8006)
    assert not any(world.rules.values())
    with pytest.raises(LabError, match="lets nobody in who could look"):
        await forward.page(found, "d")


async def test_a_port_leads_to_a_machine_at_any_level_and_back(session: Session, world: World) -> None:
    for path in ("d", "a", "a/b", "a/b/c"):
        local = await ports.open_port(session, path, 8006, 18006)
        assert local == 18006
        assert world.leads_to(18006) == (path, 8006)
        assert await ports.open_port(session, path, 8006, 18006) == 18006
        await ports.close_port(session, Kept(path, 8006, 18006), ())
        assert not any(world.rules.values())
        assert not any(world.relays.values())


async def test_every_qemu_listens_on_127_0_0_1_alone(session: Session, world: World) -> None:
    await ports.open_port(session, "a/b/c", 80, None)
    assert {rule.bind for rules in world.rules.values() for rule in rules} == {"127.0.0.1"}
    assert [len(world.relays[path]) for path in ("a", "a/b")] == [1, 1]


async def test_two_ports_here_may_lead_to_one_there(session: Session, world: World) -> None:
    await ports.open_port(session, "a/b", 80, 8080)
    await ports.open_port(session, "a/b", 80, 8081)
    await ports.close_port(session, Kept("a/b", 80, 8080), [Kept("a/b", 80, 8081)])
    assert world.leads_to(8080) is None
    assert world.leads_to(8081) == ("a/b", 80)


async def test_the_same_number_is_taken_where_it_is_free(session: Session, world: World) -> None:
    assert await ports.open_port(session, "d", 8006, None) == 8006
    world.busy.add(8007)
    other = await ports.open_port(session, "d", 8007, None)
    assert other not in (0, 8007)
    assert world.leads_to(other) == ("d", 8007)


async def test_machines_in_one_hypervisor_do_not_take_each_others_number(world: World, tmp_path: Path) -> None:
    lab = made(world, tmp_path, ("a/b", Port(80, 8080)))
    await ports.settle(lab)
    there = kept.load(lab.place)
    other = await ports.open_port(lab, "a/b/c", 8080, None, there)
    assert other != 8080
    assert world.leads_to(8080) == ("a/b", 80)
    assert world.leads_to(other) == ("a/b/c", 8080)
    with pytest.raises(LabError, match=r"^Port 8080 of 127\.0\.0\.1 leads to port 80 of a/b already"):
        await ports.open_port(lab, "a/b/c", 8080, 8080, there)
    assert world.leads_to(8080) == ("a/b", 80)


async def test_two_of_the_lab_file_that_ask_for_one_number_get_two(world: World, tmp_path: Path) -> None:
    lab = made(world, tmp_path, ("a/b", Port(8080)), ("a/b/c", Port(8080)))
    settled = await ports.settle(lab)
    found = {each.path: each.local for each in settled.opened}
    assert {path: world.leads_to(local) for path, local in found.items()} == {
        "a/b": ("a/b", 8080),
        "a/b/c": ("a/b/c", 8080),
    }
    assert await ports.settle(lab) == ports.Settled()


async def test_a_port_that_is_taken_is_one_message_and_nothing_is_left(session: Session, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world.busy.add(port)
        with pytest.raises(LabError, match=rf"Port {port} of 127.0.0.1.*is taken by .*pid {os.getpid()}"):
            await ports.open_port(session, "a/b", 80, port)
    assert not any(world.rules.values())


async def test_a_machine_runs_without_a_port_of_the_lab_file_that_is_taken_and_that_is_said(
    world: World, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world.busy.add(port)
        lab = made(world, tmp_path, ("d", Port(80, port)), ("a", Port(80, 8080)))
        settled = await ports.settle(lab)
        assert [each.path for each in settled.opened] == ["a"]
        with pytest.raises(LabError, match=rf"Port {port} of .* is taken by .*d runs without it\.") as error:
            settled.check()
        assert "run the same command again" in (error.value.hint or "")
    world.busy.clear()
    settled = await ports.settle(lab)
    settled.check()
    assert [each.path for each in settled.opened] == ["d"]


async def test_a_hypervisors_port_that_is_taken_is_another_one(session: Session, world: World) -> None:
    first = await ports.open_port(session, "a/b", 80, 8080)
    taken = world.rules["a/b"][0].local
    await ports.close_port(session, Kept("a/b", 80, first), ())
    world.busy.add(taken)
    await ports.open_port(session, "a/b", 80, 8080)
    assert world.leads_to(8080) == ("a/b", 80)


async def test_ports_of_the_lab_file_come_and_go_with_it(world: World, tmp_path: Path) -> None:
    before = made(world, tmp_path, ("d", Port(80, 8080)), ("a/b/c", Port(8006)))
    settled = await ports.settle(before)
    assert {(each.path, each.local) for each in settled.opened} == {("d", 8080), ("a/b/c", 8006)}
    assert await ports.settle(before) == ports.Settled()
    after = made(world, tmp_path, ("d", Port(80, 8081)))
    settled = await ports.settle(after)
    assert {each.local for each in settled.closed} == {8080, 8006}
    assert world.leads_to(8081) == ("d", 80)
    assert world.leads_to(8080) is None
    await ports.settle(made(world, tmp_path))
    assert not any(world.rules.values())
    assert kept.load(before.place) == ()


async def test_after_a_restart_a_port_leads_there_again_at_the_same_number(world: World, tmp_path: Path) -> None:
    world.busy.add(8006)
    said = made(world, tmp_path, ("a/b/c", Port(8006)))
    local = (await ports.settle(said)).opened[0].local
    for path in ("a/b/c", "a/b", "a"):
        world.rules[path] = []
        world.relays.get(path, set()).clear()
        assert await ports.settle(said) == ports.Settled()
        assert world.leads_to(local) == ("a/b/c", 8006)


async def test_what_leads_elsewhere_after_a_hypervisors_port_changed_is_replaced(world: World, tmp_path: Path) -> None:
    said = made(world, tmp_path, ("a/b", Port(80, 8080)))
    await ports.settle(said)
    world.busy.add(world.rules["a/b"].pop().local)
    await ports.settle(said)
    assert world.leads_to(8080) == ("a/b", 80)


async def test_ports_of_machines_that_do_not_run_wait(world: World, tmp_path: Path) -> None:
    said = made(world, tmp_path, ("a/b", Port(80, 8080)), ("d", Port(80, 8081)))
    del world.rules["a/b"]
    settled = await ports.settle(said)
    assert [each.path for each in settled.later] == ["a/b"]
    assert world.leads_to(8081) == ("d", 80)
    assert not world.rules["a"]
    world.rules["a/b"] = []
    await ports.settle(said)
    assert world.leads_to(8080) == ("a/b", 80)


async def test_one_port_that_is_taken_keeps_no_other_from_its_place(world: World, tmp_path: Path) -> None:
    world.busy.add(8080)
    said = made(world, tmp_path, ("a/b", Port(80, 8080)), ("d", Port(80, 8081)))
    assert [error.what[:22] for error in (await ports.settle(said)).refused] == ["Port 8080 of 127.0.0.1"]
    assert world.leads_to(8081) == ("d", 80)
    assert [each.local for each in kept.load(said.place)] == [8081]


async def test_a_port_that_the_user_asked_for_stays_whatever_the_lab_file_says(world: World, tmp_path: Path) -> None:
    plain = made(world, tmp_path)
    kept.save(plain.place, [Kept("a/b", 22, await ports.open_port(plain, "a/b", 22, 2222), asked=True)])
    world.rules["a"] = []
    await ports.settle(plain)
    assert world.leads_to(2222) == ("a/b", 22)
    assert [each.asked for each in kept.load(plain.place)] == [True]


# -- passing


async def test_what_is_sent_comes_whole_and_both_ends_close(tmp_path: Path) -> None:
    sent = os.urandom(3_000_000)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(echo, str(tmp_path / "s"))
    async with server, passing(0, lambda: asyncio.open_unix_connection(str(tmp_path / "s"))) as passed:
        reader, writer = await asyncio.open_connection("127.0.0.1", passed.port)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", passed.port)


async def test_what_leads_nowhere_is_told_once_and_closed() -> None:
    told: list[str] = []

    async def nowhere() -> Any:
        raise Unreachable("Port 80 of hv1 takes no connection.")

    async with passing(0, nowhere, told.append) as passed:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", passed.port)
            assert await reader.read() == b""
            writer.close()
    assert told == ["Port 80 of hv1 takes no connection."]
