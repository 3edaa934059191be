"""The door through which state is written, and names for processes that last."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from pathlib import Path

import pytest

from nestlab.base import files, processes
from nestlab.base.errors import LabError
from nestlab.engines.pve.remembered import Memory
from nestlab.home.lab_keys import LabKeys


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_has_its_mode_before_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        found = os.fstat(descriptor)
        seen.append((stat.S_IMODE(found.st_mode), found.st_size))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    files.replace(tmp_path / "secret", b"text", 0o600)
    files.replace(tmp_path / "program", b"text", 0o755)
    assert seen == [(0o600, 0), (0o755, 0)]


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "fchmod"])
def test_what_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state"
    files.replace(path, b"old", 0o600)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(LabError, match=r"state cannot be written: No space left") as error:
            files.replace(path, b"new", 0o600)
    assert error.value.hint == "Make room there, then run the same command again."
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_of_several_files_each_is_synced_before_any_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    sync, rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        said.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        said.append("name")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", renamed)
    files.replace_all({tmp_path / f"{number}": (b"text", 0o600) for number in range(40)})
    assert said == ["file"] * 40 + ["name"] * 40 + ["folder"]
    assert len(list(tmp_path.iterdir())) == 40


def test_one_that_cannot_sync_puts_none_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LabError, match="No space left"):
            files.replace_all({tmp_path / f"{number}": (b"text", 0o600) for number in range(5)})
    assert list(tmp_path.iterdir()) == []


def test_of_several_who_make_a_file_one_does(tmp_path: Path) -> None:
    made = [files.create(tmp_path / "site", f"{number}".encode(), 0o600) for number in range(3)]
    assert made == [True, False, False]
    assert (tmp_path / "site").read_text() == "0"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_added_whole_is_not_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "known_hosts"
    files.append(path, b"one\n", 0o600)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.append(path, b"two\n", 0o600)
    assert path.read_bytes() == b"one\n"
    files.append(path, b"three\n", 0o600)
    assert path.read_bytes() == b"one\nthree\n"


def test_what_a_killed_process_left_is_swept_and_what_is_being_written_stays(tmp_path: Path) -> None:
    left, written, other = (tmp_path / name for name in ("a.0123abcd.new", "b.0123abcd.new", "c.new"))
    for path in (left, written, other):
        path.touch()
    with written.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        files.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == [written, other]


def test_a_pid_that_was_given_again_is_not_the_process_that_had_it() -> None:
    own = processes.mark()
    pid, started, boot = own.split(".")
    assert processes.lives(own)
    assert processes.lives(pid), "of a pid alone, that is all that can be said"
    assert not processes.lives(f"{pid}.{int(started) + 1}.{boot}")
    assert not processes.lives(f"{pid}.{started}.00000000"), "it was before the boot"
    assert not processes.lives("999999999")
    assert not processes.lives("nobody")


def test_a_lock_of_before_the_boot_is_left_behind_though_its_pid_lives(tmp_path: Path) -> None:
    path = tmp_path / "remembered"
    Memory(path).token = "t1"
    data = json.loads(path.read_text())
    pid = data["owner"].split(".")[0]
    path.write_text(json.dumps(data | {"owner": processes.mark(os.getppid())}))
    assert Memory(path).left_behind == "", "its holder may be at work"
    path.write_text(json.dumps(data | {"owner": f"{os.getppid()}.1.00000000"}))
    assert Memory(path).left_behind == "t1"
    assert pid == str(os.getpid())


def test_a_public_key_that_a_power_cut_took_is_made_from_the_private_one(tmp_path: Path) -> None:
    public = LabKeys(tmp_path).authorized
    (tmp_path / "id_ed25519.pub").write_bytes(b"")
    assert LabKeys(tmp_path).authorized == public
    (tmp_path / "id_ed25519.pub").unlink()
    assert LabKeys(tmp_path).authorized == public


def test_an_empty_key_with_machines_that_it_opens_is_told_and_one_without_is_made_anew(tmp_path: Path) -> None:
    LabKeys(tmp_path).make(["hv1"])
    (tmp_path / "id_ed25519").write_bytes(b"")
    assert LabKeys(tmp_path).key.read_text()
    (tmp_path / "m" / "0123abcd").mkdir(parents=True)
    (tmp_path / "m" / "0123abcd" / "made").touch()
    (tmp_path / "id_ed25519").write_bytes(b"")
    with pytest.raises(LabError, match="is gone"):
        _ = LabKeys(tmp_path).key
