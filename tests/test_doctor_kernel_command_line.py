"""Built-in modules: the doctor edits the boot loader's kernel command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nestlab.doctor import kernel_command_line
from nestlab.doctor.finding import Run, SetParameter, Write
from nestlab.hosts.facts import Module
from test_doctor_remedies import BUILT_IN, GRUB, one, with_file


def test_a_built_in_module_goes_to_grubs_command_line() -> None:
    found = one(with_file(BUILT_IN, "/etc/default/grub", GRUB))
    edited = GRUB.replace("quiet splash", "quiet splash kvm_amd.nested=1")
    assert found.changes == (Write("/etc/default/grub", edited, GRUB), Run(("update-grub",)))
    assert "reboot to finish" in found.staged
    again = one(with_file(BUILT_IN, "/etc/default/grub", edited))
    assert (again.changes, bool(again.staged)) == ((), True)
    assert again.notes == (
        "/etc/default/grub line 2 has it already. If it is still off after a reboot, run update-grub and boot again.",
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GRUB_CMDLINE_LINUX_DEFAULT='a b'  # x\n", "GRUB_CMDLINE_LINUX_DEFAULT='a b kvm_amd.nested=1'  # x\n"),
        ("GRUB_CMDLINE_LINUX_DEFAULT=quiet\n", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet kvm_amd.nested=1"\n'),
        ('GRUB_CMDLINE_LINUX=""\n', 'GRUB_CMDLINE_LINUX="kvm_amd.nested=1"\n'),
        ("GRUB_TIMEOUT=1", 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX_DEFAULT="kvm_amd.nested=1"\n'),
        ('GRUB_CMDLINE_LINUX_DEFAULT="a=\\"b c\\""', 'GRUB_CMDLINE_LINUX_DEFAULT="a=\\"b c\\" kvm_amd.nested=1"'),
        ('GRUB_CMDLINE_LINUX_DEFAULT="a kvm-amd.nested=0 b"', 'GRUB_CMDLINE_LINUX_DEFAULT="a kvm_amd.nested=1 b"'),
        (
            'GRUB_CMDLINE_LINUX="kvm_amd.nested=0"\nGRUB_CMDLINE_LINUX_DEFAULT="a"\n',
            'GRUB_CMDLINE_LINUX="kvm_amd.nested=1"\nGRUB_CMDLINE_LINUX_DEFAULT="a kvm_amd.nested=1"\n',
        ),
    ],
)
def test_grubs_quoting_is_kept_and_another_value_is_replaced(before: str, after: str) -> None:
    write = one(with_file(BUILT_IN, "/etc/default/grub", before)).changes[0]
    assert write == Write("/etc/default/grub", after, before)


@pytest.mark.parametrize(
    "text", ["GRUB_CMDLINE_LINUX_DEFAULT=$(words)\n", 'GRUB_CMDLINE_LINUX_DEFAULT="a \\\nb"\n', "\ufffd"]
)
def test_a_grub_file_that_is_written_strangely_is_left(text: str) -> None:
    found = one(with_file(BUILT_IN, "/etc/default/grub", text))
    assert found.changes == ()
    assert "`kvm_amd.nested=1`" in found.hint


def test_a_file_of_grub_d_that_overrides_is_named() -> None:
    facts = with_file(BUILT_IN, "/etc/default/grub", GRUB)
    found = one(with_file(facts, "/etc/default/grub.d/50.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="kvm_amd.nested=0"\n'))
    assert "/etc/default/grub.d/50.cfg line 1" in found.refused


def test_other_distributions_make_grubs_file_otherwise() -> None:
    facts = with_file(BUILT_IN, "/etc/default/grub", GRUB)
    red_hat = one(replace(facts, tools=frozenset({"grub2-mkconfig"})))
    assert red_hat.changes[-1] == Run(("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"))
    grubby = one(replace(facts, tools=frozenset({"grub2-mkconfig", "grubby"})))
    assert grubby.changes == (Run(("grubby", "--update-kernel=ALL", "--args=kvm_amd.nested=1")),)


def test_proxmox_boot_tool_has_one_line_of_its_own() -> None:
    facts = replace(BUILT_IN, tools=frozenset({"proxmox-boot-tool", "update-grub"}))
    files = {
        kernel_command_line.PROXMOX: "AB-12\n",
        "/etc/kernel/cmdline": "root=ZFS=a boot=zfs\n",
        "/etc/default/grub": GRUB,
    }
    line = Write("/etc/kernel/cmdline", "root=ZFS=a boot=zfs kvm_amd.nested=1\n", "root=ZFS=a boot=zfs\n")
    refresh = Run(("proxmox-boot-tool", "refresh"))
    assert one(replace(facts, files=files)).changes == (line, refresh)
    grub = one(replace(facts, files=files, cmdline="BOOT_IMAGE=/vmlinuz ro"))
    assert [each.path for each in grub.changes if isinstance(each, Write)] == ["/etc/default/grub"]
    assert grub.changes[-1] == refresh


def test_without_a_known_boot_loader_it_is_done_by_hand() -> None:
    found = one(BUILT_IN)
    assert "cannot edit this boot loader" in found.refused
    assert found.hint == "Add `kvm_amd.nested=1` to the kernel command line by hand, and reboot."
    assert "Leave --temporary out" in one(BUILT_IN, temporary=True).hint


def test_ignore_msrs_of_a_built_in_kvm_is_set_at_once_and_goes_to_the_command_line() -> None:
    facts = replace(with_file(BUILT_IN, "/etc/default/grub", GRUB), kernel_modules={"kvm": Module(builtin=True)})
    found = one(facts, "ignore-msrs")
    assert [type(each) for each in found.changes] == [SetParameter, Write, Run]
    alone = one(replace(facts, files={}), "ignore-msrs")
    assert [type(each) for each in alone.changes] == [SetParameter]
    assert "will not outlast a reboot" in alone.notes[0]
