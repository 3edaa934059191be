"""What Proxmox's and corosync's programs print, as recorded, and as nobody sound would print it."""

from __future__ import annotations

import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.kinds.pvecm import refusals, reports, scripts
from nestlab.kinds.pvecm.ask import Report, parse
from nestlab.kinds.pvecm.checks import Found, found
from nestlab.kinds.pvecm.question import ASK
from nestlab.kinds.pvecm.reports import Conf, ConfNode, Guest, Members, Peer, Seat
from nestlab.kinds.pvecm.situation import view
from waiting import VERY_LONG

STATUS = """\
Cluster information
-------------------
Name:             lab
Config Version:   3
Transport:        knet
Secure auth:      on

Quorum information
------------------
Date:             Sun Nov 22 22:43:33 2026
Quorum provider:  corosync_votequorum
Nodes:            3
Node ID:          0x00000003
Ring ID:          1.1f
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      3
Quorum:           2
Flags:            Quorate

Membership information
----------------------
    Nodeid      Votes Name
0x00000001          1 10.99.0.1
0x00000002          1 10.99.0.2
0x00000003          1 10.99.0.3 (local)
"""
BLOCKED = """\
Quorum information
------------------
Date:             Sun Nov 22 22:19:45 2026
Quorum provider:  corosync_votequorum
Nodes:            1
Node ID:          0x00000001
Ring ID:          1.5
Quorate:          No

Votequorum information
----------------------
Expected votes:   2
Highest expected: 2
Total votes:      1
Quorum:           2 Activity blocked
Flags:

Membership information
----------------------
    Nodeid      Votes Name
0x00000001          1 10.99.0.3 (local)
"""
DEVICE = """\
Quorate:          Yes
Nodes:            2
Expected votes:   3
Highest expected: 3
Total votes:      3
Quorum:           2
Flags:            Quorate Qdevice

Membership information
----------------------
    Nodeid      Votes    Qdevice Name
0x00000001          1    A,V,NMW 192.168.22.180 (local)
0x00000002          1    A,NV,NMW 192.168.22.181
0x00000000          1            Qdevice
"""
NODES = """\

Membership information
----------------------
    Nodeid      Votes Name
         1          1 pve1
         2          1 pve2
         3          1 pve3 (local)
"""
CONF = """\
logging {
  debug: off
  to_syslog: yes
}

nodelist {
  node {
    name: pve1
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 10.99.0.11
  }
  node {
    name: pve2
    nodeid: 2
    quorum_votes: 1
    ring0_addr: 10.99.0.12
    ring1_addr: fd00::12
  }
}

quorum {
  device {
    model: net
    net {
      algorithm: ffsplit
      host: 10.99.0.9
      tls: on
    }
    votes: 1
  }
  provider: corosync_votequorum
}

totem {
  cluster_name: lab
  config_version: 2
  interface {
    linknumber: 0
  }
  ip_version: ipv4-6
  link_mode: passive
  secauth: on
  token_coefficient: 125
  version: 2
}

"""
MEMBERS = """\
{
"nodename": "pve1",
"version": 6,
"cluster": { "name": "lab", "version": 2, "nodes": 2, "quorate": 1 },
"nodelist": {
  "pve1": { "id": 1, "online": 1, "ip": "10.99.0.11"},
  "pve2": { "id": 2, "online": 0, "ip": "10.99.0.12"}
  }
}
"""
VMS = """\
{
"version": 4,
"ids": {
"100": { "node": "pve1", "type": "qemu", "version": 4 },
"201": { "node": "pve2", "type": "lxc", "version": 2 }}

}
"""


def test_the_status_of_a_quorate_node() -> None:
    said = reports.quorum(STATUS)
    assert said is not None
    assert (said.cluster, said.config, said.quorate) == ("lab", 3, True)
    assert (said.nodes, said.expected, said.total, said.needed) == (3, 3, 3, 2)
    assert said.seats[2] == Seat(3, 1, "10.99.0.3", local=True)
    assert [seat.number for seat in said.seats] == [1, 2, 3]
    assert said.flags == ("Quorate",)


def test_the_status_of_one_without_quorum() -> None:
    said = reports.quorum(BLOCKED)
    assert said is not None
    assert (said.quorate, said.total, said.expected, said.needed) == (False, 1, 2, 2)
    assert said.cluster is None


def test_a_quorum_device_has_a_column_and_a_seat() -> None:
    said = reports.quorum(DEVICE)
    assert said is not None
    assert said.seats == (
        Seat(1, 1, "192.168.22.180", local=True),
        Seat(2, 1, "192.168.22.181"),
        Seat(0, 1, "Qdevice"),
    )


