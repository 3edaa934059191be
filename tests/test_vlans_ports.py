"""The ports of a hypervisor's bridge: what they are to be, and the script that makes them so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from golden_files import assert_golden
from nestlab.base.errors import LabError
from nestlab.engines.qemu import vlan_ports
from nestlab.hosts.local import LocalHost
from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.model import Image, Machine
from nestlab.network.pcap import Records
from nestlab.verbs.capture import CARD_OF_GUEST, READ
from waiting import LONG

LAN = Nic("lan", "52:54:00:aa:00:01", bridge=True)
BACK = Nic("back", "52:54:00:aa:00:02", bridge=True)


def spec(path: str, *nics: Nic, user: str = "root") -> Spec:
    return Spec(path, Machine(path.rpartition("/")[2], image=Image(base="kvm", user=user)), nics, "", "k", (), "d")


@pytest.mark.parametrize(
    ("outer", "inner", "words"),
    [
        (LAN, LAN, []),
        (replace(LAN, trunk=True), replace(LAN, vlan=20), ["br-lan", "20", "0"]),
        (replace(LAN, trunk=True), replace(LAN, trunk=True), ["br-lan", "trunk", "0"]),
        (replace(LAN, trunk=True), LAN, ["br-lan", "bare", "0"]),
        (replace(LAN, transparent=True), LAN, ["br-lan", "any", "4"]),
        (replace(LAN, trunk=True, transparent=True), replace(LAN, vlan=20), ["br-lan", "20", "4"]),
    ],
)
def test_a_port_is_what_the_card_says_where_the_bridge_carries_vlans(outer: Nic, inner: Nic, words: list[str]) -> None:
    assert vlan_ports.words(spec("hv/m", inner, BACK), spec("hv", outer, BACK)) == words


def test_the_switch_is_told_the_vlans_of_the_outermost_machines_alone() -> None:
    cards = (replace(LAN, vlan=20), replace(BACK, trunk=True))
    inside = spec("hv/m", replace(LAN, vlan=30))
    assert vlan_ports.vlans_of(Blueprint("x", (), (spec("a", *cards), inside))) == {"lan": {20}, "back": set()}
    assert vlan_ports.vlans_of(Blueprint("x", (), (spec("a", LAN, BACK),))) == {}


def test_the_script_is_the_golden_one() -> None:
    assert_golden("network/ports.sh", vlan_ports.PORTS)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_every_shell_reads_the_script(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    for script in (vlan_ports.PORTS, vlan_ports.PREPARE):
        argv = [shell, *(["sh"] if shell == "busybox" else []), "-n", "-c", script]
        assert subprocess.run(argv, capture_output=True, check=True).stderr == b""


async def test_a_port_that_cannot_be_set_up_is_an_error_that_names_the_machine_and_its_hypervisor(
    tmp_path: Path,
) -> None:
    outer, inner = spec("hv", replace(LAN, trunk=True)), spec("hv/m", replace(LAN, vlan=20))
    with pytest.raises(LabError, match=r"hv/m cannot be put on its VLANs in hv: .*it does not run") as caught:
        await vlan_ports.set_up(LocalHost(), inner, outer, str(tmp_path), vlan_ports.words(inner, outer))
    assert "iproute2" in caught.value.hint
    (tmp_path / "pid").write_text("1\n")
    with pytest.raises(LabError, match=r"hv/m cannot be put on its VLANs in hv: .*vlan_filtering"):
        await vlan_ports.set_up(LocalHost(), inner, outer, str(tmp_path), vlan_ports.words(inner, outer))


def of_bridge(tmp_path: Path, script: str, *arguments: str) -> tuple[str, list[str]]:
    """Runs a script where /sys/class/net has a bridge that tells no VLANs apart, with a hypervisor's own card and a
    container's port, and `bridge` writes down what it is told: what the script says, and that."""
    net = tmp_path / "net"
    for card in ("eth1", "v0123abcdn0"):
        (net / "br-lan/brif" / card).mkdir(parents=True)
        (net / card / "brport").mkdir(parents=True)
    (net / "eth1/device").mkdir()
    (net / "br-lan/bridge").mkdir()
    (net / "br-lan/bridge/vlan_filtering").write_text("0\n")
    told, tools, place = tmp_path / "told", tmp_path / "tools", tmp_path / "0123abcd"
    tools.mkdir()
    (tools / "bridge").write_text(f'#!/bin/sh\necho "$*" >>{told}\n')
    (tools / "bridge").chmod(0o755)
    place.mkdir()
    (place / "pid").write_text(f"{os.getpid()}\n")
    own = [] if os.getuid() == 0 else ["-r"]
    text = f"mount --bind {net} /sys/class/net || exit 9\nPATH={tools}:$PATH\n{script}"
    argv = ["unshare", *own, "--mount", "sh", "-c", text, "ports", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONG)
    if done.returncode == 9 or "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert (net / "br-lan/bridge/vlan_filtering").read_text().strip() in "01"
    return done.stdout, told.read_text().splitlines() if told.exists() else []


