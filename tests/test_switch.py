"""The switch as a process, with cards that speak to it as QEMU does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nestlab.images.qemu_runtime import Tool
from nestlab.network.switch import ALREADY, CONTROL, LOG, PID, socket_name
from switch_cards import BROADCAST, LIMIT, Card, ask, ended, frame, framed, kill, mac, pid_of, ports, start, until

Plug = Callable[..., Card]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where a switch serves the segment `wire`."""
    place = tmp_path / "net"
    started = start(place, "wire")
    assert started.returncode == 0, started.stderr
    yield place
    kill(place)


@pytest.fixture
def plug(directory: Path) -> Iterator[Plug]:
    """Makes cards on a segment, and unplugs them at the end."""
    cards: list[Card] = []

    def make(segment: str = "wire") -> Card:
        already = len(ports(directory, segment))
        cards.append(Card(directory, segment))
        until(lambda: len(ports(directory, segment)) > already)
        return cards[-1]

    yield make
    for card in cards:
        card.close()


def test_a_frame_to_nobody_known_goes_to_all_others_and_never_back(plug: Plug) -> None:
    a, b, c = plug(), plug(), plug()
    a.send(frame(mac(99), mac(1), b"who is 99"))
    assert [b.body(), c.body()] == ["who is 99"] * 2
    b.send(frame(mac(1), mac(2), b"not me"))
    assert a.body() == "not me"


def test_a_known_address_is_reached_by_its_port_alone(plug: Plug) -> None:
    a, b, c = plug(), plug(), plug()
    b.hello(mac(2), a, c)
    a.send(frame(mac(2), mac(1), b"private"), frame(BROADCAST, mac(1), b"public"))
    assert [b.body(), b.body()] == ["private", "public"]
    assert c.body() == "public"


@pytest.mark.parametrize("group", [BROADCAST, b"\x01\x00\x5e\x00\x00\x01", b"\x33\x33\x00\x00\x00\x01"])
def test_group_addresses_reach_everybody(plug: Plug, group: bytes) -> None:
    a, b, c = plug(), plug(), plug()
    a.send(frame(group, mac(1), b"one"), frame(group, mac(1), b"two"))
    assert [b.body(), b.body(), c.body(), c.body()] == ["one", "two"] * 2


def test_a_group_address_is_never_learned_as_a_sender(plug: Plug) -> None:
    a, b, c = plug(), plug(), plug()
    a.hello(BROADCAST, b, c)
    b.send(frame(BROADCAST, mac(2), b"all"))
    assert [a.body(), c.body()] == ["all", "all"]


def test_machines_behind_one_port_are_all_reached_by_it(plug: Plug) -> None:
    a, b, c = plug(), plug(), plug()
    for inner in range(10, 40):
        a.hello(mac(inner), b, c)
    b.send(*(frame(mac(inner), mac(2), str(inner).encode()) for inner in range(10, 40)))
    assert [a.body() for _ in range(30)] == [str(inner) for inner in range(10, 40)]


def test_what_stays_behind_one_port_is_not_sent_back_or_on(plug: Plug) -> None:
    a, b = plug(), plug()
    a.hello(mac(10), b)
    a.send(frame(mac(10), mac(11), b"between my own"), frame(mac(2), mac(11), b"for you"))
    assert b.body() == "for you"
    b.send(frame(mac(11), mac(2), b"answer"))
    assert a.body() == "answer"


def test_a_machine_that_moves_is_reached_at_its_new_port(plug: Plug) -> None:
    a, b, c = plug(), plug(), plug()
    a.hello(mac(7), b, c)
    c.send(frame(mac(7), mac(3), b"first"))
    assert a.body() == "first"
    b.hello(mac(7), a, c)
    c.send(frame(mac(7), mac(3), b"second"), frame(BROADCAST, mac(3), b"end"))
    assert [b.body(), b.body(), a.body()] == ["second", "end", "end"]
    a.hello(mac(7), b, c)
    c.send(frame(mac(7), mac(3), b"third"), frame(BROADCAST, mac(3), b"end"))
    assert [a.body(), a.body(), b.body()] == ["third", "end", "end"]


