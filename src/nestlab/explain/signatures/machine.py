"""What a machine says when memory, disk or time run out on it, whatever runs there."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

TABLE: tuple[Signature, ...] = (
    Signature(
        "disk-full",
        r"No space left on device|Disk quota exceeded|You don't have enough free space",
        "The disk is full where this was written, or its quota is used up.",
        "See where: `df -h` and `df -i`. nestlab's part: `nestlab gc`, `nestlab images`; on Proxmox VE also the thin "
        "pool: `lvs`.",
        "errno(3) (ENOSPC, EDQUOT); df(1)",
        "qemu-img: root.qcow2: error while writing: No space left on device",
        Rank.CAUSE,
    ),
    Signature(
        "qemu-oom-killed",
        r"Killed process (?P<pid>\d+) \((?P<program>qemu|kvm|CPU \d)",
        "The host ran out of memory, and the kernel ended a virtual machine (process {pid}).",
        "Give the machines less memory together than the host has (`free -m`), stop some, or add swap. Nested guests' "
        "memory is part of their hypervisor's.",
        "Linux documentation: admin-guide/mm/concepts (OOM killer)",
        "Out of memory: Killed process 4127 (qemu-system-x86) total-vm:9123456kB, anon-rss:7912340kB",
        Rank.CAUSE,
    ),
    Signature(
        "oom-killed",
        r"Out of memory: Killed process (?P<pid>\d+)|Memory cgroup out of memory|oom-kill:constraint="
        r"|invoked oom-killer",
        "Memory ran out, and the kernel ended a process.",
        "Give that machine (or container) more memory or fewer tasks; `free -m` there shows what is left.",
        "Linux documentation: admin-guide/mm/concepts (OOM killer)",
        "Memory cgroup out of memory: Killed process 811 (mariadbd) total-vm:1813040kB",
        Rank.CAUSE,
    ),
    Signature(
        "cannot-allocate-memory",
        r"Cannot allocate memory",
        "A program got no memory: the machine has too little, or a limit (ulimit, cgroup) is reached.",
        "Look at `free -m`, `ulimit -a` and `systemctl status` of the service, which of them is short; then stop "
        "something or raise that limit.",
        "errno(3) (ENOMEM); getrlimit(2)",
        "fork: Cannot allocate memory",
        Rank.GENERAL,
    ),
    Signature(
        "read-only",
        r"Read-only file system",
        "The place that is written to is mounted read-only: on purpose, or because its disk had errors.",
        "`findmnt -T PATH` shows how it is mounted, `dmesg` whether there were errors. In a container write elsewhere.",
        "mount(8)",
        "tee: /etc/modprobe.d/nestlab-kvm.conf: Read-only file system",
        Rank.GENERAL,
    ),
    Signature(
        "disk-errors",
        r"I/O error, dev (?!(?:fd|sr)\d)\w{1,20}|EXT4-fs error|XFS \([\w-]{1,30}\): Corruption"
        r"|Buffer I/O error(?! on dev(?:ice)? (?:fd|sr)\d)",
        "A disk gives errors: it, its image or the storage below is full, damaged or gone.",
        "Look at the level below first: is its disk full (`df -h`, `lvs`)? Then check the file system (fsck).",
        "Linux documentation: filesystems/ext4",
        "blk_update_request: I/O error, dev vda, sector 20973568 op 0x1:(WRITE)",
        Rank.CAUSE,
    ),
    Signature(
        "drive-without-medium",
        r"I/O error(?:, dev | on dev(?:ice)? )(?P<drive>(?:fd|sr)\d{1,2})",
        "The floppy or CD drive {drive} was read and gave nothing: it is empty, as in many virtual machines, and that "
        "is harmless.",
        "Nothing. For quiet on a floppy: `echo blacklist floppy | sudo tee /etc/modprobe.d/floppy.conf`. Only if the "
        "machine boots or installs from {drive}: compare the checksum of that image.",
        "Linux documentation: admin-guide/blockdev/floppy; modprobe.d(5)",
        "blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
        Rank.NOTE,
    ),
    Signature(
        "too-many-open-files",
        r"Too many open files",
        "A program has as many files open as it may.",
        "Raise the limit: `ulimit -n 65536`, LimitNOFILE= of its service; for inotify fs.inotify.max_user_instances.",
        "getrlimit(2), inotify(7)",
        "accept4: Too many open files",
        Rank.CAUSE,
    ),
    Signature(
        "certificate-not-yet-valid",
        r"certificate is not yet valid|expired or is not yet valid: current time \S{1,40} is before"
        r"|is not valid yet \(invalid for another",
        "This machine's clock is behind, as after a restore or a long pause, so certificates look as if from the "
        "future.",
        "Set it: `sudo chronyc makestep`, or `sudo date -s @$(ssh HOST date +%s)`; then try again.",
        "chronyc(1); deeplethe/forkd#288",
        "curl: (60) SSL certificate problem: certificate is not yet valid",
        Rank.CAUSE,
    ),
    Signature(
        "certificate-expired",
        r"certificate has expired(?! or)|expired or is not yet valid: current time \S{1,40} is after",
        "The certificate has expired, as in an image or snapshot that was kept for long; or this machine's clock is "
        "ahead.",
        "Compare `date` first. If it is right, renew the certificate; `openssl x509 -noout -enddate -in FILE` shows "
        "its end. On Proxmox VE: `pvecm updatecerts --force`.",
        "openssl-x509(1), pvecm(1); Go documentation: crypto/x509 (CertificateInvalidError)",
        "x509: certificate has expired or is not yet valid: current time 2026-11-26T08:12:01Z is after "
        "2026-01-01T00:00:00Z",
        Rank.CAUSE,
    ),
    Signature(
        "certificate-out-of-date",
        r"certificate has expired or is not yet valid",
        "By this machine's clock the certificate is not valid now: it has expired, or the clock is wrong.",
        "Compare `date` with the certificate's dates: `openssl x509 -noout -dates -in FILE`. Set the clock (`sudo "
        "chronyc makestep`), or renew the certificate.",
        "openssl-x509(1), chronyc(1); Go documentation: crypto/x509 (CertificateInvalidError)",
        "x509: certificate has expired or is not yet valid",
        Rank.CAUSE,
    ),
    Signature(
        "clocksource-unstable",
        r"Marking clocksource '(?P<clock>[\w-]+)' as unstable",
        "The guest no longer trusts its clock {clock}: the machine was paused or moved, or its CPUs wait for long.",
        "Give Linux guests kvm-clock, and keep their time with chrony; a wrong clock breaks TLS and clusters.",
        "Linux documentation: virt/kvm/x86/timekeeping; ilbertt/nibrun#410",
        "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too big",
        Rank.SYMPTOM,
    ),
    Signature(
        "exec-format",
        r"Exec format error",
        "A program is for another architecture than this machine's, or is an empty or damaged file.",
        "Compare `file PROGRAM` with `uname -m`; a script needs its #! line.",
        "execve(2) (ENOEXEC)",
        "bash: /usr/local/bin/agent: cannot execute binary file: Exec format error",
        Rank.CAUSE,
    ),
)
