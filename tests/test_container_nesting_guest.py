"""Containers in a container, by the programs that people run them with: LXC, Docker and Podman of Debian's packages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from command_line import Cli
from lab_up import lab_up
from nested_lxc import CONFIGURED

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: inner
segments:
  wire: {}
machines:
  hv1:
    hypervisor: kvm
    memory: 1536M
    segments: [wire]
    machines:
      box:
        container: true
        memory: 768M
        image: {from: debian, packages: [lxc, docker.io, docker-cli, podman, dbus, iptables]}
        segments: [wire]
"""

ROOT = """
set -e
[ ! -e /srv/root ] || exit 0
mkdir -p /srv/root/bin /srv/root/dev /srv/root/proc /srv/root/sys /srv/root/etc /srv/root/tmp
cp /bin/busybox /srv/root/bin/
for each in sh id hostname cat sleep; do ln -s busybox "/srv/root/bin/$each"; done
"""

LXC = (
    CONFIGURED
    + """\
printf '#!/bin/sh\\n{ hostname; id -u; mkdir /sys/fs/cgroup/own && echo divides; } >/tmp/said\\n' >/srv/root/init
chmod 755 /srv/root/init
ln -sf busybox /srv/root/bin/mkdir
lxc-start -F -n inner -f /srv/config -P /srv </dev/null >/dev/null
cat /srv/root/tmp/said
"""
)


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        found("exec", "hv1/box", "--", "sh", "-c", ROOT)
        yield found


def sh(cli: Cli, script: str) -> str:
    return cli.plain("exec", "hv1/box", "--", "sh", "-c", script)


def test_lxc_starts_one_which_has_control_groups_to_divide(cli: Cli) -> None:
    assert sh(cli, LXC).split() == ["inner", "0", "divides"]


@pytest.mark.parametrize(("program", "driver"), [("docker", ".Driver"), ("podman", ".Store.GraphDriverName")])
def test_docker_and_podman_run_one_on_overlays_of_the_kernel(cli: Cli, program: str, driver: str) -> None:
    if program == "docker":
        sh(cli, "systemctl start docker")
    sh(cli, f"tar -C /srv/root -c . | {program} import - bb >/dev/null")
    assert sh(cli, f"{program} info --format '{{{{{driver}}}}}'").strip() in ("overlay2", "overlay")
    said = sh(cli, f"{program} run --rm --network none -v /etc/hostname:/etc/outer:ro bb sh -c 'cat /etc/outer; id -u'")
    assert said.split() == ["box", "0"]


def test_docker_gives_one_a_network(cli: Cli) -> None:
    """By a bridge and NAT of the container's own, whose modules are in the hypervisor's image."""
    sh(
        cli,
        "docker run -d --name page bb sh -c 'echo here >/tmp/index.html; busybox httpd -f -p 80 -h /tmp' >/dev/null",
    )
    address = sh(cli, "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' page").strip()
    assert sh(cli, f"busybox wget -q -O - http://{address}/index.html") == "here\n"


def test_what_they_made_outlives_a_restart(cli: Cli) -> None:
    cli("restart", "hv1/box")
    sh(cli, "systemctl start docker")
    assert sh(cli, "docker image ls -q bb && podman image ls -q bb").split()
    assert sh(cli, "docker ps -a --format '{{.Names}}'").split() == ["page"]
