"""The script is run for real, in network namespaces of its own, under both shells and both `ip`s."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from golden_files import assert_golden
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.model import Image, Machine
from nestlab.network.network_script import bridge_name, dhcp, resolv_conf, script
from waiting import LONG

MANAGEMENT = "52:54:00:00:00:0f"
PLAIN = Nic("wire", "52:54:00:aa:00:01", 1400, ("10.77.0.11/24", "fd77::11/64"))
BRIDGED = Nic("a-rather-long-name", "52:54:00:AA:00:02", 9000, ("10.78.0.11/16", "fd78::11/64"), bridge=True)
CARRIED = Nic("inner", "52:54:00:aa:00:03", bridge=True)


def spec_of(*nics: Nic, internet: bool = False, management: str = "10.0.2.0/24") -> Spec:
    machine = Machine("hv1", image=Image(base="kvm"), internet=internet)
    return Spec("hv1", machine, nics, management, "k", (), "d" * 40)


HYPERVISOR = spec_of(PLAIN, BRIDGED, CARRIED, internet=True)


def test_the_script_of_a_hypervisor_is_the_golden_one() -> None:
    assert_golden("network/hypervisor.sh", script(HYPERVISOR, management_mac=MANAGEMENT))


def test_the_script_of_a_hypervisor_on_a_transparent_segment_is_the_golden_one() -> None:
    spec = spec_of(replace(BRIDGED, transparent=True, trunk=True))
    assert_golden("network/transparent.sh", script(spec, management_mac=MANAGEMENT))


def test_the_script_of_a_plain_guest_without_internet_is_the_golden_one() -> None:
    assert_golden("network/plain.sh", script(spec_of(PLAIN), management_mac=MANAGEMENT))


def test_a_machine_without_a_card_that_leads_to_its_host_does_not_look_for_one() -> None:
    text = script(HYPERVISOR, management_mac=None)
    assert MANAGEMENT not in text
    assert "default" not in text
    assert all(nic.mac.lower() in text for nic in HYPERVISOR.nics)


def test_the_script_that_asks_for_an_address_is_the_golden_one() -> None:
    assert_golden("network/dhcp.sh", dhcp(HYPERVISOR, PLAIN.mac))


def test_a_bridge_is_called_after_its_segment() -> None:
    assert bridge_name("wire") == "br-wire"
    assert bridge_name("a" * 12) == "br-" + "a" * 12


def test_a_bridge_of_a_long_segment_has_a_name_that_linux_takes_and_no_other_has() -> None:
    names = {bridge_name("storage-network-" + tail) for tail in ("a", "b", "c")}
    assert len(names) == 3
    assert {len(name) for name in names} == {15}


def test_only_a_machine_with_internet_has_a_name_server() -> None:
    assert resolv_conf(HYPERVISOR) == "nameserver 10.0.2.3\n"
    assert resolv_conf(spec_of(PLAIN)) == ""


def test_an_mtu_too_small_for_ipv6_leaves_ipv6_out() -> None:
    text = script(spec_of(replace(PLAIN, mtu=1000)), management_mac=MANAGEMENT)
    assert "10.77.0.11/24" in text
    assert "fd77::11" not in text


def test_a_network_of_two_addresses_has_no_broadcast_address() -> None:
    text = script(spec_of(replace(PLAIN, addresses=("10.9.0.0/31",))), management_mac=MANAGEMENT)
    assert 'address "$card" 10.9.0.0/31\n' in text


@pytest.mark.parametrize("mac", ["", "52:54:00:aa:00", "52:54:00:aa:00:01; reboot"])
def test_what_is_no_mac_address_does_not_reach_the_shell(mac: str) -> None:
    with pytest.raises(ValueError, match="MAC"):
        script(spec_of(), management_mac=mac)


# --- for real ---------------------------------------------------------------------------------------------------


def _namespaces() -> list[str] | None:
    """The command for a network namespace with its own /sys; None if this machine has none for us."""
    argv = ["unshare", "--net", "--mount"] if os.getuid() == 0 else ["unshare", "-r", "--net", "--mount"]
    tried = subprocess.run([*argv, "mount", "-t", "sysfs", "none", "/sys"], capture_output=True, check=False)
    return argv if tried.returncode == 0 else None


UNSHARE = _namespaces() if shutil.which("unshare") and shutil.which("ip") else None
CARDS = {"eth0": MANAGEMENT, "eth1": PLAIN.mac, "eth2": BRIDGED.mac, "eth3": CARRIED.mac}


@dataclass(frozen=True)
class World:
    """What a run left: statuses and stderr of two runs, interfaces by name, routes."""

    statuses: tuple[int, ...]
    errors: str
    links: dict[str, dict[str, Any]]
    routes: list[dict[str, Any]]
    settings: dict[str, str]

    def addresses(self, name: str) -> set[str]:
        infos = self.links[name]["addr_info"]
        return {f"{each['local']}/{each['prefixlen']}" for each in infos if each["scope"] == "global"}


@pytest.fixture(params=["busybox", "dash"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH with one shell as `sh` and its `ip`; `sleep` does not sleep."""
    if UNSHARE is None or not shutil.which(request.param):
        pytest.skip("needs unshare, ip, busybox and dash")
    tools = tmp_path / "bin"
    tools.mkdir()
    shell = shutil.which(request.param)
    (tools / "sh").symlink_to(str(shell))
    (tools / "ip").symlink_to(str(shell if request.param == "busybox" else shutil.which("ip")))
    (tools / "sleep").write_text("#!/bin/sh\n")
    (tools / "sleep").chmod(0o755)
    return str(tools)


