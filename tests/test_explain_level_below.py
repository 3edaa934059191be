"""Who mends the level below: a tenant is told the provider's own way, others what the hypervisor below calls it."""

from __future__ import annotations

import pytest

from nestlab.explain.explain import Explained, explain


def said(found: tuple[Explained, ...]) -> str:
    """All that a reader is told."""
    parts = [word for each in found for word in (each.cause, each.do)]
    parts += [word for each in found if each.below for word in (each.below.way.do, *each.below.way.commands)]
    return " ".join(parts)


CLOUDS = [
    ("ubuntu@ip-172-31-4-9:~$ kvm-ok\nINFO: Your CPU does not support KVM extensions", "modify-instance-cpu-options"),
    ("[0.0] DMI: Google Google Compute Engine/Google, BIOS Google\nkvm: no hardware support", "E2"),
    (
        "Linux vm1 6.8.0-1017-azure #20-Ubuntu\nmodprobe: ERROR: could not insert 'kvm_intel': Operation not supported",
        "Trusted Launch",
    ),
    ("DMI: Hetzner vServer/KVM\nTASK ERROR: KVM virtualisation configured, but not available.", "dedicated server"),
    ("DMI: OpenStack Foundation OpenStack Nova\nKVM acceleration can NOT be used", "operator"),
    (
        "# dmidecode -s system-manufacturer\nDigitalOcean\n# kvm-ok\nINFO: Your CPU does not support KVM extensions",
        "another plan or region",
    ),
    (
        "$ cat /sys/class/dmi/id/sys_vendor\nHetzner\nmodprobe: ERROR: could not insert 'kvm_amd': Operation not "
        "supported",
        "dedicated server",
    ),
    (" Hardware Vendor: Alibaba Cloud\nkvm: no hardware support", "ecs.ebm"),
    ("\tManufacturer: Vultr\nkvm: no hardware support", "Vultr Bare Metal"),
]


@pytest.mark.parametrize(("text", "must"), CLOUDS)
def test_a_tenant_of_a_cloud_is_told_the_providers_own_way(text: str, must: str) -> None:
    told = said(explain(text))
    assert must in told
    assert "--cpu host" not in told
    assert "run-instances" not in told


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("[0.0] Hypervisor detected: VMware\nkvm: no hardware support", "vhv.enable"),
        ("[0.0] Hypervisor detected: Microsoft Hyper-V\nkvm: no hardware support", "ExposeVirtualizationExtensions"),
        ("[0.0] DMI: innotek GmbH VirtualBox/VirtualBox\nkvm: no hardware support", "--nested-hw-virt on"),
        ("$ systemd-detect-virt\nxen\n$ kvm-ok\nINFO: Your CPU does not support KVM extensions", "nestedhvm"),
        (
            "Linux 6.6.87.2-microsoft-standard-WSL2\nCould not access KVM kernel module: No such file or directory",
            "wsl --shutdown",
        ),
        ("Linux pi 6.12.47+rpt-rpi-v8 aarch64\nKVM acceleration can NOT be used", "EL2"),
        ("kvm: no hardware support", "firmware setup"),
    ],
)
def test_the_level_below_is_mended_in_the_words_of_what_the_log_shows(text: str, must: str) -> None:
    (below,) = [each.below for each in explain(text) if each.below]
    assert must in " ".join((below.way.do, *below.way.commands))
