"""What is in a machine's directory goes to another one, by real programs on this machine."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from disk_headers import extension, qcow2
from nestlab.base.errors import LabError
from nestlab.engines.qemu import machine_files
from nestlab.engines.qemu.machine_files import Below, Console, rebase, stream, whole
from nestlab.hosts.local import LocalHost
from waiting import until

DISK = qcow2(below=b"/dev/vdb").ljust(4 << 16, b"\0")
"""A layer, as nestlab makes them."""


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _quiet(_: str) -> None: ...


async def test_all_that_a_machine_has_written_is_copied_and_nothing_of_what_says_who_it_is(tmp_path: Path) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    for name in (
        "disk.qcow2",
        "disk-0123abcd.qcow2",
        "uefi.fd",
        "console.log",
        "console.3.log",
        "identity",
        "made",
        "pid",
    ):
        (one / name).write_bytes(DISK if name.startswith("disk") else f"{name} here".encode())
    (other / "made").write_text("made there")
    _folder(one, "upper").joinpath("a b").write_bytes(bytes(range(256)) * 100)
    _folder(_folder(one, "nested"), "docker").joinpath("own").write_text("of containers in a container")
    _folder(one, "tpm").joinpath("state").write_text("sealed")
    host = LocalHost()
    await whole(host, host, (str(one), str(other)), (), _quiet)
    copied = {str(each.relative_to(other)) for each in other.rglob("*") if each.is_file()}
    wanted = {"disk.qcow2", "disk-0123abcd.qcow2", "uefi.fd", "console.log", "console.3.log", "upper/a b", "tpm/state"}
    wanted.add("nested/docker/own")
    assert copied == {*wanted, "made"}
    assert (other / "made").read_text() == "made there"
    assert all((one / each).read_bytes() == (other / each).read_bytes() for each in wanted)


async def test_a_machine_that_has_written_nothing_is_copied_all_the_same(tmp_path: Path) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    host = LocalHost()
    await whole(host, host, (str(one), str(other)), (), _quiet)
    assert list(other.iterdir()) == []


async def test_a_copy_that_breaks_off_is_told(tmp_path: Path) -> None:
    host = LocalHost()
    with pytest.raises(LabError, match="could not be copied"):
        await whole(host, host, (str(tmp_path / "gone"), str(tmp_path)), (), _quiet)
    with pytest.raises(LabError, match="could not be copied"):
        await stream(host, ("head", "-c", "9999999", "/dev/zero"), host, ("sh", "-c", "exit 3"))


def test_disks_are_layers_over_what_is_there_and_empty_ones_over_nothing() -> None:
    script = rebase("/m/a", (Below("disk.qcow2", "/dev/vdc", "raw"), Below("disk-1.qcow2")))
    assert "qemu-img rebase -u -f qcow2 -b /dev/vdc -F raw /m/a/disk.qcow2" in script
    assert "qemu-img rebase -u -f qcow2 -b '' /m/a/disk-1.qcow2" in script
    assert rebase("/m/a", ()) == ""


async def test_a_console_goes_on_where_the_machine_goes(tmp_path: Path) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    (one / "console.log").write_text("booting\n")
    (one / "console.2.log").write_text("the boot before\n")
    (other / "console.log").touch()
    host = LocalHost()
    console = Console(host, host, str(one), str(other))
    async with console.following():
        with (one / "console.log").open("a") as log:
            log.write("nestlab: ready\n")
        await asyncio.sleep(0)
        await console.finish()
    with (other / "console.log").open("a") as log:
        log.write("said there\n")
    assert (other / "console.log").read_text() == "booting\nnestlab: ready\nsaid there\n"
    assert (other / "console.2.log").read_text() == "the boot before\n"


# -- root of the hypervisor that it is from decides what comes ---------------------------------------------------------

Attack = Callable[[tarfile.TarFile, Path], None]


def _add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, to, len(data)
    member.uid, member.gid = os.getuid(), os.getgid()
    tar.addfile(member, io.BytesIO(data))


def _tpm_link(tar: tarfile.TarFile, victim: Path) -> None:
    _add(tar, "tpm", kind=tarfile.DIRTYPE)
    _add(tar, "tpm/tpm2-00.permall", kind=tarfile.SYMTYPE, to=str(victim))


def _store_link(tar: tarfile.TarFile, victim: Path) -> None:
    _add(tar, "nested", kind=tarfile.DIRTYPE)
    _add(tar, "nested/docker", kind=tarfile.SYMTYPE, to=str(victim.parent))


def _no_tar(tar: tarfile.TarFile, _: Path) -> None:
    assert tar.fileobj is not None
    tar.fileobj.write(b"\xff" * 5000)


def _through(tar: tarfile.TarFile, victim: Path) -> None:
    _add(tar, "upper", kind=tarfile.SYMTYPE, to=str(victim.parent))
    _add(tar, f"upper/{victim.name}", b"evil")


ATTACKS: dict[str, Attack] = {
    "a console that is a link": lambda tar, victim: _add(tar, "console.log", kind=tarfile.SYMTYPE, to=str(victim)),
    "an old one that is a link": lambda tar, victim: _add(tar, "console.1.log", kind=tarfile.SYMTYPE, to=str(victim)),
    "a disk that is a link": lambda tar, victim: _add(tar, "disk.qcow2", kind=tarfile.SYMTYPE, to=str(victim)),
    "a link to a file there": lambda tar, victim: _add(tar, "x.fd", kind=tarfile.LNKTYPE, to=str(victim)),
    "a file that is run": lambda tar, _: _add(tar, "made", b'{"path": "victim"}'),
    "a hidden one": lambda tar, _: _add(tar, ".profile", b"evil"),
    "one above": lambda tar, _: _add(tar, "../victim", b"evil"),
    "an absolute one": lambda tar, victim: _add(tar, str(victim), b"evil"),
    "a pipe": lambda tar, _: _add(tar, "console.log", kind=tarfile.FIFOTYPE),
    "a directory for a file": lambda tar, _: _add(tar, "disk.qcow2", kind=tarfile.DIRTYPE),
    "a TPM that writes elsewhere": _tpm_link,
    "a file through a link": _through,
    "a disk with its data elsewhere": lambda tar, _: _add(
        tar, "disk.qcow2", qcow2(extensions=extension(0x44415441, b"/etc/shadow")).ljust(1 << 18, b"\0")
    ),
    "a disk by its feature bit": lambda tar, _: _add(tar, "disk-1.qcow2", qcow2(features=4).ljust(1 << 18, b"\0")),
    "a disk with its head far away": lambda tar, _: _add(tar, "disk.qcow2", qcow2(bits=21).ljust(1 << 18, b"\0")),
    "a disk that is none": lambda tar, _: _add(tar, "disk.qcow2", b"#!/bin/sh\n"),
    "a store that is a link": _store_link,
    "no tar": _no_tar,
}


def _sent(tmp_path: Path, attack: Attack) -> tuple[Path, Path, Path, Path]:
    """What a hypervisor sends, the machine's directory, and what is beside it: a file, and what is in the directory."""
    there, victim = _folder(tmp_path, "there"), tmp_path / "victim"
    victim.write_text("mine")
    (there / "made").write_text("made there")
    (there / "console.log").write_text("")
    sent = tmp_path / "sent.tar"
    with tarfile.open(sent, "w") as tar:
        attack(tar, victim)
    return sent, there, victim, there / "made"


