"""Copying to and from a host, by GNU's tar and busybox's."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

import leaks
from nestlab.base.errors import LabError
from nestlab.hosts import archive, copy
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import inside
from nestlab.hosts.unpack import Unpacking
from nestlab.wire import proc
from nestlab.wire.result import Running
from sshd import PROGRAM, USER, sshd
from waiting import until

BUSYBOX = shutil.which("busybox")
APPLETS: tuple[str, ...] = (
    "sh",
    "tar",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "dirname",
    "basename",
    "readlink",
    "chmod",
    "stat",
    "touch",
    "sleep",
)
APPLETS += ("du", "cat")


class Busybox(LocalHost):
    """This machine as if it had nothing but busybox."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def start(self, argv: Sequence[str]) -> AbstractAsyncContextManager[Running]:
        return proc.start([str(self._folder / "sh"), *argv[1:]], env={"PATH": str(self._folder)})


@pytest.fixture(params=["local", "busybox", "ssh"])
async def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    with contextlib.ExitStack() as stack:
        chosen: Host = LocalHost()
        if request.param == "busybox":
            if BUSYBOX is None:
                pytest.skip("needs busybox")
            for name in APPLETS:
                (folder / name).symlink_to(BUSYBOX)
            chosen = Busybox(folder)
        elif request.param == "ssh":
            if PROGRAM is None:
                pytest.skip("needs an sshd")
            server = stack.enter_context(sshd(folder))
            key = server.host.public
            chosen = inside(chosen, "hv1", server.port, user=USER, key=server.key, host_key=key)
        yield chosen
        await chosen.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with one of everything that is copied."""
    root = tmp_path / "a tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(os.urandom(300000))
    (root / "file").chmod(0o640)
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o755)
    (root / "sub" / ("long" * 50)).write_text("long")
    (root / "sub" / "-dash 'ä").write_text("odd")
    (root / "link").symlink_to("../elsewhere")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "hard").hardlink_to(root / "script")
    (root / "sub").chmod(0o710)
    os.utime(root / "file", (1000000000, 1000000000))
    return root


def picture(root: Path) -> dict[str, object]:
    """All that is to be the same in a copy."""
    found: dict[str, object] = {}
    for each in [root, *sorted(root.rglob("*"))]:
        name = str(each.relative_to(root))
        if each.is_symlink():
            found[name] = str(each.readlink())
        elif each.is_dir():
            found[name] = oct(each.stat().st_mode)
        else:
            found[name] = (oct(each.stat().st_mode), int(each.stat().st_mtime), each.read_bytes())
    return found


async def go(way: str, host: Host, source: str, target: str) -> None:
    """Copy either way; both ends are this machine, so that the rules can be compared."""
    if way == "up":
        await copy.upload(source, host, target)
    else:
        await copy.download(host, source, target)


both = pytest.mark.parametrize("way", ["up", "down"])


@both
async def test_a_directory_becomes_what_was_not_there(host: Host, tree: Path, tmp_path: Path, way: str) -> None:
    await go(way, host, str(tree), f"{tmp_path}/new")
    assert picture(tmp_path / "new") == picture(tree)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a tree", "new"]
    assert (tmp_path / "new" / "hard").stat().st_ino == (tmp_path / "new" / "script").stat().st_ino


@both
async def test_a_directory_that_exists_receives_it_under_its_name(
    host: Host, tree: Path, tmp_path: Path, way: str
) -> None:
    (tmp_path / "there").mkdir()
    for slash in ("", "/"):
        await go(way, host, f"{tree}{slash}", f"{tmp_path}/there{slash}")
        assert picture(tmp_path / "there" / "a tree") == picture(tree)
    await go(way, host, f"{tree}/file", f"{tmp_path}/there")
    assert (tmp_path / "there" / "file").stat().st_mode & 0o777 == 0o640


@both
async def test_a_slash_after_what_is_not_there_is_right_for_a_directory(
    host: Host, tree: Path, tmp_path: Path, way: str
) -> None:
    for source, target in ((f"{tree}", "new/"), (f"{tree}/", "other//"), (f"{tree}/.", "contents/")):
        await go(way, host, source, f"{tmp_path}/{target}")
        assert picture(tmp_path / target) == picture(tree)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a tree", "contents", "new", "other"]


@both
async def test_the_contents_of_a_directory_go_where_they_are_meant_to(
    host: Host, tree: Path, tmp_path: Path, way: str
) -> None:
    await go(way, host, f"{tree}/.", f"{tmp_path}/new")
    assert picture(tmp_path / "new") == picture(tree)


@both
async def test_a_file_replaces_a_file_and_takes_its_name(host: Host, tree: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "target").write_text("old")
    await go(way, host, f"{tree}/file", f"{tmp_path}/target")
    assert (tmp_path / "target").read_bytes() == (tree / "file").read_bytes()
    await go(way, host, f"{tree}/sub/-dash 'ä", f"{tmp_path}/-x y")
    assert (tmp_path / "-x y").read_text() == "odd"


@both
async def test_a_name_that_is_not_utf8_is_kept(host: Host, tmp_path: Path, way: str) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / name).write_text("odd")
    for each in ("there", "directory"):
        (tmp_path / each).mkdir()
    (tmp_path / "directory" / name).write_text("inside")
    await go(way, host, f"{tmp_path}/{name}", f"{tmp_path}/there/")
    await go(way, host, f"{tmp_path}/directory", f"{tmp_path}/{name}-copy")
    assert (tmp_path / "there" / name).read_text() == "odd"
    assert (tmp_path / f"{name}-copy" / name).read_text() == "inside"
    with pytest.raises(LabError):
        await go(way, host, f"{tmp_path}/{name}", f"{tmp_path}/{name}-none/")


@both
async def test_a_link_as_the_source_is_followed_and_as_the_target_too(
    host: Host, tree: Path, tmp_path: Path, way: str
) -> None:
    (tmp_path / "from").symlink_to(tree / "file")
    (tmp_path / "real").write_text("old")
    (tmp_path / "to").symlink_to("real")
    await go(way, host, f"{tmp_path}/from", f"{tmp_path}/to")
    assert (tmp_path / "to").is_symlink()
    assert (tmp_path / "real").read_bytes() == (tree / "file").read_bytes()
    (tmp_path / "there").mkdir()
    await go(way, host, f"{tmp_path}/from", f"{tmp_path}/there")
    assert not (tmp_path / "there" / "from").is_symlink()


@both
async def test_a_link_that_leads_nowhere_is_told_as_that(host: Host, tmp_path: Path, way: str) -> None:
    (tmp_path / "dangling").symlink_to("gone")
    with pytest.raises(LabError, match="leads nowhere") as caught:
        await go(way, host, f"{tmp_path}/dangling", f"{tmp_path}/new")
    assert "leads nowhere: to gone" in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["dangling"]


@pytest.mark.parametrize("name", ["circle", "x" * 300])
async def test_a_source_that_cannot_be_looked_at_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(LabError, match="cannot be read: ") as caught:
        await copy.upload(f"{tmp_path}/{name}", LocalHost(), f"{tmp_path}/new")
    assert caught.value.hint


@both
async def test_what_cannot_be_is_refused_and_changes_nothing(host: Host, tree: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "target").write_text("old")
    os.mkfifo(tmp_path / "fifo")
    for source, target in (
        (f"{tmp_path}/missing", f"{tmp_path}/new"),
        (str(tree), f"{tmp_path}/target"),
        (str(tree), f"{tmp_path}/target/"),
        (str(tree), f"{tmp_path}/nowhere/new/"),
        (f"{tree}/file", f"{tmp_path}/nowhere/file"),
        (f"{tree}/file", f"{tmp_path}/nowhere/"),
        (f"{tree}/file", f"{tmp_path}/fifo"),
        (f"{tree}/file", f"{tmp_path}/target/below"),
    ):
        with pytest.raises(LabError) as caught:
            await go(way, host, source, target)
        assert caught.value.hint
    assert (tmp_path / "target").read_text() == "old"
    assert (tmp_path / "fifo").is_fifo()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a tree", "fifo", "target"]


@pytest.mark.parametrize("here", [True, False])
async def test_several_sources_want_a_directory_that_exists(host: Host, tree: Path, tmp_path: Path, here: bool) -> None:
    where = None if here else host
    (tmp_path / "link").symlink_to(tree)
    for good in (str(tree), f"{tree}/", f"{tmp_path}/link", ""):
        await copy.want_directory(good, where)
    for bad in (f"{tmp_path}/new", f"{tmp_path}/new/", f"{tree}/file", "-d"):
        with pytest.raises(LabError, match="is no directory") as caught:
            await copy.want_directory(bad, where)
        assert caught.value.hint
    assert not (tmp_path / "new").exists()


async def test_a_directory_that_forbids_writing_is_filled_all_the_same(host: Host, tree: Path, tmp_path: Path) -> None:
    (tree / "sub").chmod(0o550)
    await copy.download(host, str(tree), f"{tmp_path}/new")
    assert picture(tmp_path / "new") == picture(tree)


@both
async def test_a_big_file_passes_without_being_held_whole(host: Host, tmp_path: Path, way: str) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1 << 20) * 40)
    await go(way, host, f"{tmp_path}/big", f"{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()


@both
async def test_cancelling_leaves_nothing(host: Host, tmp_path: Path, way: str) -> None:
    (tmp_path / "big").write_bytes(bytes(200 << 20))
    await host.run(["true"])
    with leaks.none():
        task = asyncio.create_task(go(way, host, f"{tmp_path}/big", f"{tmp_path}/copy"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
    assert {each.name for each in tmp_path.iterdir()} <= {"big", "copy"}


@both
async def test_a_directory_that_is_there_keeps_its_other_files(
    host: Host, tree: Path, tmp_path: Path, way: str
) -> None:
    there = tmp_path / "there" / "a tree"
    (there / "sub").mkdir(parents=True)
    (there / "sub" / "other").write_text("stays")
    (there / "file").write_text("old")
    (there / ".hidden").write_text("stays")
    (tree / ".dot").write_text("dot")
    await go(way, host, str(tree), f"{tmp_path}/there")
    assert (there / "sub" / "other").read_text() == (there / ".hidden").read_text() == "stays"
    (there / "sub" / "other").unlink()
    (there / ".hidden").unlink()
    os.utime(there / "sub", (1, 1))
    assert picture(there) == picture(tree)
    assert oct((there / "sub").stat().st_mode) == "0o40710"


@both
async def test_a_directory_and_a_file_do_not_take_each_other_s_place(
    host: Host, tree: Path, tmp_path: Path, way: str
) -> None:
    for there in ("one/a tree", "two/a tree/file", "three/file"):
        (tmp_path / there).parent.mkdir(parents=True)
        if there == "one/a tree":
            (tmp_path / there).write_text("a file")
        else:
            (tmp_path / there).mkdir()
    for source, target in ((tree, "one"), (tree, "two"), (tree / "file", "three")):
        with pytest.raises(LabError):
            await go(way, host, str(source), f"{tmp_path}/{target}")
    assert (tmp_path / "one" / "a tree").read_text() == "a file"
    assert (tmp_path / "two" / "a tree" / "file").is_dir()
    assert (tmp_path / "three" / "file").is_dir()
    assert not [each for each in tmp_path.rglob("*") if each.name.endswith(".new")]


async def test_what_breaks_off_leaves_what_was_there(host: Host, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("old")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as made:
        made.addfile(member("x", size=1 << 20), io.BytesIO(bytes(1 << 20)))
    async with host.start(copy.receiving("x", "f", f"{tmp_path}/there")) as running:
        await running.write(whole.getvalue()[:500000])
        result = await running.result()
    assert result.status != 0
    (tmp_path / "archive").write_bytes(whole.getvalue()[:500000])
    with pytest.raises(LabError):
        await copy.download(Liar(tmp_path / "archive"), "x", f"{tmp_path}/there")
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["x"]
    assert (tmp_path / "there" / "x").read_text() == "old"


async def test_a_copy_from_host_to_host_is_the_same(host: Host, tree: Path, tmp_path: Path) -> None:
    passed: list[int] = []
    await copy.between(host, str(tree), host, f"{tmp_path}/new", kind="d", seen=passed.append)
    assert picture(tmp_path / "new") == picture(tree)
    assert passed == sorted(passed)
    assert passed[-1] > 300000
    await copy.between(host, f"{tree}/script", host, f"{tmp_path}/new/file")
    assert (tmp_path / "new" / "file").read_text() == "#!/bin/sh\n"
    with pytest.raises(LabError, match="No such file"):
        await copy.between(host, f"{tree}/missing", host, f"{tmp_path}/new/file")
    with pytest.raises(LabError, match="no such directory"):
        await copy.between(host, f"{tree}/script", host, f"{tmp_path}/missing/file")
    assert (tmp_path / "new" / "file").read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize("case", ["above", "absolute", "through a link", "hard link above", "hard link through a link"])
async def test_an_archive_that_would_escape_is_not_passed_on(tmp_path: Path, case: str) -> None:
    (tmp_path / "place").mkdir()
    with tarfile.open(tmp_path / "archive", "w") as made:
        for each in ESCAPES[case]:
            made.addfile(each, io.BytesIO())
    with pytest.raises(LabError, match="leaves its place"):
        await copy.between(Liar(tmp_path / "archive"), "x", LocalHost(), f"{tmp_path}/place/copy", kind="d")
    assert list((tmp_path / "place").iterdir()) == []


async def test_a_sparse_file_is_passed_on_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    os.truncate(tmp_path / "x", 1 << 20)
    with (tmp_path / "x").open("r+b") as file:
        file.seek(500000)
        file.write(b"data")
    await proc.run(["tar", "-S", "-cf", f"{tmp_path}/archive", "-C", str(tmp_path), "./x"])
    await copy.between(Liar(tmp_path / "archive"), "x", LocalHost(), f"{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "x").read_bytes()


async def test_an_archive_goes_by_a_disk_as_by_a_stream(host: Host, tree: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 1 << 21)
    await copy.send(host, str(tree), str(disk))
    with disk.open("rb") as file:
        Unpacking(f"{tmp_path}/back", "a tree").run(file)
    assert picture(tmp_path / "back") == picture(tree)
    await copy.receive(host, str(disk), "a tree", "d", f"{tmp_path}/there")
    assert picture(tmp_path / "there") == picture(tree)
    with pytest.raises(LabError, match="No such file"):
        await copy.send(host, f"{tree}/missing", str(disk))


async def test_sizes_are_told_before_the_copy(host: Host, tree: Path, tmp_path: Path) -> None:
    assert await copy.size_of(host, f"{tree}/file") == ("f", 300000)
    (tmp_path / "link").symlink_to(tree)
    kind, size = await copy.size_of(host, f"{tmp_path}/link") or ("", 0)
    assert kind == "d"
    assert size >= 300000
    assert await copy.size_of(host, f"{tree}/missing") is None
    assert archive.size(str(tree / "file")) == 300000


class Liar(LocalHost):
    """A host whose tar says what we want."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self._archive = archive

    def start(self, argv: Sequence[str]) -> AbstractAsyncContextManager[Running]:
        return proc.start(["cat", str(self._archive)])


