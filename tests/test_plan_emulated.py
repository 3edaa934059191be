"""A plan says which machines will be emulated, as far as that is known before anything runs."""

from __future__ import annotations

from test_cli import Console, console  # noqa: F401

LAB = """
lab: outlook
machines:
  hv1:
    hypervisor: kvm
    machines:
      open: {image: debian}
      uefi: {image: debian, firmware: uefi}
"""


def test_uefi_in_a_hypervisor_that_is_to_be_emulated_is_emulated(console: Console) -> None:  # noqa: F811
    (console.folder / "outlook.yaml").write_text(LAB)
    said = console.run("plan", "outlook.yaml").stdout
    assert "hv1/open runs on KVM or is emulated: decided where it runs" in said
    assert "hv1/uefi is emulated (KVM off): that hypervisor is emulated, and QEMU's emulation ends when UEFI" in said
    assert "emulated inside a guest: about 10 times slower to boot" in said
