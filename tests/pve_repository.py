"""A small signed repository with packages that stand in for Proxmox VE's: their names, what their maintainer scripts do
while they are installed, and the order in which a node's services start. What is in them is Debian's, or a few lines.

The maintainer scripts follow pve-manager's (debian/postinst) and pve-kernel's. What nodes and their
clusters do when they run is in `pve_stand_in/`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

COMPONENT = "pve-no-subscription"

MANAGER = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
getent hosts "$(uname -n)" | grep -v '^127' >/dev/null || { echo "$(uname -n) has no address" >&2; exit 1; }
mkdir -p /etc/pve /var/lib/pve-manager/apl-info
cp /usr/share/doc/pve-manager/aplinfo.dat /var/lib/pve-manager/apl-info/download.proxmox.com
systemctl --system daemon-reload >/dev/null || true
for unit in pve-cluster.service pvedaemon.service pveproxy.service pvestatd.service pve-ha-lrm.service; do
    deb-systemd-helper unmask "$unit" >/dev/null || true
    if deb-systemd-helper --quiet was-enabled "$unit"; then
        deb-systemd-helper enable "$unit" >/dev/null || true
    else
        deb-systemd-helper update-state "$unit" >/dev/null || true
    fi
    if test ! -e /proxmox_install_mode && systemctl -q is-enabled "$unit"; then
        deb-systemd-invoke start "$unit" || true
    fi
done
"""

KERNEL = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
[ ! -e /proxmox_install_mode ] || exit 0
echo "update-initramfs would take its time here" >&2
exit 1
"""

STAND_IN = Path(__file__).parent / "pve_stand_in"
"""Programs that keep the behaviour of Proxmox's, for nodes that are machines: a filesystem, `pvecm`, an API."""


def stand_in(name: str) -> str:
    return (STAND_IN / name).read_text()


def unit(what: str, run: str, rest: str = "") -> str:
    head = f"[Unit]\nDescription={what}\n{rest}\n[Service]\n{run}\n"
    return f"{head}\n[Install]\nWantedBy=multi-user.target\n"