def test_a_port_that_closes_takes_its_addresses_along(directory: Path, plug: Plug) -> None:
    a, b, c = plug(), plug(), plug()
    a.hello(mac(7), b, c)
    c.send(frame(mac(7), mac(3), b"known"))
    assert a.body() == "known"
    a.close()
    until(lambda: len(ports(directory)) == 2)
    c.send(frame(mac(7), mac(3), b"unknown"))
    assert b.body() == "unknown"


def test_segments_never_meet(directory: Path, plug: Plug) -> None:
    assert ask(directory, {"do": "add", "segment": "other"})["ok"]
    a, b, other = plug(), plug(), plug("other")
    a.hello(mac(1), b)
    other.send(frame(BROADCAST, mac(3), b"hidden"), frame(mac(1), mac(3), b"hidden"))
    until(lambda: ports(directory, "other")[0]["rx_frames"] == 2)
    a.send(frame(BROADCAST, mac(1), b"seen"))
    assert b.body() == "seen"
    b.send(frame(mac(1), mac(2), b"back"))
    assert a.body() == "back"


def test_frames_stay_whole_and_in_order_wherever_the_stream_is_cut(plug: Plug) -> None:
    chance = random.Random(7)
    a, b = plug(), plug()
    b.hello(mac(2), a)
    sent = [frame(mac(2), mac(1), chance.randbytes(chance.choice((1, 46, 1500, 9000, 65000)))) for _ in range(60)]
    stream = b"".join(map(framed, sent))
    while stream:
        size = chance.choice((1, 3, 4, 5, 15, 17, 700, 40000))
        a.sock.sendall(stream[:size])
        stream = stream[size:]
        os.sched_yield()
    for expected in sent:
        assert b.receive() == expected


def test_frames_for_many_in_one_stretch_reach_each_in_order(plug: Plug) -> None:
    a, *others = (plug() for _ in range(5))
    for number, card in enumerate(others):
        card.hello(mac(10 + number), a, *(other for other in others if other is not card))
    targets = [*(mac(10 + number) for number in range(4)), BROADCAST, mac(77)]
    chosen = [random.Random(1).choice(targets) for _ in range(400)]
    a.send(*(frame(target, mac(1), str(number).encode()) for number, target in enumerate(chosen)))
    for number, card in enumerate(others):
        expected = [str(at) for at, each in enumerate(chosen) if each in (mac(10 + number), BROADCAST, mac(77))]
        assert [card.body() for _ in expected] == expected


def test_who_does_not_read_loses_whole_frames_and_holds_up_nobody(directory: Path, plug: Plug) -> None:
    a, b, slow = plug(), plug(), plug()
    slow.hello(mac(3), a, b)
    for start_ in range(0, 6000, 50):
        burst = [frame(BROADCAST, mac(1), str(number).encode(), 1514) for number in range(start_, start_ + 50)]
        a.send(*burst)
        assert [b.body() for _ in burst] == [str(number) for number in range(start_, start_ + 50)]
    status = next(port for port in ports(directory) if mac(3).hex(":") in port["macs"])
    assert status["dropped"] > 0
    assert status["tx_frames"] + status["dropped"] == 6000
    kept = [int(slow.body()) for _ in range(status["tx_frames"])]
    assert kept == sorted(set(kept))
    a.send(frame(mac(3), mac(1), b"awake"))
    assert slow.body() == "awake"


def test_a_bad_length_closes_that_port_only(directory: Path, plug: Plug) -> None:
    a, b, bad = plug(), plug(), plug()
    bad.send(frame(BROADCAST, mac(3), b"last words"))
    bad.sock.sendall(b"\xff\xff\xff\xff")
    assert bad.receive() == b""
    assert [a.body(), b.body()] == ["last words"] * 2
    a.send(frame(BROADCAST, mac(1), b"fine"))
    assert b.body() == "fine"
    assert "a frame of 4294967295 bytes; closed" in (directory / LOG).read_text()


def test_the_longest_frame_that_qemu_sends_passes(plug: Plug) -> None:
    a, b = plug(), plug()
    sent = frame(BROADCAST, mac(1), size=65536 + 4096)
    a.send(sent, frame(BROADCAST, mac(1), b"after"))
    assert b.receive() == sent
    assert b.body() == "after"


