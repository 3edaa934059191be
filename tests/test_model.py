"""The lab as a value: paths, sizes, digests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.lab.model import (
    NAME,
    File,
    Image,
    Lab,
    Link,
    Machine,
    digest_of,
    format_size,
    level_of,
    parent_of,
    parse_size,
    plain,
    within,
)


def test_a_lab_is_walked_outer_machines_first_in_the_order_of_the_file() -> None:
    c = Machine("c")
    lab = Lab("x", machines=(Machine("a", machines=(Machine("b", machines=(c,)), Machine("d"))), Machine("e")))
    placed = list(lab.walk())
    assert [each.path for each in placed] == ["a", "a/b", "a/b/c", "a/d", "e"]
    assert [each.level for each in placed] == [1, 2, 3, 2, 1]
    assert [each.parent for each in placed] == ["", "a", "a/b", "a", ""]
    assert placed[2].machine is c


def test_paths_tell_parent_level_and_what_is_within() -> None:
    assert (parent_of("hv1/web"), parent_of("hv1"), parent_of("")) == ("hv1", "", "")
    assert (level_of("hv1/web"), level_of("hv1"), level_of("")) == (2, 1, 0)
    assert within("hv1/web", "hv1")
    assert within("hv1", "hv1")
    assert within("hv1", "")
    assert not within("hv10", "hv1")
    assert not within("hv1", "hv1/web")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 << 30),
        ("512M", 512 << 20),
        ("1.5G", 3 << 29),
        ("1k", 1024),
        ("2TiB", 2 << 40),
        ("3mb", 3 << 20),
        ("17", 17),
        ("17B", 17),
        ("0.1K", 102),
        (" 1G ", 1 << 30),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1 G", "1P", "1e3", "1,5G", "٤G", "0x10", "1.G", "4GG", "9" * 5000])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@settings(deadline=None)
@given(st.integers(0, 1 << 60))
def test_a_size_written_down_means_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"), [(4 << 30, "4G"), (3 << 29, "1536M"), (17, "17"), (0, "0"), (1 << 50, "1024T")]
)
def test_a_size_is_written_as_short_as_it_can_be_exactly(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("name", ["a", "hv1", "a-b", "a" * 63])
def test_host_name_labels_are_names(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "A", "a.b", "a_b", "a/b", "ü", "a" * 64, "a\n"])
def test_anything_else_is_no_name(name: str) -> None:
    assert not NAME.fullmatch(name)


def test_plain_data_leaves_out_what_equals_its_default() -> None:
    machine = Machine("m", cpus=1, links=(Link("wire", mac="52:54:00:00:00:01"),))
    assert plain(machine) == {"name": "m", "links": [{"segment": "wire", "mac": "52:54:00:00:00:01"}]}
    assert plain({"b": frozenset({"y", "x"}), "a": (1, None)}) == {"b": ["x", "y"], "a": [1, None]}


MACHINES = st.builds(
    Machine,
    name=st.sampled_from(["a", "b"]),
    hypervisor=st.sampled_from([None, "kvm"]),
    image=st.builds(
        Image,
        base=st.sampled_from(["debian", "tiny"]),
        packages=st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
        files=st.lists(st.builds(File, st.just("/a"), st.sampled_from([None, "", "b"])), max_size=1).map(tuple),
        script=st.sampled_from([None, "", "x"]),
    ),
    cpus=st.integers(1, 2),
    links=st.lists(st.builds(Link, st.sampled_from(["v", "w"]), st.sampled_from([None, "10.0.0.1"])), max_size=2).map(
        tuple
    ),
    internet=st.booleans(),
)


@settings(deadline=None)
@given(MACHINES, MACHINES)
def test_digests_are_equal_when_values_are_and_only_then(one: Machine, other: Machine) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)


def test_a_digest_is_the_same_on_every_computer() -> None:
    assert digest_of(Machine("m"), "wire", 1) == digest_of(Machine("m", image=Image(base="debian")), "wire", 1)
    assert digest_of() == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d"
    assert len(digest_of(None)) == 40