SETTINGS = (
    "/sys/class/net/{b}/bridge/stp_state",
    "/sys/class/net/{b}/bridge/forward_delay",
    "/sys/class/net/{b}/bridge/multicast_snooping",
    "/proc/sys/net/ipv6/conf/{b}/accept_ra",
    "/proc/sys/net/ipv6/conf/eth1/accept_ra",
    "/proc/sys/net/ipv4/ip_forward",
)


def run(
    spec: Spec, path: str, root: Path, cards: dict[str, str] = CARDS, *, before: tuple[str, ...] = (), runs: int = 2
) -> World:
    """The script, twice in a namespace with these cards; then what the kernel shows."""
    (root / "network.sh").write_text(script(spec, management_mac=MANAGEMENT))
    names = [each.format(b=bridge_name(BRIDGED.segment)) for each in SETTINGS]
    lines = ["set -e", "mount -t sysfs none /sys"]
    for name, mac in cards.items():
        lines += [f"ip link add {name} type veth peer name p{name}", f"ip link set p{name} mtu 9000 up"]
        lines += [f"ip link set {name} address {mac}"]
    lines += [*before, *[f"PATH={path} sh {root}/network.sh {root} && echo 0 || echo $?"] * runs]
    lines += ["ip -j -d address show", "ip -j route show"]
    lines += [f"cat {name} 2>/dev/null || echo none" for name in names]
    done = subprocess.run(
        [*(UNSHARE or []), "sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=False, timeout=LONG
    )
    assert done.returncode == 0, done.stderr
    *statuses, links, routes = done.stdout.splitlines()[: -len(SETTINGS)]
    return World(
        tuple(map(int, statuses)),
        done.stderr,
        {each["ifname"]: each for each in json.loads(links)},
        json.loads(routes),
        dict(zip(SETTINGS, done.stdout.splitlines()[-len(SETTINGS) :], strict=True)),
    )


def test_a_hypervisor_gets_all_that_was_settled_and_a_second_run_changes_nothing(path: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    world = run(HYPERVISOR, path, tmp_path)
    assert (world.statuses, world.errors) == ((0, 0), "")
    assert world.addresses("eth0") == {"10.0.2.15/24"}
    assert world.addresses("eth1") == {"10.77.0.11/24", "fd77::11/64"}
    assert world.links["eth1"]["mtu"] == 1400
    assert "LOOPBACK" in world.links["lo"]["flags"]
    assert "UP" in world.links["lo"]["flags"]
    assert [(each["dst"], each.get("gateway")) for each in world.routes if "gateway" in each] == [
        ("default", "10.0.2.2")
    ]
    assert (tmp_path / "etc/resolv.conf").read_text() == "nameserver 10.0.2.3\n"


def test_a_bridge_has_the_card_its_address_and_what_was_settled_for_it(path: str, tmp_path: Path) -> None:
    world = run(HYPERVISOR, path, tmp_path)
    name = bridge_name(BRIDGED.segment)
    bridge, card = world.links[name], world.links["eth2"]
    assert card["master"] == name
    assert bridge["address"] == card["address"] == BRIDGED.mac.lower()
    assert (bridge["mtu"], card["mtu"]) == (9000, 9000)
    assert world.addresses(name) == {"10.78.0.11/16", "fd78::11/64"}
    assert card["addr_info"] == []
    assert card["linkinfo"]["info_slave_data"]["state"] == "forwarding"
    assert world.links["eth3"]["master"] == "br-inner"
    assert world.addresses("br-inner") == set()
    assert all("UP" in world.links[each]["flags"] for each in (name, "br-inner", "eth2", "eth3"))
    assert list(world.settings.values()) == ["0", "0", "0", "0", "0", "0"]


def test_a_bridge_of_a_transparent_segment_passes_on_what_bridges_keep_and_its_card_lacp(
    path: str, tmp_path: Path
) -> None:
    masks = (
        f"cat /sys/class/net/{bridge_name(BRIDGED.segment)}/bridge/group_fwd_mask /sys/class/net/eth2/brport/g*_mask"
    )
    trap = f"trap '{masks} >{tmp_path}/masks' EXIT"
    world = run(spec_of(replace(BRIDGED, transparent=True)), path, tmp_path, before=(trap,))
    assert (world.statuses, world.errors) == ((0, 0), "")
    assert (tmp_path / "masks").read_text().split() == ["0xfff8", "0x4"]


def test_no_address_waits_for_duplicates(path: str, tmp_path: Path) -> None:
    world = run(HYPERVISOR, path, tmp_path)
    infos = [info for link in world.links.values() if not link["ifname"].startswith("p") for info in link["addr_info"]]
    assert any(info["family"] == "inet6" and info["scope"] == "global" for info in infos)
    assert not [info for info in infos if info.get("tentative")]


def test_a_machine_without_internet_has_no_way_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    world = run(spec_of(PLAIN), path, tmp_path)
    assert world.statuses == (0, 0)
    assert world.addresses("eth0") == {"10.0.2.15/24"}
    assert not [each for each in world.routes if "gateway" in each]
    assert not (tmp_path / "etc/resolv.conf").exists()


def test_a_card_that_is_not_there_is_named_and_the_others_are_set_up(path: str, tmp_path: Path) -> None:
    cards = {name: mac for name, mac in CARDS.items() if name != "eth1"}
    world = run(HYPERVISOR, path, tmp_path, cards, runs=1)
    assert world.statuses == (1,)
    assert world.errors == "network.sh: no network card has the address 52:54:00:aa:00:01\n"
    assert world.addresses("eth0") == {"10.0.2.15/24"}
    assert world.addresses(bridge_name(BRIDGED.segment)) == {"10.78.0.11/16", "fd78::11/64"}


def test_another_bridge_with_the_address_of_a_card_is_not_taken_for_the_card(path: str, tmp_path: Path) -> None:
    twin = ("ip link add aaa0 type bridge", f"ip link set aaa0 address {PLAIN.mac}")
    world = run(HYPERVISOR, path, tmp_path, before=twin)
    assert world.statuses == (0, 0)
    assert world.addresses("aaa0") == set()
    assert world.addresses("eth1") == {"10.77.0.11/24", "fd77::11/64"}


def told(path: str, folder: Path, *events: dict[str, str]) -> World:
    """What comes of events that busybox's udhcpc tells the script, the first card being the one it is for."""
    (folder / "dhcp.sh").write_text(dhcp(HYPERVISOR, MANAGEMENT))
    (folder / "resolv.conf").touch()
    lines = [f"mount --bind {folder}/resolv.conf /etc/resolv.conf", "ip link set eth0 up"]
    for event in events:
        given = " ".join(f"{name}='{value}'" for name, value in event.items() if name != "event")
        lines.append(f"env PATH={path} interface=eth0 {given} sh {folder}/dhcp.sh {event['event']}")
    return run(spec_of(), path, folder, {"eth0": MANAGEMENT}, before=tuple(lines), runs=0)


LEASE = {
    "event": "bound",
    "ip": "192.0.2.9",
    "mask": "24",
    "router": "192.0.2.1 192.0.2.2",
    "dns": "192.0.2.3 192.0.2.4",
}


def test_a_lease_becomes_address_route_and_name_servers(path: str, tmp_path: Path) -> None:
    world = told(path, tmp_path, {"event": "deconfig"}, LEASE, {**LEASE, "event": "renew"})
    assert world.errors == ""
    assert world.addresses("eth0") == {"192.0.2.9/24"}
    assert [each["gateway"] for each in world.routes if each["dst"] == "default"] == ["192.0.2.1"]
    assert (tmp_path / "resolv.conf").read_text() == "nameserver 192.0.2.3\nnameserver 192.0.2.4\n"


def test_another_lease_replaces_the_address_and_a_lost_one_takes_it_away(path: str, tmp_path: Path) -> None:
    other = {**LEASE, "ip": "192.0.2.10"}
    assert told(path, tmp_path, LEASE, other).addresses("eth0") == {"192.0.2.10/24"}
    assert told(path, tmp_path, LEASE, {"event": "deconfig"}).addresses("eth0") == set()
