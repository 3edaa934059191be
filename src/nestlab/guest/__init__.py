"""What runs inside nestlab's own images before anything else: scripts and units, kept here as files. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

Base = Literal["disk", "initramfs"]

CMDLINE = (
    "net.ifnames=0",
    "quiet",
    "mitigations=off",
    "nokaslr",
    "audit=0",
    "lsm=capability",
    "cryptomgr.notests",
    "8250.nr_uarts=1",
    "noautogroup",
    "initcall_blacklist=jent_mod_init,crypto_kdf108_init",
)
"""Words every image wants on its kernel command line. docs/images.md says what each one saves."""

_UNWANTED: Mapping[str, tuple[str, ...]] = {
    "sysinit.target": (
        *("dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount"),
        *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "proc-sys-fs-binfmt_misc.automount"),
        *("kmod-static-nodes.service", "ldconfig.service", "systemd-ask-password-console.path"),
        *("systemd-binfmt.service", "systemd-firstboot.service", "systemd-hibernate-clear.service"),
        *("systemd-journal-catalog-update.service", "systemd-journal-flush.service"),
        *("systemd-machine-id-commit.service", "systemd-pcrmachine.service", "systemd-pcrphase-sysinit.service"),
        *("systemd-pcrphase.service", "systemd-pstore.service", "systemd-random-seed.service"),
        *("systemd-sysusers.service", "systemd-tmpfiles-setup-dev-early.service"),
        *("systemd-tmpfiles-setup-dev.service", "systemd-tpm2-setup-early.service", "systemd-tpm2-setup.service"),
        "systemd-update-done.service",
    ),
    "multi-user.target": (
        *("corosync.service", "e2scrub_reap.service", "getty.target", "remote-fs.target", "ssh.service"),
        *("systemd-ask-password-wall.path", "systemd-logind.service", "systemd-user-sessions.service"),
    ),
    "local-fs.target": ("run-lock.mount", "systemd-remount-fs.service"),
    "sockets.target": (
        *("systemd-creds.socket", "systemd-hostnamed.socket", "systemd-initctl.socket", "systemd-pcrextend.socket"),
        *("systemd-pcrlock.socket", "systemd-sysext.socket"),
    ),
    "timers.target": (
        *("apt-daily-upgrade.timer", "apt-daily.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
        *("fstrim.timer", "systemd-tmpfiles-clean.timer"),
    ),
    "ssh.service": ("sshd-keygen.service",),
}
"""What no target pulls in: it makes no sense in such a machine, or waits for something that it lacks.

The units stay, and can be started or enabled by hand: only the wish is masked.
"""

_WANTED: Mapping[str, tuple[str, ...]] = {
    "sysinit.target": ("ssh.service",),
    "multi-user.target": (
        *("nestlab-console.service", "nestlab-dhcp.service", "nestlab-grow.service", "nestlab-ready.service"),
        "nestlab-agent.timer",
    ),
}

_MASKED = (
    *(
        f"etc/systemd/system-generators/systemd-{name}-generator"
        for name in (
            *(
                "debug",
                "getty",
                "gpt-auto",
                "hibernate-resume",
                "rc-local",
                "run",
                "ssh",
                "system-update",
                "sysv",
                "tpm2",
            ),
        )
    ),
    "etc/tmpfiles.d/systemd-nologin.conf",
    "etc/systemd/system/tmp.mount",
)
"""Generators make units from what such a machine never has; each costs a process at every boot. /tmp is on the disk:
as a mount it takes memory, and hides what was put there before some service asked for it."""

_SCRIPTS: dict[Base, tuple[str, ...]] = {"disk": ("common.sh", "disk.sh"), "initramfs": ("common.sh", "tiny.sh")}


def init(base: Base) -> bytes:
    """The script that is process 1 of the initramfs."""
    return b"".join(_data(name) for name in _SCRIPTS[base])


def tree(base: Base) -> dict[str, bytes]:
    """Files of the root filesystem, by their path without the leading slash."""
    if base == "initramfs":
        return {}
    return dict(_walk(files(__name__) / "root", ""))


def links(base: Base) -> dict[str, str]:
    """Symbolic links of the root filesystem, path to target: which units start, and which never do."""
    if base == "initramfs":
        return {}
    units = "etc/systemd/system"
    found = dict.fromkeys(_MASKED, "/dev/null")
    found |= {f"{units}/{target}.wants/{unit}": "/dev/null" for target, names in _UNWANTED.items() for unit in names}
    found |= {
        f"{units}/{target}.wants/{unit}": f"/{units}/{unit}" for target, names in _WANTED.items() for unit in names
    }
    return found | {f"{units}/default.target": "/usr/lib/systemd/system/multi-user.target"}


def fingerprint(base: Base) -> str:
    """SHA-256 over everything above, so that changing a script changes the digest of the images that use it."""
    parts = [init(base), *(f"{path}\0".encode() + data for path, data in sorted(tree(base).items()))]
    parts += [f"{path}\0{target}".encode() for path, target in sorted(links(base).items())]
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def _data(name: str) -> bytes:
    return (files(__name__) / name).read_bytes()


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for item in folder.iterdir():
        path = prefix + item.name
        found += _walk(item, path + "/") if item.is_dir() else [(path, item.read_bytes())]
    return found
