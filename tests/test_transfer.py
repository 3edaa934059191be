"""A copy as it goes on, in numbers for people."""

from __future__ import annotations

from nestlab.show.transfer import Transfer

MIB = 1 << 20


def test_a_copy_tells_how_much_of_how_much_passed_and_how_fast() -> None:
    transfer = Transfer("disk.img", "hv1/web:/root/", 100.0)
    transfer.phase("copying", 102.0, 64 * MIB)
    transfer.seen(16 * MIB)
    assert transfer.line(106.0) == "disk.img  copying  25%  16M of 64M  4M/s  6s"
    transfer.seen(70 * MIB)  # an archive is more than its files
    assert "100%  64M of 64M" in transfer.line(110.0)


def test_of_an_unknown_size_only_what_passed_is_told() -> None:
    transfer = Transfer("log", "here", 0.0)
    assert transfer.line(1.0) == "log  1s"
    transfer.seen(3 * MIB)
    assert transfer.line(2.0) == "log  3M  1.5M/s  2s"


def test_a_new_phase_counts_anew() -> None:
    transfer = Transfer("disk.img", "hv1:/", 0.0)
    transfer.phase("packing", 0.0, 8 * MIB)
    transfer.seen(8 * MIB)
    transfer.phase("attaching a disk", 1.0)
    assert transfer.line(3.0) == "disk.img  attaching a disk  0%  0 bytes of 8M  3s"


def test_the_end_says_where_it_went_how_much_and_how_long() -> None:
    transfer = Transfer("notes", "hv1:/root/", 0.0, total=1, until=0.5)
    assert transfer.end() == "notes -> hv1:/root/: 1 byte in 0s"
    transfer = Transfer("disk.img", "hv1:/", 0.0, total=64 * MIB, until=8.0, way="disk")
    assert transfer.end() == "disk.img -> hv1:/: 64M in 8s, 8M/s"
    assert transfer.data() == {"bytes": 64 * MIB, "seconds": 8.0, "by": "disk"}