def test_what_is_too_short_to_be_a_frame_is_counted_and_goes_nowhere(directory: Path, plug: Plug) -> None:
    a, b = plug(), plug()
    a.send(b"", b"x", b"y" * 13, frame(BROADCAST, mac(1), b"good"))
    assert b.body() == "good"
    assert ports(directory)[0]["rx_errors"] == 3


def test_half_a_frame_of_a_card_that_goes_away_reaches_nobody(directory: Path, plug: Plug) -> None:
    a, b, gone = plug(), plug(), plug()
    gone.sock.sendall(framed(frame(BROADCAST, mac(3), size=1000))[:500])
    gone.close()
    until(lambda: len(ports(directory)) == 2)
    a.send(frame(BROADCAST, mac(1), b"whole"))
    assert b.body() == "whole"


def test_status_tells_who_is_there_and_what_passed(directory: Path, plug: Plug) -> None:
    a, b = plug(), plug()
    a.hello(mac(1), b)
    b.send(frame(mac(1), mac(2), size=1000))
    a.receive()
    reply = ask(directory, {"do": "status"})
    first, second = reply["segments"]["wire"]["ports"]
    assert (reply["ok"], reply["lab"], reply["pid"]) == (True, "test", pid_of(directory))
    assert (first["pid"], first["macs"]) == (os.getpid(), [mac(1).hex(":")])
    assert [first[key] for key in ("rx_frames", "rx_bytes", "tx_frames", "tx_bytes")] == [1, 60, 1, 1000]
    assert [second[key] for key in ("rx_frames", "rx_bytes", "tx_frames", "tx_bytes")] == [1, 1000, 1, 60]
    assert [first["dropped"], first["queued"], first["rx_errors"]] == [0, 0, 0]


def test_segments_come_and_go(directory: Path, plug: Plug) -> None:
    assert ask(directory, {"do": "add", "segment": "b"})["segments"] == ["wire", "b"]
    card = plug("b")
    assert ask(directory, {"do": "add", "segment": "b"})["segments"] == ["wire", "b"]
    assert len(ports(directory, "b")) == 1
    assert ask(directory, {"do": "remove", "segment": "b"})["segments"] == ["wire"]
    assert card.receive() == b""
    assert not (directory / "b.sock").exists()
    assert ask(directory, {"do": "remove", "segment": "b"})["ok"]


@pytest.mark.parametrize("request_", [{}, [], 7, {"do": "dance"}, {"do": "add"}, {"do": "add", "segment": "../x"}])
def test_a_wrong_request_is_answered_with_an_error(directory: Path, request_: object) -> None:
    reply = ask(directory, request_)
    assert not reply["ok"]
    assert reply["error"]
    assert ask(directory, {"do": "status"})["ok"]


