"""A node for real: built by mmdebstrap from a signed repository with packages that stand in for Proxmox's
(`pve_repository`), booted, found to be who it is to be, and proven to run guests under KVM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from nestlab.images.image_files import key_of
from nestlab.labfile import parse_text
from pve_repository import Repository

pytestmark = [
    pytest.mark.guest,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="builds an image, as root"),
    pytest.mark.skipif(not shutil.which("gpg") or not shutil.which("dpkg-deb"), reason="makes a signed repository"),
]

LAB = """
lab: node
pve_mirror: {{url: {url}, keyring: {keyring}}}
segments: {{lan: {{cidr: 10.79.0.0/24}}, back: {{mtu: 1400}}}}
machines:
  pve1: {{hypervisor: pve, segments: {{lan: 10.79.0.11, back: }}, memory: 768M}}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture(scope="module")
def repository(folder: Path) -> Repository:
    return Repository(folder / "repository")


@pytest.fixture(scope="module")
def cli(folder: Path, repository: Repository) -> Iterator[Cli]:
    with leaks.world(folder):
        cli = Cli(folder)
        text = LAB.format(url=repository.folder, keyring=repository.keyring)
        cli("up", cli.file(text), "--no-verify")
        yield cli
        cli("down", "node", "--yes")
        cli("images", "rm", key_of(parse_text(text, environ={}).machines[0].image))


def asked(cli: Cli, command: str) -> str:
    return cli("exec", "pve1", "--", "sh", "-c", command).text.strip()


def test_its_services_come_up_with_the_name_the_address_and_the_keys_that_it_was_given(cli: Cli) -> None:
    up = "for n in $(seq 3000); do systemctl is-active -q pveproxy && exit 0; sleep 1; done; exit 1"
    asked(cli, up)
    assert asked(cli, "systemctl is-active pve-cluster nestlab-node chrony").split() == ["active"] * 3
    assert json.loads(asked(cli, "cat /etc/pve/.members"))["nodename"] == "pve1"
    assert asked(cli, "getent hosts 10.79.0.11 | { read -r a n r; echo $n; }") == "pve1.node.internal"
    assert asked(cli, "readlink -f /etc/pve/local") == "/etc/pve/nodes/pve1"
    subject = asked(cli, "openssl x509 -noout -subject -in /etc/pve/local/pve-ssl.pem")
    assert subject.replace(" ", "").endswith("CN=pve1")


def test_its_bridges_are_there_and_are_what_its_file_of_interfaces_says(cli: Cli) -> None:
    links = json.loads(asked(cli, "ip -j -d address show type bridge"))
    bridges = {each["ifname"]: each for each in links}
    assert set(bridges) == {"vmbr0", "vmbr1"}
    assert "10.79.0.11" in json.dumps(bridges["vmbr0"])
    assert bridges["vmbr1"]["mtu"] == 1400
    text = asked(cli, "cat /etc/network/interfaces")
    assert "@" not in text
    for bridge in bridges:
        (port,) = asked(cli, f"ls /sys/class/net/{bridge}/brif").split()
        assert f"iface {bridge} inet static\n" in text
        assert f"bridge-ports {port}\n" in text
    asked(cli, "ifup --syntax-check -a")


def test_nothing_of_the_build_is_left_and_nobody_asked_for_what_a_lab_does_not_need(cli: Cli) -> None:
    assert (
        asked(cli, "ls /etc/apt/sources.list.d; ls /proxmox_install_mode /pveupdate-ran /pve-ha-ran 2>/dev/null; :")
        == ""
    )
    assert asked(cli, "cat /var/lib/pve-manager/apl-info/download.proxmox.com") == "Package: none"
    assert asked(cli, "systemctl is-active networking open-iscsi pve-ha-lrm; :").split() == ["inactive"] * 3
    assert asked(cli, "systemctl show -p DefaultTimeoutStartUSec --value") == "15min"


def test_a_password_of_its_own_opens_root_s_account_and_is_in_no_file_that_others_read(cli: Cli, folder: Path) -> None:
    (kept,) = folder.rglob("keys/*.node")
    assert kept.stat().st_mode & 0o077 == 0
    password = json.loads(kept.read_text())["password"]
    stored = asked(cli, "getent shadow root").split(":")[1]
    perl = "my $p = <STDIN>; chomp $p; exit(crypt($p, $ARGV[0]) eq $ARGV[0] ? 0 : 1)"
    subprocess.run(["perl", "-e", perl, stored], input=password.encode(), check=True)
    assert asked(cli, "ls /run/nestlab/root-password 2>/dev/null; :") == ""


def test_it_is_proven_to_run_guests_under_kvm_and_to_be_nobody_else(cli: Cli) -> None:
    verdict = json.loads(cli("verify", "node", "--json").text)
    held = {proof["claim"] for proof in verdict["proofs"] if proof["path"] == "pve1" and proof["ok"]}
    assert {"reachable", "nested", "/dev/kvm", "cpuid", "guest", "identity"} <= held


def test_it_keeps_who_it_is_over_a_restart(cli: Cli) -> None:
    ask = "cat /etc/machine-id /etc/ssh/ssh_host_rsa_key.pub /etc/iscsi/initiatorname.iscsi; od -An -tx1 /etc/hostid"
    before = asked(cli, ask)
    asked(cli, "echo '# mine' >>/etc/network/interfaces")
    asked(cli, "mkdir -p /etc/pve/ha; echo 'vm: 100' >/etc/pve/ha/resources.cfg")
    cli("restart", "pve1")
    assert asked(cli, ask) == before
    assert asked(cli, "tail -n 1 /etc/network/interfaces") == "# mine"


def test_high_availability_starts_with_the_node_once_it_watches_over_something(cli: Cli) -> None:
    """It did not at the first boot; before this one a guest was put under it."""
    wait = "for n in $(seq 600); do [ -e /pve-ha-ran ] && exit 0; sleep 1; done; exit 1"
    asked(cli, wait)


def test_a_repository_signed_by_nobody_known_is_one_error_and_leaves_nothing(
    cli: Cli, folder: Path, repository: Repository
) -> None:
    other = Repository(folder / "other")
    file = folder / "unsigned.yaml"
    file.write_text(LAB.format(url=repository.folder, keyring=other.keyring).replace("lab: node", "lab: unsigned"))
    done = cli("images", "build", str(file), status=2)
    assert "is not signed by a key in" in done
    assert "pve_mirror" in done


def test_a_repository_that_nobody_serves_is_one_error(cli: Cli, folder: Path, repository: Repository) -> None:
    file = folder / "away.yaml"
    file.write_text(LAB.format(url="http://127.0.0.1:1/pve", keyring=repository.keyring))
    done = cli("images", "build", str(file), status=2)
    assert "http://127.0.0.1:1/pve cannot be read" in done