def test_the_nodes() -> None:
    assert reports.nodes(NODES) == (Seat(1, 1, "pve1"), Seat(2, 1, "pve2"), Seat(3, 1, "pve3", local=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Error: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?",
        "Cannot initialize CMAP service",
        "Quorate: perhaps",
        "Quorate: Yes",
    ],
)
def test_what_is_no_status_is_none(text: str) -> None:
    assert reports.quorum(text) is None
    assert reports.nodes(text) == ()


def test_corosync_conf() -> None:
    assert reports.conf(CONF) == Conf(
        "lab",
        2,
        (ConfNode("pve1", 1, 1, ((0, "10.99.0.11"),)), ConfNode("pve2", 2, 1, ((0, "10.99.0.12"), (1, "fd00::12")))),
        device="10.99.0.9",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "}",
        "totem {",
        "totem { cluster_name: lab config_version: 1 }",
        CONF.replace("nodeid: 2", "nodeid: two"),
        CONF.replace("ring0_addr: 10.99.0.12", "ring0_addr: $(reboot)"),
        CONF.replace("name: pve2", "name: ../../x"),
        CONF.replace("cluster_name: lab", "cluster_name: \x1b[31m"),
        "a {" * 10_000,
    ],
)
def test_a_conf_that_is_none_is_none(text: str) -> None:
    assert reports.conf(text) is None


def test_members_and_guests() -> None:
    assert reports.members(MEMBERS) == Members(
        "pve1", "lab", True, (Peer("pve1", 1, True, "10.99.0.11"), Peer("pve2", 2, False, "10.99.0.12"))
    )
    assert reports.members('{\n"nodename": "pve3",\n"version": 5\n}') == Members("pve3", None, True, ())
    assert reports.guests(VMS) == (Guest(100, "pve1", False), Guest(201, "pve2", True))
    assert reports.guests('{\n"version": 1\n\n}') == ()


@given(st.text(alphabet=string.printable + "\x1b\x9b\u202e", max_size=400))
def test_no_text_breaks_a_reader(text: str) -> None:
    for said in (text, STATUS + text, CONF + text, MEMBERS + text, f"\n== conf\n{text}\n== quorum\n{text}"):
        reports.conf(said)
        reports.members(said)
        reports.guests(said)
        for seat in reports.nodes(said):
            assert seat.name.isprintable()
        quorum = reports.quorum(said)
        assert quorum is None or all(flag.isprintable() for flag in quorum.flags)
        assert all(letter.isprintable() for letter in view(parse(said)).why)


def answer(**parts: str) -> str:
    return "".join(f"\n== {name}\n{text}\n" for name, text in parts.items())


WHOLE = {
    "name": "pve1",
    "authkey": "yes",
    "local": CONF,
    "mounted": "symbolic link 777",
    "conf": CONF,
    "members": MEMBERS,
    "guests": VMS,
    "nodes": "pve1\npve2",
    "quorum": DEVICE,
    "services": "corosync active\npve-cluster active\npvedaemon active\npveproxy active",
    "addresses": "inet 127.0.0.1 lo 65536\ninet 10.99.0.11 vmbr0 1500\ninet6 fe80::1 vmbr0 1500",
    "node": "yes",
    "version": "9.2.11",
    "memory": "1505280",
    "signed": "/etc/pve/local/pve-ssl.pem: OK",
    "own": "sha256 Fingerprint=" + ":".join(["0a"] * 32),
    "api": "HTTP/1.1 401 No ticket",
    "served": "sha256 Fingerprint=" + ":".join(["0A"] * 32),
    "job": "join lab\ninactive",
    "log": "waiting for quorum...OK\nsuccessfully added node 'pve1' to cluster.\nnestlab: status 0",
}


def test_a_whole_answer() -> None:
    said = parse(answer(**WHOLE))
    assert (said.name, said.authkey, said.version, said.major) == ("pve1", True, "9.2.11", "9")
    assert said.writable
    assert said.mtus == {"127.0.0.1": 65536, "10.99.0.11": 1500, "fe80::1": 1500}
    assert said.memory == 1505280 * 1024
    assert said.own == said.served == said.fingerprint == ":".join(["0A"] * 32)
    assert said.job is not None
    assert (said.job.what, said.job.running, said.job.status) == ("join lab", False, 0)
    assert said.job.log.endswith("to cluster.")
    seen = view(said)
    assert seen.usable
    assert (seen.cluster, seen.nodeid, seen.quorate, seen.expected, seen.total) == ("lab", 1, True, 3, 3)
    assert [(each.name, each.nodeid, each.online) for each in seen.members] == [("pve1", 1, True), ("pve2", 2, True)]
    assert seen.qdevice == "votes"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"node": ""}, "it is no node of Proxmox VE"),
        ({"mounted": ""}, "its /etc/pve is not mounted"),
        ({"conf": ""}, "it is in no cluster"),
        ({"conf": "totem"}, "its corosync.conf cannot be read"),
        ({"quorum": "Cannot initialize CMAP service"}, "its corosync does not answer"),
        ({"members": '{"nodename": "pve1", "version": 5}'}, "its pve-cluster does not know the cluster yet"),
        ({"quorum": BLOCKED}, "it has no quorum: 1 of 2 votes"),
        ({"mounted": "symbolic link 555"}, "its /etc/pve is read-only"),
        ({"signed": ""}, "its certificate is not of the cluster's CA"),
        ({"api": ""}, "its API does not answer"),
        ({"api": "HTTP/1.1 595 no"}, "its API does not answer"),
        ({"services": "corosync active\npve-cluster active\npvedaemon failed\npveproxy active"}, "pvedaemon is failed"),
        ({"served": "sha256 Fingerprint=" + ":".join(["0B"] * 32)}, "its former certificate"),
    ],
)
def test_what_a_member_lacks_is_said(changes: dict[str, str], why: str) -> None:
    seen = view(parse(answer(**(WHOLE | changes))))
    assert not seen.usable
    assert why in seen.why


