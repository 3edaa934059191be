"""Which QEMU is good enough, and (marked guest) nestlab's own, really unpacked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nestlab.images import qemu_runtime
from nestlab.images.qemu_runtime import Accel, Runtime, Tool, Version, choose_qemu, parse_version


def quiet(_: str) -> None:
    pass


def of(version: Version, own: bool = False) -> Runtime:
    tool = Tool(("qemu",), {}, version)
    return Runtime(tool, tool, tool, own)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", (10, 0, 13)),
        ("QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)", (8, 2, 2)),
        ("qemu-img version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u19)", (7, 2, 22)),
        ("mke2fs 1.47.2 (1-Jan-2025)\n\tUsing EXT2FS Library version 1.47.2", (1, 47, 2)),
        ("QEMU emulator version 11.0", (11, 0, 0)),
        ("command not found", None),
    ],
)
def test_versions_are_read_from_what_programs_print(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("accel", "version", "own"),
    [
        ("kvm", (7, 2, 0), False),
        ("kvm", (7, 1, 0), True),  # it has no `-netdev stream`
        ("tcg", (7, 2, 22), True),
        ("tcg", (10, 0, 0), False),
        ("kvm", None, True),
    ],
)
async def test_the_systems_qemu_is_used_where_it_is_good_enough(
    accel: Accel, version: Version | None, own: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def system() -> Runtime | None:
        return of(version) if version else None

    async def unpacked(cache: Path, say: object) -> Runtime:
        return of((10, 0, 13), own=True)

    monkeypatch.setattr(qemu_runtime, "system", system)
    monkeypatch.setattr(qemu_runtime, "runtime", unpacked)
    assert (await choose_qemu(accel, tmp_path, quiet)).own is own


@pytest.mark.parametrize(
    ("printed", "own"),
    [("qemu-img version 7.2.22", False), ("qemu-img version 6.2.0 (Debian 1:6.2)", False), ("nonsense", True)],
)
async def test_disks_are_made_with_the_systems_qemu_img_whatever_runs_the_machines(
    printed: str, own: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def unpacked(cache: Path, say: object) -> Runtime:
        return of((10, 0, 13), own=True)

    program = tmp_path / "qemu-img"
    program.write_text(f"#!/bin/sh\necho '{printed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(qemu_runtime, "runtime", unpacked)
    found = await qemu_runtime.choose_qemu_img(tmp_path, quiet)
    assert found.argv == (("qemu",) if own else (str(program),))


def test_a_runtime_whose_description_is_damaged_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "runtime.json").write_text('{"versions": {"qemu": [10]}}')
    assert qemu_runtime._load(tmp_path) is None


@pytest.mark.guest
async def test_two_who_want_the_runtime_share_one_that_runs(tmp_path: Path) -> None:
    first, second = await asyncio.gather(qemu_runtime.runtime(tmp_path, quiet), qemu_runtime.runtime(tmp_path, quiet))
    assert first == second
    assert first.own
    assert first.qemu.version >= (10, 0, 0)
    process = await asyncio.create_subprocess_exec(
        *first.qemu.argv, "-machine", "help", env=dict(first.qemu.env), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"q35" in output
