"""A segment on a libvirt is a network that is marked as the lab's, and no other network is ever touched: by the text of
its XML, by what is read of others', and by a real libvirtd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import libvirtd
from golden_files import assert_golden
from libvirtd import virsh
from nestlab.base.errors import LabError
from nestlab.engines.libvirt import networks
from nestlab.engines.libvirt.mark import Mark, mark_of, owner_of
from nestlab.engines.libvirt.networks import Networks, network_uuid
from nestlab.engines.libvirt.virsh import Libvirt
from nestlab.engines.libvirt.xml import parsed
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Tool
from nestlab.lab.model import Segment

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG nestlab"
MARK = Mark(owner_of(KEY), "pair")
WIRE = Segment("wire", "10.77.0.0/24", mtu=1400)


def test_a_segments_network_is_what_the_golden_file_says_and_says_whose_it_is() -> None:
    text = networks.xml(MARK, WIRE, "nl-0a1b2c3d")
    assert_golden("libvirt/segment.xml", text)
    assert mark_of(parsed(text)) == MARK


def test_two_labs_whose_names_run_together_have_networks_of_different_names() -> None:
    names = [networks.xml(Mark(MARK.owner, lab), Segment(name), "nl-0") for lab, name in (("a-b", "c"), ("a", "b-c"))]
    assert len({parsed(text).findtext("name") for text in names}) == 2
    assert network_uuid("a-b", "c") != network_uuid("a", "b-c")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no xml",
        "<network/>",
        "<network><metadata/></network>",
        networks.xml(Mark("0" * 32, "pair"), WIRE, "nl-0"),
        '<!DOCTYPE a [<!ENTITY b "c">]><network>&b;</network>',
    ],
    ids=["nothing", "no xml", "no mark", "an empty mark", "another's mark", "a document type"],
)
def test_a_network_that_is_not_marked_as_the_labs_is_none_of_its_segments(said: str) -> None:
    good = networks.xml(MARK, WIRE, "nl-0a1b2c3d")
    text = f"@@cut nestlab-pair.theirs\n{said}\n@@cut nestlab-pair.wire\n{good}"
    assert networks.segments(text, "@@cut", "nestlab-pair", MARK.owner) == {"wire"}


def test_the_network_of_a_lab_whose_name_is_longer_is_not_this_labs() -> None:
    text = "@@cut nestlab-pair-2.wire\n" + networks.xml(MARK, WIRE, "nl-0a1b2c3d")
    assert networks.segments(text, "@@cut", "nestlab-pair", MARK.owner) == frozenset()


def test_only_cards_of_that_network_that_a_running_machine_has_are_put_on_it_again() -> None:
    card = '<interface><mac address="m{}"/><source network="{}" portid="p" bridge="virbr0"/>{}</interface>'
    target = '<target dev="vnet1"/>'
    inner = "".join(card.format(*each) for each in (("1", "ours", target), ("2", "default", target), ("3", "ours", "")))
    [found] = networks.cards_on(parsed(f"<domain><devices>{inner}<interface/></devices></domain>"), "ours")
    assert found.find("mac").get("address") == "m1"  # type: ignore[union-attr]
    assert found.find("source").attrib == {"network": "ours"}  # type: ignore[union-attr]
    assert networks.bridge() != networks.bridge()
    assert len(networks.bridge()) <= 15


@pytest.fixture(scope="module")
def libvirt(qemu_tool: Tool) -> Iterator[Libvirt]:
    with libvirtd.running(qemu_tool):
        yield Libvirt(LocalHost(), "nltest", lambda: KEY)


@pytest.fixture
def theirs() -> Iterator[str]:
    """A network that somebody made by hand, called as a segment of the lab's would be."""
    made = "<network><name>nestlab-nltest.wire</name><bridge stp='off'/></network>"
    virsh("net-create", "/dev/stdin", text=made)
    yield virsh("net-dumpxml", "nestlab-nltest.wire")
    virsh("net-destroy", "nestlab-nltest.wire")


async def test_a_network_is_made_once_seen_and_removed_once(libvirt: Libvirt) -> None:
    made = Networks(libvirt)
    before = virsh("net-list", "--all")
    assert await made.ensure(WIRE)
    first = virsh("net-dumpxml", "nestlab-nltest.wire")
    assert not await made.ensure(WIRE)
    assert virsh("net-dumpxml", "nestlab-nltest.wire") == first
    assert await made.observe() == {"wire"}
    root = parsed(first)
    assert root.find("ip") is None
    assert root.find("forward") is None
    assert root.find("mtu").get("size") == "1400"  # type: ignore[union-attr]
    await made.remove("wire")
    await made.remove("wire")
    assert await made.observe() == frozenset()
    assert virsh("net-list", "--all") == before


async def test_a_network_of_the_same_name_that_is_somebody_elses_is_refused_and_stays(
    libvirt: Libvirt, theirs: str
) -> None:
    made = Networks(libvirt)
    assert await made.observe() == frozenset()
    with pytest.raises(LabError, match="Somebody else's is in its place") as refused:
        await made.ensure(WIRE)
    assert "Rename the lab" in refused.value.hint
    await made.remove("wire")
    assert virsh("net-dumpxml", "nestlab-nltest.wire") == theirs


async def test_a_network_with_the_labs_own_uuid_and_no_mark_is_neither_used_nor_removed(libvirt: Libvirt) -> None:
    uuid = network_uuid("nltest", "wire")
    virsh("net-create", "/dev/stdin", text=f"<network><name>odd</name><uuid>{uuid}</uuid><bridge stp='off'/></network>")
    try:
        for act in (Networks(libvirt).ensure(WIRE), Networks(libvirt).remove("wire")):
            with pytest.raises(LabError, match="Somebody else's is in its place"):
                await act
        assert "odd" in virsh("net-list", "--name")
    finally:
        virsh("net-destroy", "odd")


async def test_a_network_that_somebody_kept_and_stopped_is_started_and_removed_whole(libvirt: Libvirt) -> None:
    made = Networks(libvirt)
    await made.ensure(WIRE)
    virsh("net-define", "/dev/stdin", text=virsh("net-dumpxml", "nestlab-nltest.wire"))
    virsh("net-destroy", "nestlab-nltest.wire")
    assert await made.observe() == frozenset()
    await made.ensure(WIRE)
    assert await made.observe() == {"wire"}
    await made.remove("wire")
    assert "nestlab-nltest" not in virsh("net-list", "--all")


async def test_the_version_of_libvirts_qemu_is_known(libvirt: Libvirt) -> None:
    version = await libvirt.version()
    assert version is not None
    assert version >= (2, 0, 0)


async def test_a_libvirt_that_does_not_run_is_told_with_what_helps() -> None:
    nowhere = Libvirt(LocalHost(), "nltest", lambda: KEY, "qemu+unix:///system?socket=/nonexistent/sock")
    with pytest.raises(LabError, match="on this machine does not list its networks") as refused:
        await Networks(nowhere).observe()
    assert "virsh" in refused.value.hint or "libvirt" in refused.value.hint
