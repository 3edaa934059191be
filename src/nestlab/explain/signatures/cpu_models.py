"""CPU models put together by hand: vmx or svm added to a model that is no real CPU's."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

GENERIC = (
    r"(?:qemu(?:32|64)|kvm(?:32|64)|cpu64-rhel\d|x86-64-v[1-4][\w-]{0,8}|core2duo|Penryn|Conroe|pentium\w{0,6}|486"
    r"|athlon)"
)
SEE = (
    "PVE Administration Guide: CPU Type (nested-virt); QEMU documentation: system/qemu-cpu-models; "
    "kata-containers/kata-containers#1819"
)
HOW = (
    "Give the machine the host's own CPU: Proxmox VE `qm set VMID --cpu host` (or a model of the real vendor with "
    "flags=+nested-virt), libvirt <cpu mode='host-passthrough'/> without features, QEMU `-cpu host`; then stop and "
    "start it."
)

TABLE: tuple[Signature, ...] = (
    Signature(
        "cpu-generic-with-vmx",
        r"-cpu " + GENERIC + r",\S{0,200}(?:vmx|svm)|\bcpu: " + GENERIC + r",\S{0,200}(?:vmx|svm)"
        r"|-cpu '" + GENERIC + r",[^']{0,200}(?:vmx|svm)",
        "vmx or svm was added to a generic CPU model, which lacks what real CPUs with them have (SSE4, EPT features, "
        "a vendor): inner guests panic (IO-APIC + timer), or VMMs refuse it.",
        HOW,
        SEE,
        "qemu-system-x86_64 -enable-kvm -cpu kvm64,+vmx,+lahf_lm -m 4096",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "cpu-feature-by-hand",
        r"<feature (?:policy='(?:require|force)' name='(?:vmx|svm)(?:-[\w-]{1,40})?'|name='(?:vmx"
        r"|svm)' policy='(?:require"
        r"|force)')",
        "The libvirt machine has vmx or svm added by hand to a CPU model: it fails where that model or this host does "
        "not have it, and a model that is not the host's makes inner guests fail.",
        "`<cpu mode='host-passthrough' migratable='off'/>` without features, by `virt-xml NAME --edit --cpu "
        "host-passthrough,clearxml=yes`; then stop and start it. `virsh domcapabilities` shows what the host offers.",
        "libvirt: Domain XML format, CPU model and topology; kata-containers/kata-containers#1819",
        "    <feature policy='require' name='vmx'/>",
        Rank.CAUSE,
        Sure.POSSIBLE,
        unless=("</domaincapabilities>",),
    ),
    Signature(
        "cpu-of-the-other-vendor",
        r"-cpu (?:EPYC|Opteron|phenom)[\w-]{0,30},\S{0,200}\+?vmx|-cpu (?:Nehalem|Westmere|SandyBridge|IvyBridge"
        r"|Haswell|Broadwell|Skylake|Cascadelake|Icelake|SapphireRapids)[\w-]{0,30},\S{0,200}\+?svm",
        "vmx was added to an AMD model, or svm to an Intel one: no CPU has both, and the guest believes the vendor.",
        HOW,
        SEE,
        "qemu-system-x86_64 -accel kvm -cpu EPYC-Milan,+vmx",
        Rank.CAUSE,
    ),
    Signature(
        "cpu-reported-model",
        r"reported-model " + GENERIC + r"\b",
        "A custom CPU model of Proxmox VE tells its guests a generic model; with vmx or svm added to it inner guests "
        "fail.",
        "In /etc/pve/virtual-guest/cpu-models.conf set reported-model to host or to the real vendor's (EPYC-v4, "
        "Skylake-Server-v5); or use `qm set VMID --cpu host`.",
        "cpu-models.conf(5); " + SEE,
        "        reported-model kvm64",
        Rank.CAUSE,
        Sure.POSSIBLE,
    ),
    Signature(
        "pve-args-cpu",
        r"\bargs: .{0,200}-cpu ",
        "The machine's `args` have a -cpu of their own, which overrides the CPU type that Proxmox VE shows.",
        "Take it out (`qm set VMID --delete args`, as root@pam) and say it by type: `qm set VMID --cpu host`, or a "
        "custom model in cpu-models.conf.",
        "qm.conf(5); cpu-models.conf(5)",
        "args: -cpu host,+vmx,hypervisor=off",
        Rank.NOTE,
    ),
    Signature(
        "cpu-is-generic",
        r"QEMU Virtual CPU version|Common (?:32-bit )?KVM processor|QEMU TCG CPU version",
        "This machine has a generic CPU model (qemu64, kvm64 or an emulated one): it shows no vmx or svm, and if they "
        "were added by hand, guests inside fail in odd ways.",
        "If it is to have guests of its own, give it the host's CPU: `qm set VMID --cpu host`, libvirt "
        "host-passthrough; in clouds another type.",
        SEE,
        "[    0.112015] smpboot: CPU0: Intel Common KVM processor (family: 0xf, model: 0x6, stepping: 0x1)",
        Rank.NOTE,
    ),
    Signature(
        "pve-nested-card-firewall",
        r"\bnet\d{1,2}: .{0,120}firewall=1",
        "This card is behind Proxmox VE's firewall: where that is on with its MAC filter, frames of guests inside of "
        "the machine are dropped.",
        "For a machine with bridged guests inside: `qm set VMID --net0 …,firewall=0`, or the option macfilter off in "
        "its firewall.",
        "pve-firewall(8) (macfilter)",
        "net0: virtio=BC:24:11:2E:C5:4A,bridge=vmbr0,firewall=1",
        Rank.NOTE,
    ),
    Signature(
        "cpu-feature-depends",
        r"feature depends on other features that were not requested: (?P<feature>\S{3,60})",
        "The CPU model has {feature} put in by hand, without what it depends on; QEMU leaves it out.",
        "Take features of VMX as a whole: `-cpu host` (libvirt host-passthrough), or a named model of the real vendor "
        "without extra ones.",
        "QEMU documentation: system/qemu-cpu-models",
        "warning: This feature depends on other features that were not requested: MSR(48DH).vmx-apicv-register",
        Rank.NOTE,
    ),
)