def member(name: str, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


ESCAPES = {
    "above": [member("x", type=tarfile.DIRTYPE, mode=0o755), member("x/../../evil")],
    "absolute": [member("x", type=tarfile.DIRTYPE, mode=0o755), member("/evil")],
    "through a link": [
        member("x", type=tarfile.DIRTYPE, mode=0o755),
        member("x/link", type=tarfile.SYMTYPE, linkname="../.."),
        member("x/link/evil"),
    ],
    "through the top": [member("x", type=tarfile.SYMTYPE, linkname=".."), member("x/evil")],
    "hard link above": [
        member("x", type=tarfile.DIRTYPE, mode=0o755),
        member("x/evil", type=tarfile.LNKTYPE, linkname="../secret"),
    ],
    "hard link through a link": [
        member("x", type=tarfile.DIRTYPE, mode=0o755),
        member("x/link", type=tarfile.SYMTYPE, linkname="../.."),
        member("x/evil", type=tarfile.LNKTYPE, linkname="x/link/secret"),
    ],
}


@pytest.mark.parametrize("case", ESCAPES)
async def test_an_archive_that_would_escape_is_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "place").mkdir()
    with tarfile.open(tmp_path / "archive", "w") as made:
        for each in ESCAPES[case]:
            made.addfile(each, io.BytesIO())
    with pytest.raises(LabError, match="leaves its place"):
        await copy.download(Liar(tmp_path / "archive"), "x", f"{tmp_path}/place/copy")
    assert not list(tmp_path.rglob("evil"))


