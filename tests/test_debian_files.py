"""A few files out of packages of Debian's, kept in the cache; the packages are of the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.images import debian_files
from nestlab.images.debian_files import DebianFiles

FILES = DebianFiles("some", "some files", ("one", "two"), ("a", "b.so"), ("bin", "lib"))


def packages(monkeypatch: pytest.MonkeyPatch, *, lacking: str = "") -> list[str]:
    """What is unpacked; returns the packages that were asked for."""
    asked: list[str] = []

    async def unpack(partial: Path, names: Sequence[str], what: str, say: Say) -> None:
        asked.extend(names)
        for name in ("usr/bin/a", "usr/lib/b.so.1", "usr/lib/a", "etc/passwd"):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(name)
        (partial / "usr/lib/b.so").symlink_to("b.so.1")
        (partial / "lib").symlink_to("usr/lib")
        if lacking:
            (partial / lacking).unlink()

    monkeypatch.setattr(debian_files, "unpack", unpack)
    return asked


async def test_they_are_unpacked_once_and_nothing_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = packages(monkeypatch)
    folder = await FILES.get(tmp_path, lambda _: None)
    assert {each.name: each.read_text() for each in folder.iterdir()} == {"a": "usr/bin/a", "b.so": "usr/lib/b.so.1"}
    assert all(not each.is_symlink() and each.stat().st_mode & 0o777 == 0o755 for each in folder.iterdir())
    assert await FILES.get(tmp_path, lambda _: None) == folder
    assert asked == ["one", "two"]


async def test_a_file_that_is_in_no_package_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(monkeypatch, lacking="usr/lib/b.so.1")
    with pytest.raises(LabError, match=r"some files: b\.so is in none of Debian's packages") as error:
        await FILES.get(tmp_path, lambda _: None)
    assert "nstall the packages one and two" in (error.value.hint or "")
    assert [each.name for each in (tmp_path / "some").iterdir()] == [f".{FILES.digest}.lock"]


async def test_what_is_damaged_in_the_cache_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages(monkeypatch)
    folder = await FILES.get(tmp_path, lambda _: None)
    (folder / "a").unlink()
    with pytest.raises(LabError, match="cannot be read") as error:
        await FILES.get(tmp_path, lambda _: None)
    assert error.value.hint == "Remove that folder, then repeat."


def test_what_it_is_made_of_decides_its_name() -> None:
    other = DebianFiles("some", "another name", ("one",), ("a", "b.so"), ("bin",))
    assert FILES.digest != other.digest
    assert len(FILES.digest) == 16
