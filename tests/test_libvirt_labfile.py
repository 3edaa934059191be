"""What a machine that libvirt runs cannot have is a mistake of the lab file, with its place."""

from __future__ import annotations

import pytest

from nestlab.base.errors import Mistakes
from nestlab.lab.model import GIB, MIB, Lab
from nestlab.labfile import parse_text

MISTAKES = [
    ("container: true", "container", "no containers in a libvirt hypervisor"),
    ("firmware: uefi", "firmware", "UEFI"),
    ("tpm: true", "tpm", "a TPM"),
    ("iommu: true", "iommu", "a virtual IOMMU"),
    ("smbios: {serial: a}", "smbios", "SMBIOS data"),
    ("cpu: 'EPYC,vendor=GenuineIntel'", "cpu", "a CPU whose properties have values"),
    ("disks: [{size: 1G, bus: nvme}]", "disks", "an NVMe disk"),
    ("image: {file: %s}, ready: agent", "ready", "such a look from outside"),
]


def lab(said: str) -> Lab:
    return parse_text(f"lab: x\nmachines: {{hv: {{hypervisor: libvirt, machines: {{m: {{{said}}}}}}}}}\n", environ={})


@pytest.mark.parametrize(("said", "key", "what"), MISTAKES, ids=[said for said, _, _ in MISTAKES])
def test_what_libvirt_is_not_asked_for_is_a_mistake_at_its_place(
    said: str, key: str, what: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if "%s" in said:
        disk = tmp_path_factory.mktemp("images") / "own.raw"
        disk.write_bytes(bytes(1 << 20))
        said = said.replace("%s", f"{disk}, format: raw")
    with pytest.raises(Mistakes) as caught:
        lab(said)
    [mistake] = caught.value.mistakes
    assert mistake.key == f"machines.hv.machines.m.{key}"
    assert what in mistake.what
    assert "hypervisor: kvm" in mistake.hint


def test_what_defaults_say_is_a_mistake_of_the_machine_that_cannot_have_it() -> None:
    text = "lab: x\ndefaults: {tpm: true}\nmachines: {hv: {hypervisor: libvirt, tpm: false, machines: {m: {}}}}\n"
    with pytest.raises(Mistakes, match="gives a TPM to no machine that libvirt runs"):
        parse_text(text, environ={})


def test_a_hypervisor_with_libvirt_has_its_image_and_what_it_needs_itself() -> None:
    [hv] = lab("image: tiny, memory: 128M, cpu: 'EPYC,+svm'").machines
    assert (hv.image.base, hv.hypervisor, hv.nests) == ("libvirt", "libvirt", True)
    assert hv.memory == GIB + 128 * MIB
