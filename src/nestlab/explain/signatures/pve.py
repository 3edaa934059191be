"""What Proxmox VE says of virtual machines, containers and its API."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

QM = "PVE Administration Guide: QEMU/KVM Virtual Machines"
CPU = QM + ", CPU Type"
API = "PVE Administration Guide: User Management; pve-http-server"

TABLE: tuple[Signature, ...] = (
    Signature(
        "pve-kvm-not-available",
        r"KVM virtualisation configured, but not available",
        "This node has no usable /dev/kvm. If it is a virtual machine itself, its own CPU has no vmx or svm.",
        "Give the node vmx or svm at the level below. If it cannot be had: `qm set VMID --kvm 0` for the inner guest "
        "(slow), or containers.",
        "PVE wiki: Nested Virtualization; qemu-server: QemuServer.pm",
        "TASK ERROR: KVM virtualisation configured, but not available. Either disable in VM configuration or enable in "
        "BIOS.",
        below=True,
    ),
    Signature(
        "pve-nested-virt-ignored",
        r"ignoring 'nested-virt' CPU flag",
        "The node's own CPU has neither vmx nor svm, so it cannot give it to the machine.",
        "Give the node vmx or svm: in its firmware, or at the level below if it is a virtual machine.",
        CPU,
        "warning: ignoring 'nested-virt' CPU flag - unable to resolve from host CPU flags",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "pve-cpu-flags-subset",
        r"VM-specific CPU flags must be a subset of",
        "A machine's configuration takes only a few CPU flags; vmx and svm are not among them.",
        "Write nested-virt instead: `qm set VMID --cpu 'MODEL,flags=+nested-virt'` (qemu-server 9.0.27 or newer), or "
        "`--cpu host`; other flags belong in a custom model.",
        CPU + "; cpu-models.conf(5)",
        "400 Parameter verification failed. cpu: VM-specific CPU flags must be a subset of: aes, nested-virt, pcid",
        Rank.CAUSE,
    ),
    Signature(
        "pve-cputype-undefined",
        r"Built-in cputype '(?P<model>[\w.-]+)' is not defined",
        "Proxmox VE has no CPU type {model} of its own.",
        "Custom ones need their prefix: `qm set VMID --cpu custom-{model}`; the others are listed at `--cpu` in qm(1).",
        "cpu-models.conf(5); " + CPU,
        "Built-in cputype 'nested' is not defined (missing 'custom-' prefix?)",
        Rank.CAUSE,
    ),
    Signature(
        "pve-cputype-architecture",
        r"CPU model '(?P<model>[\w.-]+)' does not exist for configured vCPU architecture",
        "The CPU type {model} is of another architecture than the machine.",
        "Choose one of the machine's own, or correct arch.",
        CPU,
        "CPU model 'cortex-a57' does not exist for configured vCPU architecture 'x86_64'",
        Rank.CAUSE,
    ),
    Signature(
        "pve-max-vcpus",
        r"MAX (?P<most>\d+) vcpus allowed per VM on this node",
        "The machine has more CPUs than this node ({most}).",
        "`qm set VMID --sockets 1 --cores {most}`, or give the node more if it is a virtual machine.",
        QM,
        "TASK ERROR: MAX 2 vcpus allowed per VM on this node",
        Rank.CAUSE,
    ),
    Signature(
        "pve-hugepages-numa",
        r"numa needs to be enabled to use hugepages",
        "Huge pages need NUMA in the machine's configuration.",
        "`qm set VMID --numa 1`, or `qm set VMID --delete hugepages`.",
        "qm.conf(5)",
        "numa needs to be enabled to use hugepages",
        Rank.CAUSE,
    ),
    Signature(
        "pve-args-root",
        r"only root can set '(?P<option>[\w.-]+)' config",
        "Only root@pam with a password may set {option}; no other user and no API token may.",
        "Do it on the node with qm as root; for CPU flags use a custom model instead of args.",
        "qm.conf(5); " + API,
        "500 only root can set 'args' config",
        Rank.CAUSE,
    ),
    Signature(
        "pve-cpu-hides-nesting",
        r"\bcpu: (?P<model>kvm64|qemu64|x86-64-v[1-4][\w-]*)(?!\S{0,200}nested-virt)",
        "The CPU type {model} shows its guest neither vmx nor svm: nothing can be nested in that machine.",
        "`qm set VMID --cpu host`, then stop and start it; a reboot inside is not enough.",
        CPU,
        "cpu: x86-64-v2-AES",
        Rank.NOTE,
    ),
    Signature(
        "pve-lock-timeout",
        r"can't lock file '(?P<file>[\w./-]+)' - got timeout|VM is locked \((?P<lock>[\w-]+)\)",
        "Another task is at work on this machine, or one that died left its lock.",
        "Wait for it (`pvesh get /nodes/NODE/tasks`) and run tasks on one machine or storage one by one. If none is "
        "left: `qm unlock VMID`.",
        "qm(1); bpg/terraform-provider-proxmox#995; Telmate/terraform-provider-proxmox#173",
        "TASK ERROR: can't lock file '/var/lock/qemu-server/lock-104.conf' - got timeout",
        Rank.CAUSE,
    ),
    Signature(
        "pve-no-such-machine",
        r"Configuration file 'nodes/(?P<node>[\w-]+)/(?:qemu-server|lxc)/(?P<vmid>\d+)\.conf' does not exist",
        "There is no machine {vmid} on {node}: it was removed, or is on another node.",
        "`pvesh get /cluster/resources --type vm` shows where each is.",
        "qm(1), pvesh(1)",
        "500 Configuration file 'nodes/pve1/qemu-server/104.conf' does not exist",
        Rank.CAUSE,
    ),
    Signature(
        "pve-guest-agent",
        r"QEMU guest agent is not running|No QEMU guest agent configured"
        r"|'guest-[\w-]{1,40}' failed - (?:got timeout|unable to connect to VM \d{1,10} qga socket)",
        "The guest agent does not answer: not installed, not allowed in the configuration, or the guest still boots or "
        "is too busy.",
        "`qm set VMID --agent 1`, install qemu-guest-agent inside, then stop and start. A nested guest may need "
        "minutes: ask again.",
        QM + ", QEMU Guest Agent",
        "500 QEMU guest agent is not running",
    ),
    Signature(
        "pve-qemu-silent",
        r"VM (?P<vmid>\d{1,10}) qmp (?:socket - timeout after|command '[\w-]{1,60}' failed - got timeout)",
        "QEMU of the machine {vmid} runs but does not answer Proxmox VE: it waits for its disks (slow, full or gone "
        "storage), or the node is overloaded.",
        "`pvesm status` and `dmesg` on the node; state D in `ps -o stat,wchan -p $(cat /run/qemu-server/{vmid}.pid)` "
        "is waiting for storage: mend that first. If it stays silent: `qm stop {vmid}`, then start it.",
        "qemu-server: PVE/QMPClient.pm; qm(1), ps(1)",
        "VM 101 qmp command 'query-status' failed - unable to connect to VM 101 qmp socket - timeout after 51 retries",
    ),
    Signature(
        "pve-permission-check",
        r"Permission check failed \((?P<path>[\w/.@-]+), (?P<privilege>[\w.|, ]{1,80})\)",
        "This user or token lacks the privilege {privilege} on {path}.",
        "Give a role with it: `pveum acl modify {path} --users USER --roles ROLE`. A token with privilege separation "
        "needs its own: `--tokens`.",
        "PVE Administration Guide: User Management, Permission Management; pveum(1)",
        "403 Permission check failed (/vms/104, VM.Config.Options)",
        Rank.CAUSE,
    ),
    Signature(
        "pve-root-only",
        r"Permission check failed \(user != root@pam\)|only root@pam ",
        "Only root@pam logged in with the password may do this: no token and no other user, whatever its rights.",
        "Use a ticket of root@pam (POST /access/ticket), or do it on the node itself.",
        API,
        "403 Permission check failed (user != root@pam)",
        Rank.CAUSE,
    ),
    Signature(
        "pve-authentication",
        r"\b401:? authentication failure|authentication failure; rhost=\S{0,60} user=|invalid PVE ticket"
        r"|permission denied - invalid|401:? No ticket",
        "The login is not valid, or no longer: a wrong password or realm, a ticket older than two hours, a clock that "
        "is off, or a node that joined a cluster and took its keys.",
        "Log in anew with the realm (root@pam), and compare the clocks: `timedatectl`, `chronyc tracking`.",
        API + "; takala-jp/zabbix-proxmox#25",
        "401 permission denied - invalid PVE ticket",
        Rank.CAUSE,
    ),
    Signature(
        "pve-proxy-error",
        r"\b595 (?:Connection|No route|Errors?|Connect)|\b596 (?:Connection|Broken|tls|ssl|Timeout)|\b597 Broken"
        r"|\bHTTP 59[5-7]: ",
        "The node that was asked could not reach the node that is meant (595 not connected, 596 TLS or "
        "time-out, 597 broken off).",
        "Is that node up and in the cluster (`pvecm status`), and is its pveproxy running? Then ask again; if only the "
        "certificate is wrong: `pvecm updatecerts --force`.",
        "pve-http-server: PVE/APIServer/AnyEvent.pm; pvecm(1)",
        "595 Connection refused",
        Rank.CAUSE,
    ),
    Signature(
        "pve-worker",
        r"got no worker upid - start worker failed|(?:exitstatus\W{1,6}|TASK ERROR: )unexpected status",
        "The task ended without saying how: its worker died.",
        "Look at the node's journal: `journalctl -u pvedaemon -n 50`; mostly memory or disk ran out.",
        "pve-common: PVE/RESTEnvironment.pm",
        "TASK ERROR: got no worker upid - start worker failed",
        Rank.SYMPTOM,
    ),
    Signature(
        "pve-volume-missing",
        r"volume '(?P<volume>[\w:./-]+)' does not exist|no such logical volume",
        "A disk or ISO image that the configuration names is not on its storage.",
        "List what is there: `pvesm list STORAGE`; upload it, or take it out: `qm set VMID --ide2 none`.",
        "pvesm(1)",
        "TASK ERROR: volume 'local:iso/debian-13.iso' does not exist",
        Rank.CAUSE,
    ),
    Signature(
        "pve-storage-missing",
        r"storage '(?P<storage>[\w.-]+)' (?:does not exist|is not (?:available|online|enabled))",
        "The storage {storage} is not there or not available on this node. Who joins a cluster gets its storages.",
        "`pvesm status`, and nodes in /etc/pve/storage.cfg; take one that this node has.",
        "pvesm(1)",
        "500 storage 'local-lvm' does not exist",
        Rank.CAUSE,
    ),
    Signature(
        "pve-bridge-missing",
        r"bridge '(?P<bridge>[\w.-]+)' does not exist",
        "The machine's network port is on the bridge {bridge}, which this node does not have.",
        "Make it in /etc/network/interfaces and run `ifreload -a`, or `qm set VMID --net0 virtio,bridge=vmbr0`.",
        "PVE Administration Guide: Network Configuration",
        "TASK ERROR: bridge 'vmbr1' does not exist",
        Rank.CAUSE,
    ),
    Signature(
        "pve-container-features",
        r"changing feature flags [^\n]{0,60}is only allowed for root@pam|You may need to enable nesting",
        "The container needs the feature nesting, for systemd or for containers inside of it; other features may only "
        "be set by root@pam.",
        "On the node as root: `pct set VMID --features nesting=1`, then start it anew.",
        "pct(1); UdelaRInterior/ansible-role-proxmox-create-lxc#14",
        "WARN: Systemd 257 detected. You may need to enable nesting.",
        Rank.CAUSE,
    ),
    Signature(
        "pve-start-failed",
        r"start failed: (?:QEMU exited with code|command '/usr/bin/kvm|org\.freedesktop)",
        "QEMU did not start; its own message stands in the lines before.",
        "Read those; run by hand it says more: `qm showcmd VMID --pretty`.",
        "qm(1)",
        "TASK ERROR: start failed: QEMU exited with code 1",
        Rank.SYMPTOM,
    ),
    Signature(
        "service-failed",
        r"Job for (?P<unit>[\w@.-]{3,60}) failed because|TASK ERROR: timeout waiting on systemd",
        "A service did not start; its own log says why.",
        "`journalctl -b -n 50 -u UNIT`, and give that to `nestlab explain`.",
        "systemctl(1), journalctl(1)",
        "Job for libvirtd.service failed because the control process exited with error code.",
        Rank.SYMPTOM,
    ),
)
