"""Clusters of nodes for real: machines with packages that stand in for Proxmox VE's (`pve_repository`, `pve_stand_in`),
in which corosync runs. Formed, broken where they are known to break, mended, and left."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from nestlab.images.image_files import key_of
from nestlab.kinds.pvecm import ask, question, reports
from nestlab.labfile import parse_text
from pve_repository import Repository

pytestmark = [
    pytest.mark.guest,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="builds an image, as root"),
    pytest.mark.skipif(not shutil.which("gpg") or not shutil.which("dpkg-deb"), reason="makes a signed repository"),
]

LAB = """
lab: trio
pve_mirror: {{url: {url}, keyring: {keyring}}}
segments: {{lan: {{cidr: 10.79.0.0/24}}, ring: {{cidr: 10.78.0.0/24}}}}
machines:
  pve1: {{hypervisor: pve, segments: {{ring: 10.78.0.11, lan: 10.79.0.11}}}}
  pve2: {{hypervisor: pve, segments: {{ring: 10.78.0.12, lan: 10.79.0.12}}}}
  pve3: {{hypervisor: pve, segments: {{ring: 10.78.0.13, lan: 10.79.0.13}}}}
clusters:
  demo: {{members: [{members}], networks: {{management: ring, link0: ring, link1: lan}}}}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


class Trio:
    """The lab, and its nodes."""

    def __init__(self, cli: Cli, repository: Repository) -> None:
        self.cli = cli
        self._repository = repository
        self.file = cli.file(self.text("pve1, pve2, pve3"))

    def text(self, members: str) -> str:
        return LAB.format(url=self._repository.folder, keyring=self._repository.keyring, members=members)

    def up(self, members: str = "pve1, pve2, pve3", *words: str, status: int = 0) -> str:
        Path(self.file).write_text(self.text(members))
        return self.cli("up", self.file, "--no-verify", *words, status=status).text

    def asked(self, node: str, command: str) -> str:
        return self.cli("exec", node, "--", "sh", "-c", command).text.strip()

    def report(self, node: str) -> ask.Report:
        return ask.parse(self.asked(node, question.ASK))

    def whole(self, *names: str) -> None:
        """Each of them says of itself that it is a member of the one cluster, with all others."""
        for name in names:
            found = self.report(name)
            assert found.conf is not None
            assert {each.name for each in found.conf.nodes} == set(names) == set(found.listed)
            assert found.quorum is not None
            assert (found.quorum.quorate, found.quorum.total) == (True, len(names))
            assert found.members is not None
            assert {peer.name for peer in found.members.peers if peer.online} == set(names)
            assert found.signed
            assert found.own == found.served != ""
            assert [len(each.links) for each in found.conf.nodes] == [2] * len(names)


@pytest.fixture(scope="module")
def trio(folder: Path) -> Iterator[Trio]:
    repository = Repository(folder / "repository")
    with leaks.world(folder):
        trio = Trio(Cli(folder), repository)
        trio.up("pve1, pve2")
        yield trio
        trio.cli("down", "trio", "--yes")
        trio.cli("images", "rm", key_of(parse_text(trio.text("pve1, pve2"), environ={}).machines[0].image))


def test_two_nodes_form_a_cluster_and_a_third_one_joins(trio: Trio) -> None:
    trio.whole("pve1", "pve2")
    assert trio.report("pve3").alone
    trio.up()
    trio.whole("pve1", "pve2", "pve3")
    status = reports.quorum(trio.asked("pve3", "pvecm status"))
    assert status is not None
    assert (status.cluster, len(status.seats)) == ("demo", 3)


def test_what_one_node_writes_the_others_read(trio: Trio) -> None:
    trio.asked("pve1", "echo hello >/etc/pve/test")
    trio.asked("pve3", "n=0; until [ -e /etc/pve/test ] || [ $n = 100 ]; do n=$((n + 1)); sleep 1; done")
    assert trio.asked("pve3", "cat /etc/pve/test; rm /etc/pve/test") == "hello"


def test_no_password_is_in_a_log_or_left_on_a_node(trio: Trio, folder: Path) -> None:
    for kept in folder.rglob("keys/*.node"):
        password = json.loads(kept.read_text())["password"]
        for node in ("pve1", "pve2", "pve3"):
            assert trio.asked(node, f"grep -rl -e {password} /run/nestlab /var/log /tmp 2>/dev/null; :") == ""
        assert not [path for path in folder.rglob("*.jsonl") if password in path.read_text(errors="replace")]


def test_a_cluster_that_is_whole_is_left_alone(trio: Trio) -> None:
    assert "nothing to do" in trio.up()


def test_a_node_that_died_while_it_joined_becomes_a_member(trio: Trio) -> None:
    """It is counted, and its own corosync and certificate are gone, as where memory ran out at `waiting for quorum`."""
    trio.asked(
        "pve2",
        "systemctl stop pve-cluster corosync; rm -f /var/lib/pve-cluster/config.db /etc/corosync/authkey"
        " /etc/corosync/corosync.conf",
    )
    trio.cli("restart", "pve2")
    trio.up()
    trio.whole("pve1", "pve2", "pve3")


def test_one_that_is_no_member_any_more_is_alone_and_the_others_forget_it(trio: Trio) -> None:
    trio.up("pve1, pve2")
    trio.whole("pve1", "pve2")
    left = trio.report("pve3")
    assert left.alone
    assert left.signed
    assert trio.asked("pve1", "ls /etc/pve/nodes").split() == ["pve1", "pve2"]


def test_a_node_with_guests_does_not_join(trio: Trio) -> None:
    trio.asked("pve3", "echo 'memory: 64' >/etc/pve/nodes/pve3/qemu-server/100.conf")
    said = trio.up(status=2)
    assert "pve3 cannot join: it has guests (100)" in said
    trio.asked("pve3", "rm /etc/pve/nodes/pve3/qemu-server/100.conf")
    trio.up()
    trio.whole("pve1", "pve2", "pve3")


def test_it_comes_back_quorate_after_all_of_it_was_off(trio: Trio) -> None:
    trio.cli("stop", "trio")
    trio.up()
    trio.whole("pve1", "pve2", "pve3")
