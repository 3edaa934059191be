"""The identity of a node of Proxmox VE: its files, who writes them when, and the proof that no two are alike."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest

from golden_files import assert_golden
from nestlab.engines import pve_node
from nestlab.engines.qemu import identity
from nestlab.home import key_pairs
from nestlab.home.key_pairs import KeyPair, RsaPair
from nestlab.home.lab_keys import LabKeys
from nestlab.home.node_secrets import NodeSecrets, new_node, read_node
from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import Leases, Nic, Spec, settle
from nestlab.lab.model import Image, Lab, Link, Machine, Segment
from nestlab.network.network_script import script
from nestlab.verbs.node_identity import ASK, Node, proofs, said

MANAGEMENT = "52:54:00:00:00:0f"
KEY = KeyPair("private\n", "ssh-ed25519 AAAA pve1", b"dropbear")
SECRETS = NodeSecrets("password", RsaPair("host\n", "ssh-rsa HOST pve1"), RsaPair("root\n", "ssh-rsa ROOT root@pve1"))
HOSTS = "127.0.0.1 localhost\n10.77.0.11 pve1.lab.internal pve1\n"


def node(name: str = "pve1", *nics: Nic, internet: bool = False, hosts: str = HOSTS) -> Spec:
    machine = Machine(name, hypervisor="pve", image=Image(base="pve"), internet=internet)
    return Spec(name, machine, nics, "10.0.2.0/24", "k", (), "d" * 40, hosts=hosts)


LAN = Nic("lan", "52:54:00:AA:00:01", 1500, ("10.77.0.11/24", "fd77::11/64"))
STORAGE = Nic("storage", "52:54:00:aa:00:02", 9000, ("10.78.0.11/24", "fd78::11/64"))
PVE1 = node("pve1", LAN, STORAGE, internet=True)


@cache
def nodes() -> tuple[Spec, ...]:
    """Two nodes and a guest, settled."""
    links = (Link("lan"), Link("back"))
    machines = (
        Machine("pve1", hypervisor="pve", image=Image(base="pve"), links=links),
        Machine("pve2", hypervisor="pve", image=Image(base="pve"), links=links),
        Machine("alone", hypervisor="pve", image=Image(base="pve")),
        Machine("web", links=links[:1]),
    )
    lab = Lab("lab", segments=(Segment("lan"), Segment("back")), machines=machines)
    keys = {each: (each.base or "?") * 4 for each in (Image(base="pve"), Image(base="debian"), Image(base="tiny"))}
    return settle(lab, lease(lab, Leases(), []), keys).specs


def spec(path: str) -> Spec:
    return next(each for each in nodes() if each.path == path)


def test_the_interfaces_of_a_node_are_the_golden_ones() -> None:
    assert_golden("pve_node/interfaces", pve_node.interfaces(PVE1, MANAGEMENT))


def test_the_interfaces_of_a_node_without_a_card_to_its_host_are_the_golden_ones() -> None:
    assert_golden("pve_node/interfaces-on-pve", pve_node.interfaces(node("pve1", LAN), None))


def test_the_network_of_a_node_has_a_bridge_for_every_card() -> None:
    text = script(PVE1, management_mac=MANAGEMENT)
    assert f'bridge vmbr0 "$card" {LAN.mac.lower()} 1500' in text
    assert f'bridge vmbr1 "$card" {STORAGE.mac} 9000' in text
    assert "address4 vmbr0 10.77.0.11/24" in text
    assert "br-lan" not in text


def test_the_script_of_a_node_is_the_golden_one() -> None:
    assert_golden("pve_node/node.sh", pve_node.SCRIPT)


def test_the_name_of_a_node_stands_for_its_address_on_its_first_segment_and_nothing_else() -> None:
    for path in ("pve1", "pve2"):
        text = pve_node.hosts(spec(path))
        (line,) = [each for each in text.splitlines() if path in each.split()[1:]]
        address, full, short, *_ = line.split()
        assert (full, short) == (f"{path}.lab.internal", path)
        assert ip_address(address).version == 4
        assert not ip_address(address).is_loopback
        assert f"{address}/" in " ".join(spec(path).nics[0].addresses)
        assert "127.0.1.1" not in text
        assert "::1 ip6-localhost" in text


def test_a_guest_beside_nodes_keeps_the_names_of_both_kinds_of_addresses() -> None:
    assert re.search(r"^fd.*pve1\.lab\.internal", spec("web").hosts, re.MULTILINE)


def test_a_node_on_no_segment_has_the_address_of_its_card_to_its_host() -> None:
    alone = spec("alone")
    assert re.search(r"^10\.[0-9.]+\.15 alone\.nestlab\.internal alone$", pve_node.hosts(alone), re.MULTILINE)
    assert pve_node.full_name(alone) == "alone.nestlab.internal"


def test_a_node_knows_the_domain_that_its_certificate_is_for_and_whom_to_ask_where_it_may() -> None:
    made = identity.files(PVE1, host_key=KEY, authorized="k\n", management_mac=MANAGEMENT, node=SECRETS)
    assert made["resolv.conf"][0] == b"search lab.internal\nnameserver 10.0.2.3\n"
    alone = identity.files(node("pve1", LAN), host_key=KEY, authorized="k\n", management_mac=MANAGEMENT, node=SECRETS)
    assert alone["resolv.conf"][0] == b"search lab.internal\n"


def test_every_file_that_is_a_secret_is_for_root_alone() -> None:
    made = identity.files(PVE1, host_key=KEY, authorized="k\n", management_mac=MANAGEMENT, node=SECRETS)
    secret = {
        name for name, (content, _) in made.items() if content in (b"password", b"host\n", b"root\n", b"private\n")
    }
    assert secret == {"root-password", "ssh_host_rsa_key", "node/root/.ssh/id_rsa", "ssh_host_ed25519_key"}
    assert {made[name][1] for name in secret} == {0o600}
    own = replace(SECRETS, made={"ca": "key", "ssl": "key"})
    made = identity.files(PVE1, host_key=KEY, authorized="k\n", management_mac=MANAGEMENT, node=own)
    assert {name: made[name] for name in made if name.startswith("pve-keys/")} == {
        "pve-keys/ca": (b"key", 0o600),
        "pve-keys/ssl": (b"key", 0o600),
    }
    assert "key" not in repr(own)


def test_two_nodes_have_nothing_alike_but_what_is_not_theirs() -> None:
    other = KeyPair("private2\n", "ssh-ed25519 BBBB pve2", b"dropbear2")
    secrets = replace(SECRETS, password="2", host=RsaPair("h", "ssh-rsa H"), root=RsaPair("r", "ssh-rsa R"))
    one = pve_node.members(spec("pve1"), KEY, SECRETS, MANAGEMENT)
    two = pve_node.members(spec("pve2"), other, secrets, "52:54:00:00:00:10")
    assert {name for name in one if one[name] == two[name]} == {"hosts", "node.sh", "pve-keys.sh", "resolv.conf"}


def test_a_password_is_made_once_kept_for_its_owner_and_never_shown(tmp_path: Path) -> None:
    keys = LabKeys(tmp_path)
    (tmp_path / "keys").mkdir()
    first = keys.node("pve1")
    assert LabKeys(tmp_path).node("pve1") == first
    assert len(first.password) == 24
    (kept,) = (tmp_path / "keys").glob("*.node")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert first.password not in repr(first)
    assert "PRIVATE" not in repr(first)
    assert first.root.public.startswith("ssh-rsa ")
    assert first.root.public.endswith(" root@pve1")


def test_a_key_of_rsa_is_one_that_ssh_reads(tmp_path: Path) -> None:
    made = key_pairs.generate_rsa(2048, "pve1")
    (tmp_path / "key").write_text(made.private)
    (tmp_path / "key").chmod(0o600)
    done = subprocess.run(["ssh-keygen", "-y", "-f", str(tmp_path / "key")], check=True, capture_output=True, text=True)
    assert done.stdout.split()[:2] == made.public.split()[:2]
    with pytest.raises(ValueError, match="one line"):
        key_pairs.generate_rsa(2048, "a\nb")


def test_keys_of_its_api_are_made_where_that_takes_no_time_and_openssl_reads_them(tmp_path: Path) -> None:
    made = read_node(dict(new_node("pve1"))).made
    assert set(made) == {"ca", "authkey", "www", "ssl"}
    assert len(set(made.values())) == 4
    for key in made.values():
        subprocess.run(["openssl", "rsa", "-noout", "-check"], input=key.encode(), check=True, capture_output=True)
    old = {name: text for name, text in new_node("pve1").items() if not name.startswith("made_")}
    assert read_node(old).made == {}


def test_keys_are_placed_where_none_are_and_never_in_a_cluster(tmp_path: Path) -> None:
    keys, pve = tmp_path / "run/nestlab/pve-keys", tmp_path / "etc/pve"
    node_folder = pve / "nodes" / os.uname().nodename
    for folder in (keys, node_folder, tmp_path / "etc/corosync"):
        folder.mkdir(parents=True)
    (pve / "local").symlink_to(f"nodes/{os.uname().nodename}")
    pem = key_pairs.generate_pem(2048)
    for name in ("ca", "authkey", "www", "ssl"):
        (keys / name).write_text(pem)
    (pve / "pve-www.key").write_text("its own")
    text = re.sub(r"(?<![\w.}])/(run|etc)/", rf"{tmp_path}/\1/", pve_node.PLACE_KEYS)
    (tmp_path / "etc/corosync/corosync.conf").write_text("a cluster")
    subprocess.run(["sh", "-c", text], check=True)
    assert not (pve / "priv").exists()
    (tmp_path / "etc/corosync/corosync.conf").unlink()
    subprocess.run(["sh", "-c", text], check=True)
    assert (pve / "priv/pve-root-ca.key").read_text() == (node_folder / "pve-ssl.key").read_text() == pem
    assert (pve / "pve-www.key").read_text() == "its own"
    assert (pve / "authkey.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert (pve / "priv/authkey.key").stat().st_mode & 0o777 == 0o600


def test_what_is_kept_of_a_node_and_damaged_is_not_believed() -> None:
    assert read_node(dict(new_node("hv1/pve1"))).root.public.endswith(" root@pve1")
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_node({"password": 1, "host": "", "host_public": "", "root": "", "root_public": ""})


class Root:
    """A root filesystem in a folder, in which the script runs; programs that need root only tell that they were run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        for name in (
            "run/nestlab",
            "sys/class/net",
            "etc/network",
            "etc/iscsi",
            "etc/ssh",
            "var/lib/pve-cluster",
            "root",
        ):
            (folder / name).mkdir(parents=True)
        for card, mac in (
            ("eth0", MANAGEMENT),
            ("eth1", LAN.mac.lower()),
            ("eth2", STORAGE.mac),
            ("vmbr0", STORAGE.mac),
        ):
            (folder / "sys/class/net" / card).mkdir()
            (folder / "sys/class/net" / card / "address").write_text(f"{mac}\n")
            if card != "vmbr0":
                (folder / "sys/class/net" / card / "device").mkdir()
        self.bin.mkdir()
        (self.bin / "chpasswd").write_text(f"#!/bin/sh\ncat >>{folder}/chpasswd\n")
        (self.bin / "chpasswd").chmod(0o755)

    def boot(self, made: Spec, key: KeyPair, secrets: NodeSecrets = SECRETS) -> None:
        """What init does with an identity, then the script."""
        members = identity.files(made, host_key=key, authorized="k\n", management_mac=MANAGEMENT, node=secrets)
        for name, (content, mode) in members.items():
            path = self.folder / "run/nestlab" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
        text = pve_node.SCRIPT
        for place in ("/run/", "/sys/", "/var/", "/etc/", "/root/"):
            text = re.sub(rf"(?<![\w.}}]){place}", f"{self.folder}{place}", text)
        text = text.replace("cp -R node/. /\n", f"cp -R node/. {self.folder}/\n")
        environ = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", text], check=True, env=environ)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


