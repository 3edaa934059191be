"""What libvirt, virsh and vagrant-libvirt say."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

CPU = "libvirt: Domain XML format, CPU model and topology"

TABLE: tuple[Signature, ...] = (
    Signature(
        "libvirt-no-kvm",
        r"could not find capabilities for .{0,60}domaintype=kvm|does not support virt type 'kvm'"
        r"|Domain requires KVM, but it is not available|no supported architecture for os type 'hvm'"
        r"|Host does not support domain type kvm|Host does not support any virtualization options|(?:the accel 'kvm'"
        r"|KVM) is not supported by '[^']{1,120}' on this host|unknown OS type:? hvm"
        r"|could not get preferred machine for .{0,80}type=kvm|CPU mode 'host-(?:passthrough"
        r"|model)' for \w{3,12} qemu domain",
        "libvirt knows of no KVM on this machine.",
        "Run `nestlab doctor`; if /dev/kvm is there, `sudo systemctl restart libvirtd`: it looks only at its start.",
        "kubernetes/minikube#2991; virsh(1) (domcapabilities)",
        "error: invalid argument: could not find capabilities for arch=x86_64 domaintype=kvm",
        below=True,
    ),
    Signature(
        "libvirt-foreign-guest",
        r"CPU mode '[\w-]{1,30}' for (?P<guest>\w{3,12}) kvm domain on (?!(?P=guest)\b)(?P<host>\w{3,12}) host is not",
        "The machine is one of {guest} with KVM, and this host is {host}: KVM runs guests of the host's own "
        "architecture only.",
        "Take an image for {host}, and arch='{host}' in <type>; or emulate: <domain type='qemu'>, with a CPU model of "
        "{guest} instead of host-passthrough.",
        "libvirt: Domain XML format, BIOS bootloader and CPU model",
        "unsupported configuration: CPU mode 'host-passthrough' for aarch64 kvm domain on x86_64 host is not supported "
        "by hypervisor",
        Rank.CAUSE,
    ),
    Signature(
        "virt-host-validate",
        r"Checking for hardware virtualization\s{0,80}: FAIL",
        "virt-host-validate sees no vmx or svm on this CPU.",
        "Switch it on in the firmware, or in the outer host for a virtual machine; `nestlab doctor` says how.",
        "virt-host-validate(1)",
        "  QEMU: Checking for hardware virtualization                                 : FAIL (Only emulated CPUs are "
        "available, performance will be significantly limited)",
        below=True,
    ),
    Signature(
        "libvirt-features-without-model",
        r"Non-empty feature list specified without CPU model",
        "The CPU has a list of features but no model that they are added to.",
        "Use `<cpu mode='host-passthrough'/>` without features, or name a model.",
        CPU + "; vagrant-libvirt/vagrant-libvirt#866",
        "error: XML error: Non-empty feature list specified without CPU model",
        Rank.CAUSE,
    ),
    Signature(
        "libvirt-feature-twice",
        r"CPU feature '(?P<feature>[\w.-]+)' specified more than once",
        "{feature} is named twice: by hand, and by the model or the tool that made the definition.",
        "Leave {feature} out; host-passthrough has all that the host has.",
        CPU + "; vagrant-libvirt/vagrant-libvirt#667",
        "error: XML error: CPU feature 'vmx' specified more than once",
        Rank.CAUSE,
    ),
    Signature(
        "libvirt-features-missing",
        r"does not provide required features: |doesn't match specification: missing features: "
        r"|match specification: extra features: ",
        "The CPU of this host lacks features that the machine's CPU asks for; the line names them.",
        "For vmx or svm see `nestlab doctor`. Else use host-passthrough, or a model that all hosts have; do not list "
        "vmx features by hand.",
        CPU + "; harvester/harvester#8121; lago-project/lago#652",
        "error: the CPU is incompatible with host CPU: Host CPU does not provide required features: svm",
    ),
    Signature(
        "libvirt-no-socket",
        r"Failed to connect socket to '(?P<socket>[\w./-]+)'",
        "libvirt does not run, or its socket {socket} is not where it is looked for.",
        "`sudo systemctl enable --now libvirtd` (or virtqemud.socket); for the system's: `virsh -c qemu:///system`.",
        "libvirtd(8), virtqemud(8)",
        "error: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
    ),
    Signature(
        "libvirt-polkit",
        r"authentication unavailable: no polkit agent|access denied by policy",
        "This user may not manage libvirt.",
        "`sudo usermod -aG libvirt $USER`, then log in anew.",
        "libvirt: Polkit access control",
        "error: authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
        Rank.CAUSE,
    ),
    Signature(
        "libvirt-network-inactive",
        r"network '(?P<network>[\w.-]+)' is not active",
        "libvirt's network {network} is not started.",
        "`virsh net-start {network}`, and for good `virsh net-autostart {network}`; if it clashes, it says so then.",
        "virsh(1)",
        "error: Requested operation is not valid: network 'default' is not active",
        Rank.CAUSE,
    ),
    Signature(
        "libvirt-bridge-missing",
        r"Cannot get interface MTU on '(?P<bridge>[\w.-]+)': No such device",
        "The bridge {bridge} that the machine hangs on is not there.",
        "Start its network (`virsh net-start default`), or make the bridge.",
        "libvirt: Network XML format",
        "error: Cannot get interface MTU on 'virbr0': No such device",
        Rank.CAUSE,
    ),
    Signature(
        "libvirt-storage-forbidden",
        r"[Cc]annot access storage file '[^']{1,300}' \(as uid:\d+",
        "QEMU under libvirt runs as another user, who cannot reach the image: a directory above it is closed to him.",
        "Keep images in /var/lib/libvirt/images, or open the way: `chmod o+x` on each directory above.",
        "libvirt: QEMU driver, security; qemu.conf (user, group)",
        "error: Cannot access storage file '/root/lab/web.qcow2' (as uid:64055, gid:108): Permission denied",
        Rank.CAUSE,
    ),
    Signature(
        "libvirt-name-taken",
        r"domain '(?P<domain>[\w.-]+)' already exists with uuid",
        "libvirt already has a machine {domain}.",
        "Remove it first (`virsh undefine {domain} --nvram`), or choose another name.",
        "virsh(1)",
        "error: operation failed: domain 'web' already exists with uuid 5b7fd1fd-bd2f-4a8a-9f3c-5ffb1b0ab1e2",
        Rank.CAUSE,
    ),
)