async def test_devices_are_refused_and_set_user_id_is_dropped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.addfile(member("x", type=tarfile.CHRTYPE, devmajor=1, devminor=3))
    with pytest.raises(LabError, match="neither file"):
        await copy.download(Liar(tmp_path / "archive"), "x", f"{tmp_path}/copy")
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.addfile(member("x", mode=0o6755))
    await copy.download(Liar(tmp_path / "archive"), "x", f"{tmp_path}/copy")
    assert (tmp_path / "copy").stat().st_mode & 0o7777 == 0o755


async def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole", "w") as archive:
        archive.addfile(member("x", size=100000), io.BytesIO(bytes(100000)))
    (tmp_path / "archive").write_bytes((tmp_path / "whole").read_bytes()[:50000])
    with pytest.raises(LabError):
        await copy.download(Liar(tmp_path / "archive"), "x", f"{tmp_path}/copy")


@pytest.fixture(autouse=True)
def _writable_again(tmp_path: Path) -> Iterator[None]:
    yield
    for each in tmp_path.rglob("*"):
        if each.is_dir() and not each.is_symlink():
            each.chmod(0o755)


async def test_a_receiver_that_is_ended_just_as_its_tar_starts_leaves_nothing(tmp_path: Path) -> None:
    """A shell hears a signal that comes just before it waits for a command only when that has ended; this tar sends it
    then, and reads its stdin as long as it is open."""
    tar = shutil.which("tar")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tar").write_text(f'#!/bin/sh\nkill -TERM $PPID\nexec {tar} "$@"\n')
    (tmp_path / "bin" / "tar").chmod(0o755)
    (tmp_path / "place").mkdir()
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    async with proc.start(copy.receiving("x", "d", f"{tmp_path}/place/x"), env=path) as running:
        await until(lambda: running.over)
    assert list((tmp_path / "place").iterdir()) == []
