"""What is wrong in configurations of Proxmox VE, libvirt and QEMU, and that nothing is said of those that are right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.explain.configurations import remarks
from nestlab.explain.explain import explain

PVE = """\
boot: order=scsi0;net0
cores: 4
{}
memory: 8192
name: node
ostype: l26
scsihw: virtio-scsi-single
"""
XML = """\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>node</name>
  {}
</domain>
"""
HOST_XML = "<cpu mode='host-passthrough' check='none'/>"


def names(text: str) -> list[str]:
    return [each.name for each in remarks(text)]


@pytest.mark.parametrize(
    ("line", "name", "do"),
    [
        ("cpu: x86-64-v2-AES", "cpu-model-without-virtualization", "qm set VMID --cpu host"),
        ("cpu: cputype=kvm64", "cpu-model-without-virtualization", "qm set VMID --cpu host"),
        ("cpu: kvm64,flags=+vmx", "cpu-by-hand", "qm set VMID --cpu host"),
        ("cpu: host,flags=-svm", "cpu-flag-off", "qm set VMID --cpu host"),
        ("args: -cpu qemu64,+svm", "pve-args-cpu", "qm set VMID --delete args"),
        ("cpu: host\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag=5", "pve-firewall-on-nested-card",
         "qm set VMID --net0 'virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=5'"),
        ("cpu: host\nkvm: 0", "pve-host-without-kvm", "--kvm 1"),
        ("cpu: max\nkvm: 0", "pve-kvm-off", "--kvm 1"),
        ("sockets: 1", "pve-cpu-default", "qm set VMID --cpu host"),
    ],
)  # fmt: skip
def test_a_configuration_of_proxmox_ve_that_cannot_nest_is_told_why_and_how(line: str, name: str, do: str) -> None:
    text = PVE.format(line)
    assert name in names(text)
    assert do in next(each.do for each in remarks(text) if each.name == name)
    numbers = {each.number for each in remarks(text)}
    assert numbers <= {each.number for each in explain(text)}


@pytest.mark.parametrize(
    "line",
    [
        "cpu: host\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0",
        "cpu: EPYC\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=0",
        "cpu: x86-64-v3,flags=+nested-virt",
    ],
)
def test_nothing_is_said_of_a_configuration_that_is_right(line: str) -> None:
    assert names(PVE.format(line)) == []


def test_a_custom_cpu_model_with_vmx_added_to_kvm64_is_one_put_together_by_hand() -> None:
    section = "cpu-model: nested\n    flags +aes;+vmx\n    phys-bits host\n    {}hidden 0\n"
    assert names(section.format("reported-model kvm64\n    ")) == ["cpu-by-hand"]
    assert names(section.format("")) == ["cpu-by-hand"]
    assert names(section.format("reported-model host\n    ")) == []
    found = remarks(section.format(""))[0]
    assert (found.number, found.line) == (2, "flags +aes;+vmx")


MODEL = "<cpu mode='custom'>\n<model fallback='forbid'>{}</model>\n<feature policy='{}' name='{}'/>\n</cpu>"


@pytest.mark.parametrize(
    ("inside", "name"),
    [
        (MODEL.format("qemu64", "require", "vmx"), "cpu-by-hand"),
        (MODEL.format("cpu64-rhel6", "force", "vmx"), "cpu-by-hand"),
        (MODEL.format("Skylake-Server-IBRS", "require", "svm"), "cpu-by-hand"),
        (MODEL.format("EPYC-Rome", "disable", "svm"), "cpu-flag-off"),
        ("<cpu mode='host-model'>\n<feature name='vmx' policy='disable'/>\n</cpu>", "cpu-flag-off"),
        (HOST_XML + "\n<qemu:arg value='-cpu'/>", "libvirt-args-cpu"),
        (HOST_XML + "\n<filterref filter='clean-traffic'/>", "libvirt-filter-on-nested-card"),
        (HOST_XML + "\n<interface type='direct'>", "libvirt-macvtap-on-nested-card"),
        ("<memory>1</memory>", "libvirt-cpu-default"),
    ],
)
def test_a_domain_that_cannot_nest_is_told_why(inside: str, name: str) -> None:
    assert name in names(XML.format(inside))


@pytest.mark.parametrize("inside", [HOST_XML, MODEL.format("EPYC-Rome", "require", "svm"), "<cpu mode='host-model'/>"])
def test_nothing_is_said_of_a_domain_that_is_right(inside: str) -> None:
    assert names(XML.format(inside + "\n<interface type='bridge'>")) == []


def test_a_domain_that_is_emulated_or_of_another_architecture() -> None:
    assert "libvirt-emulated" in names("<domain type='qemu'>\n</domain>")
    assert names("<domain type='kvm'>\n<os><type arch='aarch64'>hvm</type></os>\n</domain>") == []


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("qemu-system-x86_64 -enable-kvm -cpu kvm64,+vmx -m 4G", "cpu-by-hand"),
        ("/usr/bin/kvm -id 100 -cpu 'qemu64,enforce,+svm' -m 4096", "cpu-by-hand"),
        ("qemu-system-x86_64 -accel kvm \\\n  -m 4G \\\n  -cpu EPYC,vmx=on", "cpu-by-hand"),
        ("/usr/libexec/qemu-kvm -name guest=a -cpu Skylake-Client,-vmx", "cpu-flag-off"),
        ("qemu-system-x86_64 -cpu host,svm=off -accel kvm", "cpu-flag-off"),
        ("qemu-system-x86_64 -m 1G -cpu Haswell,+vmx", "vmx-without-kvm"),
        ("qemu-system-x86_64 -m 1G -cpu host", "host-without-kvm"),
    ],
)
def test_a_qemu_command_that_cannot_nest_is_told_why(command: str, name: str) -> None:
    assert names(f"some log\n{command}\nanother line\n") == [name]


@pytest.mark.parametrize(
    "command",
    [
        "qemu-system-x86_64 -accel kvm -cpu host -m 4G",
        "qemu-system-x86_64 -accel tcg,thread=multi -cpu EPYC,+svm,+npt -m 1024M",
        "qemu-system-x86_64 -machine q35,accel=kvm -cpu host,migratable=off",
        "qemu-system-x86_64 -enable-kvm -cpu Skylake-Server,+vmx",
        "the manual says -cpu kvm64,+vmx",
    ],
)
def test_nothing_is_said_of_a_command_that_is_right(command: str) -> None:
    assert names(command) == []


def test_the_line_that_is_shown_is_the_one_with_the_cpu() -> None:
    found = remarks("qemu-system-x86_64 \\\n -enable-kvm \\\n -cpu kvm64,+vmx \\\n -m 1")
    assert (found[0].number, found[0].line) == (3, "-cpu kvm64,+vmx \\")


def test_no_line_is_explained_twice() -> None:
    numbers = [each.number for each in explain(PVE.format("args: -cpu kvm64,+vmx\nnet0: e1000,firewall=1"))]
    assert sorted(set(numbers)) == sorted(numbers)


def test_what_a_program_says_comes_before_what_may_be_wrong_in_a_configuration() -> None:
    text = "Could not access KVM kernel module: No such file or directory\n" + PVE.format(
        "cpu: host\nnet0: e1000,firewall=1"
    )
    said = explain(text)
    assert said[0].number == 1
    assert said[-1].signature.name == "pve-firewall-on-nested-card"


def test_a_command_that_is_to_be_typed_holds_nothing_of_a_hostile_file() -> None:
    text = PVE.format("cpu: host\nnet0: virtio=$(reboot)',bridge=x,firewall=1")
    assert "reboot" not in remarks(text)[0].do


words = st.sampled_from(
    ["cpu: ", "args: -cpu ", "kvm64", ",+vmx", "\n", "<domain type='kvm'>", "<model>", "\\\n", "qemu-kvm -", " -cpu ",
     "memory: 1", "net0: a,firewall=1", "cpu-model: x", "  flags +svm", "'", "<feature name='vmx'", "cores: 2"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(words, st.text(max_size=8)), max_size=30).map("".join))
def test_any_text_will_do(text: str) -> None:
    for each in remarks(text):
        assert 1 <= each.number <= text.count("\n") + 1
        assert each.cause.endswith((".", ")"))
        assert each.do.endswith(".")
