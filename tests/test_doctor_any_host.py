"""What holds of the doctor's findings for any facts at all."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nestlab.doctor.diagnose import diagnose, first_broken, verdict
from nestlab.doctor.finding import LAYERS, LEVELS, Want
from nestlab.hosts.facts import Device, Facts, Holder, Kvm, Module, Package

FIXABLE = {"nested", "lasting", "ignore-msrs"}

words = st.text(max_size=12)
flags = st.frozensets(st.sampled_from(["vmx", "svm", "hypervisor", "lm", "ept", "npt"]))
values = st.sampled_from(["", "Y", "N", "1", "0", "Yes", "-1", "0x", "o", "٣"])
machines = st.sampled_from(
    ["", "kvm", "qemu", "vmware", "microsoft", "wsl", "docker", "lxc", "none", "vm-other", "xen"]
)
vendors = st.sampled_from(["", "GenuineIntel", "AuthenticAMD", "Odd"])
names = st.sampled_from(["kvm", "kvm_intel", "kvm_amd", "vboxdrv", "msr"])
parameters = st.sampled_from(
    ["nested", "ept", "npt", "vgif", "vls", "ignore_msrs", "report_ignored_msrs", "halt_poll_ns"]
)
paths = st.sampled_from(
    [
        "/etc/modprobe.d/a.conf",
        "/lib/modprobe.d/a.conf",
        "/etc/modprobe.d/.conf",
        "/etc/default/grub",
        "/etc/kernel/cmdline",
    ]
)
lines = st.one_of(
    st.builds("options {} {}={}".format, names, parameters, values),
    st.builds("{} {} {}".format, st.sampled_from(["install", "blacklist", "#", "options"]), names, words),
    st.builds('GRUB_CMDLINE_LINUX="{}.{}={} $GRUB_CMDLINE_LINUX"'.format, names, parameters, values),
    st.builds("{}.{}={}".format, names, parameters, values),
    words,
)
contents = st.lists(lines, max_size=4).map("\n".join)
cves = st.sampled_from(["CVE-2026-53359", "CVE-2026-46113", "CVE-2026-64561", "CVE-2020-1"])
kernels = st.one_of(
    words,
    st.from_regex(
        r"[0-9]{1,5}\.[0-9]{1,5}(\.[0-9]{1,6})?(-rc[0-9]{1,5}|-[0-9]+-pve|-[0-9]+-amd64|\.fc44)?", fullmatch=True
    ),
)
any_facts = st.builds(
    Facts,
    kernel=kernels,
    kernel_build=st.one_of(words, kernels.map("#1 SMP Debian {}".format)),
    arch=st.sampled_from(["", "x86_64", "i686", "aarch64"]),
    vendor=vendors,
    model=words,
    flags=flags,
    virtualization=machines,
    container=machines,
    machine=machines,
    provider=st.sampled_from(["", "kvm_intel", "kvm_amd", "kvm_pvm", "kvm"]),
    parameters=st.dictionaries(st.builds("{}.{}".format, names, parameters), values, max_size=6),
    kvm=st.builds(Kvm, nested_cpuid=st.sampled_from([None, "vmx", "svm"])),
    cpus=st.integers(-1, 300),
    memory=st.integers(0, 1 << 45),
    memory_available=st.integers(0, 1 << 45),
    uid=st.integers(-1, 1000),
    examined=st.booleans(),
    python=st.booleans(),
    unseen=st.dictionaries(st.sampled_from(["messages", "msr", "changelog", "/etc/modprobe.d"]), words),
    dmi=st.dictionaries(st.sampled_from(["sys_vendor", "product_name"]), words),
    cmdline=contents,
    package=st.builds(Package, name=words, changelog=st.booleans(), cves=st.lists(cves).map(tuple)),
    kernel_modules=st.dictionaries(names, st.builds(Module)),
    device=st.builds(Device, mode=st.integers(0, 0o777)),
    holders=st.lists(st.builds(Holder), max_size=9).map(tuple),
    files=st.dictionaries(paths, contents, max_size=4),
    tools=st.frozensets(st.sampled_from(["modprobe", "update-grub"])),
    messages=st.lists(st.one_of(words, st.just("kvm: disabled by bios")), max_size=2).map(tuple),
    msr=st.dictionaries(st.sampled_from(["0x3a", "0xc0010114"]), st.integers(0, 1 << 40)),
    disk=st.dictionaries(st.sampled_from(["/", "/var/lib"]), st.integers(0, 1 << 45)),
    ksm=st.sampled_from([None, True, False]),
    hugepages=st.dictionaries(st.one_of(st.sampled_from(["2048", "1048576"]), words), st.integers(-1, 1 << 30)),
    iommu=st.one_of(st.none(), st.integers(0, 99)),
)
any_want = st.builds(
    Want,
    guests=st.frozensets(st.sampled_from(["windows", "esxi", "macos", "plan9"])),
    memory=st.integers(0, 1 << 45),
    cpus=st.integers(0, 300),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_facts, any_want)
def test_any_facts_have_findings_by_layer_one_for_each_check(facts: Facts, want: Want) -> None:
    findings = diagnose(facts, want)
    names = [finding.check for finding in findings]
    layers = [LAYERS.index(finding.layer) for finding in findings]
    assert len(set(names)) == len(names)
    assert layers == sorted(layers)
    for finding in findings:
        assert finding.level in LEVELS
        assert finding.seen
        assert finding.level == "ok" or (finding.why and finding.do)
        assert finding.level != "ok" or not (finding.why or finding.do or finding.fixable)
        assert not finding.fixable or finding.check in FIXABLE
    said = verdict(facts, findings)
    assert said.endswith(".")
    assert first_broken(findings) is None or not said.startswith("Nesting works here:")