def test_a_node_gets_its_files_once_and_keeps_what_is_changed_in_them(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.boot(PVE1, KEY)
    interfaces = root.read("etc/network/interfaces")
    assert "bridge-ports eth1" in interfaces
    assert "bridge-ports eth2" in interfaces
    assert "iface eth0 inet static" in interfaces
    assert "@" not in interfaces
    assert root.read("chpasswd") == "root:password\n"
    assert not (tmp_path / "run/nestlab/root-password").exists()
    assert (tmp_path / "root/.ssh/id_rsa").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/ssh/ssh_host_rsa_key.pub").exists()
    (tmp_path / "etc/network/interfaces").write_text("mine\n")
    (tmp_path / "var/lib/pve-cluster/config.db").write_text("")
    root.boot(PVE1, KEY)
    assert root.read("etc/network/interfaces") == "mine\n"
    assert root.read("chpasswd") == "root:password\n"
    assert (tmp_path / "var/lib/pve-cluster/config.db").exists()


def test_a_node_with_another_address_gets_it_and_stays_in_its_cluster(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.boot(PVE1, KEY)
    (tmp_path / "var/lib/pve-cluster/config.db").write_text("")
    root.boot(node("pve1", replace(LAN, addresses=("10.77.0.99/24",))), KEY)
    assert "10.77.0.99/24" in root.read("etc/network/interfaces")
    assert (tmp_path / "var/lib/pve-cluster/config.db").exists()
    assert root.read("chpasswd") == "root:password\n"


def test_a_copy_of_a_disk_under_another_identity_forgets_the_cluster_and_the_keys_of_the_first(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.boot(PVE1, KEY)
    for name in ("var/lib/pve-cluster/config.db", "var/lib/pve-cluster/config.db-wal", "root/.ssh/authorized_keys"):
        (tmp_path / name).write_text("of the first")
    before = root.read("etc/iscsi/initiatorname.iscsi"), (tmp_path / "etc/hostid").read_bytes()
    other = KeyPair("private2\n", "ssh-ed25519 BBBB pve2", b"dropbear2")
    root.boot(node("pve2", LAN, STORAGE), other, replace(SECRETS, password="another", root=RsaPair("r", "ssh-rsa R")))
    assert list((tmp_path / "var/lib/pve-cluster").iterdir()) == []
    assert root.read("root/.ssh/id_rsa") == "r"
    assert not (tmp_path / "root/.ssh/authorized_keys").exists()
    assert root.read("chpasswd") == "root:password\nroot:another\n"
    after = root.read("etc/iscsi/initiatorname.iscsi"), (tmp_path / "etc/hostid").read_bytes()
    assert before[0] != after[0]
    assert before[1] != after[1]


# The proof

OWN = {"name": "pve{n}", "address": "10.77.0.1{n}", "machine-id": "m{n}", "hostid": "h{n}", "host-key": "ssh-rsa k{n}"}
OWN |= {"initiator": "iqn.1993-08.org.debian:01:{n}", "mac": "52:54:00:00:00:0{n}", "ca": "c{n}", "password": "p{n}"}


def of(number: int, **changed: str) -> Node:
    lines = {word: text.replace("{n}", str(number)) for word, text in OWN.items()} | {
        word.replace("_", "-"): text for word, text in changed.items()
    }
    return Node(node(f"pve{number}"), tuple(lines.items()))


def test_nodes_that_are_all_different_hold() -> None:
    assert [proof.ok for proof in proofs([of(1), of(2), of(3)])] == [True, True, True]


@pytest.mark.parametrize("word", sorted(OWN))
def test_any_two_nodes_that_are_alike_in_anything_fail(word: str) -> None:
    same = OWN[word].replace("{n}", "1")
    one, two, three = proofs([of(1), of(2, **{word.replace("-", "_"): same}), of(3)])
    assert (one.ok, two.ok, three.ok) == (False, False, True)
    assert "as of pve2" in one.seen
    assert "pve1" in two.seen


def test_a_name_that_stands_for_a_loopback_address_fails() -> None:
    (proof,) = proofs([of(1, address="127.0.1.1")])
    assert proof.ok is False
    assert "127.0.1.1" in proof.seen


def test_a_node_that_does_not_say_what_it_is_fails() -> None:
    assert [proof.ok for proof in proofs([Node(node("pve1"), error="it is gone"), Node(node("pve2"))])] == [
        False,
        False,
    ]


def test_two_nodes_on_no_segment_are_not_alike_by_the_address_of_their_cards_to_the_host() -> None:
    assert all(proof.ok for proof in proofs([of(1, address="10.0.2.15"), of(2, address="10.0.2.15")]))


def test_what_a_node_says_is_bounded_and_harmless() -> None:
    found = said("name \x1b[31m" + "a" * 1000 + "\nwhat else\nca\n" + "mac m\n" * 1000)
    assert len(found) < 300
    assert "\x1b" not in found[0][1]
    assert {word for word, _ in found} == {"name", "mac"}


def test_the_question_is_one_that_a_shell_reads() -> None:
    subprocess.run(["sh", "-n"], input=ASK.encode(), check=True)
