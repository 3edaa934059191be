"""What the doctor says of recorded and composed hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from golden_files import assert_golden
from nestlab.doctor.checks import checks
from nestlab.doctor.diagnose import diagnose, first_broken, verdict
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts, Kvm, Module, Package

HOSTS = sorted(path.stem for path in (Path(__file__).parent / "facts").glob("*.json"))
WINDOWS = Want(guests=frozenset({"windows", "esxi"}), memory=16 << 30, cpus=8)
FIXABLE = {"nested", "lasting", "ignore-msrs"}
OFF = {"/etc/modprobe.d/off.conf": "options kvm_intel nested=0"}


def host(name: str) -> Facts:
    return Facts.from_json((Path(__file__).parent / "facts" / f"{name}.json").read_text())


def found(facts: Facts, want: Want | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in diagnose(facts, want or Want())}


def text(facts: Facts, want: Want) -> str:
    """All that the doctor has to say, to be read."""
    findings = diagnose(facts, want)
    lines = [verdict(facts, findings)]
    for finding in findings:
        mark = " (fixable)" if finding.fixable else ""
        lines.append(f"\n{finding.level:4} {finding.layer}/{finding.check}{mark}: {finding.seen}")
        lines += [f"     why: {finding.why}"] if finding.why else []
        lines += [f"     do:  {finding.do}"] if finding.do else []
        lines += [f"       $ {command}" for command in finding.commands]
    return "\n".join(lines)


@pytest.mark.parametrize("name", HOSTS)
def test_the_findings_about_a_host_are_the_golden_ones(name: str) -> None:
    assert_golden(f"doctor/{name}.txt", text(host(name), Want()))


@pytest.mark.parametrize("name", ["amd-nested-0", "pve8", "vm-tcg-svm"])
def test_the_findings_for_a_wish_are_the_golden_ones(name: str) -> None:
    assert_golden(f"doctor/{name}.windows.txt", text(host(name), WINDOWS))


def test_every_check_finds_something_on_some_host() -> None:
    seen = {finding.check for name in HOSTS for want in (Want(), WINDOWS) for finding in diagnose(host(name), want)}
    assert set(checks.checks) == seen


def test_every_check_has_a_title_and_answers_in_its_own_name() -> None:
    for check in checks:
        assert check.title
        assert not check.title.endswith(".")
        for name in HOSTS:
            finding = check.rule(host(name), WINDOWS)
            assert finding is None or (finding.check, finding.layer) == (check.name, check.layer)


def test_what_can_be_mended_is_what_remedies_have() -> None:
    hosts = [*map(host, HOSTS), replace(host("intel-nested-y"), files=OFF)]
    mended = {finding.check for facts in hosts for finding in diagnose(facts, WINDOWS) if finding.fixable}
    assert mended == FIXABLE


def test_a_fix_that_would_be_refused_is_not_offered() -> None:
    above = replace(host("intel-nested-y"), files={"/etc/modprobe.d/zzz.conf": OFF["/etc/modprobe.d/off.conf"]})
    finding = found(above)["lasting"]
    assert (finding.level, finding.fixable, finding.commands) == ("warn", False, ())
    assert (
        "zzz.conf line 1 sets kvm_intel's nested=0, which wins over a file of nestlab's. Write `nested=1`" in finding.do
    )
    assert found(replace(above, files=OFF, uid=1000))["lasting"].fixable  # root can, with the very command


def test_the_fix_of_a_vulnerable_kernel_is_offered_with_its_risk_only() -> None:
    finding = found(host("intel-nested-n"))["nested"]
    assert finding.commands == ("nestlab doctor --fix nested --accept-risk",)
    assert "vulnerable to CVE-2026-53359" in finding.do


def test_a_file_outside_etc_is_overridden_by_one_of_its_name() -> None:
    facts = replace(host("amd-nested-0"), files={"/run/modprobe.d/local.conf": "options kvm_amd nested=0"})
    command = "sed 's/nested=[^ ]*/nested=1/' /run/modprobe.d/local.conf > /etc/modprobe.d/local.conf"
    assert command in found(facts)["nested"].commands


# What people come for.


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("intel-nested-n", "nested"),
        ("intel-nested-0-old-kernel", "nested"),
        ("intel-builtin", "nested"),
        ("intel-firmware-locked", "firmware"),
        ("intel-no-ept", "access"),
        ("amd-nested-0", "nested"),
        ("amd-nested-y-refused", "provider"),
        ("amd-svm-disabled", "firmware"),
        ("vm-kvm-no-vmx", "outer"),
        ("vm-pve-no-svm", "outer"),
        ("vm-vmware", "outer"),
        ("vm-sev", "confidential"),
        ("wsl2", "wsl"),
        ("container-no-device", "device"),
        ("pve9", "nested"),
        ("pvm-no-svm", "outer"),
        ("intel-nested-y", None),
        ("amd-nested-1", None),
        ("pve8", None),
        ("vm-gcp", None),
        ("vm-tcg-svm", None),
    ],
)
def test_the_first_broken_layer_is_the_one_to_mend(name: str, check: str | None) -> None:
    broken = first_broken(diagnose(host(name)))
    assert (broken.check if broken else None) == check


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("intel-nested-y", "Nesting works here: kvm_intel, nested=Y, proven by a guest that ran."),
        ("vm-tcg-svm", "Nesting works here: kvm_amd, nested=1, proven by a guest that ran."),
        (
            "intel-nested-n",
            "Nesting is off: kvm_intel has nested=N, so guests of this host get no KVM of their own.",
        ),
        (
            "amd-nested-1",
            "Nothing speaks against nesting here (kvm_amd, nested=1), but it is not proven: no guest was run.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(name: str, sentence: str) -> None:
    assert verdict(host(name), diagnose(host(name))) == sentence


PVM = Facts(
    kernel="6.18.44",
    arch="x86_64",
    vendor="AuthenticAMD",
    flags=frozenset({"hypervisor", "lm"}),
    provider="kvm_pvm",
    kvm=Kvm(opened=True, api=12, nested_state=0, ran=False, ran_error="exit 8 (triple fault) after 2 of 2 words"),
)


def test_one_sentence_says_that_a_kvm_is_in_software() -> None:
    said = verdict(PVM, diagnose(PVM))
    assert said.count(". ") == 0
    for words in ("/dev/kvm opens with API 12", "kvm_pvm", "neither vmx nor svm", "nestlab emulates instead"):
        assert words in said
    assert found(PVM)["provider"].level == "fail"
    assert found(PVM)["runs"].level == "fail"


def test_nothing_known_is_never_called_well() -> None:
    findings = diagnose(Facts())
    assert findings
    assert {finding.level for finding in findings} == {"note"}
    assert verdict(Facts(), findings).startswith("Nothing is known of this host")


@pytest.mark.parametrize("name", HOSTS)
def test_what_was_not_examined_is_unknown_rather_than_well(name: str) -> None:
    bare = replace(host(name), examined=False, python=False, files={}, package=Package(), messages=(), msr={})
    for check in ("lasting", "tools", "blocked", "options", "swap"):
        finding = found(bare).get(check)
        assert finding is None or finding.level == "note"


def test_a_parameter_that_is_on_proves_nothing_until_kvm_offers_it() -> None:
    facts = host("intel-nested-y")
    lying = replace(facts, kvm=replace(facts.kvm, nested_cpuid=None))
    assert found(lying)["nested"].level == "ok"
    assert found(lying)["offers"].level == "fail"
    assert "though kvm_intel says nested=Y" in found(lying)["offers"].seen


def test_intel_s_spelling_keeps_amd_s_module_from_loading() -> None:
    finding = found(host("amd-nested-y-refused"))["lasting"]
    assert (finding.level, finding.fixable) == ("fail", False)
    assert "/etc/modprobe.d/kvm.conf line 1 sets nested=Y, which kvm_amd does not accept" in finding.seen


def test_guests_in_the_way_of_a_reload_are_named() -> None:
    assert "101 web (pve)" in found(host("pve9"))["nested"].do
    assert "web (libvirt), pid 5077" in found(host("amd-nested-0"))["nested"].do


def test_guests_that_cannot_be_named_are_counted() -> None:
    facts = replace(host("amd-nested-0"), holders=())
    assert found(facts)["nested"].do.startswith("kvm_amd has 6 users (guests) that could not be named: stop them first")


def test_an_option_on_the_command_line_is_to_be_changed_there() -> None:
    facts = replace(host("pve9"), files={"/etc/kernel/cmdline": "root=ZFS=rpool kvm_amd.nested=0"})
    said = found(facts)["nested"].do
    assert said.startswith("/etc/kernel/cmdline line 1 sets kvm_amd's nested=0, which wins over a file of nestlab's")


def test_a_user_outside_the_group_gets_the_exact_command() -> None:
    assert found(host("intel-no-ept"))["access"].commands == ("usermod -aG kvm kai",)
    inside = replace(host("intel-no-ept"), groups=("kai", "kvm"))
    assert "log in again" in found(inside)["access"].do


def test_nesting_that_a_file_ends_at_the_next_boot_is_a_warning() -> None:
    finding = found(replace(host("intel-nested-y"), files=OFF))["lasting"]
    assert (finding.level, finding.fixable) == ("warn", True)
    assert finding.seen == "/etc/modprobe.d/off.conf line 1 sets nested=0, but kvm_intel runs with nested=Y"


def test_the_finding_names_a_change_that_waits_for_a_reboot() -> None:
    finding = found(host("intel-builtin"))["lasting"]
    assert finding.seen.startswith("/etc/default/grub line 3 sets nested=1, but kvm_intel runs with nested=N")
    assert "Reboot to finish" in finding.do
    assert found(host("intel-builtin"))["nested"].do.endswith(
        "already switches it on for the next boot: reboot to finish."
    )
    written = replace(
        host("pve9"), files={"/etc/modprobe.d/kvm.conf": "options kvm_amd nested=1"}, holders=(), kernel_modules={}
    )
    assert "already switches it on, but the module was loaded without" in found(written)["nested"].do


def test_ignore_msrs_is_advised_only_where_guests_need_it() -> None:
    facts = host("pve8")
    assert "ignore-msrs" not in found(facts)
    assert (found(facts, WINDOWS)["ignore-msrs"].level, found(facts, WINDOWS)["ignore-msrs"].fixable) == ("warn", True)
    on = replace(facts, parameters={**facts.parameters, "kvm.ignore_msrs": "Y"})
    assert found(on)["ignore-msrs"].level == "ok"
    assert found(on)["report-msrs"].level == "note"
    assert found(on, WINDOWS)["ignore-msrs"].seen.endswith("but no option keeps it so after a reboot")


def test_a_wish_that_is_too_large_is_a_warning() -> None:
    facts = host("vm-gcp")
    assert found(facts, WINDOWS)["memory"].do.endswith("10 GiB are missing.")
    assert found(facts, WINDOWS)["cpus"].seen == "4 CPUs, and 8 are wanted"


def test_another_hypervisor_that_has_the_cpu_is_why_no_guest_runs() -> None:
    facts = host("intel-nested-y")
    taken = replace(facts, kvm=Kvm(opened=True, api=12, ran=False, ran_error="KVM refused: Device or resource busy"))
    busy = replace(taken, kernel_modules={**facts.kernel_modules, "vboxdrv": Module(loaded=True)})
    finding = first_broken(diagnose(busy))
    assert finding is not None
    assert (finding.check, finding.commands) == ("other-hypervisor", ("modprobe -r vboxdrv",))


@pytest.mark.parametrize(
    "message",
    [
        "kvm: disabled by bios",
        "x86/cpu: VMX (outside TXT) disabled by BIOS",
        "kvm_intel: VMX not enabled (by BIOS) in MSR_IA32_FEAT_CTL on CPU 2",
        "kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 0",
        "kvm_amd: SVM disabled in MSR_VM_CR",
    ],
)
def test_the_kernel_s_words_for_a_lock_of_the_firmware_are_understood(message: str) -> None:
    broken = first_broken(diagnose(replace(host("amd-svm-disabled"), messages=(message,))))
    assert broken is not None
    assert broken.check == "firmware"


@pytest.mark.parametrize("message", ["x86/cpu: SGX disabled by BIOS.", "x2apic: disabled by BIOS", ""])
def test_other_features_that_the_firmware_disabled_are_no_lock(message: str) -> None:
    assert "firmware" not in {each.check for each in diagnose(replace(host("vm-vmware"), messages=(message,)))}
    assert found(replace(host("amd-svm-disabled"), messages=(message,)))["cpu"].level == "fail"


def test_the_lock_s_register_is_read_with_its_own_vendor_s_meaning() -> None:
    intel, amd = replace(host("intel-firmware-locked"), messages=()), replace(host("amd-svm-disabled"), messages=())
    assert found(replace(intel, msr={"0x3a": 1}))["firmware"].level == "fail"
    assert found(replace(intel, msr={"0x3a": 5}))["firmware"].level == "ok"
    assert found(replace(intel, msr={"0x3a": 0}))["firmware"].level == "ok"
    assert found(replace(amd, msr={"0xc0010114": 0x18}))["firmware"].level == "fail"
    assert found(replace(amd, msr={"0xc0010114": 0x8}))["firmware"].level == "ok"
    assert found(replace(amd, msr={}))["firmware"].seen.startswith("Unknown")


@pytest.mark.parametrize(
    ("message", "sealed"),
    [
        ("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", True),
        ("AMD Memory Encryption Features active: SEV", True),
        ("Memory Encryption Features active: Intel TDX", True),
        ("kvm_amd: KVM is unsupported when running as an SEV guest", True),
        ("AMD Memory Encryption Features active: SME", False),
        ("kvm_amd: SEV enabled (ASIDs 10 - 509)", False),
    ],
)
def test_a_confidential_guest_is_not_taken_for_a_host_of_them(message: str, sealed: bool) -> None:
    assert ("confidential" in found(replace(host("vm-vmware"), messages=(message,)))) is sealed


@pytest.mark.parametrize(
    ("machine", "dmi", "command"),
    [
        ("kvm", {"bios_vendor": "Proxmox distribution of EDK II"}, "qm set VMID --cpu host"),
        ("kvm", {"sys_vendor": "QEMU"}, "virt-xml NAME --edit --cpu host-passthrough"),
        ("kvm", {"product_name": "OpenStack Compute"}, "systemctl restart nova-compute"),
        ("vmware", {}, 'vhv.enable = "TRUE"'),
        ("microsoft", {}, "Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true"),
        ("microsoft", {"chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}, "az vm resize"),
        ("oracle", {}, "VBoxManage modifyvm NAME --nested-hw-virt on"),
        ("google", {}, "gcloud compute instances update-from-file"),
        ("amazon", {}, "aws ec2 modify-instance-cpu-options"),
        ("kvm", {"board_vendor": "LinuxContainers"}, "nestlab doctor"),
        ("kvm", {"sys_vendor": "Nutanix"}, "acli vm.update NAME cpu_passthrough=true"),
        ("xen", {}, "nestedhvm = 1"),
        ("parallels", {}, "prlctl set NAME --nested-virt on"),
    ],
)
def test_the_outer_host_gets_its_exact_command(machine: str, dmi: dict[str, str], command: str) -> None:
    facts = replace(host("vm-kvm-no-vmx"), machine=machine, virtualization=machine, dmi=dmi)
    broken = first_broken(diagnose(facts))
    assert broken is not None
    assert broken.check == "outer"
    assert any(command in each for each in broken.commands)


def test_nesting_that_is_off_may_be_off_on_purpose_and_that_is_said() -> None:
    findings = found(host("intel-nested-n"))
    assert "on purpose" in findings["nested"].why
    assert "on purpose" in findings["security"].why
    assert "CVE-2026-53359" in findings["security"].seen


# Whose is the level below?


RENTED = ["Amazon EC2", "Google Compute Engine", "DigitalOcean", "Hetzner", "OpenStack Nova", "Vultr", "Alibaba Cloud"]


@pytest.mark.parametrize("vendor", RENTED)
def test_a_tenant_gets_no_advice_that_only_the_owner_of_the_host_can_follow(vendor: str) -> None:
    facts = replace(host("vm-kvm-no-vmx"), dmi={"sys_vendor": vendor, "product_name": vendor}, iommu=0)
    told = text(facts, WINDOWS)
    for word in ("qm ", "virsh", "virt-xml", "VBoxManage", "run-instances"):
        assert f"$ {word}" not in told
    assert "bare-metal" in found(facts)["iommu"].do


def test_an_instance_that_can_be_changed_is_stopped_changed_and_started() -> None:
    facts = host("vm-ec2-option-off")
    finding = found(facts)["outer"]
    assert "stop the instance" in finding.do
    assert ["stop-instances" in finding.commands[0], "modify-instance-cpu-options" in finding.commands[1]] == [True] * 2
    assert "anew" not in finding.do.replace("request that one anew", "")


def test_an_old_instance_on_xen_is_known_to_be_amazons() -> None:
    facts = replace(host("vm-kvm-no-vmx"), machine="xen", virtualization="xen", dmi={"bios_version": "4.11.amazon"})
    assert "change its type" in found(facts)["outer"].do
    assert "nestedhvm" not in text(facts, Want())


def test_the_advice_for_an_amd_machine_of_google_is_another_type() -> None:
    facts = replace(host("vm-gcp"), vendor="AuthenticAMD", model="AMD EPYC 7B12", flags=frozenset({"lm", "hypervisor"}))
    finding = found(replace(facts, provider=""))["outer"]
    assert finding.do.startswith("This is an AMD machine.")
    assert "set-machine-type" in finding.commands[1]


def test_a_provider_that_does_not_nest_is_said_not_to() -> None:
    finding = found(host("vm-hetzner"))["outer"]
    assert "Hetzner Cloud does not nest" in finding.do
    assert finding.commands == ()


# Models put together by hand.


def test_vmx_on_a_generic_model_is_what_breaks_first() -> None:
    broken = first_broken(diagnose(host("vm-generic-cpu")))
    assert broken is not None
    assert (broken.check, broken.layer) == ("cpu-model", "place")
    assert "generic CPU model" in broken.seen
    assert broken.commands[0] == "virt-xml NAME --edit --cpu host-passthrough"


@pytest.mark.parametrize("model", ["Common KVM processor", "QEMU Virtual CPU version (cpu64-rhel6)"])
def test_every_generic_model_is_known(model: str) -> None:
    assert found(replace(host("vm-generic-cpu"), model=model))["cpu-model"].level == "fail"


def test_the_flag_of_another_vendor_is_one_added_by_hand() -> None:
    facts = host("vm-generic-cpu")
    facts = replace(facts, model="Intel Xeon Processor (Skylake)", flags=facts.flags - {"vmx"} | {"svm"})
    assert "which is not that vendor's" in found(facts)["cpu-model"].seen


def test_a_whole_model_is_none_put_together_by_hand() -> None:
    assert found(host("vm-gcp"))["cpu-model"].level == "ok"
    assert "cpu-model" not in found(host("vm-tcg-svm"))  # emulated: the model is QEMU's choice


def test_proxmox_ves_own_models_with_its_own_flag_are_no_mistake_for_sure() -> None:
    facts = replace(host("vm-generic-cpu"), dmi={"product_version": "pc-q35-10.0+pve1"})
    assert found(facts)["cpu-model"].level == "warn"


# ARM.


@pytest.mark.parametrize("name", ["arm-apple", "arm-ec2", "arm-nv2"])
def test_an_arm_host_gets_answers_in_arms_words(name: str) -> None:
    facts = host(name)
    told = text(facts, WINDOWS)
    for word in ("vmx", "svm", "VMX", "kvm_intel", "KVM_GET_SUPPORTED_CPUID", "Install python3", "intel_iommu", "VT-d"):
        assert word not in told
    assert verdict(facts, diagnose(facts)).startswith("This is an ARM host (aarch64): ")
    broken = first_broken(diagnose(facts))
    assert broken is not None
    assert broken.check == "architecture"


def test_kvm_on_arm_nests_with_nv2_only() -> None:
    assert found(host("arm-nv2"))["offers"].level == "ok"
    finding = found(host("arm-apple"))["offers"]
    assert finding.level == "note"
    assert "kvm-arm.mode=nested" in finding.seen
    assert "virtualization=on" in finding.do


def test_the_advice_for_an_arm_machine_without_kvm_names_the_level_that_decides() -> None:
    assert "bare-metal ARM type" in found(host("arm-ec2"))["outer"].do
    assert "HYP mode not available" in found(host("arm-ec2"))["device"].seen


# Windows.


def test_wsl_says_that_windows_10_never_nests() -> None:
    finding = found(host("wsl2"))["wsl"]
    assert "Windows 10 never does" in finding.why
    assert "update to Windows 11" in finding.do


@pytest.mark.parametrize(("kernel", "told"), [("6.11.0", False), ("6.18.1", True)])
def test_virtualbox_beside_kvm_depends_on_both_versions(kernel: str, told: bool) -> None:
    facts = replace(host("intel-nested-y"), kernel=kernel, kernel_modules={"vboxdrv": Module(loaded=True)})
    assert ("before VirtualBox 7.2.10" in found(facts)["other-hypervisor"].do) == told


# Machines of a lab.


def small(facts: Facts) -> Facts:
    """As large as nestlab makes a hypervisor by itself."""
    sizes = {"/": 900 << 20, "/var/lib": 900 << 20}
    return replace(facts, cpus=1, memory=960 << 20, memory_available=600 << 20, disk=sizes, swap=0)


def test_nestlabs_own_sizes_are_no_reason_to_warn() -> None:
    facts = small(host("vm-tcg-svm"))
    capacity = {"memory", "cpus", "disk", "swap"}
    levels = {name: each.level for name, each in found(facts, Want(role="hypervisor")).items() if name in capacity}
    assert levels == {"memory": "ok", "cpus": "ok", "disk": "ok"}
    assert found(facts)["disk"].level == "warn"


def test_a_machine_of_a_lab_whose_memory_or_disk_is_nearly_used_up_is_warned_of() -> None:
    facts = replace(small(host("vm-tcg-svm")), memory_available=10 << 20, disk={"/var/lib": 10 << 20})
    findings = found(facts, Want(role="hypervisor"))
    assert (findings["memory"].level, findings["disk"].level) == ("warn", "warn")
    assert "`memory:`" in findings["memory"].do


@pytest.mark.parametrize("flags", [frozenset({"lm"}), frozenset({"lm", "svm", "hypervisor"})])
def test_a_plain_guest_does_not_fail_for_being_one(flags: frozenset[str]) -> None:
    facts = replace(small(host("vm-kvm-no-vmx")), flags=flags)
    findings = diagnose(facts, Want(role="plain"))
    assert {finding.level for finding in findings} <= {"ok", "note"}
    assert verdict(facts, findings) == (
        "This is a plain guest, which is to have no guests of its own: nothing is broken."
    )
    assert "hypervisor: kvm" in found(facts, Want(role="plain"))["outer"].do
    assert first_broken(diagnose(facts)) is not None