async def _follow(console: Console) -> None:
    async with console.following():
        pass


def _files(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
@pytest.mark.parametrize("what", ["all", "logs"])
async def test_a_hypervisor_that_hands_over_a_machine_reaches_nothing_of_the_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack, what: str
) -> None:
    sent, there, victim, made = _sent(tmp_path, attack)
    host, roots = LocalHost(), (str(tmp_path), str(there))
    monkeypatch.setattr(machine_files, "PACK" if what == "all" else "LOGS", f"exec cat '{sent}'")
    with pytest.raises(LabError) as told:
        await (whole(host, host, roots, (), _quiet) if what == "all" else _follow(Console(host, host, *roots)))
    assert "\n" not in told.value.what
    assert victim.read_text() == "mine"
    assert made.read_text() == "made there"
    assert _files(there) == ["console.log", "made"]
    assert (there / "console.log").read_text() == ""
    assert not (there / "console.log").is_symlink()


async def test_a_console_that_never_ends_fills_no_disk_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    (one / "console.log").write_bytes(b"x" * (4 << 20))
    (other / "console.log").touch()
    monkeypatch.setattr(machine_files, "LONGEST", 1 << 20)
    host = LocalHost()
    console = Console(host, host, str(one), str(other))
    async with console.following():
        await until(lambda: (other / "console.log").stat().st_size > 1 << 20)
    assert (other / "console.log").stat().st_size < 3 << 20


async def test_a_container_takes_no_device_along(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root makes devices")
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    upper, host = _folder(one, "upper"), LocalHost()
    try:
        os.mknod(upper / "deleted", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("this root makes no devices")
    (upper / "link").symlink_to("/etc/passwd")
    await whole(host, host, (str(one), str(other)), (), _quiet)
    assert stat.S_ISCHR((other / "upper" / "deleted").lstat().st_mode), "overlayfs marks so what is deleted"
    assert (other / "upper" / "link").is_symlink(), "inside a container links lead into the container"
    for kind, number in ((stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFCHR, os.makedev(1, 1))):
        shutil.rmtree(other / "upper", ignore_errors=True)
        os.mknod(upper / "device", kind | 0o666, number)
        with pytest.raises(LabError, match="no machine of nestlab's writes"):
            await whole(host, host, (str(one), str(other)), (), _quiet)
        assert _files(other) == []
        (upper / "device").unlink()
