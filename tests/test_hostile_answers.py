"""What a machine of a lab says of itself and is asked for is typed and bounded, and leads to nothing on the host."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from liars import engine_on, honest, nest_with, report, told, up
from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.engines.pve import connections, tags
from nestlab.engines.qemu import boot, readiness, records, wait
from nestlab.engines.qemu.cargo import CARGO_PLACE, Cargo, serial_of
from nestlab.engines.qemu.first_guest import Opening
from nestlab.home import last_seen
from nestlab.home.directories import LabHome
from nestlab.home.paths import Place, short_id
from nestlab.hosts import gather_facts, starvation
from nestlab.hosts.host import Result
from nestlab.hosts.local import LocalHost
from nestlab.images.image_files import Cache, ImageFiles
from nestlab.lab.model import Setup
from nestlab.lab.readiness import Ready
from nestlab.network import pcap
from nestlab.plan.steps import Seen, Written
from nestlab.show.render import Acceleration
from nestlab.show.ssh_config import SshEntry, ssh_config
from nestlab.testing.fake_engine import FakeHost
from nestlab.verbs import capture, logs, machine_setup, verify
from nestlab.wire import qmp
from nestlab.wire.pve import agent
from test_hostile_reports import LAB, VICTIM


def test_a_user_that_a_hypervisor_made_up_is_no_line_of_ssh_config() -> None:
    evil = "root\n    ProxyCommand touch /tmp/owned"
    assert records.started(json.dumps({"port": 22, "user": evil})).user == "root"
    entry = SshEntry("pair", "hv1", "127.0.0.1", 20001, "root", "/k", "ssh-ed25519 AAAA")
    text = ssh_config("pair", [entry], {"hv1/web": "hv1 said\nHost *\n    ProxyCommand touch /tmp/owned"}, "/known")
    assert [line for line in text.splitlines() if "ProxyCommand" in line and not line.startswith("#")] == []
    assert [line for line in text.splitlines() if line.startswith("Host ")] == ["Host pair.hv1"]


async def test_an_sshd_that_a_hypervisor_tells_of_elsewhere_takes_no_other_machines_place(tmp_path: Path) -> None:
    lie = told(short_id("victim"), made=VICTIM, boot={"port": 2222, "user": "root"}, runs=True)
    world = up(LAB)
    async with nest_with(world, LAB, {"hv1": report(lie, honest("hv1/web", LAB))}, tmp_path) as nest:
        engine = await nest.engine("hv1")
        assert [each.path for each in await engine.sshds()] == ["hv1/web"]  # type: ignore[attr-defined]


def test_a_machine_that_says_it_is_slow_makes_nobody_wait_without_end(tmp_path: Path) -> None:
    assert patience.believed(1e5, 1.0) == patience.SLOWER
    assert patience.believed(3.0, 1.0) == 3.0
    assert patience.believed(60.0 * 20, 20.0) == 1200.0, "emulated in an emulated one"
    world = up(LAB)
    host = FakeHost(world, "pair", "hv1")
    engine = engine_on(host, "pair", tmp_path)
    engine.environment.speeds.keep("hv1", 1e5)
    assert engine_on(host, "pair", tmp_path).parent.slowness == 1.0
    again = type(engine)(host, engine.environment)
    assert again.parent.slowness == patience.SLOWER


def test_cargo_is_only_what_a_disk_of_a_hypervisor_can_be(tmp_path: Path) -> None:
    image = ImageFiles("key", {"boot": tmp_path / "boot", "kernel": tmp_path / "k"})
    serial = serial_of("key", "boot")
    cargo = Cargo(FakeHost(up(LAB), "pair", "hv1"), Cache(tmp_path))
    odd = ["nonsense", "", f"{serial} /dev/sda,file=/etc/shadow x", f"{serial} ../../x ", "? /dev/vda ", "\0\0\0"]
    cargo.learn(image, "\n".join(odd))
    assert cargo._devices == {}
    cargo.learn(image, f"{serial} /dev/vdb /etc\n{serial_of('key', 'root')} /dev/vdc ")
    assert cargo._mounted == {}
    cargo.learn(image, f"{serial} /dev/vdb {CARGO_PLACE}/{serial}\n")
    assert cargo._mounted == {serial: f"{CARGO_PLACE}/{serial}"}


@pytest.mark.parametrize("said", ["", "ok", "new\nnew", "made; rm -rf /", "x" * 100_000])
async def test_a_hypervisor_that_makes_a_machine_and_says_something_else_is_named(said: str, tmp_path: Path) -> None:
    engine = engine_on(FakeHost(up(LAB), "pair", "hv1"), "pair", tmp_path)
    with pytest.raises(LabError, match=r"^hv1 does not make hv1/web as it was asked") as refused:
        engine._maker._state("hv1/web", said)
    assert len(refused.value.what) < 200


async def test_a_hypervisor_that_says_more_than_it_was_asked_while_a_machine_is_made_is_heard_no_longer() -> None:
    opening = Opening(LocalHost(), "hv1/web")
    with pytest.raises(LabError, match=r"said more than it was asked while hv1/web was made"):
        await opening.make(("sh", "-c", "exec yes"), 3, b"")
    await opening.close()
    assert not opening.waits


async def test_of_what_is_said_when_a_machine_does_not_start_the_end_is_kept() -> None:
    async def lines() -> AsyncIterator[bytes]:
        for _ in range(5000):
            yield b"x" * 100_000
        yield b"nestlab-start: failed"

    launch = SimpleNamespace(sandbox=False)
    what = SimpleNamespace(path="hv1/web", host=FakeHost(up(LAB), "pair", "hv1"), launch=launch, by="QEMU")
    with pytest.raises(LabError, match="QEMU did not start on hv1") as failed:
        await boot._started(what, lines())  # type: ignore[arg-type]
    assert len(failed.value.detail) < 12 * (boot.LONGEST + 10)


def test_sizes_of_disks_are_numbers_of_machines_that_were_asked_for(tmp_path: Path) -> None:
    folder = short_id("hv1/web")
    lines = [f"7\t{folder}/disk.qcow2", f"{'9' * 5000}\t{folder}/disk.qcow2", "x\ty", f"-1\t{folder}/disk.qcow2"]
    text = "\n".join([*lines, f"٣\t{folder}/disk.qcow2", "9\t00000000/disk.qcow2", f"8\t../{folder}/disk.qcow2"])
    world = up(LAB)
    world.answer = lambda path, argv: Result(tuple(argv), 0, text.encode(), b"")
    engine = engine_on(FakeHost(world, "pair", "hv1"), "pair", tmp_path)
    assert asyncio.run(engine.written(["hv1/web"])) == {"hv1/web": Written(7 << 10)}


def test_what_was_seen_last_is_known_only_of_machines_with_paths(tmp_path: Path) -> None:
    row = {"digest": "d", "names": "n", "root": None, "disk": 0}
    odd = ["?", "hv1/?", "../x", "", "hv1//web", "hv1/web\n"]
    (tmp_path / last_seen.NAME).write_text(json.dumps(dict.fromkeys(["hv1/web", *odd], row)))
    assert list(last_seen.load(LabHome("pair", tmp_path))) == ["hv1/web"]
    for spoilt in ("[" * 100_000, '{"hv1/web": {"digest": 1, "names": 1, "root": 1, "disk": 1e400}}', "\0"):
        (tmp_path / last_seen.NAME).write_text(spoilt)
        assert last_seen.load(LabHome("pair", tmp_path)) == {}
    assert [each.name for each in tmp_path.iterdir()] == [last_seen.NAME]


PROBED = ["", "x" * 100, "{", "[]", "null", '{"cpus": "many"}', f'{{"cpus": {"9" * 5000}}}', "[" * 100_000]
MARKED = [
    "/proc/net/route\nhead\neth0 zz 0 1 0 0 0 0",
    "/proc/net/route\nhead\neth0 FFFFFFFFFFFF 0 1 0 0 0 0",
    "/proc/net/ipv6_route\n0 zz 0 0 0 0 0 0 zz eth0",
    "/proc/meminfo\nMemTotal: " + "9" * 5000 + " kB",
    "/sys/module\n1",
    "kvm\nstatus=x",
    "kvm\nstatus=0\nran=io",
    "kvm\nstatus=0\nran=exit x y",
    f"kvm\nstatus={'9' * 5000}",
    "clock\n" + "9" * 5000,
]


@pytest.mark.parametrize("text", [*PROBED, *(gather_facts.MARK + each for each in MARKED)], ids=range(18))
@pytest.mark.parametrize("status", [0, 1])
async def test_facts_that_a_machine_made_up_are_facts_or_told_as_its_fault(text: str, status: int) -> None:
    world = up(LAB)
    world.answer = lambda path, argv: Result(tuple(argv), status if "perl" in argv[2] else 0, text.encode(), b"")
    host = FakeHost(world, "pair", "hv1")
    try:
        await gather_facts.over_shell(host, 1.0)
    except LabError as error:
        told = error
    else:
        return
    assert told.what.startswith("The probe of hv1 printed no facts")
    assert "\n" not in told.what
    assert len(str(told)) < 1200


async def test_facts_without_end_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    world = up(LAB)
    world.answer = lambda path, argv: Result(tuple(argv), 0, b"x" * (gather_facts.LIMIT + 1), b"")
    with pytest.raises(LabError, match="The probe of hv1 printed no facts: it printed more than"):
        await gather_facts.over_shell(FakeHost(world, "pair", "hv1"), 1.0)


async def test_facts_that_cannot_be_had_leave_an_accelerator_open_and_end_nothing(tmp_path: Path) -> None:
    """See `Session.accelerations`, which `up` ends with."""
    from nestlab.verbs.session import Session

    class Nest:
        async def host(self, path: str) -> object:
            async def facts() -> None:
                raise LabError(f"The probe of {path} printed no facts.")

            return SimpleNamespace(facts=facts)

    async def outlook(blueprint: object, paths: object) -> tuple[Acceleration, ...]:
        return tuple(Acceleration(path, "tcg", "") for path in ("hv1", "hv2", "victim"))

    seen = SimpleNamespace(machines={"hv1": Seen("hv1", "running")})
    session = SimpleNamespace(blueprint=LAB, observed=seen, nest=Nest(), platform=SimpleNamespace(outlook=outlook))
    session._contains = lambda _: True
    found = {each.path: each.accel for each in await Session.accelerations(session)}  # type: ignore[arg-type]
    assert found["hv1/web"] == ""


def test_a_proof_takes_from_a_machine_only_words_that_it_was_asked_for() -> None:
    long = "x" * 100_000
    told = verify._told(
        LAB["hv1"], f"arch {long}\nflag vmx; rm -rf /\nmodule {long} \x1b[2J\nkvm \x1b]0;x\x07\nq q\n\n"
    )
    assert (len(told.arch), told.flag) == (verify.SHOWN, "")
    assert all(text.isprintable() for text in (told.arch, told.module, told.nested, told.kvm))
    assert verify._told(LAB["hv1"], "flag svm\ny 10.0.0.1\nn 10.0.0.2").reached == {"10.0.0.1": True, "10.0.0.2": False}
    assert len(verify._told(LAB["hv1"], "y a\n" * (1 << 20)).reached) <= 2


@pytest.mark.parametrize(
    "said", ["", "nan nan", "inf 1", f"1 {'9' * 400}", f"{'9' * 400} 1", "1", "1 2 3", "a b", "-1 5"]
)
def test_a_wait_takes_no_number_that_no_kernel_prints(said: str) -> None:
    assert wait.parse(said) is None


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999", "9" * 400, "", "x", "٣"])
def test_no_number_of_a_starved_host_is_an_error(word: str) -> None:
    lines = [f"{k} some x x avg60={word}" for k in ("cpu", "memory", "io")]
    lines += [f"cpu {' '.join([word] * 10)}"] * 2 + [f"load {word} 1", f"cpus {word}"]
    assert starvation.parse("\n".join(lines)).causes() == []


def test_consoles_that_are_listed_are_consoles() -> None:
    odd = ["", "x", "console.log", "console.log 1", "../../etc/shadow 1 1", "console.log nan nan", "console.log 1 1 1"]
    odd += [f"console.{'9' * 5000}.log 1 1", f"console.log {'9' * 5000} 1", "console.٣.log 1 1", "-f 1 1"]
    assert logs.parse("\n".join(odd), "/m/x") == ()
    assert [boot.file for boot in logs.parse("console.log 5 7\nconsole.1.log 4 6\n", "/m/x")] == [
        "/m/x/console.1.log",
        "/m/x/console.log",
    ]


def test_a_capture_with_times_that_no_file_holds_is_none() -> None:
    latest = (1 << 32) - 1
    frame = struct.pack("<IIII", latest, latest, 4, 4) + b"abcd"
    with pytest.raises(ValueError, match="parts of a second"):
        list(pcap.Records().feed(pcap.HEADER + frame))
    last = struct.pack("<IIII", latest, 999_999, 4, 4) + b"abcd"
    for at, data in pcap.Records().feed(pcap.HEADER + last):
        assert [each for _, each in pcap.Records().feed(pcap.HEADER + pcap.record(at, data))] == [b"abcd"]
    assert pcap.record(1e300, b"")


class _Silent:
    """A command that says nothing and does not end."""

    over = False

    async def write(self, data: bytes) -> None: ...

    def close_input(self) -> None: ...

    async def chunks(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def result(self, input: bytes | None = None) -> Result:
        raise AssertionError("it does not end")


class _SilentHost(FakeHost):
    @asynccontextmanager
    async def _start(self, argv: Sequence[str]) -> AsyncIterator[_Silent]:
        yield _Silent()


async def test_a_capture_that_never_begins_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "BEGINS", 0.05)
    host = _SilentHost(up(LAB), "pair", "hv1")
    with pytest.raises(Overdue, match="^hv1 did not begin to capture hv1/web within"):  # noqa: RUF043
        async with capture._read(host, "hv1/web", ("sh",)):
            raise AssertionError("nothing was captured")


async def test_a_setup_that_says_nothing_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_setup, "SILENT", 0.05)
    machine = replace(LAB["hv1"].machine, setup=Setup(commands=("true",)))
    spec = replace(LAB["hv1"], machine=machine, setup=("s1",))
    host = _SilentHost(up(LAB), "pair", "hv1")
    with pytest.raises(Overdue, match="Command 1 of 1 in the setup of hv1 said nothing for"):
        await machine_setup.set_up(host, spec, lambda _: None)


async def test_a_console_that_never_ends_keeps_no_search_at_work(tmp_path: Path) -> None:
    """Its hypervisor says that there is more, whatever was read; on this computer its guest writes it meanwhile."""

    class Endless(FakeHost):
        asked = 0

        async def run(self, argv: Sequence[str], **_: Any) -> Result:
            self.asked += 1
            assert self.asked < 1000
            data = f"{argv[-1]}\n".encode() + b"\n" * readiness.PART
            return Result(tuple(argv), 0, data, b"")

    ready = Ready("console", pattern="login:")
    host = Endless(up(LAB), "pair", "hv1")
    paths = Place("/labs/pair").of("hv1/web")
    assert not await readiness.Knocking(host, paths, "hv1/web", ready).up()
    assert not await readiness.is_up(readiness.Knocking(host, paths, "hv1/web", ready))
    here = Place(str(tmp_path)).of("web")
    Path(here.root).mkdir(parents=True)
    Path(here.log).symlink_to("/dev/zero")
    assert not readiness.is_up_here(here, ready, 1.0)


@pytest.mark.parametrize("path", ["", "?", "hv1/", "hv1/../x", "/hv1", "../x", "victim\n", "Hv1", "x" * 100])
def test_a_guest_of_a_proxmox_ve_is_no_machine_by_a_path_that_is_none(path: str) -> None:
    line = tags.PREFIX + json.dumps({"lab": "pair", "path": path, "vmid": 100})
    assert tags.read(line, 100) is None
    assert tags.read(line.replace(json.dumps(path), '"hv1"'), 100) is not None


@pytest.mark.parametrize(("parent", "mine"), [("", ["web"]), ("hv1", ["hv1/web"]), ("hv1/deep", ["hv1/deep/web"])])
def test_a_guest_belongs_to_what_it_is_right_inside_of_and_to_nothing_else(parent: str, mine: list[str]) -> None:
    paths = ("web", "hv1/web", "hv2/web", "hv1/deep/web", "web/hv1/web")
    marks = [tags.read(tags.PREFIX + json.dumps({"lab": "pair", "path": path, "vmid": 100}), 100) for path in paths]
    names = tags.LabNames("pair", parent=parent)
    assert [mark.path for mark in marks if mark and names.owns(mark)] == mine


OWN = ["127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1"]
OWN += ["2001:db8::1%eth0", "2001:db8::1%x\n    ProxyCommand touch /tmp/owned"]


@pytest.mark.parametrize("address", [*OWN, "x", "1" * 5000], ids=range(len(OWN) + 2))
def test_an_address_that_a_guest_says_never_means_this_machine_or_a_group(address: str) -> None:
    assert not agent._reaches(address)
    assert agent._reaches("192.0.2.7")


async def test_of_the_addresses_that_a_guest_says_a_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def takes(address: str, port: int) -> bool:
        tried.append(address)
        return False

    async def outside() -> tuple[str, ...]:
        return tuple(f"192.0.2.{number}" for number in range(1, 200))

    monkeypatch.setattr(connections, "_takes", takes)
    door = connections.Door(SimpleNamespace(), "pve1", 100)
    monkeypatch.setattr(door, "outside", outside)
    assert await door.open(22) == []
    assert len(tried) == connections.MOST


async def test_a_qemu_that_says_it_has_no_cpu_shows_no_virtualization() -> None:
    class Without(qmp.Monitor):
        def __init__(self) -> None: ...

        async def execute(self, command: str, /, **arguments: Any) -> Any:
            return qmp._answered([], "hv1/web", command)

    assert await Without().virtualization() == ""
