"""What serves a segment, for real: a process beside the switch, and a card that asks it as firmware does."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from nestlab.hosts.local import LocalHost
from nestlab.network import dhcp, netboot_control, packets, switch_control, switch_ports
from nestlab.network.netboot import Served, opened
from nestlab.network.netboot_offer import Lease, Offer, from_json, to_json
from nestlab.network.netboot_responder import CONNECTIONS, Responder
from nestlab.network.packets import ACK, FIN, RST, SYN, Datagram, TcpSegment
from switch_cards import BROADCAST, Card, until
from test_netboot_packets import BIOS, BY_HTTP, IPXE, MAC, ME, UEFI, YOU, ask, told

HERE = bytes.fromhex("525400aabbcc")
ANYBODY, EVERYBODY = IPv4Address("0.0.0.0"), IPv4Address("255.255.255.255")


def offer(folder: Path | None = None, **more: object) -> Offer:
    leases = {MAC: Lease("web", IPv4Interface("10.77.0.11/24"))}
    said = {"leases": leases, "texts": {"boot.ipxe": "#!ipxe\n"}, "boots": {"ipxe": "boot.ipxe"}, "digest": "d"} | more
    where = str(folder) if folder else None
    return Offer("wire", IPv4Interface("10.77.0.1/24"), HERE, folder=where, **said)  # type: ignore[arg-type]


def ip(protocol_bytes: bytes, target: bytes = HERE, source: bytes = MAC) -> bytes:
    return packets.ethernet(target, source, packets.IPV4, protocol_bytes)


def dhcp_frame(data: bytes, source: bytes = MAC) -> bytes:
    return ip(packets.udp(Datagram(ANYBODY, EVERYBODY, 68, 67, data)), BROADCAST, source)


def datagrams(frames: list[bytes]) -> list[Datagram]:
    found = []
    for frame in frames:
        _, source, target, content = packets.ip_of(frame[14:]) or pytest.fail("no packet")
        found.append(packets.datagram_of(source, target, content) or pytest.fail("no datagram"))
    return found


def segments(frames: list[bytes]) -> list[TcpSegment]:
    found = []
    for frame in frames:
        _, source, target, content = packets.ip_of(frame[14:]) or pytest.fail("no packet")
        found.append(packets.segment_of(source, target, content) or pytest.fail("no segment"))
    return found


def responder(given: Offer, said: list[str] | None = None) -> Responder:
    said = said if said is not None else []
    return Responder(given, Served(given), lambda: 77, said.append)


@pytest.mark.parametrize(
    ("options", "boots"),
    [
        (BIOS, b"pxelinux.0"),
        (UEFI, b"grub.efi"),
        (BY_HTTP, b"http://10.77.0.1/grub.efi"),
        (IPXE, b"http://10.77.0.1/boot.ipxe"),
        ((), b""),
    ],
)
def test_each_kind_of_client_is_told_what_it_loads(options: tuple[tuple[int, bytes], ...], boots: bytes) -> None:
    given = offer(boots={"bios": "pxelinux.0", "uefi": "grub.efi", "ipxe": "boot.ipxe"})
    sent = datagrams(responder(given).take(dhcp_frame(ask(dhcp.DISCOVER, *options)), 0))
    assert [told(each.data)[1].get(67, b"") for each in sent] == [boots]


def test_ipxe_loads_what_its_firmware_would_where_there_is_no_script() -> None:
    given = offer(boots={"bios": "pxelinux.0", "uefi": "grub.efi"})
    for firmware, boots in ((BIOS, b"pxelinux.0"), (UEFI, b"grub.efi")):
        sent = datagrams(responder(given).take(dhcp_frame(ask(dhcp.DISCOVER, (77, b"iPXE"), *firmware)), 0))
        assert told(sent[0].data)[1][67] == boots


def test_a_card_that_is_none_of_the_labs_is_told_nothing() -> None:
    said: list[str] = []
    stranger = bytes.fromhex("525400999999")
    assert not responder(offer(), said).take(dhcp_frame(ask(dhcp.DISCOVER, mac=stranger), stranger), 0)
    assert said == ["DHCP 52:54:00:99:99:99: no card of the lab's, not answered"]


def test_only_its_own_address_is_answered_for() -> None:
    for target, answered in ((ME, True), (YOU, False)):
        question = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, MAC, YOU.packed, bytes(6), target.packed)
        frames = responder(offer()).take(packets.ethernet(BROADCAST, MAC, packets.ARP, question), 0)
        assert bool(frames) == answered
        assert all(frame[22:28] == HERE for frame in frames)


def test_files_outside_of_the_folder_hidden_ones_and_pipes_are_not_served(tmp_path: Path) -> None:
    folder = tmp_path / "boot"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/kernel").write_bytes(b"kernel")
    (folder / ".secret").write_bytes(b"secret")
    (tmp_path / "outside").write_bytes(b"outside")
    (folder / "out").symlink_to("../outside")
    (folder / "in").symlink_to("sub/kernel")
    os.mkfifo(folder / "pipe")
    served = Served(offer(folder))
    for name in ("sub/kernel", "/sub/kernel", "in"):
        found = served.open(name)
        assert found is not None
        assert found.read(0, 100) == b"kernel"
        found.close()
    for name in ("out", ".secret", "../outside", "sub/../../outside", "pipe", "sub", "", "a\0b", "/etc/passwd"):
        assert served.open(name) is None, name
    assert opened("/nowhere") is None


def test_who_begins_ever_new_connections_and_transfers_pushes_out_its_own() -> None:
    served = responder(offer())
    for port in range(1000, 1000 + 5 * CONNECTIONS):
        syn = TcpSegment(YOU, ME, port, 80, 5, 0, SYN, 1000)
        served.take(ip(packets.tcp(syn)), float(port))
        served.take(ip(packets.udp(Datagram(YOU, ME, port, 69, b"\0\1boot.ipxe\0octet\0"))), float(port))
    assert len(served.tcp) == len(served.tftp) == CONNECTIONS
    served.close()
    assert not served.busy


def test_a_port_that_is_not_served_is_refused() -> None:
    for port, flags in ((22, SYN), (80, ACK)):
        sent = segments(responder(offer()).take(ip(packets.tcp(TcpSegment(YOU, ME, 999, port, 5, 6, flags, 9))), 0))
        assert [each.flags & RST for each in sent] == [RST]


def test_an_offer_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = offer(tmp_path, files={"kernel": "/a"}, mtu=9000)
    assert from_json(to_json(given)) == given


class Machine:
    """Firmware, as far as it asks."""

    def __init__(self, directory: Path) -> None:
        self.card = Card(directory)

    def dhcp(self, *options: tuple[int, bytes]) -> str:
        self.card.send(dhcp_frame(ask(dhcp.DISCOVER, *options)))
        offered = datagrams([self.card.receive()])[0]
        (address, _, _), _ = told(offered.data)
        self.card.send(dhcp_frame(ask(dhcp.REQUEST, *options, (50, address), (54, ME.packed))))
        _, options_said = told(datagrams([self.card.receive()])[0].data)
        assert options_said[53] == bytes([dhcp.ACK])
        return f"{IPv4Address(address)} {options_said.get(67, b'').decode()}".strip()

    def tftp(self, name: str) -> bytes:
        have, port = b"", 69
        say = b"\0\1" + name.encode() + b"\0octet\0blksize\x001000\0"
        while True:
            self.card.send(ip(packets.udp(Datagram(YOU, ME, 2000, port, say))))
            got = datagrams([self.card.receive()])[0]
            port = got.source_port
            does, number = struct.unpack_from(">HH", got.data)
            if does == 5:
                raise FileNotFoundError(got.data[4:-1].decode())
            have += got.data[4:] if does == 3 else b""
            say = struct.pack(">HH", 4, number if does == 3 else 0)
            if does == 3 and len(got.data) < 1004:
                self.card.send(ip(packets.udp(Datagram(YOU, ME, 2000, port, say))))
                return have

    def http(self, name: str) -> bytes:
        seq, request = 5, f"GET /{name} HTTP/1.0\r\n\r\n".encode()
        said = TcpSegment(YOU, ME, 3000, 80, seq, 0, SYN, 60000, mss=1460, scale=0)
        self.card.send(ip(packets.tcp(said)))
        first = segments([self.card.receive()])[0]
        have, expected, seq = b"", (first.seq + 1) % 2**32, 6
        self.card.send(ip(packets.tcp(TcpSegment(YOU, ME, 3000, 80, seq, expected, ACK, 60000, request))))
        seq += len(request)
        while True:
            got = segments([self.card.receive()])[0]
            if got.seq == expected:
                have += got.data
                expected = (expected + len(got.data) + bool(got.flags & FIN)) % 2**32
            ends = got.flags & FIN
            answer = TcpSegment(YOU, ME, 3000, 80, seq, expected, ACK | (FIN if ends else 0), 60000)
            self.card.send(ip(packets.tcp(answer)))
            if ends:
                self.card.receive()  # that it was heard
                return have.partition(b"\r\n\r\n")[2]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "s"
    asyncio.run(switch_control.ensure(place, "test", ["wire"], LocalHost()))
    yield place
    asyncio.run(switch_control.stop(place))
    until(lambda: not netboot_control.serves(place, "wire"))


def serve(directory: Path, given: Offer) -> None:
    asyncio.run(netboot_control.ensure(directory, "test", given, LocalHost()))


def test_a_machine_gets_its_address_and_its_files(directory: Path, tmp_path: Path) -> None:
    whole = os.urandom(300_001)
    (tmp_path / "kernel").write_bytes(whole)
    serve(directory, offer(tmp_path))
    assert netboot_control.observe(directory) == {"wire": "d"}
    machine = Machine(directory)
    assert machine.dhcp(*IPXE) == "10.77.0.11 http://10.77.0.1/boot.ipxe"
    assert machine.tftp("kernel") == whole
    assert machine.http("kernel") == whole
    assert machine.http("boot.ipxe") == b"#!ipxe\n"
    with pytest.raises(FileNotFoundError):
        machine.tftp("../s/switch.pid")
    log = netboot_control.log_of(directory, "wire").read_text()
    for line in (
        "DHCP web: 10.77.0.11, ipxe, told to load http://10.77.0.1/boot.ipxe",
        "TFTP web: kernel: 300001 bytes",
        "HTTP web: GET kernel: 200, 300001 bytes",
        "TFTP web: ../s/switch.pid: there is no such file",
    ):
        assert line in log
    machine.card.close()


def test_what_is_offered_changes_while_it_is_served_and_two_who_start_it_start_one(directory: Path) -> None:
    serve(directory, offer())
    pid = (directory / "wire.netboot.pid").read_text()
    serve(directory, offer(texts={"other": "text"}, digest="e"))
    assert (directory / "wire.netboot.pid").read_text() == pid
    assert netboot_control.observe(directory) == {"wire": "e"}
    machine = Machine(directory)

    def changed() -> bool:
        try:
            return machine.tftp("other") == b"text"
        except FileNotFoundError:
            return False

    until(changed)
    machine.card.close()


def test_it_ends_with_the_segment_and_when_nothing_is_to_be_served(directory: Path) -> None:
    serve(directory, offer())
    netboot_control.withdraw(directory, "wire")
    until(lambda: not netboot_control.serves(directory, "wire"))
    serve(directory, offer())
    asyncio.run(switch_control.stop(directory))
    until(lambda: not netboot_control.serves(directory, "wire"))
    assert netboot_control.observe(directory) == {}


SAYS = """
from nestlab.network.switch_ports import say
for _ in range(30_000):
    say("DHCP 52:54:00:99:99:99: no card of the lab's, not answered")
"""


@pytest.mark.parametrize("disk", ["a disk", "a full one"])
def test_a_machine_that_asks_for_ever_fills_no_disk_with_the_log_and_a_full_one_ends_nothing(
    tmp_path: Path, disk: str
) -> None:
    log = tmp_path / "wire.netboot.log" if disk == "a disk" else Path("/dev/full")
    with log.open("ab") as file:
        done = subprocess.run([sys.executable, "-c", SAYS], stderr=file, check=False)
    assert done.returncode == 0
    if disk == "a disk":
        assert 0 < log.stat().st_size < switch_ports.LOG + 1000


def test_it_survives_what_a_machine_floods_it_with(directory: Path) -> None:
    serve(directory, offer())
    machine = Machine(directory)
    for size in range(14, 1200, 7):
        machine.card.send(HERE + MAC + b"\x08\x00" + os.urandom(size), BROADCAST + MAC + b"\x08\x06" + os.urandom(size))
    assert machine.dhcp() == "10.77.0.11"
    assert isinstance(machine.card.sock, socket.socket)
    machine.card.close()