OWN_CARD = "vlan add dev eth1 vid 2-4094"


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_a_containers_port_is_found_by_its_directory_and_put_on_its_vlan(tmp_path: Path) -> None:
    place = str(tmp_path / "0123abcd")
    _, told = of_bridge(tmp_path, vlan_ports.PORTS, place, "br-lan", "20", "4")
    ours = ["vlan add dev v0123abcdn0 vid 20 pvid untagged", "vlan del dev v0123abcdn0 vid 1"]
    assert told == [OWN_CARD, *ours]
    assert (tmp_path / "net/br-lan/bridge/vlan_filtering").read_text() == "1\n"
    assert (tmp_path / "net/v0123abcdn0/brport/group_fwd_mask").read_text() == "4\n"


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_a_container_is_captured_at_the_same_port(tmp_path: Path) -> None:
    script = CARD_OF_GUEST + 'echo "$card"\n'
    said, _ = of_bridge(tmp_path, script, str(tmp_path / "0123abcd"), "br-lan")
    assert said.split() == ["v0123abcdn0"]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_before_a_container_starts_the_bridge_of_its_vlan_tells_them_apart(tmp_path: Path) -> None:
    _, told = of_bridge(tmp_path, vlan_ports.PREPARE, "br-lan", "br-lan")
    assert told == [OWN_CARD], "and the second time there is nothing to do"


async def test_only_bridges_that_a_container_is_on_a_vlan_of_are_prepared() -> None:
    outer = spec("hv", replace(LAN, trunk=True))
    await vlan_ports.prepare(LocalHost(), spec("hv/m", LAN, BACK), outer)  # there is no bridge at all here
    with pytest.raises(LabError, match=r"hv/m cannot be put on its VLANs in hv: .*vlan_filtering"):
        await vlan_ports.prepare(LocalHost(), spec("hv/m", replace(LAN, vlan=20)), outer)


@pytest.mark.skipif(not shutil.which("unshare") or not shutil.which("ip"), reason="needs unshare and ip")
def test_what_is_captured_inside_a_hypervisor_has_the_tags_that_linux_takes_out(tmp_path: Path) -> None:
    """In a network namespace: a frame with a tag from one end of a cable to the other, where Python captures it."""
    send = tmp_path / "send.py"
    send.write_text(
        "import socket, time, sys\n"
        "card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
        "card.bind(('a0', 0))\n"
        "head = b'\\xff' * 6 + b'\\x52\\x54\\0\\0\\0\\1'\n"
        "while True:\n"
        "    card.send(head + b'\\x81\\x00\\x60\\x14' + b'\\x88\\xb5' + bytes(46))\n"
        "    card.send(head + b'\\x88\\xb5' + bytes(46))\n"
        "    time.sleep(0.05)\n"
    )
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    text = "ip link add a0 type veth peer name a1 && ip link set a0 up && ip link set a1 up || exit 9\n"
    text += f"{sys.executable} {send} & sender=$!\n"
    by_python = READ.replace("command -v tcpdump", "false")
    text += f"( card=a1; PATH={tools}:/bin; {by_python}\n) | head -c 4000 >{tmp_path}/pcap\n"
    text += "kill $sender\n"
    argv = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "--net", "sh", "-c", text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONG)
    if done.returncode == 9 or "unshare" in done.stderr:
        pytest.skip(done.stderr)
    frames = [frame for _, frame in Records().feed((tmp_path / "pcap").read_bytes())]
    ours = [each for each in frames if each[6:12] == b"\x52\x54\0\0\0\1"]
    assert {each[12:16] for each in ours} == {b"\x81\x00\x60\x14", b"\x88\xb5\0\0"}
    assert all(each[16:18] == b"\x88\xb5" for each in ours if each[12:14] == b"\x81\x00")
