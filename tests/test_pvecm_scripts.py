"""The scripts that make and mend clusters of Proxmox VE nodes, run by a real shell in a folder instead of a node."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path

import pytest

from nestlab.kinds.pvecm import refusals, scripts
from nestlab.kinds.pvecm.ask import parse
from nestlab.kinds.pvecm.question import ASK
from waiting import VERY_LONG

CONF = "nodelist {\n  node {\n    name: pve1\n  }\n  node {\n    name: pve2\n  }\n}\n"


class Root:
    """A root filesystem in a folder. Programs of a node tell that they were run, in `log`, and do what `does`
    says."""

    def __init__(self, folder: Path, **does: str) -> None:
        self.folder, self.bin = folder, folder / "bin"
        for name in ("etc/pve/priv", "etc/pve/nodes", "etc/corosync", "var/lib/pve-cluster", "run/nestlab", "bin"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("systemctl", "systemd-run", "pvecm", "corosync-quorumtool", "pmxcfs", "pkill", "pgrep", "umount"):
            self.program(name, does.get(name.replace("-", "_"), ""))

    def program(self, name: str, does: str) -> None:
        text = f'#!/bin/sh\necho "{name} $*" >>{self.folder}/log\n{self.here(does)}\n'
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def here(self, text: str) -> str:
        return re.sub(r"(?<![\w.}])/(etc|var|run)/", rf"{self.folder}/\1/", text)

    def run(self, script: str, *words: str, given: bytes = b"", status: int = 0) -> str:
        environ = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        command = ["sh", "-c", self.here(script), "nestlab", *words]
        done = subprocess.run(command, input=given, env=environ, capture_output=True, timeout=VERY_LONG, check=False)
        assert done.returncode == status, done
        return done.stdout.decode()

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    @property
    def log(self) -> list[str]:
        return self.read("log").splitlines() if (self.folder / "log").exists() else []


RUN = """
while [ $# -gt 0 ]; do
    case $1 in
    StandardInput=file:*) in=${1#*file:} ;;
    StandardOutput=append:*) out=${1#*append:} ;;
    /bin/sh) break ;;
    esac
    shift
