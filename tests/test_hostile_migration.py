"""Root in a hypervisor puts its own programs, and its own sshd, in the place of those that move a machine: nobody waits
for ever, its name is told, and nothing of the other hypervisor or of this computer is reached. At level 1, and at level
2 through the first."""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from blueprints import draft, guest, hypervisor
from liars import engine_on, up
from nestlab.base.errors import LabError, Overdue
from nestlab.engines.qemu import machine_files, mover, sparse_copy, step_time
from nestlab.engines.qemu.machine_files import Console, stream, whole
from nestlab.engines.qemu.migration_requests import Act
from nestlab.engines.qemu.mover import End, Mover
from nestlab.home import key_pairs
from nestlab.hosts.ssh import SshHost
from nestlab.lab.model import NO_IMAGE, Image
from nestlab.plan.room import NO_ROOM
from nestlab.plan.steps import Boot
from nestlab.testing.fake_engine import FakeHost
from nestlab.wire import ssh
from rooted import HANGS, Hypervisors, needs_sshd, program, rooted
from sshd import USER, Sshd, sshd
from test_carried import ATTACKS, DISK, _sent
from waiting import LONG, until

pytestmark = needs_sshd

LAB = draft("pair", hypervisor("hv1", guest("web")), hypervisor("hv2"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(params=[1, 2], ids=["level 1", "level 2"])
async def hypervisors(request: pytest.FixtureRequest, server: Sshd, tmp_path: Path) -> AsyncIterator[Hypervisors]:
    async with rooted(server, request.param, tmp_path) as found:
        yield found


def machine(folder: Path) -> Path:
    """A machine's directory with a disk and a console."""
    folder.mkdir()
    (folder / "disk.qcow2").write_bytes(DISK)
    (folder / "console.log").write_text("booting\n")
    (folder / "console.1.log").write_text("the boot before\n")
    return folder


def _quiet(_: str) -> None: ...


@pytest.mark.parametrize("name", ["tar", "sh"])
async def test_a_source_whose_programs_hang_is_named_and_nothing_is_left_of_what_came(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(machine_files, "SILENT", 1.0)
    one, other = machine(tmp_path / "one"), tmp_path / "other"
    other.mkdir()
    program(tmp_path / "hv1", name, HANGS)
    source, target = hypervisors("hv1"), hypervisors("hv2")
    with pytest.raises(Overdue, match=f"{source.path} did not go on for 1 s") as late:
        await asyncio.wait_for(whole(source, target, (str(one), str(other)), (), _quiet), LONG)
    assert late.value.hint
    assert "\n" not in late.value.what
    assert not (other / "disk.qcow2").exists()


@pytest.mark.parametrize("name", ["tar", "sh", "find", "mv", "head"])
async def test_a_target_whose_programs_hang_ends_the_copy_and_the_source_keeps_its_machine(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(machine_files, "SILENT", 1.0)
    one, other = machine(tmp_path / "one"), tmp_path / "other"
    (one / "tpm").mkdir()
    other.mkdir()
    program(tmp_path / "hv2", name, HANGS)
    with pytest.raises(Overdue) as late:
        await asyncio.wait_for(whole(hypervisors("hv1"), hypervisors("hv2"), (str(one), str(other)), (), _quiet), LONG)
    assert "\n" not in late.value.what
    assert (one / "disk.qcow2").read_bytes() == DISK
    assert not (other / "disk.qcow2").exists()


async def test_a_tar_of_its_own_reaches_nothing_of_the_other_hypervisor(
    hypervisors: Hypervisors, tmp_path: Path
) -> None:
    source, target = hypervisors("hv1"), hypervisors("hv2")
    one = machine(tmp_path / "one")
    for number, (what, attack) in enumerate(ATTACKS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        sent, there, victim, made = _sent(folder, attack)
        program(tmp_path / "hv1", "tar", f"exec cat '{sent}'")
        with pytest.raises(LabError):
            await whole(source, target, (str(one), str(there)), (), _quiet)
        assert (victim.read_text(), made.read_text()) == ("mine", "made there"), what
        assert sorted(each.name for each in there.iterdir()) == ["console.log", "made"], what


async def test_consoles_without_end_are_refused_at_a_bound(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file again and again fills no disk, so that nothing there ends it."""
    monkeypatch.setattr(machine_files, "LONGEST", 1 << 20)
    one, other = machine(tmp_path / "one"), machine(tmp_path / "other")
    (one / "console.2.log").write_bytes(b"x" * (1 << 18))
    with tarfile.open(tmp_path / "one.tar", "w") as tar:
        tar.add(one / "console.2.log", "console.2.log")
    with (tmp_path / "one.tar").open("r+b") as file:
        file.truncate((1 << 18) + 512)  # without its end
    program(tmp_path / "hv1", "tar", f"while cat '{tmp_path}/one.tar'; do :; done")
    source = hypervisors("hv1")
    console = Console(source, hypervisors("hv2"), str(one), str(other))
    with pytest.raises(LabError, match=f"{source.path} hands over more than 1M") as refused:
        async with asyncio.timeout(LONG), console.following():
            raise AssertionError
    assert f"Do not trust {source.path}" in refused.value.hint
    assert (other / "console.log").read_text() == "booting\n"


@pytest.mark.parametrize(("where", "name"), [("hv1", "stat"), ("hv2", "cat")])
async def test_a_console_that_neither_ends_nor_is_taken_keeps_no_migration_waiting(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    monkeypatch.setattr(machine_files, "ROUND", 0.5)
    one, other = machine(tmp_path / "one"), machine(tmp_path / "other")
    program(tmp_path / where, name, HANGS)
    console = Console(hypervisors("hv1"), hypervisors("hv2"), str(one), str(other))
    async with asyncio.timeout(LONG), console.following():
        await console.finish()


async def test_a_size_that_no_file_has_is_waited_for_no_longer(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_files, "ROUND", 0.5)
    one, other = machine(tmp_path / "one"), machine(tmp_path / "other")
    source, target = hypervisors("hv1"), hypervisors("hv2")
    for said in ("9" * 5000, "9" * 18, "-1", "x", "\x1b[2J", ""):
        program(tmp_path / "hv1", "stat", f"printf %s '{said}'")
        async with asyncio.timeout(LONG):
            console = Console(source, target, str(one), str(other))
            async with console.following():
                await console.finish()


async def test_what_they_say_when_they_fail_acts_on_no_terminal(hypervisors: Hypervisors, tmp_path: Path) -> None:
    one, other = machine(tmp_path / "one"), machine(tmp_path / "other")
    program(tmp_path / "hv1", "tar", "printf '\\033]0;evil\\007\\nnestlab: all is well\\n' >&2; exit 2")
    with pytest.raises(LabError) as failed:
        await whole(hypervisors("hv1"), hypervisors("hv2"), (str(one), str(other)), (), _quiet)
    assert "\x1b" not in f"{failed.value.what}{failed.value.detail}"
    assert "evil" in failed.value.detail


async def test_a_receiver_that_reads_nothing_is_named(
    hypervisors: Hypervisors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_files, "SILENT", 1.0)
    source, target = hypervisors("hv1"), hypervisors("hv2")
    with pytest.raises(Overdue, match="did not go on"):
        async with asyncio.timeout(LONG):
            await stream(source, ("cat", "/dev/zero"), target, ("sleep", "100000"))


@pytest.mark.parametrize("script", [HANGS, "cat >/dev/null; exec sleep 100000"])
async def test_a_hypervisor_that_is_given_an_image_and_does_not_take_it_is_named(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """As an installer's medium, or the image of a machine that is made there, is given."""
    monkeypatch.setattr(sparse_copy, "SILENCE", 0.5)
    (tmp_path / "image").write_bytes(b"x" * (8 << 20))
    program(tmp_path / "hv1", "python3", script)
    host = hypervisors("hv1")
    with pytest.raises(Overdue, match=f"{host.path} does not take the file image any more"):
        await asyncio.wait_for(sparse_copy.copy(tmp_path / "image", host, str(tmp_path / "there")), LONG)
    assert not (tmp_path / "there").exists()


async def test_a_hypervisor_that_ends_what_it_sends_and_goes_on_is_named(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_copy, "SILENCE", 0.5)
    program(tmp_path / "hv1", "python3", "exec sleep 100000 >&-")
    host = hypervisors("hv1")
    with pytest.raises(LabError) as told:
        await asyncio.wait_for(sparse_copy.fetch(host, "/x", tmp_path / "here", 1 << 20), LONG)
    assert host.path in told.value.what


async def test_a_hypervisor_that_is_to_receive_a_machine_and_hangs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(step_time.LIMITS, Boot, 0.05)

    class Hangs(FakeHost):
        async def run(self, argv: Sequence[str], **how: object) -> Any:
            await asyncio.Event().wait()

    lab = draft("pair", hypervisor("hv1", replace(guest("web"), image=Image(NO_IMAGE))))
    engine = engine_on(Hangs(up(lab), "pair", "hv1"), "pair", tmp_path)
    with pytest.raises(Overdue, match=r"^hv1 did not boot hv1/web within"):
        await asyncio.wait_for(engine.receive(lab["hv1/web"], lab, NO_ROOM, _quiet), LONG)


# -- its sshd --------------------------------------------------------------------------------------------------------


class Hostile(asyncssh.SSHServer):
    """An sshd that lets everybody in, runs what it is asked to, and forwards nothing. `forwards`: how it answers who
    wants a socket there; `there`: the connections that it has."""

    there: list[asyncssh.SSHServerConnection]
    forwards: Callable[[], Any] = staticmethod(lambda: False)

    def __init__(self) -> None:
        self._own: Any = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.there.append(conn)

    def begin_auth(self, username: str) -> bool:
        return False

    def unix_server_requested(self, listen_path: str) -> Any:
        return self.forwards()


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    there = await asyncio.create_subprocess_shell(
        process.command or "true", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await there.communicate()
    process.stdout.write(out)
    process.exit(there.returncode or 0)


@asynccontextmanager
async def hostile(tmp_path: Path, forwards: Callable[[], Any]) -> AsyncIterator[tuple[SshHost, list[Any]]]:
    """A hypervisor with such an sshd."""
    pair, client = key_pairs.generate("host"), tmp_path / "id"
    client.touch(0o600)
    client.write_text(key_pairs.generate("client").private)
    there: list[Any] = []
    kind = type("Mine", (Hostile,), {"there": there, "forwards": staticmethod(forwards)})
    key = asyncssh.import_private_key(pair.private)
    made = await asyncssh.create_server(
        kind, "127.0.0.1", 0, server_host_keys=[key], process_factory=_run, encoding=None
    )
    port = made.sockets[0].getsockname()[1]

    async def connect(_: float) -> ssh.Connection:
        return await ssh.connect("127.0.0.1", port, user=USER, key=client, host_key=pair.public, where="hv1")

    host = SshHost("hv1", connect)
    try:
        yield host, there
    finally:
        await host.close()
        made.close()


async def test_an_sshd_that_never_says_whether_it_joins_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "JOINED", 3.0)

    async def never() -> bool:
        await asyncio.Event().wait()
        return False

    async def keep(_: object) -> None: ...

    async with hostile(tmp_path, never) as (host, _):
        source = End("hv1/web", engine_on(host, "pair", tmp_path / "1"), LAB)
        async with asyncio.timeout(LONG), Mover(source, source, keep, _quiet) as performer:
            with pytest.raises(Overdue, match=r"hv1 and hv1 could not be joined for hv1/web within 3 s"):
                await performer._answer(Act("join", "target"))


async def test_an_sshd_opens_no_way_into_this_computer_that_it_was_not_given(tmp_path: Path) -> None:
    """It may open channels to whoever logged in there (RFC 4254, 7.2): for what was asked of it, and nothing else."""
    reached: list[str] = []

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("socket")
        writer.close()

    secret, given = tmp_path / "secret", tmp_path / "given"
    private = await asyncio.start_unix_server(listening, secret)
    public = await asyncio.start_unix_server(listening, given)
    tcp = await asyncio.start_server(listening, "127.0.0.1", 0)
    port = tcp.sockets[0].getsockname()[1]
    async with hostile(tmp_path, lambda: True) as (host, there):
        connection = await host.connect()
        async with connection.back(str(tmp_path / "moves"), str(given)):
            [server] = there
            attempts: Mapping[str, Callable[[], Any]] = {
                "another socket": lambda: server.open_unix_connection(str(secret)),
                "that socket by its name here": lambda: server.open_unix_connection(str(given)),
                "a port of this computer": lambda: server.open_connection("127.0.0.1", port),
                "its agent": lambda: server.open_agent_connection(),
                "a graphical session": lambda: server.create_x11_connection(asyncssh.SSHTCPSession, "127.0.0.1", 6000),
            }
            for what, attempt in attempts.items():
                with contextlib.suppress(asyncssh.Error, OSError, AttributeError, ValueError):
                    async with asyncio.timeout(LONG):
                        await attempt()
                        raise AssertionError(f"it reached {what}")
            assert reached == []
            _, writer = await server.open_unix_connection(str(tmp_path / "moves"))
            writer.close()
            await until(lambda: reached)
        reached.clear()
        await host.close()
        with pytest.raises((asyncssh.Error, OSError)):
            await server.open_unix_connection(str(tmp_path / "moves"))
        assert reached == []
    for each in (private, public, tcp):
        each.close()
