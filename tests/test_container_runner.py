"""What runs a container in a hypervisor: its sockets are those of a QEMU, for all that nestlab asks of one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import socket
import stat
import termios
import threading
import tty
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.engines.port_rules import Rule
from nestlab.engines.qemu import container, usernet
from nestlab.engines.qemu.argv import Launch
from nestlab.engines.qemu.container_runner import configuration, nested_stores, openable
from nestlab.engines.qemu.container_sockets import Console, Forwards, Monitor, in_thread, listener, messages
from nestlab.home.paths import MachinePaths
from nestlab.hosts.terminal import attach
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.model import MIB, Image, Machine
from nestlab.wire import qmp
from waiting import LONG, until


class Pretended:
    """A container that notes what it is told."""

    def __init__(self) -> None:
        self.paused = False
        self.told: list[str] = []

    def freeze(self, *, yes: bool) -> None:
        self.paused = yes

    def power_button(self) -> None:
        self.told.append("power button")

    def kill(self) -> None:
        self.told.append("kill")


@contextlib.contextmanager
def echoing() -> Iterator[int]:
    """A server that says back in capitals what it hears, until it hears no more."""

    def serve() -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            with client:
                while data := client.recv(1 << 16):
                    client.sendall(data.upper())

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1]


@pytest.fixture
def monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Pretended, Forwards, str]]:
    monkeypatch.chdir(tmp_path)
    pretended = Pretended()
    with echoing() as inside:
        forwards = Forwards(lambda _: socket.create_connection(("127.0.0.1", inside)))
        in_thread(Monitor(pretended, forwards).serve, listener("qmp"))
        yield pretended, forwards, str(tmp_path / "qmp")


def hmp(path: str, line: str) -> str:
    [said] = qmp.ask(path, ({"execute": "human-monitor-command", "arguments": {"command-line": line}},))
    return str(said)


def test_a_quick_look_is_answered_as_by_a_qemu(monitor: tuple[Pretended, Forwards, str]) -> None:
    status, kvm = qmp.ask(monitor[2], ("query-status", "query-kvm"))
    assert status["status"] == "running"
    assert kvm["enabled"] is False
    assert stat.S_IMODE(Path(monitor[2]).stat().st_mode) == 0o600


async def test_a_conversation_pauses_goes_on_and_presses_the_power_button(
    monitor: tuple[Pretended, Forwards, str],
) -> None:
    async with qmp.connect(monitor[2], where="hv1/web") as talk:
        await talk.execute("stop")
        assert await talk.status() == "paused"
        await talk.execute("cont")
        assert await talk.status() == "running"
        await talk.powerdown()
        with pytest.raises(LabError, match="refused screendump"):
            await talk.execute("screendump", filename="/etc/passwd")
    assert monitor[0].told == ["power button"]


@pytest.mark.parametrize("asked", [[], None, 7, {}, {"execute": 7}, {"execute": []}, {"execute": "set_link"}])
def test_nonsense_is_an_error_and_the_monitor_goes_on(asked: object) -> None:
    answer = Monitor(Pretended(), Forwards(lambda _: socket.socket())).answer(asked)
    assert set(answer) == {"error"}


def test_an_answer_has_the_id_of_its_question() -> None:
    answer = Monitor(Pretended(), Forwards(lambda _: socket.socket())).answer({"execute": "query-status", "id": "a1"})
    assert answer["id"] == "a1"


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text())), st.integers(1, 20))
def test_questions_are_read_however_they_come(asked: list[dict[str, object]], size: int) -> None:
    text = b"".join(json.dumps(each, ensure_ascii=False).encode(errors="replace") for each in asked)
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    told = list(messages(iter([*parts, b""]).__next__))
    assert told == json.loads(json.dumps(asked, ensure_ascii=False).encode(errors="replace").decode("latin-1"))


def test_what_is_no_question_ends_the_conversation() -> None:
    assert list(messages(iter([b'{"a": 1} x', b'{"b": 2}', b""]).__next__)) == [{"a": 1}]
    assert list(messages(lambda: b"[" * 4096)) == []


def test_a_port_is_forwarded_told_and_given_back(monitor: tuple[Pretended, Forwards, str]) -> None:
    path = monitor[2]
    assert hmp(path, "hostfwd_add mgmt tcp:127.0.0.1:0-10.9.8.15:80") == ""
    [rule] = usernet.rules(hmp(path, "info usernet"))
    assert replace(rule, local=0) == Rule("127.0.0.1", 0, "10.9.8.15", 80)
    with socket.create_connection(("127.0.0.1", rule.local), timeout=20) as there:
        there.sendall(b"x" * 300_000 + b"end")
        there.shutdown(socket.SHUT_WR)
        said = b""
        while data := there.recv(1 << 16):
            said += data
    assert said == b"X" * 300_000 + b"END"
    assert "Could not set up" in hmp(path, f"hostfwd_add mgmt tcp:127.0.0.1:{rule.local}-10.9.8.15:81")
    hmp(path, f"hostfwd_remove mgmt tcp:127.0.0.1:{rule.local}")
    assert usernet.rules(hmp(path, "info usernet")) == ()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", rule.local), timeout=20)


def test_a_console_is_logged_and_shown_to_who_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    master, slave = pty.openpty()
    tty.setraw(slave)
    console = Console(listener("con"), master)
    os.write(slave, b"first\n")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("con")
        client.sendall(b"typed")
        assert os.read(slave, 100) == b"typed"
        os.write(slave, b"second\n")
        said = b""
        while b"second" not in said:
            said += client.recv(100)
    os.close(slave)
    console.over("reboot: Power down\n")
    assert Path("console.log").read_bytes() == b"first\nsecond\nreboot: Power down\n"


def test_who_connects_before_the_container_is_there_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.chdir(tmp_path)
    held: list[socket.socket] = []
    forwards = Forwards(lambda _: held[0])
    forwards.add("127.0.0.1", 0, "10.9.8.15", 22)
    [rule] = usernet.rules(forwards.told())
    with socket.create_connection(("127.0.0.1", rule.local), timeout=20) as there:
        assert there.recv(10) == b""
    assert [str(each.message) for each in recwarn] == []
    forwards.remove("127.0.0.1", rule.local)


def is_raw(terminal: int) -> bool:
    """What is typed before is thrown away."""
    return not termios.tcgetattr(terminal)[3] & termios.ICANON


async def test_ctrl_bracket_leaves_the_console_of_a_container_which_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    master, slave = pty.openpty()
    tty.setraw(slave)
    console = Console(listener("con"), master)
    for word in (b"once", b"again"):
        ours, theirs = pty.openpty()
        shown, sink = os.pipe()
        attached = asyncio.create_task(attach("con", source=theirs, sink=sink))
        await until(partial(is_raw, theirs))
        os.write(ours, word)
        assert await asyncio.to_thread(os.read, slave, 100) == word
        os.write(slave, word.upper())
        assert await asyncio.to_thread(os.read, shown, 100) == word.upper()
        os.write(ours, b"\x1d")
        await asyncio.wait_for(attached, LONG)
        for each in (ours, theirs, shown, sink):
            os.close(each)
    os.close(slave)
    console.over()
    assert Path("console.log").read_bytes() == b"ONCEAGAIN"


NIC = Nic("wire", "52:54:00:00:00:07", 1400, ("10.1.0.7/24", "fd00::7/64"))
SPEC = Spec(
    "hv1/web",
    Machine("web", image=Image(base="debian"), memory=128 * MIB, cpus=2, container=True),
    (NIC,),
    "10.9.8.0/24",
    "key",
    (),
    "digest",
)
LAUNCH = Launch("pair", SPEC, MachinePaths("/var/lib/nestlab/labs/pair/m/0123abcd"), "kvm", 20007, "52:54:00:00:00:01")


def test_its_process_is_known_by_the_name_in_its_command_line() -> None:
    words = container.argv(LAUNCH, {"device": "/dev/vde", "base": "disk"}, "SECRET")
    assert words[:5] == [
        "python3",
        "-IS",
        "/var/lib/nestlab/labs/pair/m/0123abcd/runner.py",
        "-name",
        "nestlab:pair:hv1/web",
    ]
    assert '"port":20007' in words[-1]
    assert not [word for word in words if "SECRET" in word]


def test_its_cards_are_cut_off_from_its_start_where_it_is_cut_off() -> None:
    for cut in (frozenset({"wire"}), frozenset({"other"})):
        words = container.argv(replace(LAUNCH, cut=cut), {"device": "/dev/vde", "base": "disk"}, "SECRET")
        [card] = json.loads(words[-1])["nics"]
        assert (card["cut"], card["vlan"], card["bridge"]) == ("wire" in cut, None, "br-wire")


def test_the_runner_is_one_file_that_knows_nothing_of_nestlab() -> None:
    text = container.runner().decode()
    compile(text, "runner.py", "exec")
    assert "from nestlab" not in text
    assert "import nestlab" not in text


def test_a_container_has_its_users_its_limits_and_its_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0123abcd").mkdir()
    monkeypatch.chdir(tmp_path / "0123abcd")
    settings = {"host": "web", "memory": 1 << 27, "cpus": 2, "base": "disk"}
    cards = [container._card(NIC), container._card(replace(NIC, vlan=20, addresses=()), cut=True)]
    lines = configuration(settings | {"nics": cards}).splitlines()
    assert "lxc.idmap = u 0 100000 65536" in lines
    assert "lxc.cgroup2.memory.max = 134217728" in lines
    assert "lxc.cgroup2.cpu.max = 200000 100000" in lines
    assert [line for line in lines if line.startswith("lxc.net.")] == [
        "lxc.net.0.type = veth",
        "lxc.net.0.veth.pair = v0123abcdn0",
        "lxc.net.0.link = br-wire",
        "lxc.net.0.name = eth0",
        "lxc.net.0.hwaddr = 52:54:00:00:00:07",
        "lxc.net.0.mtu = 1400",
        "lxc.net.0.flags = up",
        "lxc.net.0.ipv4.address = 10.1.0.7/24",
        "lxc.net.0.ipv6.address = fd00::7/64",
        "lxc.net.1.type = veth",
        "lxc.net.1.veth.pair = v0123abcdn1",
        "lxc.net.1.link = br-wire",
        "lxc.net.1.name = eth1",
        "lxc.net.1.hwaddr = 52:54:00:00:00:07",
        "lxc.net.1.mtu = 1400",
        "lxc.net.1.flags = up",
        "lxc.net.1.veth.vlan.id = 20",
        'lxc.net.1.script.up = sh -c "ip link set dev v0123abcdn1 down"',
    ]
    assert "lxc.net.0.type = empty" in configuration(settings | {"nics": []}).splitlines()


def test_a_disk_of_the_users_makes_no_container() -> None:
    with pytest.raises(LabError, match="hv1/web: a container cannot be made"):
        container.root_of(SPEC, {})


def test_containers_inside_it_get_proc_sys_fuse_and_a_network_of_their_own(tmp_path: Path) -> None:
    settings = {"host": "web", "memory": 1 << 27, "cpus": 2, "base": "disk", "nics": []}
    lines = configuration(settings, ["docker"]).splitlines()
    for line in (
        "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0",
        "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0",
        "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0",
        "lxc.mount.entry = /mnt/nested/docker var/lib/docker none bind,create=dir,optional 0 0",
        "lxc.apparmor.profile = unconfined",
    ):
        assert line in lines
    device = tmp_path / "fuse"
    device.touch(mode=0o600)
    openable(str(device), str(tmp_path / "none"))
    assert stat.S_IMODE(device.stat().st_mode) == 0o666


def test_what_runs_containers_inside_it_writes_beside_its_overlay_unless_it_began_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda *words: owned.append(words))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    (root / "usr/sbin").mkdir(parents=True)
    assert list(nested_stores(str(root))) == []
    (root / "usr/sbin/dockerd").symlink_to("/nowhere")
    (root / "var/lib/docker").mkdir(parents=True)
    assert list(nested_stores(str(root))) == ["docker"]
    assert owned == [("nested/docker", 100000, 100000)]
    (root / "usr/sbin/dockerd").unlink()
    assert list(nested_stores(str(root))) == ["docker"], "what is there stays in view"
    (root / "usr/bin").mkdir()
    (root / "usr/bin/podman").touch()
    (root / "var/lib/containers/storage").mkdir(parents=True)
    assert list(nested_stores(str(root))) == ["docker"], "what was begun within is not covered"