done
exec "$@" <"$in" >>"$out" 2>&1
"""
INACTIVE = 'case "$*" in *is-active*) exit 3 ;; esac'


def test_a_job_reads_its_secret_from_stdin_and_nothing_keeps_it(tmp_path: Path) -> None:
    root = Root(tmp_path, systemctl=INACTIVE, systemd_run=RUN, pvecm='read -r word; echo "got $word with $*"')
    request = scripts.start(
        "pve2", "title", "join demo", scripts.JOIN, ["10.0.0.1", "--link0", "10.0.0.2"], b"hunter2\n"
    )
    root.run(request.script, *request.words, given=request.input)
    place = tmp_path / "run/nestlab/cluster"
    assert (place / "job").read_text() == "join demo\n"
    assert (place / "log").read_text() == "got hunter2 with add 10.0.0.1 --link0 10.0.0.2\nnestlab: status 0\n"
    assert sorted(path.name for path in place.iterdir()) == ["job", "log"]
    assert place.stat().st_mode & 0o077 == 0
    assert not [line for line in root.log if "hunter2" in line]


def test_a_second_job_does_not_begin_while_one_works(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.write("run/nestlab/cluster/job", "join demo\n")
    said = root.run(scripts.START, "certify", "true", "nestlab", given=b"hunter2\n")
    assert said == "it works at: join demo\n"
    assert not any(line.startswith("systemd-run") for line in root.log)
    assert not (tmp_path / "run/nestlab/cluster/input").exists()


def test_a_job_that_cannot_be_started_leaves_no_secret(tmp_path: Path) -> None:
    root = Root(tmp_path, systemctl=INACTIVE, systemd_run="exit 5")
    root.run(scripts.START, "join demo", "true", "nestlab", given=b"hunter2\n", status=5)
    assert not (tmp_path / "run/nestlab/cluster/input").exists()


def adopted(tmp_path: Path, starts: str) -> Root:
    root = Root(tmp_path, systemctl=starts)
    root.write("var/lib/pve-cluster/config.db", "old")
    root.write("var/lib/pve-cluster/config.db-wal", "old")
    (tmp_path / "etc/pve/local").symlink_to("nodes/pve2")
    member = Root(tmp_path / "member")
    (tmp_path / "member/etc/corosync/authkey").write_bytes(bytes(range(256)))
    member.write("etc/pve/corosync.conf", CONF)
    given = member.run(scripts.READ)
    root.run(scripts.ADOPT, given=given.encode())
    return root


def test_the_rest_of_a_join_brings_key_and_configuration_and_puts_the_old_database_aside(tmp_path: Path) -> None:
    root = adopted(tmp_path, "")
    assert (tmp_path / "etc/corosync/authkey").read_bytes() == bytes(range(256))
    assert (tmp_path / "etc/corosync/authkey").stat().st_mode & 0o777 == 0o400
    assert root.read("etc/corosync/corosync.conf") == CONF
    kept = sorted(path.name.rpartition(".")[0] for path in (tmp_path / "var/lib/pve-cluster/backup").iterdir())
    assert kept == ["config.db", "config.db-wal"]
    assert root.log[-1] == "systemctl start corosync pve-cluster"


def test_the_rest_of_a_join_keeps_a_database_that_is_the_cluster_s(tmp_path: Path) -> None:
    root = adopted(tmp_path, "echo cluster >/etc/pve/corosync.conf")
    assert root.read("var/lib/pve-cluster/config.db") == "old"


def test_a_configuration_that_came_in_part_is_not_used(tmp_path: Path) -> None:
    root = Root(tmp_path)
    given = base64.b64encode(b"key") + b" 999\n" + CONF.encode()
    root.run(scripts.ADOPT, given=given, status=1)
    assert not (tmp_path / "etc/corosync/corosync.conf").exists()
    assert not (tmp_path / "etc/corosync/authkey").exists()


def test_who_is_forgotten_leaves_no_folder_and_no_keys_and_nobody_else_loses_any(tmp_path: Path) -> None:
    root = Root(tmp_path, pvecm="sed -i '/pve2/d' /etc/pve/corosync.conf")
    root.write("etc/pve/corosync.conf", CONF)
    root.write("etc/pve/nodes/pve2/pve-ssl.pem", "old")
    root.write("etc/pve/nodes/pve21/pve-ssl.pem", "another")
    keys = "ssh-ed25519 AAA nestlab\nssh-rsa BBB root@pve1\nssh-rsa CCC root@pve2\nssh-rsa DDD root@pve21\n"
    root.write("etc/pve/priv/authorized_keys", keys)
    root.write("etc/pve/priv/known_hosts", "pve1 ssh-rsa B\npve2 ssh-rsa C\n")
    for _ in range(2):
        root.run(scripts.DELETE, "pve2")
    assert root.log == ["pvecm delnode pve2"]
    assert [path.name for path in (tmp_path / "etc/pve/nodes").iterdir()] == ["pve21"]
    assert root.read("etc/pve/priv/authorized_keys") == keys.replace("ssh-rsa CCC root@pve2\n", "")
    assert root.read("etc/pve/priv/known_hosts") == "pve1 ssh-rsa B\n"


def test_a_refused_delnode_removes_nothing(tmp_path: Path) -> None:
    root = Root(tmp_path, pvecm="echo 'cluster not ready - no quorum?' >&2; exit 255")
    root.write("etc/pve/corosync.conf", CONF)
    root.write("etc/pve/nodes/pve2/pve-ssl.pem", "old")
    root.run(scripts.DELETE, "pve2", status=255)
    assert (tmp_path / "etc/pve/nodes/pve2").exists()


def test_a_node_that_becomes_alone_has_a_new_database_and_no_key(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for name in ("var/lib/pve-cluster/config.db", "etc/corosync/authkey", "etc/corosync/corosync.conf"):
        root.write(name, "of the cluster")
    for _ in range(2):
        root.run(scripts.RESET)
    assert not (tmp_path / "var/lib/pve-cluster/config.db").exists()
    assert list((tmp_path / "etc/corosync").iterdir()) == []
    assert len(list((tmp_path / "var/lib/pve-cluster/backup").iterdir())) == 1


def test_the_last_one_keeps_its_database_and_its_own_folder(tmp_path: Path) -> None:
    root = Root(tmp_path, pgrep="exit 1")
    (tmp_path / "etc/pve/local").symlink_to("nodes/pve1")
    for name in ("etc/pve/corosync.conf", "etc/corosync/authkey", "etc/corosync/corosync.conf"):
        root.write(name, CONF)
    for name in ("pve1", "pve2"):
        root.write(f"etc/pve/nodes/{name}/qemu-server/100.conf", "memory: 64\n")
    root.write("var/lib/pve-cluster/config.db", "with its guests")
    root.run(scripts.SEPARATE, "pve1")
    assert [path.name for path in (tmp_path / "etc/pve/nodes").iterdir()] == ["pve1"]
    assert root.read("var/lib/pve-cluster/config.db") == "with its guests"
    assert not (tmp_path / "etc/pve/corosync.conf").exists()
    assert [line for line in root.log if line.startswith("pmxcfs")] == ["pmxcfs -l"]
    assert root.log[-1] == "systemctl start pve-cluster"


def test_the_network_of_migrations_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.run(scripts.MIGRATE_BY, "10.9.0.0/24")
    assert root.read("etc/pve/datacenter.cfg") == "migration: secure,network=10.9.0.0/24\n"
    root.write("etc/pve/datacenter.cfg", "keyboard: de\nmigration: network=10.1.0.0/24,type=secure\n")
    root.run(scripts.MIGRATE_BY, "10.9.0.0/24")
    text = root.read("etc/pve/datacenter.cfg")
    assert text == "keyboard: de\nmigration: secure,network=10.9.0.0/24\n"
    assert parse(f"\n== datacenter\n{text}\n").migration == "10.9.0.0/24"


def test_a_certificate_is_tried_for_until_it_is_there(tmp_path: Path) -> None:
    root = Root(tmp_path, pvecm="[ -e /run/nestlab/tried ] || { : >/run/nestlab/tried; exit 1; }")
    root.program("openssl", "")
    assert root.run(scripts.CERTIFY).endswith("nestlab: status 0\n")
    assert [line for line in root.log if line.startswith("pvecm")] == ["pvecm updatecerts --force"] * 2
    assert "systemctl reload-or-restart pvedaemon pveproxy" in root.log


def test_a_machine_lets_a_key_in_once(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.write("run/nestlab/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA witness\n")
    root.program("corosync-qnetd-certutil", "mkdir -p /etc/corosync/qnetd/nssdb")
    script = scripts.TRUST.replace("/root/", "/run/root/")
    for _ in range(2):
        assert root.run(script, "ssh-rsa", "BBBB") == "ssh-ed25519 AAAA witness\n"
    assert root.read("run/root/.ssh/authorized_keys") == "ssh-rsa BBBB\n"
    assert root.log.count("corosync-qnetd-certutil -i") == 1
    assert "systemctl start corosync-qnetd" in root.log


def test_a_job_that_works_is_all_that_a_node_tells_then(tmp_path: Path) -> None:
    root = Root(tmp_path, systemctl='case "$*" in "is-active nestlab-cluster.service") echo active ;; esac')
    root.write("run/nestlab/cluster/job", "join demo\n")
    root.write("run/nestlab/cluster/log", "waiting for quorum...")
    root.write("etc/corosync/authkey", "key")
    said = parse(root.run(ASK))
    assert said.job is not None
    assert (said.job.what, said.job.running, said.job.log) == ("join demo", True, "waiting for quorum...")
    assert not said.authkey


@pytest.mark.parametrize(("status", "log"), [(0, refusals.ADDED), (255, "cluster config exists")])
def test_how_a_job_ended_is_told(tmp_path: Path, status: int, log: str) -> None:
    root = Root(tmp_path, systemctl="echo inactive; exit 3")
    root.write("run/nestlab/cluster/job", "create demo\n")
    root.write("run/nestlab/cluster/log", f"{log}\nnestlab: status {status}\n")
    job = parse(root.run(ASK)).job
    assert job is not None
    assert (job.running, job.status, job.log) == (False, status, log.strip())
