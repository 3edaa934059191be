"""Hardware for real: what a lab file asks for is in the machine, and what firmware and a TPM keep stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import media
from command_line import Cli

pytestmark = pytest.mark.guest

LAB = """
lab: sealed
segments: {wire: }
machines:
  one:
    image: tiny
    firmware: uefi
    tpm: true
    iommu: true
    watchdog: true
    display: true
    topology: {cores: 2}
    smbios: {serial: "LAB, 1", product: Box}
    segments: [wire]
"""
EXAMPLE = Path(__file__).parents[1] / "examples/uefi-tpm.yaml"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    made = Cli(tmp_path)
    yield made
    for lab in ("sealed", "uefi-tpm", "inside", "loaders", "deep-tpm"):
        made("down", lab, "--yes", status=None)


DEFINE = "8002 0000002d 0000012a 40000001 00000009 400000090000010000 0000 000e 01500020000b0002000200000008"
"""TPM2_NV_DefineSpace: eight bytes that the owner may write, under 0x01500020 (TPM 2.0, part 3, section 31)."""
READ_PUBLIC = "8001 0000000e 00000169 01500020"
RANDOM = "8001 0000000c 0000017b 0008"


def tpm(cli: Cli, machine: str, command: str) -> str:
    """The answer of a machine's TPM, in hexadecimal: tag, size and return code stand before what it returns."""
    octets = bytes.fromhex(command)
    text = "".join(f"\\{octet:03o}" for octet in octets)
    script = f"exec 3<>/dev/tpm0; printf '{text}' >&3; dd bs=4096 count=1 <&3 2>/dev/null | od -An -v -tx1"
    return cli.plain("exec", machine, "--", "sh", "-c", script).replace(" ", "").replace("\n", "")


GOOD = "00000000"


def code_of(answer: str) -> str:
    return answer[12:20]


def test_the_hardware_is_there_and_what_a_tpm_keeps_outlives_a_restart(cli: Cli) -> None:
    cli("up", cli.file(LAB), "--no-verify")

    def said(command: str) -> str:
        return cli.plain("exec", "one", "--", "sh", "-c", command).strip()

    assert "runtime" in said("ls /sys/firmware/efi")
    assert said("cat /sys/class/dmi/id/product_serial /sys/class/dmi/id/product_name") == "LAB, 1\nBox"
    assert said("grep -c ^processor /proc/cpuinfo") == "2"
    assert said("cat /sys/devices/system/cpu/cpu1/topology/physical_package_id") == "0", "two cores of one socket"
    devices = said("cat /sys/bus/pci/devices/*/device /sys/bus/pci/devices/*/class").split()
    assert {"0x25ab", "0x030000"} <= set(devices), "a watchdog and a VGA"
    assert said("ls -d /sys/bus/acpi/devices/QEMUVGID*"), "a generation ID"
    groups = int(said("ls /sys/kernel/iommu_groups | wc -l"))
    assert groups >= 4, "a device each"
    assert said("cat /sys/class/tpm/tpm0/tpm_version_major") == "2"
    random = tpm(cli, "one", RANDOM)
    assert code_of(random) == GOOD
    assert random[24:] != tpm(cli, "one", RANDOM)[24:]
    assert code_of(tpm(cli, "one", READ_PUBLIC)) != GOOD, "nothing is kept yet"
    assert code_of(tpm(cli, "one", DEFINE)) == GOOD
    cli("restart", "one")
    assert code_of(tpm(cli, "one", READ_PUBLIC)) == GOOD
    assert "nothing to do" in cli("up", cli.file(LAB), "--no-verify").text.lower()


LOADERS = """
lab: loaders
machines:
  open: &same {image: {file: ./loader.raw}, firmware: uefi, memory: 256M, ready: {console: unsigned}}
  shut: {<<: *same, firmware: secure}
"""


def test_a_loader_that_nobody_signed_starts_under_uefi_and_is_refused_by_secure_boot(cli: Cli) -> None:
    (cli.home / "loader.raw").write_bytes(media.unsigned("unsigned"))
    said = cli("up", cli.file(LOADERS), "--no-verify", status=2)
    assert "shut did not come up: Secure Boot refuses what is on its disk" in said
    assert "`firmware: uefi` in a lab file" in said, "what to do"
    assert cli.states("loaders") == {"open": "running", "shut": "died"}


@pytest.mark.slow
def test_the_example_comes_up_with_uefi_a_tpm_and_an_iommu(cli: Cli) -> None:
    cli("up", str(EXAMPLE))
    for machine in ("sealed", "office"):
        assert cli.plain("exec", machine, "--", "ls", "/sys/firmware/efi")
        assert code_of(tpm(cli, machine, RANDOM)) == GOOD
    assert int(cli.plain("exec", "hv", "--", "sh", "-c", "ls /sys/kernel/iommu_groups | wc -l")) >= 4
    office = cli.plain(
        "exec",
        "office",
        "--",
        "sh",
        "-c",
        "dmesg; cat /sys/class/net/*/device/driver/uevent; ls -l /sys/class/net/*/device/driver",
    )
    assert "Secure boot enabled" in office or "secureboot" in office
    assert "vmxnet3" in office


INSIDE = """
lab: inside
machines:
  hv:
    hypervisor: kvm
    machines:
      sealed: {image: tiny, firmware: uefi}
"""


@pytest.mark.slow
def test_in_an_emulated_hypervisor_a_machine_with_uefi_is_emulated_and_comes_up(cli: Cli) -> None:
    """Under KVM there, QEMU's emulation of SVM would end with the whole hypervisor."""
    said = cli("up", cli.file(INSIDE))
    assert "starting under emulation" in said
    assert cli.plain("exec", "inside:hv/sealed", "--", "ls", "/sys/firmware/efi")


DEEP_TPM = """
lab: deep-tpm
machines:
  hv:
    hypervisor: kvm
    machines:
      web: {image: tiny, tpm: true}
"""


@pytest.mark.slow
def test_a_machine_in_an_emulated_hypervisor_has_its_tpm_under_kvm_and_keeps_what_is_in_it(cli: Cli) -> None:
    cli("up", cli.file(DEEP_TPM), "--no-verify")
    assert cli.machines("deep-tpm")["hv/web"]["accel"] == "kvm"
    assert code_of(tpm(cli, "hv/web", RANDOM)) == GOOD
    assert code_of(tpm(cli, "hv/web", DEFINE)) == GOOD
    cli("restart", "hv/web")
    assert code_of(tpm(cli, "hv/web", READ_PUBLIC)) == GOOD
