"""What the doctor makes of what its script prints: composed texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.doctor import gather, gather_output
from nestlab.hosts.facts import Device, Facts, Module

PARTS = ("read", "id", "modules", "available", "device", "disk", "iommu", "mounts", "msr", "kvm", "cpu", "clock")


def text_of(**parts: str) -> str:
    named = {"device": parts.pop("device", ""), **parts, "end": ""}
    return "hello\nnestlab facts m-1\n" + "".join(f"\nm-1 {name}\n{content}" for name, content in named.items())


def parsed(**parts: str) -> Facts:
    return gather.parse(text_of(**parts), "hv1")


@given(st.text())
def test_what_is_no_facts_is_a_message(text: str) -> None:
    with pytest.raises(LabError, match=r"hv1: .*facts"):
        gather.parse(f"x{text}", "hv1")


def test_facts_that_break_off_or_make_no_sense_are_a_message() -> None:
    whole = text_of(id="uid=0(root) gid=0(root)\n")
    assert gather.parse(whole, "hv1").user == "root"
    with pytest.raises(LabError, match="broke off"):
        gather.parse(whole.removesuffix("\nm-1 end\n"), "hv1")
    with pytest.raises(LabError, match="make no sense"):
        parsed(probe='{"arch": 3}')


@given(st.dictionaries(st.sampled_from(PARTS), st.text()))
def test_any_content_of_a_part_is_facts_or_a_message(parts: dict[str, str]) -> None:
    try:
        facts = parsed(**parts)
    except LabError:
        return
    assert Facts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize(
    ("command", "argv", "kind", "guest"),
    [
        ("kvm", "/usr/bin/kvm -id 100 -name web01,debug-threads=on -no-shutdown", "pve", "100 web01"),
        ("kvm", "/usr/bin/kvm -id 101 -no-shutdown", "pve", "101"),
        ("qemu-system-x86", "/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S", "libvirt", "web"),
        ("qemu-kvm", "/usr/libexec/qemu-kvm -name guest=a,,b,debug-threads=on", "libvirt", "a,b"),
        (
            "qemu-system-x86",
            "qemu-system-x86_64 -name nestlab:pair:hv1/web,debug-threads=on",
            "nestlab",
            "pair hv1/web",
        ),
        ("qemu-system-x86", "qemu-system-x86_64 -m 1G -name box", "qemu", "box"),
        ("qemu-system-x86", "qemu-system-x86_64 -m 1G", "qemu", ""),
        ("firecracker", "/bin/firecracker --id 3", "other", ""),
        ("kvm", "", "qemu", ""),
        ("", "", "other", ""),
    ],
)
def test_a_holder_is_known_by_its_arguments(command: str, argv: str, kind: str, guest: str) -> None:
    found = gather_output.holder(7, command + "\n" + "".join(f"{word}\0" for word in argv.split()))
    assert (found.pid, found.command, found.kind, found.guest) == (7, command, kind, guest)


def test_modules_are_loaded_built_in_or_available() -> None:
    found = gather_output.modules(
        "kvm loaded 1 kvm_amd\nkvm_amd loaded 4\nmsr builtin -\n",
        "none\n/lib/modules/6/modules.dep:kernel/arch/x86/kvm/kvm-intel.ko\n"
        "/lib/modules/6/modules.builtin:kernel/drivers/xen/xen-privcmd.ko\n",
    )
    assert found == {
        "kvm": Module(loaded=True, available=True, refcnt=1, users=("kvm_amd",)),
        "kvm_amd": Module(loaded=True, available=True, refcnt=4),
        "msr": Module(builtin=True, available=True),
        "kvm_intel": Module(available=True),
        "xen_privcmd": Module(builtin=True, available=True),
    }


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("crw-rw----+ 1 root kvm 10, 232 Nov 24 01:59 /dev/kvm\n", Device(True, 0o660, "root", "kvm")),
        ("crw-rw-rwT 1 0 104 10, 232 Nov 24 01:59 /dev/kvm\n", Device(True, 0o1666, "0", "104")),
        ("crws--x--t 1 a b 10, 232 Nov 24 01:59 /dev/kvm\n", Device(True, 0o5711, "a", "b")),
        ("", None),
    ],
)
def test_a_device_is_as_ls_shows_it(text: str, device: Device | None) -> None:
    assert gather_output.device(text) == device


def test_registers_are_little_endian_words() -> None:
    text = "58 05 00 00 00 00 00 00 00\n3221291284\n3221291284 18 00 00 00 00 00 00 80\n"
    assert gather_output.registers(text) == {"0x3a": 5, "0xc0010114": 0x8000000000000018}
    assert parsed(id="uid=0(root)", msr="58\n3221291284\n").unseen["msr"] == "it cannot be read"
    assert parsed(id="uid=7(me)", msr="permission denied\n").unseen["msr"] == "not root"


@pytest.mark.parametrize(
    ("mounts", "uid", "why"),
    [
        ("/dev/sda / ext4 rw,relatime 0 0\nwritable\n", 0, ""),
        ("/dev/sda / ext4 ro,relatime 0 0\nwritable\n", 0, "read-only file system"),
        ("/dev/sda / ext4 ro 0 0\ntmpfs /etc tmpfs rw 0 0\nwritable\n", 0, ""),
        ("rootfs / rootfs ro 0 0\n/dev/sda / ext4 rw 0 0\n", 1000, "not root"),
        ("", 0, "permission denied"),
    ],
)
def test_the_innermost_mount_says_whether_it_is_read_only(mounts: str, uid: int, why: str) -> None:
    assert gather_output.readonly(mounts, uid) == why


def test_a_container_is_not_taken_for_a_machine() -> None:
    cpu, clocks = {"hypervisor"}, "/sys/devices/system/clocksource/clocksource0/available_clocksource"
    machine = {clocks: "kvm-clock tsc\n", "/proc/sys/kernel/osrelease": "6.12\n"}
    assert gather_output.place(machine, cpu, {}) == ("", "kvm")
    assert gather_output.place({**machine, "/.dockerenv": ""}, cpu, {}) == ("docker", "kvm")
    assert gather_output.place({}, set(), {"container": "container=lxc\n"}) == ("lxc", "")
    layers = "overlay / overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/7/fs 0 0\n"
    assert gather_output.place({}, set(), {"mounts": layers}) == ("container-other", "")
    wsl = {"/proc/sys/kernel/osrelease": "5.15-microsoft-standard-WSL2\n", clocks: "hyperv_clocksource_tsc_page\n"}
    assert gather_output.place(wsl, cpu, {}) == ("wsl", "microsoft")


def test_only_a_clouds_asset_tag_is_kept() -> None:
    folder = "/sys/class/dmi/id"
    said = f"{folder}/chassis_asset_tag:{{}}\n{folder}/sys_vendor:A\n"
    assert parsed(read=said.format("INV-0042")).dmi == {"sys_vendor": "A"}
    assert parsed(read=said.format("OpenStack Nova")).dmi["chassis_asset_tag"] == "OpenStack Nova"


def test_small_parts() -> None:
    rows = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a b 100 40 60 40% /\nt 9 9 -1 - /var/lib\n"
    assert gather_output.disk(rows) == {"/": 60 * 1024, "/var/lib": 0}
    assert gather_output.listed("0-3,8,10-11\n") == 7
    assert gather_output.groups("32 /sys/kernel/iommu_groups/0\n") == 32
    assert gather_output.groups("1 /sys/kernel/iommu_groups/*\n") == 0
    assert gather_output.groups("") is None
    assert gather_output.identity("uid=1000(kai) gid=1000(kai) groups=1000(kai),27(sudo),99\n") == (
        1000,
        "kai",
        ("kai", "sudo", "99"),
    )
    assert parsed(read="/sys/kernel/security/lockdown:none [integrity] confidentiality\n").lockdown == "integrity"
    assert parsed(read="/proc/meminfo:SwapTotal:       2 kB\n").swap == 2048
    assert parsed(read="/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages:7\n").hugepages == {"2048": 7}


def test_the_first_cpu_stands_for_hundreds() -> None:
    facts = parsed(
        cpu="processor\t: 0\nvendor_id\t: X\nflags\t: svm lm\n", read="/sys/devices/system/cpu/online:0-255\n"
    )
    assert facts.cpus == 256
    assert facts.flags == {"svm", "lm"}