def test_an_answer_of_nothing_is_a_node_of_nothing() -> None:
    assert parse("") == Report()
    assert view(parse("")).cluster == ""


@pytest.mark.parametrize(
    ("before", "now", "after", "ahead"),
    [
        (100, 100, 100, 0),
        (100, 101, 100, 0),
        (100, 99, 100, 0),
        (100, 105, 110, 0),
        (100, 102, 100, 1),
        (100, 98, 109, -1),
    ],
)
def test_a_clock_is_off_only_where_no_moment_of_the_question_explains_it(
    before: int, now: int, after: int, ahead: int
) -> None:
    base = 1_795_955_000
    said = f"clock {base + before} {base + now} {base + after}\n"
    assert found(said).ahead == ahead


def test_what_a_look_at_a_member_found() -> None:
    said = (
        "clock 1795955000 0 1795955003\nserved sha256 Fingerprint=" + ":".join(["0a"] * 32) + "\n"
        "link 10.99.0.11 1472 rtt min/avg/max/mdev = 0.321/7.250/9.000/0.2 ms\nlink 10.98.0.11 1372 none\n"
    )
    assert found(said) == Found(None, ":".join(["0A"] * 32), (("10.99.0.11", 1472, 7.25), ("10.98.0.11", 1372, None)))
    assert found("clock 1 2 3\nlink ; 1 x") == Found(None, "", ())


@pytest.mark.parametrize(
    ("log", "short", "hint"),
    [
        (
            "detected the following error(s):\n* authentication key '/etc/corosync/authkey' already exists\n"
            "* this host already contains virtual guests\nCheck if node may join a cluster failed!",
            "this host already contains virtual guests",
            "empty nodes",
        ),
        ("Establishing API connection with host '10.99.0.1'\n401 authentication failure", "401 auth", "password"),
        ("Establishing API…\nfingerprint '6D:1C' not verified, abort!", "not verified, abort!", "certificate changed"),
        (
            "detected the following error(s):\n* link0: cannot use IP '10.99.0.77', not found on local node!\n\nCheck…",
            "cannot use IP '10.99.0.77'",
            "one of its cards",
        ),
        (
            "400 Parameter verification failed.\nclustername: value may only be 15 characters long",
            "400",
            "another name",
        ),
        ("", "nothing", "again"),
    ],
)
def test_refusals_in_proxmox_s_words_get_a_hint(log: str, short: str, hint: str) -> None:
    refused = refusals.of("pve2 did not join", log)
    assert short in refused.what
    assert hint in refused.hint


def test_only_what_may_go_better_is_tried_again() -> None:
    assert refusals.transient("An error occurred on the cluster node: cluster not ready - no quorum?")
    assert refusals.transient("500 Can't connect to 10.99.0.99:8006 (No route to host)")
    assert not refusals.transient("401 authentication failure")
    assert not refusals.transient("fingerprint 'x' not verified, abort!")


@pytest.mark.parametrize(
    "name", sorted(name for name in vars(scripts) if name.isupper() and name not in ("QUICK", "PERL"))
)
def test_every_script_is_one_that_sh_reads(name: str) -> None:
    subprocess.run(["sh", "-n"], input=getattr(scripts, name).encode(), check=True)


def test_asking_a_computer_that_is_no_node_changes_nothing_and_says_so() -> None:
    asked = subprocess.run(["sh", "-c", ASK], capture_output=True, check=True, timeout=VERY_LONG)
    said = parse(asked.stdout.decode())
    assert asked.stderr == b""
    assert not said.is_node
    assert said.alone
    assert "127.0.0.1" in said.mtus
    assert said.name
    assert view(said).why.startswith("it is no node of Proxmox VE")
