"""The doctor's surgery when something goes wrong or it is interrupted. On fake roots (`fake_root`)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fake_root import FakeRoot, Tree, fix, grub, record, undo
from nestlab.base.errors import LabError, Unreachable
from nestlab.doctor.change_record import Original, Record, Task
from nestlab.doctor.finding import Reload, Run, SetParameter, Write
from nestlab.doctor.remedies import HEADER, OWN, RECORD, remedies
from nestlab.hosts.host import Result
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import SshHost
from sshd import PROGRAM, sshd
from waiting import LONG


@pytest.fixture
def amd(tmp_path: Path) -> FakeRoot:
    """nested off, though nothing says so."""
    root = FakeRoot(tmp_path / "host")
    root.load("nested=0")
    return root


def without_record(tree: Tree) -> Tree:
    return {path: each for path, each in tree.items() if not path.startswith("var/lib/nestlab")}


# -- what goes wrong


async def test_without_root_nothing_is_begun(amd: FakeRoot) -> None:
    found, before = remedies(amd.facts()), amd.tree()
    amd.env["FAKE_ID"] = "1000"
    with pytest.raises(LabError, match="Only root"):
        await amd.surgeon().fix(found)
    with pytest.raises(LabError, match="Only root"):
        await undo(amd)
    assert amd.tree() == before


async def test_without_modprobe_nothing_is_begun(amd: FakeRoot) -> None:
    found, before = remedies(amd.facts()), amd.tree()
    (amd.folder / "bin/modprobe").unlink()
    if shutil.which("modprobe", path=amd.env["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin"):
        pytest.skip("this machine has a modprobe of its own")
    with pytest.raises(LabError, match="no modprobe"):
        await amd.surgeon().fix(found)
    assert amd.tree() == before


class Altered(LocalHost):
    """Changes what commands say, or does something before each."""

    def __init__(self, change: Callable[[Result], Result]) -> None:
        super().__init__()
        self.change = change

    async def run(self, argv: Sequence[str], **more: Any) -> Result:
        return self.change(await super().run(argv, **more))


async def test_a_read_only_etc_is_said_before_anything_is_begun(amd: FakeRoot) -> None:
    amd.write("/etc/modprobe.d/a.conf", "")
    before = amd.tree()

    def readonly(result: Result) -> Result:
        said = result.stdout.replace(b" yes " + str(amd.at("/etc")).encode(), b" no " + str(amd.at("/etc")).encode())
        return Result(result.argv, result.status, said, result.stderr)

    with pytest.raises(LabError, match=r"^/etc/modprobe\.d cannot be written"):
        await fix(amd, host=Altered(readonly))
    assert amd.tree() == before


async def test_a_module_that_came_into_use_meanwhile_is_left(amd: FakeRoot) -> None:
    found = remedies(amd.facts())
    amd.use(1)
    with pytest.raises(LabError, match="kvm_amd came into use meanwhile") as error:
        await amd.surgeon().fix(found)
    assert "reboot to finish" in error.value.hint
    assert amd.commands() == []
    assert (await fix(amd)).staged
    amd.use(0)
    assert (await fix(amd)).changed == ("kvm_amd was loaded again, with nested=1.",)


async def test_a_temporary_reload_that_comes_too_late_leaves_no_trace(amd: FakeRoot) -> None:
    found = remedies(amd.facts(), temporary=True)
    amd.use(1)
    before = amd.tree()
    with pytest.raises(LabError, match="came into use"):
        await amd.surgeon().fix(found)
    assert amd.tree() == before


async def test_a_module_that_fails_to_load_once_is_tried_again(amd: FakeRoot) -> None:
    found = remedies(amd.facts())
    Path(f"{amd.log}.fail").write_text("x\n")
    assert "kvm_amd was loaded again, with nested=1." in (await amd.surgeon().fix(found)).changed


@pytest.mark.parametrize("failures", [2, 3, 4])
async def test_a_module_that_fails_to_load_is_loaded_as_it_was(amd: FakeRoot, failures: int) -> None:
    before, found = amd.tree(), remedies(amd.facts())
    Path(f"{amd.log}.fail").write_text("x\n" * failures)
    with pytest.raises(LabError, match=r"(but not with the new setting|was loaded without): nested=0") as error:
        await amd.surgeon().fix(found)
    assert error.value.detail.count("could not insert") == failures
    assert amd.parameter("kvm_amd.nested") == "0"
    await undo(amd)
    assert amd.tree() == before


async def test_a_module_that_loads_only_without_its_options_is_not_to_meet_a_reboot(amd: FakeRoot) -> None:
    found = remedies(amd.facts())
    Path(f"{amd.log}.fail").write_text("x\n" * 3)
    with pytest.raises(LabError, match=r"does not load with what modprobe\.d says") as error:
        await amd.surgeon().fix(found)
    assert "before the next reboot, or there is no KVM then" in error.value.hint


async def test_a_lost_module_is_an_error_and_the_next_fix_loads_it(amd: FakeRoot) -> None:
    before, found = amd.tree(), remedies(amd.facts())
    (amd.folder / "bin/insmod").write_text("#!/bin/sh\nexit 1\n")
    Path(f"{amd.log}.fail").write_text("x\n" * 6)
    with pytest.raises(LabError, match="there is no KVM now") as error:
        await amd.surgeon().fix(found)
    assert "could not insert" in error.value.detail
    Path(f"{amd.log}.fail").write_text("")
    assert (await fix(amd)).changed == ("kvm_amd was loaded again, with nested=1.",)
    await undo(amd)
    assert amd.tree() == before


async def test_a_record_that_cannot_be_understood_is_an_error(amd: FakeRoot) -> None:
    amd.write(RECORD, "")
    with pytest.raises(LabError, match="cannot be understood"):
        await undo(amd)
    amd.write(RECORD, '{"version": 0}')
    with pytest.raises(LabError, match="cannot be understood: its version is 0"):
        await undo(amd)
    amd.write(RECORD, '{"version": 1}')
    with pytest.raises(LabError, match="lacks or misuses"):
        await fix(amd)


def test_a_record_survives_json() -> None:
    kept = Original(None, wrote=(b"\xff", None), mixed=True, open=True)
    changes = (Write("/a", "b", None, 0o600), SetParameter("a", "b", "c", "d"), Reload("a", ("b",), "c"), Run(("a",)))
    whole = Record("b", ("/a",), {"/a": kept}, {"a.b": "c"}, {"a": "0"}, tuple(Task(each) for each in changes), True)
    assert Record.from_json(whole.to_json()) == whole
    with pytest.raises(ValueError, match="kind"):
        Record.from_json(json.dumps({**json.loads(whole.to_json()), "tasks": [{"kind": "X", "change": {}}]}))


async def test_a_reload_of_an_earlier_boot_is_not_waited_for(amd: FakeRoot) -> None:
    amd.write("/var/lib/nestlab/doctor/reloading.zeroth", f"{os.getpid()}\n")
    amd.write("/var/lib/nestlab/doctor/parameters.zeroth", "halt_poll_ns 7\n")
    started = time.monotonic()
    await fix(amd)
    assert time.monotonic() - started < 10
    assert amd.parameter("kvm.halt_poll_ns") == "200000"
    await undo(amd)
    assert not amd.at("/var/lib/nestlab").exists()


# -- interrupted


class Interrupted(Exception):
    pass


class Fragile(LocalHost):
    """Breaks before its effect number `left`, and from then on."""

    def __init__(self, left: int, error: Callable[[], Exception] = Interrupted) -> None:
        super().__init__()
        self.left = left
        self.error = error

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error()

    async def run(self, argv: Sequence[str], **more: Any) -> Result:
        self._count()
        return await super().run(argv, **more)

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._count()
        await super().write(path, data, mode=mode)

    async def write_many(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        raise NotImplementedError


def loadable(folder: Path) -> FakeRoot:
    root = FakeRoot(folder)
    root.write(OWN, "# mine\n", 0o600)
    root.load("nested=0")
    return root


@pytest.mark.parametrize("make", [loadable, grub])
async def test_interrupted_anywhere_the_next_fix_finishes_and_undo_restores(
    tmp_path: Path, make: Callable[[Path], FakeRoot]
) -> None:
    whole = make(tmp_path / "whole")
    before = whole.tree()
    await fix(whole, "nested", "ignore-msrs")
    after = without_record(whole.tree())
    for left in range(100):
        root = make(tmp_path / f"{left}")
        assert root.tree() == before
        try:
            await fix(root, "nested", "ignore-msrs", host=Fragile(left))
        except Interrupted:
            await fix(root, "nested", "ignore-msrs")
            assert without_record(root.tree()) == after, left
            assert await record(root) is not None
            assert (await record(root) or Record()).unfinished == ()
            await undo(root)
            assert root.tree() == before, left
        else:
            break
    assert left > 8


@pytest.mark.parametrize("make", [loadable, grub])
async def test_a_fix_interrupted_anywhere_is_undone_and_so_is_an_interrupted_undo(
    tmp_path: Path, make: Callable[[Path], FakeRoot]
) -> None:
    root = make(tmp_path / "host")
    before = root.tree()
    left = finished = 0
    while finished < 2:
        finished = 0
        try:
            await fix(root, "nested", "ignore-msrs", host=Fragile(left))
            finished += 1
        except Interrupted:
            pass
        try:
            await undo(root, Fragile(left))
            finished += 1
        except Interrupted:
            await undo(root)
        assert root.tree() == before, left
        left += 1
    assert left > 8


async def test_a_host_that_is_lost_in_the_middle_says_how_to_go_on(amd: FakeRoot) -> None:
    with pytest.raises(Unreachable) as error:
        await fix(amd, host=Fragile(4, lambda: Unreachable("hv1 does not answer.", hint="Is it up?")))
    assert error.value.what == "hv1 does not answer."
    assert "run the same command again" in error.value.hint


CHILD = """
import asyncio, os, sys
from nestlab.doctor.surgery import Surgeon
from nestlab.doctor.finding import Reload, Remedy
from nestlab.hosts.local import LocalHost
remedy = Remedy("nested", (Reload("kvm_amd", ("nested=1",), "0"),))
asyncio.run(Surgeon(LocalHost(), print, sys.argv[1], dict(os.environ)).fix([remedy]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_module_that_is_being_reloaded_is_loaded_though_nestlab_is_killed(
    amd: FakeRoot, number: signal.Signals
) -> None:
    amd.env["FAKE_SLOW"] = "0.6"
    child = subprocess.Popen(  # noqa: ASYNC220 (nothing else is to go on)
        [sys.executable, "-c", CHILD, str(amd.root)],
        env={**os.environ, **amd.env},
        start_new_session=True,
    )
    until(lambda: "modprobe -r kvm_amd" in amd.commands())
    os.killpg(child.pid, number)
    child.wait()
    amd.env["FAKE_SLOW"] = ""
    # At once, while the module is still being reloaded: the next run waits for that.
    assert (await fix(amd, temporary=True)).changed == ()
    assert amd.parameter("kvm_amd.nested") == "1"
    assert amd.commands().count("modprobe -r kvm_amd") == 1
    assert (await record(amd) or Record()).unfinished == ()
    await undo(amd)
    assert amd.parameter("kvm_amd.nested") == "0"
    assert not amd.at("/var/lib/nestlab").exists()


@pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")
async def test_over_ssh_a_module_is_loaded_though_the_connection_is_lost(amd: FakeRoot, tmp_path: Path) -> None:
    before = amd.tree()
    (tmp_path / "sshd").mkdir()
    with sshd(tmp_path / "sshd") as server:
        host = SshHost("hv1", lambda _: server.connect())
        amd.env["FAKE_SLOW"] = "0.6"
        fixing = asyncio.create_task(amd.surgeon(host).fix(remedies(amd.facts())))
        await asyncio.to_thread(until, lambda: "modprobe -r kvm_amd" in amd.commands())
        (await host.connect()).asyncssh.abort()
        with pytest.raises(Unreachable) as error:
            await fixing
        assert "run the same command again" in error.value.hint
        amd.env["FAKE_SLOW"] = ""
        assert (await amd.surgeon(host).fix(())).changed == ()
        assert (amd.parameter("kvm_amd.nested"), amd.commands().count("modprobe -r kvm_amd")) == ("1", 1)
        await amd.surgeon(host).undo()
        await host.close()
    assert amd.tree() == before


async def test_another_wish_after_an_interruption_is_done_as_it_is_wished_now(amd: FakeRoot) -> None:
    before = amd.tree()
    with pytest.raises(Interrupted):
        await fix(amd, "nested", host=Fragile(3))
    assert (await record(amd) or Record()).unfinished
    await fix(amd, "ignore-msrs")
    assert (amd.parameter("kvm.ignore_msrs"), amd.parameter("kvm_amd.nested")) == ("Y", "0")
    assert amd.read(OWN) == f"{HEADER}options kvm ignore_msrs=1\n"
    await fix(amd, "nested")
    assert amd.parameter("kvm_amd.nested") == "1"
    await undo(amd)
    assert amd.tree() == before


async def test_what_an_interrupted_write_left_is_cleaned_up(amd: FakeRoot) -> None:
    amd.at("/var/lib/nestlab/doctor").mkdir(parents=True)
    amd.write("/var/lib/nestlab/doctor/record.json.0badcafe.new", "{")
    await fix(amd)
    amd.write(f"{OWN}.0badcafe.new", "opt")
    await undo(amd)
    assert not amd.at("/etc").exists()
    assert not amd.at("/var/lib/nestlab").exists()
    amd.at("/var/lib/nestlab/doctor").mkdir(parents=True)
    await undo(amd)
    assert not amd.at("/var/lib/nestlab").exists()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
