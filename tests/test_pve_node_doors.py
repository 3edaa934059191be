"""Ports and screens of machines inside a node of Proxmox VE that nestlab made: by relays of the node's, and by the VNC
servers of its QEMUs."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import blueprints
from nestlab.base.errors import LabError
from nestlab.engines import View, Viewed
from nestlab.engines.port_rules import Forwarding, PortTaken, Rule
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.pve.node_screens import SOCKETS
from nestlab.images.qemu_runtime import Tool
from nestlab.labfile import parse_text
from nestlab.plan.steps import Remove
from pve_node_bench import NodeBench, bench, container, draft, mark_of
from waiting import wait_until

WEB = draft(blueprints.guest("web"))

WANTED = Rule("127.0.0.1", 12345, "10.99.2.15", 80)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[NodeBench]:
    async with bench(tmp_path) as found:
        yield found


def test_a_lab_file_may_say_ports_of_machines_inside_a_node() -> None:
    text = "lab: l\nsegments: {lan: {}}\nmachines:\n  pve1:\n    hypervisor: pve\n    segments: [lan]\n"
    lab = parse_text(text + "    machines: {web: {image: tiny, segments: [lan], ports: [80]}}\n", environ={})
    assert [each.port for each in lab.machines[0].machines[0].ports] == [80]


async def test_a_port_of_the_node_leads_to_a_machine_until_it_is_removed_or_the_machine_is(made: NodeBench) -> None:
    engine = await made.up(WEB, "pve1/web")
    assert isinstance(engine, Forwarding)
    async with engine.forwards("pve1/web") as rules:
        assert await rules.add(WANTED) == WANTED
        assert await rules.all() == (WANTED,)
        await rules.remove(WANTED)
        assert await rules.all() == ()
        await rules.add(WANTED)
    await engine.perform(Remove("", "pve1/web"), WEB, made.say)
    assert made.node.relays == {}


async def test_a_port_that_is_another_s_is_taken_and_any_other_will_do_where_none_is_named(made: NodeBench) -> None:
    engine = await made.up(WEB, "pve1/web")
    made.node.taken.add(12345)
    async with engine.forwards("pve1/web") as rules:
        with pytest.raises(PortTaken):
            await rules.add(WANTED)
        found = await rules.add(Rule("127.0.0.1", 0, WANTED.address, 80))
        assert found.local >= 20000
        assert await rules.all() == (found,)


async def test_a_container_is_reached_the_same_way_and_what_shares_no_segment_is_an_error(made: NodeBench) -> None:
    lab = draft(container("box"), blueprints.guest("alone", on=()))
    for path in ("pve1/box", "pve1/alone"):
        engine = await made.up(lab, path)
    async with engine.forwards("pve1/box") as rules:
        assert await rules.add(WANTED) == WANTED
    async with engine.forwards("pve1/alone") as rules:
        with pytest.raises(LabError, match="on no segment together"):
            await rules.add(WANTED)


async def test_what_a_node_says_of_its_ports_is_read_as_rules_or_not_at_all(made: NodeBench) -> None:
    engine = await made.up(WEB, "pve1/web")
    made.node.relays = {1: "pve1/web 127.0.0.1 x 10.0.0.1 80", 2: "\x1b[2J", 3: "pve1/other 127.0.0.1 3 10.0.0.1 80"}
    async with engine.forwards("pve1/web") as rules:
        assert await rules.all() == ()


class Qemu:
    """A QEMU with a screen, as a node's is: a VNC server that asks for a password, and a monitor."""

    def __init__(self, tool: Tool, folder: Path) -> None:
        self.vnc, self.qmp = folder / "vnc", folder / "qmp"
        words = ["-M", "pc", "-accel", "tcg", "-m", "16", "-nodefaults", "-vga", "std", "-S"]
        words += ["-vnc", f"unix:{self.vnc},password=on", "-qmp", f"unix:{self.qmp},server=on,wait=off"]
        env = {**dict(tool.env), "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen([*tool.argv, *words], env=env, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.vnc.exists() and self.qmp.exists())

    def typed(self, command: str) -> str:
        """What its monitor says to a line."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.qmp))
            lines = asking.makefile("rw")
            lines.readline()
            for name, given in (("qmp_capabilities", {}), ("human-monitor-command", {"command-line": command})):
                lines.write(json.dumps({"execute": name, "arguments": given}) + "\n")
                lines.flush()
                said = json.loads(lines.readline())
        return str(said["return"])


@pytest.fixture
def qemu(qemu_tool: Tool, tmp_path: Path) -> Iterator[Qemu]:
    made = Qemu(qemu_tool, tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def showing(made: NodeBench, engine: NodeEngine, qemu: Qemu) -> list[str]:
    """The QEMU is that of pve1/web; the commands that its monitor is given."""
    vmid = mark_of(made, "pve1/web")[0].vmid
    asked = engine.environment.api.create
    typed: list[str] = []

    async def create(path: str, params: Any = None) -> Any:
        if not path.endswith("/monitor"):
            return await asked(path, params)
        typed.append(params["command"])
        return await asyncio.to_thread(qemu.typed, params["command"])

    @asynccontextmanager
    async def unix(path: str) -> AsyncIterator[str]:
        assert path == f"{SOCKETS}/{vmid}.vnc"
        yield str(qemu.vnc)

    cast(Any, engine.environment.api).create = create
    cast(Any, made.node).unix = unix
    return typed


async def test_a_picture_of_a_screen_in_a_node_comes_by_its_vnc_server(made: NodeBench, qemu: Qemu) -> None:
    engine = await made.up(WEB, "pve1/web")
    made.fake.set_config(mark_of(made, "pve1/web")[0].vmid, vga="std")
    typed = showing(made, engine, qemu)
    picture = await engine.picture("pve1/web")
    assert (picture.width, picture.height) in {(640, 480), (720, 400)}
    assert typed[0].startswith("set_password vnc ")
    assert typed[-1] == "expire_password vnc now"


async def test_a_viewer_is_let_in_by_a_password_of_its_own_while_it_is_shown(made: NodeBench, qemu: Qemu) -> None:
    engine = await made.up(WEB, "pve1/web")
    made.fake.set_config(mark_of(made, "pve1/web")[0].vmid, vga="std")
    typed = showing(made, engine, qemu)
    assert isinstance(engine, Viewed)
    async with engine.viewed("pve1/web") as view:
        assert view.socket == str(qemu.vnc)
        assert len(view.password) == View.LENGTH
        assert view.password in typed[0]
    assert not any(view.password in "\0".join(argv) for argv in made.node.typed)


async def test_a_machine_without_a_screen_and_a_container_say_so(made: NodeBench) -> None:
    lab = draft(blueprints.guest("web"), container("box"))
    for path in ("pve1/web", "pve1/box"):
        engine = await made.up(lab, path)
    made.fake.set_config(mark_of(made, "pve1/web")[0].vmid, vga="serial0")
    for path in ("pve1/web", "pve1/box"):
        with pytest.raises(LabError, match="has no screen"):
            await engine.picture(path)


async def test_keys_are_pressed_by_the_node_s_api(made: NodeBench) -> None:
    engine = await made.up(WEB, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    made.fake.set_config(guest.vmid, vga="std")
    await engine.press("pve1/web", [("ctrl", "alt", "f2"), ("ret",)])
    assert guest.keys == [("ctrl", "alt", "f2"), ("ret",)]