CLUSTER = (
    "Wants=corosync.service\nBefore=corosync.service\nAfter=network.target\nAfter=sys-fs-fuse-connections.mount\n"
    "DefaultDependencies=no\nBefore=shutdown.target\nConflicts=shutdown.target\n"
)
AFTER = "Wants=pve-cluster.service\nAfter=pve-cluster.service\nAfter=corosync.service\n"
UNITS = {
    "pve-cluster": unit(
        "The Proxmox VE cluster filesystem",
        "ExecStart=/usr/bin/pmxcfs\nKillMode=mixed\nRestart=on-failure\nTimeoutStopSec=10\nType=forking\n"
        "PIDFile=/run/pve-cluster.pid",
        CLUSTER,
    ),
    "pvedaemon": unit("PVE API Daemon", "ExecStart=/usr/bin/sleep infinity", AFTER),
    "pveproxy": unit(
        "PVE API Proxy Server",
        "ExecStartPre=-/usr/bin/pvecm updatecerts --silent\nExecStart=/usr/bin/pveproxy\nRestart=on-failure\n"
        "ExecStartPost=-sh -c '[ ! -e /var/log/pveam.log ] && touch /pveupdate-ran'",
        AFTER + "Wants=pvedaemon.service\nAfter=pvedaemon.service\n",
    ),
    "pvestatd": unit("A slow daemon", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/touch /run/pvestatd"),
    "pve-ha-lrm": unit("High availability", "Type=oneshot\nExecStart=/usr/bin/touch /pve-ha-ran"),
}

# Proxmox's corosync has it in its unit.
COROSYNC = "[Unit]\nConditionPathExists=/etc/corosync/corosync.conf\n"

ENTERPRISE = """\
Types: deb
URIs: https://enterprise.proxmox.com/debian/pve
Suites: trixie
Components: pve-enterprise
Signed-By: /usr/share/keyrings/proxmox-archive-keyring.gpg
"""


@dataclass(frozen=True)
class Package:
    """One package. `files`: text by path; those below usr/bin are programs."""

    name: str
    depends: str = ""
    files: tuple[tuple[str, str], ...] = ()
    postinst: str = ""
    conffiles: tuple[str, ...] = ()


PACKAGES = (
    Package(
        "proxmox-ve",
        "proxmox-default-kernel, pve-manager, qemu-server, pve-qemu-kvm",
        (("etc/apt/sources.list.d/pve-enterprise.sources", ENTERPRISE),),
        conffiles=("/etc/apt/sources.list.d/pve-enterprise.sources",),
    ),
    Package("proxmox-default-kernel", "linux-image-cloud-amd64", postinst=KERNEL),
    Package("qemu-server", "pve-cluster"),
    Package("pve-qemu-kvm", "qemu-system-x86, qemu-utils"),
    Package(
        "pve-cluster",
        "corosync, openssl, mount, python3",
        (
            ("usr/bin/pmxcfs", stand_in("pmxcfs")),
            ("usr/bin/pvecm", stand_in("pvecm")),
            ("usr/lib/pve-stand-in/standin.py", stand_in("standin")),
            ("usr/lib/systemd/system/corosync.service.d/pve.conf", COROSYNC),
        ),
    ),
    Package(
        "pve-manager",
        "ifupdown2, iproute2, openssh-server, pve-cluster, open-iscsi, init-system-helpers",
        (
            ("usr/bin/pveproxy", stand_in("pveproxy")),
            ("usr/share/doc/pve-manager/aplinfo.dat", "Package: none\n"),
            ("usr/share/doc/pve-manager/trustedkeys.gpg", "keys\n"),
            *((f"usr/lib/systemd/system/{name}.service", text) for name, text in UNITS.items()),
        ),
        postinst=MANAGER,
    ),
)


class Repository:
    """A repository in a folder that every user may read, and the keys it is signed with."""

    def __init__(self, folder: Path, *, suite: str = "trixie", packages: tuple[Package, ...] = PACKAGES) -> None:
        self.folder, self.suite = folder / "pve", suite
        self.keyring = folder / "pve.gpg"
        self._home = folder / "gnupg"
        self._home.mkdir(mode=0o700, parents=True)
        try:
            self._make(packages)
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], env=self._env, check=False)
            shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self._home)}

    def _gpg(self, *words: str) -> bytes:
        command = ["gpg", "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", *words]
        return subprocess.run(command, env=self._env, check=True, capture_output=True).stdout

    def _make(self, packages: tuple[Package, ...]) -> None:
        place = self.folder / "dists" / self.suite / COMPONENT / "binary-amd64"
        place.mkdir(parents=True)
        text = "".join(self._deb(package) for package in packages).encode()
        (place / "Packages").write_bytes(text)
        (place / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
        self._gpg("--quick-generate-key", "nestlab tests <tests@nestlab.invalid>", "rsa3072", "sign", "1d")
        self.keyring.write_bytes(self._gpg("--export"))
        self.sign()
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def sign(self) -> None:
        """Release and InRelease, of the lists as they are."""
        root = self.folder / "dists" / self.suite
        lists = sorted(path for path in root.rglob("Packages*"))
        sums = "".join(
            f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.relative_to(root)}\n"
            for path in lists
        )
        (root / "Release").write_text(
            f"Origin: nestlab\nSuite: {self.suite}\nCodename: {self.suite}\n"
            f"Date: {formatdate(time.time(), usegmt=True)}\nArchitectures: amd64\n"
            f"Components: {COMPONENT}\nSHA256:\n{sums}"
        )
        self._gpg("--clearsign", "-o", str(root / "InRelease"), str(root / "Release"))

    def _deb(self, package: Package) -> str:
        """Makes it; its paragraph of Packages."""
        tree = self._home / package.name
        control = (
            f"Package: {package.name}\nVersion: 9.0-1\nArchitecture: all\nSection: admin\nPriority: optional\n"
            f"Maintainer: nestlab tests <tests@nestlab.invalid>\n"
            + (f"Depends: {package.depends}\n" if package.depends else "")
        )
        described = f"{control}Description: stands in for {package.name}\n"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(described)
        if package.conffiles:
            (tree / "DEBIAN" / "conffiles").write_text("".join(f"{each}\n" for each in package.conffiles))
        if package.postinst:
            (tree / "DEBIAN" / "postinst").write_text(package.postinst)
            (tree / "DEBIAN" / "postinst").chmod(0o755)
        for path, text in package.files:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
            (tree / path).chmod(0o755 if path.startswith("usr/bin/") else 0o644)
        for each in (tree, *tree.rglob("*")):
            if each.is_dir():
                each.chmod(0o755)
        deb = self.folder / "pool" / f"{package.name}_9.0-1_all.deb"
        deb.parent.mkdir(parents=True, exist_ok=True)
        command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", str(tree), str(deb)]
        subprocess.run(command, check=True, capture_output=True)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        where = f"Filename: {deb.relative_to(self.folder)}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
        return f"{described}{where}\n"
