"""Machines that Proxmox's installer made: a script says who each is, in a system that was never booted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nestlab import labfile
from nestlab.answers.proxmox import HOOK
from nestlab.images import cloud_init, proxmox_identity
from nestlab.images.proxmox_identity import NAME, script
from nestlab.lab.blueprint import Blueprint
from test_install_labfile import HASH, ISO
from test_ready_labfile import settled

MANAGEMENT = "52:54:00:00:00:01"
LAB = f"""
lab: x
segments: {{wire: , store: {{mtu: 9000}}}}
images: {{it: {{install: {{system: proxmox, iso: ./a.iso, password: "{HASH.replace("$", "$$")}"}}}}}}
machines:
  one: {{image: it, segments: [wire, store]}}
  two: {{image: it, segments: [wire]}}
  lone: {{image: it}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Blueprint:
    (tmp_path / "a.iso").write_bytes(ISO)
    (tmp_path / "lab.yaml").write_text(LAB)
    return settled(labfile.parse(tmp_path / "lab.yaml", environ={}))


def root_of(folder: Path, lab: Blueprint, machine: str) -> Path:
    """A system as the installer leaves it, with the cards of a machine."""
    root = folder / machine
    for name in ("etc/ssh", "etc/network", "etc/postfix", "etc/iscsi"):
        (root / name).mkdir(parents=True)
    for name in ("rsa", "ecdsa", "ed25519"):
        (root / f"etc/ssh/ssh_host_{name}_key").write_text("of all")
    (root / "etc/postfix/main.cf").write_text("myhostname=nestlab.lab.internal\nrelayhost =\n")
    (root / "etc/machine-id").write_text("0" * 32)
    cards = [MANAGEMENT, *(nic.mac for nic in lab[machine].nics)]
    for number, mac in enumerate(cards):
        card = root / f"sys/class/net/ens{18 + number}"
        (card / "device").mkdir(parents=True)
        (card / "address").write_text(f"{mac.lower()}\n")
    return root


def told(root: Path, lab: Blueprint, machine: str) -> None:
    text = script(lab[machine], "ssh-ed25519 AAAA me\n", f"key of {machine}\n", f"pub {machine}", MANAGEMENT, None)
    subprocess.run(["sh", "-s", str(root)], input=text.encode(), check=True)


def test_each_has_a_name_keys_and_addresses_of_its_own(lab: Blueprint, tmp_path: Path) -> None:
    roots = {name: root_of(tmp_path, lab, name) for name in ("one", "two", "lone")}
    for name, root in roots.items():
        told(root, lab, name)
    for path in (
        *("hostname", "machine-id", "hostid", "mailname", "iscsi/initiatorname.iscsi", "postfix/main.cf"),
        *("ssh/ssh_host_ed25519_key", "ssh/ssh_host_rsa_key", "ssh/ssh_host_ecdsa_key", "network/interfaces"),
    ):
        found = [(root / "etc" / path).read_bytes() for root in roots.values()]
        assert len(set(found)) == 3, path
        assert b"of all" not in b"".join(found)
    assert (roots["one"] / "etc/ssh/ssh_host_ed25519_key").read_text() == "key of one\n"
    assert (roots["one"] / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (roots["one"] / "etc/postfix/main.cf").read_text() == "myhostname=one.x.internal\nrelayhost =\n"
    text = (roots["one"] / "etc/network/interfaces").read_text()
    assert "@" not in text
    four = lab["one"].nics[0].addresses[0]
    assert f"auto vmbr0\niface vmbr0 inet static\n\taddress {four}\n\tbridge-ports ens19\n" in text
    assert "\tbridge-ports ens20\n\tbridge-stp off\n\tbridge-fd 0\n\tmtu 9000\n" in text
    assert "auto ens18\niface ens18 inet static\n\taddress 10." in text


def test_the_name_of_each_stands_for_one_address_that_is_no_loopback(lab: Blueprint) -> None:
    for name in ("one", "two", "lone"):
        lines = proxmox_identity.hosts(lab[name]).splitlines()
        own = [line.split()[0] for line in lines if name in line.split()[1:]]
        assert len(own) == 1, own
        assert own[0].startswith("10.")


def test_what_was_done_is_not_done_again_until_something_of_it_is_new(lab: Blueprint, tmp_path: Path) -> None:
    root = root_of(tmp_path, lab, "one")
    told(root, lab, "one")
    (root / "etc/hostname").write_text("by hand\n")
    before = (root / "etc/ssh/ssh_host_rsa_key").read_bytes()
    told(root, lab, "one")
    assert (root / "etc/hostname").read_text() == "by hand\n"
    assert (root / "etc/ssh/ssh_host_rsa_key").read_bytes() == before
    told(root, lab, "two")
    assert (root / "etc/hostname").read_text() == "two\n"


def test_the_script_is_on_the_seed_of_such_machines_alone(lab: Blueprint) -> None:
    made = cloud_init.seed(lab["one"], "", "private", "public", MANAGEMENT)
    assert NAME.encode() in made
    assert b"# Who this machine is." in made


def test_the_hook_is_a_script_that_any_shell_reads() -> None:
    assert NAME in HOOK
    subprocess.run(["sh", "-n"], input=HOOK.encode(), check=True)
