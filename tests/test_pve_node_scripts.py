"""What nestlab runs on a node and in its containers, with real shells: a template is packed from a real filesystem and
unpacked as Proxmox VE does; an identity is taken in namespaces of its own, with real cards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nestlab.engines.pve import node_containers
from nestlab.engines.pve.node_containers import FILES, KEPT, LINKS
from nestlab.engines.qemu import identity

MKFS = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _namespaces() -> bool:
    words = ["unshare", "-n", "-m", "sh", "-c", "ip tuntap add eth0 mode tap && mount -t tmpfs none /mnt"]
    return os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0


def _loops() -> bool:
    return os.geteuid() == 0 and MKFS is not None and Path("/dev/loop-control").exists()


PVE_TAR = (
    "xpf - --zstd --totals --one-file-system -p --sparse --numeric-owner --acls --xattrs --skip-old-files --anchored"
)
"""As a Proxmox VE unpacks a template (pve-container, Create.pm: restore_tar_archive_command)."""


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A template made of a small root filesystem, unpacked."""
    tree, disk, place = tmp_path / "tree", tmp_path / "root.ext4", tmp_path / "cache" / "t.tar.zst"
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "nestlab-console.service").symlink_to("/etc/systemd/system/nestlab-console.service")
    (tree / "dev").mkdir()
    (tree / "dev/null").write_text("no device")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run([str(MKFS), "-q", "-t", "ext4", "-d", str(tree), str(disk)], check=True)
    words = ["unshare", "-m", "sh", "-c", node_containers._PACK, "pack", str(disk), str(place)]
    subprocess.run(words, input=node_containers._more(), check=True)
    root = tmp_path / "root"
    root.mkdir()
    with place.open("rb") as archive:
        subprocess.run(["tar", *PVE_TAR.split(), "--exclude", "./dev/*", "-C", str(root)], stdin=archive, check=True)
    return root


@pytest.mark.skipif(not _loops(), reason="mounts a filesystem, as root")
def test_a_template_is_the_root_filesystem_with_what_it_lacks_in_a_container(packed: Path) -> None:
    assert (packed / "etc/hosts").read_text() == "127.0.0.1 localhost\n"
    for path, data in FILES.items():
        assert (packed / path).read_bytes() == data
    for path, target in LINKS.items():
        assert str((packed / path).readlink()) == target
    assert (packed / "usr/lib/nestlab").stat().st_mode & 0o777 == 0o755
    assert list((packed / "dev").iterdir()) == []


@pytest.mark.skipif(not _loops(), reason="mounts a filesystem, as root")
def test_packing_leaves_nothing_behind_also_when_it_fails(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"no filesystem")
    words = ["unshare", "-m", "sh", "-c", node_containers._PACK, "pack", str(tmp_path / "none"), str(tmp_path / "x")]
    assert subprocess.run(words, input=node_containers._more(), capture_output=True).returncode != 0
    assert not list(Path("/run").glob("nestlab-template.*"))
    assert not list(tmp_path.glob("x*"))


INTERFACES = """\
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
\taddress 10.88.0.21/24
\tgateway 10.88.0.1

iface eth0 inet6 static
\taddress fd00:88::21/64
"""
"""As Proxmox VE writes it into a container of Debian (pve-container, Setup/Debian.pm: setup_network)."""

INSIDE = """
set -e
for place in /var/lib /run /etc/network; do mkdir -p "$place"; mount -t tmpfs none "$place"; done
mount -t tmpfs none /mnt
printf 'old\\n' >/mnt/hosts
mount --bind /mnt/hosts /etc/hosts
mkdir -p /mnt/bin
printf '#!/bin/sh\\necho "$*" >>/mnt/asked\\n[ -e /mnt/up ] || { : >/mnt/up; exit 1; }\\n' >/mnt/systemctl
chmod +x /mnt/systemctl
for program in /usr/bin/systemctl /bin/systemctl; do
    [ ! -e "$program" ] || mount --bind /mnt/systemctl "$program"
done
printf '%s' "$2" >/etc/network/interfaces
mkdir -p /usr/lib/nestlab 2>/dev/null || :
mount -t tmpfs none /usr/lib/nestlab
printf '%s' "$1" >/usr/lib/nestlab/container.sh
ip tuntap add eth0 mode tap
mkdir -p /run/systemd
/bin/sh -c "$3"
/bin/sh /usr/lib/nestlab/container.sh
ip -j address show dev eth0
cat /etc/hosts
stat -c '%a %n' /run/nestlab/* "$4"/*
ip route show
cat /mnt/asked
"""


@pytest.mark.skipif(not _namespaces() or not shutil.which("systemctl"), reason="makes namespaces, as root")
def test_a_container_takes_who_it_is_and_the_addresses_that_proxmox_ve_wrote_and_twice_is_no_more(
    tmp_path: Path,
) -> None:
    made = Path("/usr/lib/nestlab").exists()
    members = {
        "hosts": (b"127.0.0.1 localhost\n10.88.0.11 pve1\n", 0o644),
        "authorized_keys": (b"ssh-ed25519 AAAA\n", 0o600),
        "ssh_host_ed25519_key": (b"private\n", 0o600),
        "ssh_host_ed25519_key.pub": (b"public\n", 0o644),
    }
    words = ["unshare", "-n", "-m", "sh", "-c", INSIDE, "inside", FILES["usr/lib/nestlab/container.sh"].decode()]
    words += [INTERFACES, node_containers._TAKE, KEPT]
    done = subprocess.run(words, input=identity.archive(members), capture_output=True)
    if not made:
        shutil.rmtree("/usr/lib/nestlab", ignore_errors=True)
    assert done.returncode == 0, done.stderr.decode()
    cards, rest = json.JSONDecoder().raw_decode(done.stdout.decode())
    addresses = {f"{each['local']}/{each['prefixlen']}" for each in cards[0]["addr_info"] if each["scope"] == "global"}
    text = done.stdout.decode()[rest:]
    assert addresses == {"10.88.0.21/24", "fd00:88::21/64"}
    assert "10.88.0.11 pve1" in text
    assert "600 /run/nestlab/ssh_host_ed25519_key\n" in text
    assert f"600 {KEPT}/ssh_host_ed25519_key\n" in text
    assert "default via 10.88.0.1" in text
    assert text.count("--no-block start ssh.service") == 2, "systemd that does not answer yet is asked again"
