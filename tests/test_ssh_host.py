"""A lab on a host that ssh reaches, as far as it goes without booting anything: a real sshd, a real switch there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.ssh_host import unused
from nestlab.engines.ssh_host.engine import SshHostEngine
from nestlab.engines.ssh_host.uploads import Uploads
from nestlab.engines.ssh_host.wires import wires
from nestlab.home.content_digests import ContentDigests
from nestlab.home.directories import Home, LabHome
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import at
from nestlab.lab.faults import Impairment
from nestlab.lab.places import Ssh
from nestlab.verbs import local, ssh_platform
from remotes import known_server, needs_sshd, url
from sshd import Sshd

pytestmark = needs_sshd


@dataclass
class Far:
    """`home`: of nestlab, on the far side of the sshd."""

    server: Sshd
    folder: Path

    @property
    def home(self) -> Path:
        return self.server.folder / ".local/state/nestlab/hosted"

    def uploads(self, lab: str = "0123456789ab", name: str = "pair") -> Uploads:
        cache = self.folder / "cache"
        host = at(url(self.server), of_lab=True)
        return Uploads(host, name, lab, ContentDigests(cache), cache, lambda: None)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with known_server(tmp_path, monkeypatch) as server:
        yield Far(server, tmp_path)


async def test_a_file_is_sent_once_by_what_it_holds(far: Far) -> None:
    one, other = far.folder / "one.img", far.folder / "other.img"
    with one.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"in the middle")
    other.write_bytes(one.read_bytes()[: 1 << 20])
    said: list[str] = []
    uploads = far.uploads()
    try:
        await uploads.look()
        path = Path(await uploads.file(one, said.append))
        assert path.read_bytes() == one.read_bytes()
        assert path.stat().st_blocks * 512 < 1 << 20, "holes are holes there"
        assert path.stat().st_mode & 0o077 == 0
        assert len(said) == 1
        assert await uploads.file(one, said.append) == str(path)
        assert await uploads.file(other, said.append) != str(path)
    finally:
        await uploads.host.close()
    again = far.uploads("ba9876543210", "another")
    try:
        await again.look()
        before = len(said)
        assert await again.file(one, said.append) == str(path)
        assert len(said) == before, "another lab finds it there"
    finally:
        await again.host.close()
    assert {each.parent.name for each in far.home.glob("labs/*/uses/*")} == {"uses"}
    assert len(list(far.home.glob("labs/*"))) == 2
    assert far.home.stat().st_mode & 0o077 == 0


async def test_a_switch_serves_segments_there_until_the_last_one_goes(far: Far) -> None:
    uploads = far.uploads()
    try:
        await uploads.look()
        there = wires(uploads)
        assert await there.observe() == frozenset()
        await uploads.claim()
        await there.ensure(["lan", "wan"], uploads.host, {"lan": [20]})
        await there.ensure(["lan"], uploads.host, {})
        assert await there.observe() == {"lan", "wan"}
        await there.impair({"lan": {"": Impairment(0.01)}, "wan": {}})
        switch = far.home / "labs/0123456789ab/switch"
        assert (switch / "lan.20.sock").is_socket()
        pid = int((switch / "switch.pid").read_text())
        assert "nestlab-switch:pair" in Path(f"/proc/{pid}/cmdline").read_text()
        await there.remove("lan")
        await there.remove("wan")
        assert await there.observe() == frozenset()
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110 (it was told to quit, and nobody here is its parent)
            await asyncio.sleep(0.02)
        await uploads.leave()
        assert list((far.home / "labs").iterdir()) == []
    finally:
        await uploads.host.close()


async def test_what_nestlab_there_cannot_do_is_told_in_the_name_of_the_host(far: Far) -> None:
    uploads = far.uploads()
    try:
        await uploads.look()
        await uploads.claim()
        (far.home / "labs/0123456789ab/switch").write_text("in the way")
        with pytest.raises(LabError, match=r"127\.0\.0\.1"):
            await wires(uploads).ensure(["lan"], uploads.host, {})
    finally:
        await uploads.host.close()


async def test_a_host_without_a_new_python_is_refused_with_what_to_install(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nestlab.engines.ssh_host.survey.PYTHON", (99, 0))
    uploads = far.uploads()
    try:
        await uploads.look()
        with pytest.raises(LabError, match="has Python 3") as caught:
            uploads.needs()
        assert "apt-get install python3" in caught.value.hint
        with pytest.raises(LabError, match="has Python 3"):
            await wires(uploads).ensure(["lan"], uploads.host, {})
    finally:
        await uploads.host.close()
    assert not far.home.exists()


async def test_an_address_that_only_a_lab_file_names_is_asked_about_and_left_alone_until_then(far: Far) -> None:
    home = Home(far.folder / "state", far.folder / "cache")
    place, on, asked = LabHome("pair", far.folder / "state/labs/pair"), Ssh(url(far.server)), list[str]()

    def answer(question: str) -> bool:
        asked.append(question)
        return len(asked) > 1

    def platform(*, named: bool) -> ssh_platform.SshPlatform:
        return ssh_platform.platform(home, place, on, lambda _: pytest.fail("no engine"), named=named, ask=answer)

    for _ in range(2):
        first = platform(named=False)
        if not asked:
            with pytest.raises(LabError, match="nothing was sent there"):
                await first.enter()
            assert first.reached.path == ""
        else:
            await first.enter()
        await first.close()
    third = platform(named=False)
    await third.enter()
    await third.close()
    assert len(asked) == 2, "what was agreed to once is not asked again"


async def test_an_engine_there_sees_nothing_and_makes_nothing_before_its_first_step(far: Far) -> None:
    home = Home(far.folder / "state", far.folder / "cache")
    site = local.site(home)
    place = home.lab("pair")
    platform = site.platform(place, Ssh(url(far.server)), named=True)
    try:
        await platform.enter()
        engine = platform.on("pair", platform.host)
        assert isinstance(engine, SshHostEngine)
        seen = await engine.observe()
        assert not seen.machines
        assert not seen.links
        assert list(await platform.routes()) == list((await LocalHost().facts()).routes)
        assert not far.home.exists()
        assert not (place.root / "ssh-host.json").exists()
        await engine.close()
    finally:
        await platform.close()
    assert list(place.root.iterdir()) == []


async def test_what_no_lab_there_uses_is_found_and_removed_and_nothing_else(far: Far) -> None:
    one, other = far.folder / "one.img", far.folder / "other.img"
    one.write_bytes(b"1" * 9000)
    other.write_bytes(b"2" * 9000)
    uploads, second = far.uploads(), far.uploads("ba9876543210", "another")
    try:
        for each, file in ((uploads, one), (second, other)):
            await each.look()
            await each.file(file, lambda _: None)
        await uploads.program("observe")
        assert await unused.unused(uploads.host) == ()
        await uploads.leave()
        (gone,) = await unused.unused(second.host)
        assert (far.home / gone.name / "one.img").read_bytes() == one.read_bytes()
        (far.home / "labs/ba9876543210/uses" / gone.name.removeprefix("files/")).touch()
        await unused.remove(second.host, [gone])
        assert (far.home / gone.name).exists(), "a lab took it meanwhile"
        await second.leave()
        found = await unused.unused(second.host)
        assert {each.name.partition("/")[0] for each in found} == {"files", "lib"}
        await unused.remove(second.host, found)
        assert list((far.home / "files").iterdir()) == list((far.home / "lib").iterdir()) == []
    finally:
        await uploads.host.close()
        await second.host.close()