def test_requests_may_come_in_pieces_and_together(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(str(directory / CONTROL))
        sock.sendall(b'{"do": "sta')
        sock.sendall(b'tus"}\n{"do":"add","segment":"x"}\nnonsense\n')
        lines = sock.makefile()
        assert ['"ok": true' in lines.readline() for _ in range(3)] == [True, True, False]


def test_a_line_without_end_closes_the_connection(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(str(directory / CONTROL))
        with suppress(ConnectionError):
            sock.sendall(b"x" * 200_000)
        with suppress(ConnectionError):
            assert sock.recv(1) == b""
    assert ask(directory, {"do": "status"})["ok"]


def test_a_segment_may_be_called_switch(directory: Path, plug: Plug) -> None:
    assert ask(directory, {"do": "add", "segment": "switch"})["ok"]
    a, b = plug("switch"), plug("switch")
    a.hello(mac(1), b)


def test_a_second_switch_does_not_start_in_the_same_place(directory: Path) -> None:
    second = start(directory, "wire")
    assert (second.returncode, second.stderr) == (ALREADY, f"a switch already serves {directory}\n")
    assert ask(directory, {"do": "status"})["pid"] == pid_of(directory)


def test_it_lives_on_in_a_session_of_its_own_without_a_terminal(directory: Path) -> None:
    pid = pid_of(directory)
    assert os.getsid(pid) == pid
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert fields[4] == "0", "a controlling terminal"
    open_files = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}  # noqa: PTH115
    assert open_files == {"/dev/null", str(directory / LOG)}
    assert b"nestlab-switch:test" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_nobody_else_may_connect(directory: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes == {directory.name: 0o700, CONTROL: 0o600, "wire.sock": 0o600, PID: 0o600, LOG: 0o600}


@pytest.mark.parametrize("how", ["quit", "term"])
def test_an_end_in_order_leaves_only_the_log(directory: Path, how: str) -> None:
    process = os.pidfd_open(pid_of(directory))
    if how == "quit":
        assert ask(directory, {"do": "quit"})["ok"]
    else:
        signal.pidfd_send_signal(process, signal.SIGTERM)
    assert ended(process)
    os.close(process)
    assert [path.name for path in directory.iterdir()] == [LOG]
    assert (directory / LOG).read_text() == ""


def test_it_ends_when_its_directory_is_gone(directory: Path) -> None:
    process = os.pidfd_open(pid_of(directory))
    shutil.rmtree(directory)
    assert ended(process)
    os.close(process)


def test_it_ends_when_another_directory_is_in_its_place(directory: Path) -> None:
    process = os.pidfd_open(pid_of(directory))
    moved = directory.rename(directory.parent / "moved")
    directory.mkdir()
    assert ended(process)
    os.close(process)
    assert [path.name for path in moved.iterdir()] == [LOG]


def test_what_a_killed_switch_left_is_no_obstacle(directory: Path, plug: Plug) -> None:
    kill(directory)
    assert (directory / "wire.sock").exists()
    assert start(directory, "wire").returncode == 0
    a, b = plug(), plug()
    a.hello(mac(1), b)


def test_a_path_longer_than_a_socket_may_have_is_no_obstacle_to_the_switch(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30) / "net"
    try:
        assert start(place, "wire").returncode == 0
        assert (place / "wire.sock").is_socket()
    finally:
        kill(place)


@pytest.mark.parametrize("arguments", [[], ["/tmp"], ["nestlab-switch:", "/tmp"], ["nestlab-switch:a"]])
def test_a_wrong_command_line_shows_the_right_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from nestlab.network.switch import main

    assert main(arguments) == 2
    assert "usage: python -m nestlab.network.switch nestlab-switch:LAB DIR" in capsys.readouterr().err


def test_a_place_where_it_cannot_listen_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = start(tmp_path / "file" / "net", "wire")
    assert started.returncode == 1
    assert str(tmp_path / "file" / "net") in started.stderr


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit")
def test_without_file_descriptors_the_others_go_on_and_later_ones_get_in(tmp_path: Path) -> None:
    place = tmp_path / "net"
    assert start(place, "wire", before=("prlimit", "--nofile=16:16")).returncode == 0
    try:
        cards = [Card(place) for _ in range(20)]
        cards[0].send(frame(BROADCAST, mac(1), b"still"))
        assert cards[1].body() == "still"
        for card in cards[2:]:
            card.close()
        late = Card(place)
        late.send(frame(BROADCAST, mac(2), b"late"))
        assert cards[0].body() == "late"
        for card in (late, *cards[:2]):
            card.close()
    finally:
        kill(place)


@pytest.mark.guest
def test_qemu_speaks_to_it(directory: Path, plug: Plug, qemu_tool: Tool) -> None:
    card = plug()
    address = "52:54:00:12:34:56"
    netdev = f"stream,id=n,server=off,addr.type=unix,addr.path={directory / socket_name('wire')}"
    argv = [*qemu_tool.argv, "-M", "pc", "-accel", "tcg", "-nodefaults", "-display", "none", "-boot", "n"]
    argv += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=n,mac={address}"]
    # Its boot firmware asks for an address by DHCP: broadcasts.
    environment = {**os.environ, **qemu_tool.env}
    qemu = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        seen = card.receive()
    finally:
        qemu.kill()
        qemu.communicate()
    assert seen[6:12].hex(":") == address
    assert struct.unpack(">H", seen[12:14])[0] in (0x0800, 0x0806, 0x86DD)
