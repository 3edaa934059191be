"""Snapshots as values, and as folders of a lab: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.home import snapshots as kept
from nestlab.home.directories import LabHome
from nestlab.lab.snapshots import (
    Built,
    Ground,
    Kept,
    Manifest,
    Saved,
    SavedMachine,
    differences,
    from_json,
    ground_differs,
    in_order,
    named,
    to_json,
)
from nestlab.show import snapshots as render
from nestlab.verbs import renewal, snapshot_recovery

DIGEST = "0" * 64

MACHINE = SavedMachine(
    "hv1",
    "running",
    (Saved("memory", DIGEST, 5), Saved("tpm/tpm2-00.permall", DIGEST, 7)),
    "memory",
    Built("10.0.13 Debian", "q35", "EPYC,+svm", "tcg", "abc"),
    (1, 2, 3, 4, 0, 0, 0),
    0.25,
)

MANIFEST = Manifest(
    "clean", "pair", 1.5, "base", True, "0.1", Ground("a CPU", "6.1"), (MACHINE,), ("hv1/web",), nonces={"hv1": DIGEST}
)


@pytest.fixture
def place(tmp_path: Path) -> LabHome:
    return LabHome("pair", tmp_path)


def published(place: LabHome, name: str, parent: str = "", taken: float = 1.0) -> None:
    at = kept.partial(place, name)
    at.mkdir(parents=True)
    (at / "memory").write_bytes(b"x" * 8192)
    kept.publish(place, Manifest(name, "pair", taken, parent))


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert from_json(to_json(MANIFEST)) == MANIFEST
    assert from_json(to_json(Manifest("a", "b", 0.0, memory=False))) == Manifest("a", "b", 0.0, memory=False)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"machines": [{"path": "../x"}]},
        {"machines": [{"path": "hv1", "was": "gone"}]},
        {"machines": [{"path": "hv1", "files": [{"name": "../../etc/passwd", "digest": DIGEST}]}]},
        {"machines": [{"path": "hv1", "files": [{"name": "disk.qcow2", "digest": "none"}]}]},
        {"machines": [{"path": "hv1", "memory": "memory"}]},
        {"machines": {"hv1": {}}},
        {"inner": ["$(reboot)"]},
        {"taken": "now"},
        {"name": 5},
        {"nonces": {"hv1": 5}},
        {"papers": [{"name": "/etc/shadow", "digest": DIGEST}]},
        {"papers": [{"name": "keys/../../x", "digest": DIGEST}]},
    ],
)
def test_a_manifest_that_is_none_is_refused(change: dict[str, object]) -> None:
    data = json.loads(to_json(MANIFEST)) | change
    with pytest.raises((ValueError, TypeError)):
        from_json(json.dumps(data).encode())


@given(st.binary(max_size=200))
def test_no_text_but_a_manifest_is_read(text: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json(text)


def test_a_qemu_that_differs_is_told_by_what() -> None:
    was = Built("10.0.13", "q35", "EPYC", "tcg", "a")
    assert differences(was, was) == ()
    assert differences(was, Built("10.0.14", "q35", "EPYC", "tcg")) == ("QEMU was 10.0.13, and is 10.0.14 now",)
    assert "the CPU was EPYC, and is host now" in differences(was, Built("10.0.13", "q35", "host", "kvm"))
    assert differences(was, Built(devices="b")) == ("its devices, or their places, are others",)


def test_the_host_counts_where_machines_run_on_kvm_and_not_under_emulation() -> None:
    other = Ground("another CPU", "6.12")
    assert ground_differs(MANIFEST, other) == ()
    on_kvm = from_json(to_json(MANIFEST).replace(b'"tcg"', b'"kvm"'))
    assert len(ground_differs(on_kvm, other)) == 2
    assert ground_differs(on_kvm, MANIFEST.ground) == ()


def test_names_of_snapshots_are_words_and_parked_is_taken() -> None:
    assert named("before-upgrade") == "before-upgrade"
    for name in ("", "A", "../x", "a" * 41, "parked", ".new", "a b"):
        with pytest.raises(LabError):
            named(name)


def test_a_tree_has_children_below_their_parents_and_shows_the_one_that_the_lab_goes_on_from() -> None:
    rows = [
        Kept("b", Manifest("b", "pair", 3.0, "a")),
        Kept("a", Manifest("a", "pair", 1.0)),
        Kept("c", Manifest("c", "pair", 2.0, "a"), current=True),
        Kept("d", Manifest("d", "pair", 4.0, "gone")),
        Kept("e", None, why="it is damaged"),
        Kept("x", Manifest("x", "pair", 5.0, "y")),
        Kept("y", Manifest("y", "pair", 5.0, "x")),
    ]
    found = in_order(rows)
    assert [(depth, each.name) for depth, each in found][:5] == [(0, "e"), (0, "a"), (1, "c"), (1, "b"), (0, "d")]
    assert {each.name for _, each in found} == {each.name for each in rows}
    text = render.tree(found, 10.0)
    assert "  c *  " in text
    assert "e      cannot be used: it is damaged" in text


def test_a_snapshot_is_listed_when_it_is_whole_and_not_before(place: LabHome) -> None:
    at = kept.partial(place, "clean")
    at.mkdir(parents=True)
    (at / "memory").write_bytes(b"half")
    assert kept.names(place) == []
    kept.sweep(place)
    assert not at.exists()
    published(place, "clean")
    assert kept.names(place) == ["clean"]
    assert kept.manifest(place, "clean").name == "clean"
    assert kept.kept(place, "clean").size >= 8192


def test_a_snapshot_that_is_damaged_is_listed_with_the_reason(place: LabHome) -> None:
    published(place, "clean")
    (kept.folder(place, "clean") / kept.MANIFEST).write_text("{")
    [found] = kept.listing(place)
    assert found.manifest is None
    assert "cannot be used" in found.why
    with pytest.raises(LabError, match="cannot be used"):
        kept.manifest(place, "clean")


def test_a_snapshot_that_is_not_there_is_told_with_those_that_are(place: LabHome) -> None:
    published(place, "clean")
    with pytest.raises(LabError) as error:
        kept.manifest(place, "dirty")
    assert "It has: clean." in error.value.hint


def test_what_was_removed_is_no_snapshot_and_takes_no_room(place: LabHome) -> None:
    published(place, "clean")
    kept.set_current(place, "clean")
    assert kept.remove(place, "clean") >= 8192
    assert (kept.names(place), kept.current(place)) == ([], "")
    assert [each.name for each in (place.root / kept.FOLDER).iterdir()] == [kept.CURRENT]


def test_loads_are_counted(place: LabHome) -> None:
    published(place, "clean")
    kept.count(place, "clean", failed=False)
    kept.count(place, "clean", failed=True)
    assert (kept.loads(place, "clean").loads, kept.loads(place, "clean").failures) == (2, 1)


def test_a_checksum_is_of_what_a_file_holds_wherever_its_holes_are(tmp_path: Path) -> None:
    data = b"a" * 5000 + bytes(3 << 20) + b"b" * 700_000
    dense, sparse = tmp_path / "dense", tmp_path / "sparse"
    dense.write_bytes(data)
    with sparse.open("wb") as file:
        file.write(b"a" * 5000)
        file.seek(len(data) - 700_000)
        file.write(b"b" * 700_000)
    assert kept.digest(dense)[0] == kept.digest(sparse)[0]
    for at in (0, 4999, 2_000_000, len(data) - 1):
        flipped = bytearray(data)
        flipped[at] ^= 1
        dense.write_bytes(flipped)
        assert kept.digest(dense)[0] != kept.digest(sparse)[0]
    sparse.write_bytes(b"a" * 5000)
    assert kept.digest(dense)[0] != kept.digest(sparse)[0]


def test_what_is_being_done_is_read_as_it_was_written_and_nothing_else(place: LabHome) -> None:
    assert kept.work(place) is None
    wanted = kept.Work("snapshot", "clean", ("hv1",), ("hv1/web",), park=True)
    kept.set_work(place, wanted)
    assert kept.work(place) == wanted
    kept.set_work(place, None)
    kept.set_work(place, None)
    assert kept.work(place) is None
    for text in ("{", "[]", '{"verb": "x"}', json.dumps({**vars_of(wanted), "outer": ["../x"]})):
        (place.root / kept.WORK).write_text(text)
        with pytest.raises(LabError):
            kept.work(place)


def vars_of(work: kept.Work) -> dict[str, object]:
    return {"verb": work.verb, "name": work.name, "outer": [], "inner": [], "park": work.park}


async def test_a_restore_that_was_interrupted_is_taken_back_wherever_it_was(place: LabHome) -> None:
    """The steps of `restores._swap`, of which each may be the last."""
    lab = {"m/0/disk.qcow2": "old", "lab.json": "old", "applied.json": "old"}
    for step in range(7):
        _write(place.root, lab)
        kept.set_work(place, kept.Work("restore", "clean"))
        for each in _steps(place.root, place.root / kept.BEFORE)[:step]:
            each()
        assert await snapshot_recovery.before(place, lambda _: None) is None
        assert _read(place.root) == lab
        assert kept.work(place) is None


def _steps(root: Path, before: Path) -> list[Callable[[], object]]:
    return [
        lambda: before.mkdir(),
        lambda: (root / "m").rename(before / "m"),
        lambda: (root / "lab.json").rename(before / "lab.json"),
        lambda: (root / "applied.json").rename(before / "applied.json"),
        lambda: (before / kept.MOVED).write_text(""),
        lambda: _write(root, {"m/0/disk.qcow2": "new", "lab.json": "new", "away.json": "new"}),
    ]


def _write(root: Path, found: dict[str, str]) -> None:
    for name, text in found.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _read(root: Path) -> dict[str, str]:
    return {str(each.relative_to(root)): each.read_text() for each in root.rglob("*") if each.is_file()}


def test_what_a_machine_says_of_its_renewal_is_read_as_words_and_numbers() -> None:
    nonce = "ab" * 16
    digest = hashlib.sha256(nonce.encode()).hexdigest()
    now = round(time.time())
    said = f"clock {now + 1}\nseeded\nreseeded\nnonce {nonce}\n"
    assert renewal.read(said, now, digest) == renewal.Renewed(1, "reseeded", True)
    assert renewal.read("clock x\nseeded\nnonce none\n", now, digest) == renewal.Renewed(None, "seeded", False)
    assert renewal.read("", now, "") == renewal.Renewed(None, "", None)
    text = render.renewed("hv1", 0, "seeded", False, "")
    assert "did NOT go on" in text
