"""`netboot:` in a lab file: what it becomes, every way to say it wrongly, and what is planned for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from blueprints import look
from nestlab.base.errors import LabError, Mistakes
from nestlab.engines.qemu import netboot
from nestlab.images.image_files import ImageFiles
from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, images_of, settle
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json
from nestlab.lab.model import Image, Lab
from nestlab.lab.netboot import Netboot, digest_of_service, service_of
from nestlab.labfile.parse import parse_text
from nestlab.labfile.render import render
from nestlab.plan import planner
from nestlab.plan.steps import Connect
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import netboot_notes

HEAD = "lab: net\nsegments:\n  wire:\n    cidr: 10.77.0.0/24\n    netboot: {}\nmachines:\n"
WEB = "  web: {image: none, boot: [network], segments: {wire: {address: 10.77.0.11}}}\n"
TINY = HEAD.replace("{}", "{image: tiny}")


DIGITS = "0123456789abcdef" * 4
FETCHED = f"""{{kernel: {{url: 'https://a.example/vmlinuz', sha256: {DIGITS}}},
      initrd: {{url: 'https://a.example/initrd.gz', sha256: {DIGITS[::-1]}}}, cmdline: quiet}}"""


def parsed(text: str) -> Lab:
    return parse_text(text, environ={})


def blueprint(text: str) -> Blueprint:
    lab = parsed(text)
    keys = {image: image.base or str(image.url).rpartition("/")[2] for image in images_of(lab)} | {PROBE: "tiny"}
    return settle(lab, lease(lab, Leases(), []), keys)


def mistakes(text: str) -> list[tuple[str, str]]:
    """Key and what of each."""
    with pytest.raises(Mistakes) as caught:
        parsed(text)
    assert all(each.line and each.hint for each in caught.value.mistakes)
    return [(each.key, each.what) for each in caught.value.mistakes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(bytes(0x202) + b"HdrS" + bytes(100))
    (tmp_path / "initrd").write_bytes(b"initrd")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/pxelinux.0").write_bytes(b"loader")
    (tmp_path / "boot/grub.efi").write_bytes(b"loader")
    (tmp_path / "boot/.hidden").write_bytes(b"hidden")
    (tmp_path / "boot/out").symlink_to("../initrd")
    return tmp_path


def test_a_segment_says_what_is_booted_from_it(folder: Path) -> None:
    said = f"{{kernel: {folder}/vmlinuz, initrd: {folder}/initrd, cmdline: console=ttyS0}}"
    lab = parsed(HEAD.replace("{}", said) + WEB)
    kernel, initrd = str(folder / "vmlinuz"), str(folder / "initrd")
    assert lab.segments[0].netboot == Netboot(kernel, initrd, "console=ttyS0")
    assert parsed(render(lab)) == lab
    made = blueprint(HEAD.replace("{}", said) + WEB)
    assert blueprint_from_json(blueprint_to_json(made)) == made


@pytest.mark.parametrize(
    ("said", "key", "what"),
    [
        ("{}", "netboot", "it says neither `kernel`, `image` nor `files`"),
        ("{kernel: vmlinuz, files: boot}", "netboot.files", "`kernel` and `files` exclude each other"),
        ("{image: tiny, initrd: initrd}", "netboot.initrd", "`initrd` means nothing with `image`"),
        ("{kernel: vmlinuz, bios: a}", "netboot.bios", "`bios` means nothing with `kernel`"),
        ("{kernel: nowhere}", "netboot.kernel", "there is no file {folder}/nowhere"),
        ("{kernel: initrd}", "netboot.kernel", "{folder}/initrd is no Linux kernel for x86 (a bzImage)"),
        ("{kernel: boot}", "netboot.kernel", "{folder}/boot cannot be read: it is a directory"),
        ("{kernel: {url: 'https://a.example/k'}}", "netboot.kernel.url", "it has no checksum"),
        ("{kernel: {from: debian}}", "netboot.kernel", "it says no `url`"),
        (
            f"{{kernel: {{url: 'https://a.example/k', sha256: {DIGITS}, format: raw}}}}",
            "netboot.kernel.format",
            "means",
        ),
        ("{kernel: {url: 'https://a.example/k', sums: 'https://a.example/S'}}", "netboot.kernel", "is not said"),
        (
            f"{{kernel: vmlinuz, initrd: {{url: 'https://a:b@a.example/k', sha256: {DIGITS}}}}}",
            "netboot.initrd.url",
            "",
        ),
        ("{files: nowhere, bios: a}", "netboot.files", "there is no folder {folder}/nowhere"),
        ("{files: boot}", "netboot", "it does not say what is loaded first"),
        ("{files: boot, bios: other}", "netboot.bios", "there is no file {folder}/boot/other"),
        ("{files: boot, bios: ../initrd}", "netboot.bios", "../initrd is not inside {folder}/boot, or hidden there"),
        ("{files: boot, bios: out}", "netboot.bios", "out is not inside {folder}/boot, or hidden there"),
        ("{files: boot, bios: .hidden}", "netboot.bios", ""),
    ],
)
def test_what_cannot_be_served_is_a_mistake_of_the_lab_file(folder: Path, said: str, key: str, what: str) -> None:
    for name in ("vmlinuz", "initrd", "boot", "nowhere"):
        for word in ("kernel", "initrd", "files"):
            said = said.replace(f"{word}: {name}", f"{word}: {folder}/{name}")
    found = mistakes(HEAD.replace("{}", said) + WEB)
    assert found[0][0] == f"segments.wire.{key}"
    assert what.format(folder=folder) in found[0][1] or not what


@pytest.mark.parametrize(
    ("machine", "served", "what"),
    [
        ("firmware: secure", "{image: tiny}", "it boots from the network with Secure Boot, and iPXE"),
        ("firmware: uefi", "{files: BOOT, bios: pxelinux.0}", "it boots from the network by its UEFI"),
        ("memory: 1G", "{files: BOOT, uefi: grub.efi}", "it boots from the network by its BIOS"),
    ],
)
def test_a_machine_that_could_not_boot_from_what_is_served_is_a_mistake(
    folder: Path, machine: str, served: str, what: str
) -> None:
    text = HEAD.replace("{}", served.replace("BOOT", f"{folder}/boot")) + WEB.replace("boot: [", f"{machine}, boot: [")
    [(key, found)] = mistakes(text)
    assert key.startswith("machines.web.segments")
    assert found.startswith(what)


def test_a_card_on_a_vlan_and_the_servers_own_address_are_mistakes() -> None:
    tagged = TINY + "  web: {image: none, boot: [network], segments: {wire: {vlan: 20}}}\n"
    assert "on VLAN 20 nothing is served" in mistakes(tagged)[0][1]
    first = TINY + WEB.replace("10.77.0.11", "10.77.0.1")
    assert "which its `netboot` answers from" in mistakes(first)[0][1]


def test_a_proxmox_ve_serves_nothing() -> None:
    text = TINY.replace("lab: net\n", "lab: net\non: pve://root@pam!lab@pve1\n") + WEB
    assert "`netboot` means nothing on a Proxmox VE" in mistakes(text)[0][1]


def test_all_machines_of_the_segment_are_served_at_every_level_by_the_names_and_addresses_they_have() -> None:
    deep = "deep: {image: none, boot: [network], segments: [wire]}"
    inner = f"  hv: {{hypervisor: kvm, segments: [wire], machines: {{{deep}}}}}\n"
    made = blueprint(TINY + WEB + inner)
    service = service_of(made, "wire")
    assert service is not None
    assert service.address == "10.77.0.1/24"
    assert [card.name for card in service.cards] == ["web", "hv", "deep"]
    assert service.cards[0].address == "10.77.0.11/24"
    assert not service.loader
    uefi = service_of(blueprint(TINY + WEB.replace("boot: [", "firmware: uefi, boot: [")), "wire")
    assert uefi is not None
    assert uefi.loader


def test_what_is_served_is_made_from_the_image(tmp_path: Path) -> None:
    service = service_of(blueprint(TINY.replace("tiny}", "tiny, cmdline: 'a=$${x}'}") + WEB), "wire")
    assert service is not None
    files = {"kernel": Path("/vmlinux"), "initrd": Path("/initrd")}
    image = ImageFiles("tiny", files, cmdline=("quiet",), bzimage=Path("/bzimage"))
    offer = netboot.offer_of(service, {Image(base="tiny"): image}, tmp_path / "snponly.efi")
    assert offer.files == {"kernel": "/bzimage", "initrd": "/initrd", "ipxe.efi": str(tmp_path / "snponly.efi")}
    assert offer.boots == {"ipxe": "boot.ipxe", "uefi": "ipxe.efi"}
    assert offer.texts["boot.ipxe"].splitlines() == [
        "#!ipxe",
        "kernel http://10.77.0.1/kernel initrd=initrd console=ttyS0 quiet a=$ {x}",
        "initrd --name initrd http://10.77.0.1/initrd",
        "boot",
    ]


def test_kernel_and_initramfs_may_be_downloaded_and_are_served_as_they_are(folder: Path) -> None:
    text = HEAD.replace("{}", FETCHED) + WEB
    lab, made = parsed(text), blueprint(text)
    assert parsed(render(lab)) == lab
    assert blueprint_from_json(blueprint_to_json(made)) == made
    kernel, initrd = images_of(lab)[-2:]
    assert [(each.format, each.compression) for each in (kernel, initrd)] == [("raw", None)] * 2
    steps = planner.plan(made, look(FakeWorld(), made), "running").steps
    [connect] = [step for step in steps if isinstance(step, Connect)]
    assert set(connect.needs) == {"pull:vmlinuz", "pull:initrd.gz"}
    service = service_of(made, "wire")
    assert service is not None
    there = {kernel: ImageFiles("", {"root": folder / "vmlinuz"}), initrd: ImageFiles("", {"root": folder / "initrd"})}
    offer = netboot.offer_of(service, there, None)
    assert offer.files == {"kernel": f"{folder}/vmlinuz", "initrd": f"{folder}/initrd"}
    with pytest.raises(LabError, match=r"is to serve the kernel https://a\.example/vmlinuz, and that is no"):
        netboot.offer_of(service, {**there, kernel: ImageFiles("", {"root": folder / "initrd"})}, None)
    assert "the kernel https://a.example/vmlinuz" in netboot_notes.notes(made, ["web"])[0]


def test_a_plan_says_who_boots_from_what() -> None:
    inner = "  own: {image: none, disk: 1G, boot: [network, disk], segments: [other]}\n"
    made = blueprint(TINY.replace("  wire:\n", "  other:\n  wire:\n") + WEB + inner)
    assert netboot_notes.notes(made, ["web", "own"]) == (
        "web boots from segment wire: the image tiny, from 10.77.0.1.",
        "own boots from the network, where no `netboot` answers it: a machine of the lab must.",
        "own tries the network before its disk, at every start: with `boot: [disk, network]` what was installed from"
        " the network is what starts afterwards.",
    )
    assert netboot_notes.notes(made, []) == ()


def test_what_is_served_is_planned_with_the_image_it_needs_and_again_when_it_changes() -> None:
    made = blueprint(TINY + WEB)
    world = FakeWorld()
    steps = planner.plan(made, look(world, made), "running").steps
    connect = next(step for step in steps if isinstance(step, Connect))
    assert connect.needs == ("build:tiny",)
    assert [step.id for step in steps].index("build:tiny") < steps.index(connect)
    world.do("net", steps[0], made)
    world.links.add(("net", "wire"))
    world.served["net", "wire"] = digest_of_service(service_of(made, "wire"))
    assert not [step for step in planner.plan(made, look(world, made), "running").steps if isinstance(step, Connect)]
    other = blueprint(TINY.replace("tiny}", "tiny, cmdline: quiet}") + WEB)
    [again] = [step for step in planner.plan(other, look(world, other), "running").steps if isinstance(step, Connect)]
    assert again.why == "it is to serve the image tiny"
    none = blueprint(HEAD.replace("    netboot: {}\n", "") + WEB)
    [last] = [step for step in planner.plan(none, look(world, none), "running").steps if isinstance(step, Connect)]
    assert last.why == "nothing is to be booted from it any more"
