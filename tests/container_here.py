"""A container on this machine itself, without a hypervisor to boot: in namespaces that have the root filesystem of
nestlab's `kvm` image, and a bridge, as a hypervisor has them. It takes root, and seconds.

Left out are the limits of its control group: which controllers this machine has is its own affair.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nestlab.engines.qemu import container
from nestlab.engines.qemu.argv import Launch
from nestlab.engines.qemu.identity import archive
from nestlab.home import key_pairs
from nestlab.home.paths import MachinePaths
from nestlab.images import BuiltImage
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.model import MIB, Image, Machine
from waiting import LONG, wait_until

PLACE = MachinePaths("/var/lib/here/m/0123abcd")
PORT, MAC, ADDRESS, OUTER = 20022, "52:54:00:00:55:07", "10.55.0.7", "10.55.0.1"
CARD = "v0123abcdn0"

# $1: a folder; $2: the disk of the kvm image; $3: the initramfs of tiny.
HYPERVISOR = r"""
set -e
mount --make-rprivate /
cd "$1"
mkdir image up root
mount -o ro,noload,loop "$2" image
mount -t tmpfs none up
mkdir up/upper up/over
mount -t overlay -o lowerdir=image,upperdir=up/upper,workdir=up/over none root
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mkdir -p root/sys/fs/cgroup root/var/lib/here root/work root/before
mount -t cgroup2 none root/sys/fs/cgroup
for each in run tmp dev var/lib/here; do mount -t tmpfs -o mode=755 none "root/$each"; done
mkdir root/dev/pts root/dev/shm root/dev/net
mount -t devpts -o newinstance,ptmxmode=666,gid=5 none root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
while read -r name mode kind major minor; do
  mknod -m "$mode" "root/dev/$name" "$kind" "$major" "$minor"
done <<'END'
null 666 c 1 3
zero 666 c 1 5
full 666 c 1 7
random 666 c 1 8
urandom 666 c 1 9
tty 666 c 5 0
fuse 600 c 10 229
net/tun 666 c 10 200
loop-control 600 c 10 237
END
for each in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do mknod -m 600 "root/dev/loop$each" b 7 "$each"; done
touch work/root work/initrd
mount --bind work root/work
mount --bind "$2" root/work/root
mount --bind "$3" root/work/initrd
ip link set lo up
ip link add br-wire type bridge
ip address add 10.55.0.1/24 dev br-wire
ip link set br-wire up
cd root
pivot_root . before
umount -l /before
echo >/work/ready
while :; do sleep 1000; done
"""

_LIMITS = re.compile(r"\n +f?\"lxc\.cgroup2\.(?:memory|cpu)\.[^\n]*")


@dataclass
class Here:
    """Where containers are run as in a hypervisor. `pid`: of a process in it."""

    pid: int
    work: Path
    container: subprocess.Popen[bytes] | None = None

    def argv(self, *words: str) -> list[str]:
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-r", "-w", "env", path, *words]

    def sh(self, script: str, *arguments: str) -> str:
        """What a script says there. AssertionError where it fails."""
        argv = self.argv("sh", "-c", script, "sh", *arguments)
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONG)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def inside(self, script: str) -> str:
        """What a script says in the container, by ssh."""
        return self.sh(
            "exec ssh -q -F none -i /work/key -p 20022 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            ' root@127.0.0.1 "$1"',
            script,
        )

    def start(self, base: str, **more: object) -> None:
        """Start the container and wait for its sshd. `base`: disk or initramfs; `more`: of `Launch`."""
        there = {"root": "/work/root"} if base == "disk" else {"initrd": "/work/initrd"}
        launch = Launch("here", SPEC, PLACE, "kvm", PORT, "52:54:00:00:55:08", **more)  # type: ignore[arg-type]
        words = container.argv(launch, container.root_of(SPEC, there), "key")
        (self.work / "runner.py").write_text(_LIMITS.sub("", container.runner().decode()))
        self.sh('mkdir -p "$1"; rm -f "$1/qmp" "$1/con"; cp /work/identity /work/runner.py "$1"', PLACE.root)
        said = (self.work / "said").open("wb")
        self.container = subprocess.Popen(
            self.argv(*words), stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        wait_until(self._answers, pause=0.1)
        self.sh('pgrep -of "$1/runner.py" >"$1/pid"', PLACE.root)

    def _answers(self) -> bool:
        assert self.container is not None
        assert self.container.poll() is None, (self.work / "said").read_text(errors="replace")
        argv = self.argv("sh", "-c", "exec 3<>/dev/tcp/127.0.0.1/20022 && read -r said <&3 && echo $said")
        argv[argv.index("sh")] = "bash"
        done = subprocess.run(argv, capture_output=True, check=False, timeout=LONG)
        return done.stdout.startswith(b"SSH-")

    def stop(self) -> None:
        """End it, if it runs, and wait for that."""
        if self.container is not None:
            self.sh('read -r pid <"$1/pid" && kill "$pid" || :', PLACE.root)
            self.container.wait(LONG)
            self.container = None


MACHINE = Machine("web", image=Image(base="debian"), memory=512 * MIB, container=True)
SPEC = Spec("hv/web", MACHINE, (Nic("wire", MAC, 1500, (f"{ADDRESS}/24",)),), "10.9.8.0/24", "", (), "")


@contextmanager
def hypervisor(folder: Path, kvm: BuiltImage, tiny: BuiltImage) -> Iterator[Here]:
    """What stands in for one, until the context is left. `folder`: an empty one."""
    work = folder / "work"
    work.mkdir()
    user, host = key_pairs.generate("here"), key_pairs.generate("web")
    (work / "key").touch(mode=0o600)
    (work / "key").write_text(user.private)
    members = {
        "hostname": (b"web\n", 0o644),
        "hosts": (b"127.0.0.1 localhost\n127.0.1.1 web\n", 0o644),
        "authorized_keys": (f"{user.public}\n".encode(), 0o600),
        "ssh_host_ed25519_key": (host.private.encode(), 0o600),
        "dropbear_ed25519_host_key": (host.dropbear, 0o600),
        "network.sh": (b"#!/bin/sh\n", 0o755),
    }
    (work / "identity").write_bytes(archive(members))
    assert kvm.root is not None
    words = ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "sh", "-c", HYPERVISOR, "hypervisor"]
    with (folder / "said").open("wb") as said:
        outer = subprocess.Popen([*words, str(folder), str(kvm.root), str(tiny.initrd)], stdout=said, stderr=said)
    try:
        wait_until(lambda: outer.poll() is not None or (work / "ready").exists())
        assert outer.poll() is None, (folder / "said").read_text()
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        here = Here(int(children[0]), work)
        try:
            yield here
        finally:
            here.stop()
            here.sh("find /sys/fs/cgroup -depth -type d -path '*/lxc.*nestlab-0123abcd*' -exec rmdir {} + || :")
            here.sh("rmdir /sys/fs/cgroup/lxc.pivot 2>/dev/null || :")
    finally:
        outer.kill()
        outer.wait()
