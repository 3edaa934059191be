"""libvirt's domain for a machine is a pure function of what QEMU would be started with, kept in golden files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from golden_files import assert_golden
from nestlab.engines.libvirt import domain
from nestlab.engines.libvirt.domain import Plan
from nestlab.engines.libvirt.mark import Mark, domain_name, domain_uuid, mark_of, owner_of
from nestlab.engines.libvirt.xml import LONGEST, Unreadable, element, parsed, written
from nestlab.engines.qemu.argv import Drive, Launch
from nestlab.engines.qemu.hardware_argv import Uefi
from nestlab.lab.disks import MadeDisk
from nestlab.lab.hardware import Hardware, Topology
from nestlab.lab.model import Image
from test_qemu_argv import CASES, DISK, GUEST, INNER, PLACE

OWNER = owner_of("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG nestlab")


def with_hardware(**said: object) -> Launch:
    spec = replace(INNER.spec, machine=replace(INNER.spec.machine, hardware=Hardware(**said)))  # type: ignore[arg-type]
    return replace(INNER, spec=spec)


OF_THE_USER = replace(
    INNER,
    kernel=None,
    spec=replace(INNER.spec, machine=replace(GUEST.machine, image=Image(file="/images/own.qcow2"), bus="scsi")),
    drives=(Drive(PLACE.of("hv1/web").disk, "qcow2", "root"),),
    cdroms=(PLACE.of("hv1/web").seed,),
)
DATA = MadeDisk("data", 1 << 30, bus="sata", ssd=True, serial="data")
LIBVIRT_CASES = {
    **{name: CASES[name] for name in ("level-2-kvm", "level-2-emulated", "level-2-hypervisor", "level-1-kvm")},
    "with-disk": replace(INNER, spec=replace(GUEST, machine=replace(GUEST.machine, image=Image())), drives=(DISK,)),
    "cargo": replace(INNER, drives=(DISK, Drive("/dev/vdd", "raw", "0123456789abcdef0123", readonly=True))),
    "own-disk": OF_THE_USER,
    "kept-if-it-fails": replace(INNER, keep=True),
    "network": replace(INNER, switch="nestlab-pair"),
    "of-the-user": replace(CASES["level-1-emulated"], switch="nestlab-pair"),
    "topology": with_hardware(topology=Topology(2, 1, 2), board="q35", watchdog=True, display=True),
    "cpu": with_hardware(cpu="EPYC,+svm,-npt"),
    "uefi": replace(OF_THE_USER, uefi=Uefi("uefi", "/fw/OVMF_CODE.fd", "/fw/OVMF_VARS.fd")),
    "secure-boot-and-tpm": replace(
        OF_THE_USER, uefi=Uefi("secure", "/fw/OVMF_CODE.secboot.fd", "/fw/OVMF_VARS.ms.fd"), swtpm=("swtpm",)
    ),
    "generation": replace(CASES["level-1-kvm"], generation="8f5c6a1e-1d2b-4c3d-8e4f-5a6b7c8d9e0f"),
}

USERS = {"of-the-user": "+1000:+1000"}
"""Whom QEMU runs as, where that is said."""


def plan_of(launch: Launch, user: str = "") -> Plan:
    return Plan(launch, Mark(OWNER, "pair", launch.spec.path, launch.spec.digest), user)


@pytest.mark.parametrize("name", LIBVIRT_CASES)
def test_the_domain_is_what_the_golden_file_says(name: str) -> None:
    assert_golden(f"libvirt/{name}.xml", domain.xml(plan_of(LIBVIRT_CASES[name], USERS.get(name, ""))))


@pytest.mark.parametrize("name", LIBVIRT_CASES)
def test_a_domain_can_be_read_again_and_says_whose_it_is(name: str) -> None:
    plan = plan_of(LIBVIRT_CASES[name])
    assert mark_of(parsed(domain.xml(plan))) == plan.mark


def test_no_two_devices_of_a_domain_have_the_same_target() -> None:
    spec = replace(OF_THE_USER.spec, machine=replace(OF_THE_USER.spec.machine, disks=()))
    found = parsed(domain.xml(plan_of(replace(OF_THE_USER, spec=spec, drives=(DISK, *OF_THE_USER.drives)))))
    targets = [each.get("dev") for each in found.iterfind("devices/disk/target")]
    assert len(targets) == len(set(targets))


def test_what_a_lab_file_says_stays_text_in_the_domain() -> None:
    words = "init='</cmdline><devices>' &amp; \"<!DOCTYPE"
    spec = replace(GUEST, machine=replace(GUEST.machine, cmdline=words))
    assert (parsed(domain.xml(plan_of(replace(INNER, spec=spec)))).findtext("os/cmdline") or "").endswith(words)


def test_names_of_domains_are_short_and_none_is_anothers() -> None:
    long = "/".join(["a" * 63] * 4)
    assert domain_name("pair", "hv1/web") == "nestlab-pair-hv1.web"
    assert len(domain_name("pair", long)) == 80
    assert domain_name("pair", long) != domain_name("pair", f"{long}/b")
    assert domain_uuid("pair", "hv1/web") != domain_uuid("pair", "hv1/we")
    assert domain_uuid("pair", "hv1/web") == domain_uuid("pair", "hv1/web")


def test_whose_a_domain_is_follows_from_the_key_and_not_from_its_comment() -> None:
    assert owner_of("ssh-ed25519 AAAA nestlab\n") == owner_of("ssh-ed25519 AAAA")
    assert owner_of("ssh-ed25519 AAAA") != owner_of("ssh-ed25519 AAAB")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a>",
        "<a/><b/>",
        "no xml",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<a>&b;</a>",
        "<a>" * 1000 + "</a>" * 1000,
        "<a>" + " " * LONGEST + "</a>",
        '<x:a xmlns:y="z"/>',
    ],
)
def test_what_is_no_xml_of_libvirts_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        parsed(text)


def test_a_domain_that_is_not_marked_is_nobodys() -> None:
    assert mark_of(parsed("<domain><metadata><made owner='x'/></metadata></domain>")) is None
    said = "<domain><metadata><a:made xmlns:a='urn:nestlab:libvirt:1' owner='me'/></metadata></domain>"
    assert mark_of(parsed(said)) is None


def test_written_xml_is_read_as_it_was() -> None:
    made = element("a", "", element("b", "text <&>", c="d'\""), element("e"))
    assert parsed(written(made)).find("b").text == "text <&>"  # type: ignore[union-attr]
    assert written(parsed(written(made))) == written(made)
