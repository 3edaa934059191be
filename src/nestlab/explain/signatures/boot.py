"""What a guest's console says when it does not come up, or stands still."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

TABLE: tuple[Signature, ...] = (
    Signature(
        "io-apic-timer",
        r"IO-APIC \+ timer doesn't work",
        "The guest's timer does not tick. In a nest the level below runs on a general CPU model (x86-64-v2 and the "
        "like) with vmx or svm added, or its clock is starved by emulation.",
        "Give the hypervisor below the CPU host or a model of the real vendor: `qm set VMID --cpu host`, libvirt: "
        "host-passthrough. Then stop and start it; a reboot inside is not enough.",
        "PVE Administration Guide: QEMU/KVM Virtual Machines, CPU Type (nested-virt)",
        "[    1.264043] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug",
        Rank.CAUSE,
    ),
    Signature(
        "cpu-not-started",
        r"do_boot_cpu failed|CPU ?\d{1,4} failed to report alive state|CPU ?#?\d{1,4}: Not responding",
        "A further CPU of the guest did not start in time: the level below kept it waiting, which is common where that "
        "emulates, or has fewer CPUs than its guests together.",
        "Give the machine one CPU (`cpus: 1`) or start fewer at once, and look at the load and steal time below "
        "(`vmstat 1`).",
        "Linux documentation: admin-guide/kernel-parameters (maxcpus, cpuhp)",
        "[    0.42] smpboot: do_boot_cpu failed(-1) to wakeup CPU#1",
        Rank.REFUSAL,
    ),
    Signature(
        "unable-to-mount-root",
        r"VFS: Unable to mount root fs on (?P<device>[\w(),-]+)",
        "The guest's kernel found no root file system ({device}): its disk, the driver for it or its initramfs is "
        "missing, or root= is wrong.",
        "Compare root= in the kernel's command line with the disk's bus (virtio-blk is vda, SCSI and SATA are sda); "
        "give the kernel its initramfs; the disk may also be empty.",
        "Linux documentation: admin-guide/init, admin-guide/kernel-parameters (root=)",
        "[    2.871] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        Rank.CAUSE,
    ),
    Signature(
        "no-working-init",
        r"No working init found|Requested init \S{1,80} failed",
        "The guest's kernel mounted a root file system that has no program to start there.",
        "Is it the right partition, and built for this architecture? Look for /sbin/init in it, or pass init=.",
        "Linux documentation: admin-guide/init",
        "[    3.015] Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.",
        Rank.CAUSE,
    ),
    Signature(
        "memory-deadlock",
        r"System is deadlocked on memory|Out of memory and no killable processes",
        "The guest has too little memory even to boot.",
        "Give it more: `memory:` in the lab file; an installer that loads its medium to memory needs its size too.",
        "Linux documentation: admin-guide/mm/concepts",
        "[    1.92] Kernel panic - not syncing: System is deadlocked on memory",
        Rank.CAUSE,
    ),
    Signature(
        "tcg-kmalloc",
        r"RIP: \S{0,12}:?__kmalloc",
        "The guest's kernel stumbled in __kmalloc. QEMU 7.2 does that to Linux 6.12 when it emulates (TCG).",
        "Take QEMU 8 or newer; nestlab brings its own where the installed one is too old. KVM does not do that.",
        "nestlab: docs/engine.md (QEMU)",
        "[    0.513] RIP: 0010:__kmalloc_noprof+0x1a2/0x4a0",
    ),
    Signature(
        "initramfs-unpacking",
        r"Initramfs unpacking failed",
        "The initramfs is damaged, does not fit in the guest's memory, or is packed in a way its kernel cannot read.",
        "Give the guest more memory (an installer over PXE needs more than 4 GB), or make the initramfs again: "
        "`update-initramfs -u`.",
        "morph027/pve-iso-2-pxe#46; Linux documentation: driver-api/early-userspace/early_userspace_support",
        "[    0.913] Initramfs unpacking failed: write error",
        Rank.CAUSE,
    ),
    Signature(
        "root-device-missing",
        r"ALERT!\s{1,4}\S{1,120} does not exist\.\s{1,4}Dropping to a shell"
        r"|Gave up waiting for root (?:file system )?device",
        "The guest's initramfs does not see the disk that its root is on: other bus, other UUID, or no driver.",
        "Give the disk the bus it was installed with, or add the driver (virtio_scsi, virtio_blk, ahci) and make the "
        "initramfs again.",
        "initramfs-tools(7)",
        "ALERT!  UUID=3255683f-53a2-4fdf-91cf-b4c1041e2a62 does not exist.  Dropping to a shell!",
        Rank.CAUSE,
    ),
    Signature(
        "no-bootable-device",
        r"No bootable device|Boot failed: not a bootable disk|BdsDxe: No bootable option",
        "The firmware found nothing on the machine's disks that boots.",
        "Is the disk empty, the boot order right, and the image made for this firmware (BIOS or UEFI)? On Proxmox VE: "
        "`qm set VMID --boot order=scsi0` or `--bios ovmf`.",
        "SeaBIOS documentation: Runtime config; PVE Administration Guide: Device Boot Order",
        "No bootable device.",
        Rank.CAUSE,
    ),
    Signature(
        "grub-rescue",
        r"grub rescue>|error: no such device: [0-9a-f-]{8,}",
        "The boot loader runs, but does not find its partition: a disk is missing, or has another place or UUID.",
        "Compare `ls` at the prompt with what it looks for; attach the disk as before, or run grub-install anew.",
        "GNU GRUB manual: GRUB only offers a rescue shell",
        "error: no such device: 6fbd2d2c-55cb-4b25-a8a7-3f5b4b8f3a51.",
        Rank.CAUSE,
    ),
    Signature(
        "emergency-mode",
        r"You are in emergency mode|Entering emergency mode|Dependency failed for .{0,10}Local File Systems",
        "systemd gave up: mostly a file system of /etc/fstab is missing or damaged.",
        "See which: `journalctl -xb -p err`. Correct /etc/fstab; nofail lets the machine boot without it.",
        "systemd.special(7), systemd-fsck@.service(8), systemd.mount(5)",
        'You are in emergency mode. After logging in, type "journalctl -xb" to view system logs.',
    ),
    Signature(
        "init-killed",
        r"Attempted to kill init! exitcode=0x(?P<code>[0-9a-f]+)",
        "The guest's first process ended (0x{code}), so its kernel stopped. 0x7f00 is a program that was not found, "
        "0x100 an error of its own, 0x4 an instruction this CPU does not have.",
        "Read what it said just before. For 0x4 or 0x84 give the guest a newer CPU model: x86-64-v2 at least, or host.",
        "linux: kernel/exit.c; wait(2)",
        "[    1.702] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00",
    ),
    Signature(
        "cpu-too-old",
        r"CPU does not support x86-64-v\d|CPU ISA level is lower than required",
        "The guest's system needs a newer CPU than the model it is given.",
        "Give it host, or a model with x86-64-v2 (RHEL 9) or v3 (RHEL 10): `qm set VMID --cpu host`.",
        "x86-64 psABI, microarchitecture levels; PVE Administration Guide: CPU Type",
        "Fatal glibc error: CPU does not support x86-64-v2",
        Rank.CAUSE,
    ),
    Signature(
        "kernel-panic",
        r"Kernel panic - not syncing: (?P<why>[^\n]{1,100})",
        "A kernel stopped: {why}.",
        "The lines before it say why. Save all of the console: `nestlab logs MACHINE`.",
        "Linux documentation: admin-guide/bug-hunting",
        "[    5.551] Kernel panic - not syncing: Fatal exception in interrupt",
        Rank.SYMPTOM,
    ),
    Signature(
        "soft-lockup",
        r"BUG: soft lockup - CPU#\d+ stuck for \d+s",
        "A CPU of the guest did nothing for many seconds: the host was overloaded, or the machine was paused or "
        "restored.",
        "Once after a restore: nothing. Else give fewer virtual CPUs than the host has, or start fewer machines at "
        "once; with emulation this is common.",
        "Linux documentation: admin-guide/lockup-watchdogs",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kworker/1:2:97]",
        Rank.SYMPTOM,
    ),
    Signature(
        "rcu-stall",
        r"rcu: INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?",
        "The guest's CPUs were kept waiting for long: the host is overloaded, or the machine was paused.",
        "Give fewer virtual CPUs than the host has, and look at the host's load and steal time (`vmstat 1`).",
        "Linux documentation: RCU/stallwarn",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        Rank.SYMPTOM,
    ),
    Signature(
        "hung-task",
        r"INFO: task \S{1,40} blocked for more than \d+ seconds",
        "A process waited minutes for its disk: the storage below is slow, full or gone.",
        "Look at the host's disk (`iostat -x 1`, `df -h`); run fewer machines on it, or give it an SSD.",
        "Linux documentation: admin-guide/sysctl/kernel (hung_task_timeout_secs)",
        "INFO: task jbd2/vda1-8:187 blocked for more than 120 seconds.",
        Rank.SYMPTOM,
    ),
    Signature(
        "vagrant-boot-timeout",
        r"Timed out while waiting for the machine to boot",
        "The machine was not reachable in time: too many boot at once, it does not boot at all, or it has no network.",
        "Look at its console. Nested or emulated machines need minutes: start fewer at once, and wait longer.",
        "Vagrant documentation: config.vm.boot_timeout; ipspace/netlab#732",
        "Timed out while waiting for the machine to boot. This means that Vagrant was unable to communicate",
        Rank.SYMPTOM,
    ),
)
