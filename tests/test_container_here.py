"""A container for real, on this machine itself (`container_here`): what it may, what it passes, what runs in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_here import ADDRESS, CARD, OUTER, PLACE, Here, hypervisor
from nested_lxc import CONFIGURED
from nestlab.home.directories import Home
from nestlab.images import build
from nestlab.images.recipes import BUILTIN
from nestlab.network.pcap import Records
from nestlab.verbs.capture import CARD_OF_GUEST, READ

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root, and unshare"),
]


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    argv = ["unshare", "-m", "-n", "sh", "-c", "mount --make-rprivate / && ip link add name br0 type bridge"]
    if (done := subprocess.run(argv, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"this machine lets nobody have namespaces, or makes no bridges: {done.stderr}")
    cache = Home.of(os.environ, Path.home()).cache
    kvm, tiny = (asyncio.run(build(BUILTIN[name], cache, print)) for name in ("kvm", "tiny"))
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, hypervisor(Path(folder), kvm, tiny) as found:
        yield found


@pytest.fixture
def debian(here: Here) -> Iterator[Here]:
    here.start("disk")
    yield here
    here.stop()


@pytest.mark.parametrize("base", ["disk", "initramfs"])
def test_it_is_unprivileged_and_has_its_name_and_its_address(here: Here, base: str) -> None:
    here.start(base)
    try:
        assert here.inside("id -u; hostname; cat /proc/self/uid_map").split() == ["0", "web", "0", "100000", "65536"]
        assert "denied" in here.inside("mknod /root/kvm c 10 232 2>&1 || echo denied")
        assert here.inside("cat /proc/sys/net/ipv6/conf/eth0/accept_ra") == "0\n"
        here.sh('ping -c1 -W2 "$1"', ADDRESS)
    finally:
        here.stop()


def test_what_passes_its_card_is_captured_at_its_port(debian: Here) -> None:
    argv = debian.argv("sh", "-c", CARD_OF_GUEST + READ, "capture", PLACE.root, "br-wire")
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as work:
        assert work.stdout is not None
        head = os.read(work.stdout.fileno(), 1 << 16)
        debian.inside(f"ping -c1 -W2 {OUTER}")
        records = Records()
        kinds: set[int] = set()
        frames = [*records.feed(head)]
        while kinds != {0, 8}:
            frames += records.feed(os.read(work.stdout.fileno(), 1 << 16))
            kinds = {frame[34] for _, frame in frames if frame[12:14] == b"\x08\x00" and frame[23] == 1}
        work.stdout.close()  # with the next frame, what captures ends
        debian.inside(f"ping -c1 -W2 {OUTER}")


def test_one_that_is_cut_off_passes_no_frame_until_it_is_healed(here: Here) -> None:
    here.start("disk", cut=frozenset({"wire"}))
    try:
        assert here.inside(f"ping -c1 -W1 {OUTER} >/dev/null || cat /sys/class/net/eth0/carrier") == "0\n"
        assert here.sh(f"cat /sys/class/net/{CARD}/statistics/rx_packets") == "0\n"
        here.sh(f"ip link set {CARD} up")
        assert "1 received" in here.inside(f"ping -c1 -W9 {OUTER}")
    finally:
        here.stop()


NESTED = (
    """
mkdir -p /srv/root/bin /srv/root/dev /srv/root/proc /srv/root/sys /srv/root/tmp
cp /bin/busybox /srv/root/bin/
for each in sh id hostname mkdir cat; do ln -sf busybox "/srv/root/bin/$each"; done
printf '#!/bin/sh\\n{ hostname; id -u; mkdir /sys/fs/cgroup/own && echo divides; } >/tmp/said\\n' >/srv/root/init
cat /proc/self/uid_map >/dev/null
chmod 755 /srv/root/init
chmod 777 /srv/root/tmp
"""
    + CONFIGURED
    + """\
[ $# = 0 ] || {
  printf 'lxc.idmap = u 0 10000 50000\\nlxc.idmap = g 0 10000 50000\\n' >>/srv/config
  echo root:10000:50000 | tee /etc/subuid >/etc/subgid
  chown -R 10000:10000 /srv/root
}
lxc-start -F -n inner -f /srv/config -P /srv </dev/null >/dev/null 2>&1
cat /srv/root/tmp/said
"""
)


@pytest.mark.parametrize("mapped", ["", "own users"], ids=["its users", "users of its own"])
def test_a_container_runs_in_it_and_divides_its_control_group(debian: Here, mapped: str) -> None:
    assert debian.inside(f"set -- {mapped}\n{NESTED}").split() == ["inner", "0", "divides"]
    debian.inside("rm -rf /srv/root /srv/config")


def test_overlays_are_mounted_in_it_beside_its_own_and_what_is_there_outlives_a_stop(here: Here) -> None:
    """As Docker and Podman do, whose programs are what the directories are made by."""
    here.start("disk")
    here.inside("touch /usr/bin/podman; mkdir /var/lib/docker; touch /var/lib/docker/begun /usr/sbin/dockerd")
    here.stop()
    here.start("disk")
    store = "/var/lib/containers"
    try:
        assert here.inside("cat /proc/mounts | grep -c ' /var/lib/' || :").split() == ["1"], (
            "docker's were begun within"
        )
        here.inside(f"cd {store} && mkdir a b c d && mount -t overlay -o lowerdir=a,upperdir=b,workdir=c,userxattr x d")
        here.inside(f"touch {store}/d/written")
        here.stop()
        here.start("disk")
        assert here.inside(f"ls {store}/b /var/lib/docker").split() == [
            "/var/lib/containers/b:",
            "written",
            "/var/lib/docker:",
            "begun",
        ]
        assert here.inside("test -w /dev/fuse && echo yes") == "yes\n"
    finally:
        here.stop()
