"""Two hypervisors, a guest in each, end to end through the command line: real QEMU, real ssh, a real level 2.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import far_programs
from command_line import qemus
from nestlab.network.pcap import Records
from waiting import LONG, VERY_LONG, wait_until

pytestmark = pytest.mark.guest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
UP_TO = VERY_LONG
"""Seconds after which a command that hangs is a failure."""


class Cli:
    """The command line, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "NESTLAB_HOME": str(home), "NO_COLOR": "1"}

    def run(self, *words: str, status: int = 0, stdin: str | None = None) -> str:
        argv = [sys.executable, "-m", "nestlab", *words]
        done = subprocess.run(argv, env=self.env, input=stdin or "", capture_output=True, text=True, timeout=UP_TO)
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def error(self, *words: str) -> str:
        """What a command that fails as it should says."""
        argv = [sys.executable, "-m", "nestlab", *words]
        done = subprocess.run(argv, env=self.env, input="", capture_output=True, text=True, timeout=UP_TO)
        assert done.returncode == 2
        return done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))

    def events(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*words, "--json").splitlines()]

    def qemus(self) -> list[int]:
        return qemus(self.home)


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        lab = Cli(Path(home))
        yield lab
        subprocess.run([sys.executable, "-m", "nestlab", "down", "pair", "--yes"], env=lab.env, timeout=UP_TO)
        left = lab.qemus()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "something still ran after down"


def test_up_brings_two_levels_up_and_proves_them(cli: Cli) -> None:
    told = cli.run("up", str(EXAMPLES / "pair.yaml"))
    for path in ("hv1", "hv2", "web"):
        assert path in told
    assert "under KVM" in told


def test_up_again_has_nothing_to_do(cli: Cli) -> None:
    assert cli.json("plan", str(EXAMPLES / "pair.yaml"))["steps"] == []


def test_status_tells_every_level(cli: Cli) -> None:
    machines = {each["path"]: each for each in cli.json("status", "pair")["machines"]}
    assert set(machines) == {"hv1", "hv1/web", "hv2", "hv2/web"}
    assert {each["state"] for each in machines.values()} == {"running"}
    assert machines["hv1/web"]["accel"] == "kvm"
    assert machines["hv1/web"]["level"] == 2


def test_verify_proves_a_guest_under_kvm_in_each_hypervisor(cli: Cli) -> None:
    verdict = cli.json("verify", "pair")
    assert verdict["ok"] is True
    proofs = {(each["path"], each["claim"]): each["ok"] for each in verdict["proofs"]}
    for path in ("hv1", "hv2"):
        assert all(proofs[path, claim] for claim in ("cpu", "nested", "/dev/kvm", "cpuid", "guest"))
        assert proofs[f"{path}/web", "accelerated"]


def test_guests_reach_each_other_across_hypervisors_by_name(cli: Cli) -> None:
    assert "1 packets received" in cli.run("exec", "hv1/web", "--", "ping", "-c1", "web.hv2")
    assert "1 packets received" in cli.run("exec", "hv2/web", "--", "ping", "-6", "-c1", "web.hv1")


def test_nothing_leaves_the_segment(cli: Cli) -> None:
    cli.run("exec", "hv1/web", "--", "ping", "-c1", "-W2", "192.0.2.1", status=1)
    routes = cli.run("exec", "hv1/web", "--", "ip", "route")
    assert "default" not in routes


def test_exec_passes_the_exit_status_and_stdin_through(cli: Cli) -> None:
    cli.run("exec", "hv1/web", "--", "sh", "-c", "exit 7", status=7)
    assert cli.run("exec", "hv1/web", "--", "cat", stdin="hello\n") == "hello\n"


@pytest.mark.parametrize("machine", ["hv1", "hv1/web"])
def test_a_command_ends_when_nobody_reads_it_any_more(cli: Cli, machine: str) -> None:
    """Through OpenSSH's server and through dropbear's, which does not say that a channel let go of is over."""
    argv = [sys.executable, "-m", "nestlab", "exec", machine, "--", "yes"]
    with subprocess.Popen(argv, env=cli.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(timeout=LONG) == 141
    cli.run("exec", machine, "--", "sh", "-c", "! grep -qsx yes /proc/[0-9]*/comm")


def test_exec_on_many_machines_prefixes_their_lines(cli: Cli) -> None:
    told = cli.run("exec", "hv1,hv1/web,hv2/web", "--", "uname", "-m")
    assert sorted(line.split()[-1] for line in told.splitlines()) == ["x86_64"] * 3
    assert any("hv2/web" in line for line in told.splitlines())


def test_cp_goes_through_two_levels_both_ways(cli: Cli, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(200_000))
    cli.run("cp", str(there), "hv1/web:/tmp/file")
    cli.run("cp", "hv1/web:/tmp/file", str(back))
    assert back.read_bytes() == there.read_bytes()


def test_a_port_of_a_machine_at_either_level_is_reached_at_127_0_0_1(cli: Cli) -> None:
    page = "mkdir -p /tmp/www && echo from-level-2 >/tmp/www/index.html && httpd -p 8000 -h /tmp/www"
    cli.run("exec", "hv1/web", "--", "sh", "-c", page)
    inner = cli.json("forward", "hv1/web", "8000", "--keep")["local"]
    outer = cli.json("forward", "hv1", "22", "--keep")["local"]
    with urllib.request.urlopen(f"http://127.0.0.1:{inner}/index.html", timeout=LONG) as answer:
        assert answer.read() == b"from-level-2\n"
    with socket.create_connection(("127.0.0.1", outer), timeout=LONG) as sshd:
        assert sshd.recv(4) == b"SSH-"
    kept = {(each["path"], each["port"]): each["local"] for each in cli.json("status", "pair")["ports"]}
    assert kept == {("hv1/web", 8000): inner, ("hv1", 22): outer}
    for machine in ("hv1/web", "hv1"):
        cli.run("unforward", machine)
    for port in (inner, outer):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_machine_without_a_screen_says_what_gives_it_one(cli: Cli) -> None:
    for machine in ("hv1", "hv1/web"):
        said = cli.error("screenshot", machine)
        assert f"{machine} has no screen" in said
        assert "display: true" in said


def test_openssh_and_scp_connect_by_the_ssh_config_alone(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(cli.run("ssh-config", "pair"))
    ssh = ["ssh", "-F", str(config), "-o", "BatchMode=yes"]
    told = subprocess.run([*ssh, "pair.hv1.web", "hostname"], capture_output=True, text=True, timeout=UP_TO)
    assert (told.stdout, told.returncode) == ("web\n", 0), told.stderr
    data = tmp_path / "data"
    data.write_bytes(os.urandom(100_000))
    subprocess.run(["scp", *ssh[1:], "-q", str(data), "pair.hv2:/root/data"], check=True, timeout=UP_TO)
    back = subprocess.run([*ssh, "pair.hv2", "cat /root/data"], capture_output=True, check=True, timeout=UP_TO)
    assert back.stdout == data.read_bytes()
    other = subprocess.run(
        [*ssh, "-o", "HostKeyAlias=pair.hv1", "pair.hv2", "true"], capture_output=True, timeout=UP_TO
    )
    assert other.returncode == 255, "the key of another machine was taken"


def test_scp_carries_files_both_ways_at_level_2(cli: Cli, tmp_path: Path) -> None:
    """By its own protocol: `tiny` has neither sftp nor scp, so it gets this machine's."""
    scp = far_programs.bring("scp", "hv1/web", tmp_path / "far", cli.run)
    cli.run("exec", "hv1/web", "--", "ln", "-s", scp, "/bin/scp")
    config, there, back = tmp_path / "config", tmp_path / "there", tmp_path / "back"
    config.write_text(cli.run("ssh-config", "pair"))
    there.write_bytes(os.urandom(100_000))
    copy = ["scp", "-F", str(config), "-o", "BatchMode=yes", "-O", "-q"]
    subprocess.run([*copy, str(there), "pair.hv1.web:/root/data"], check=True, timeout=UP_TO)
    subprocess.run([*copy, "pair.hv1.web:/root/data", str(back)], check=True, timeout=UP_TO)
    assert back.read_bytes() == there.read_bytes()
    cli.run("exec", "hv1/web", "--", "rm", "-rf", "/bin/scp", far_programs.FOLDER)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed here")
@pytest.mark.parametrize("machine", ["hv1", "hv1/web"])
def test_rsync_keeps_a_folder_the_same_at_either_level(cli: Cli, tmp_path: Path, machine: str) -> None:
    program = far_programs.bring("rsync", machine, tmp_path / "far", cli.run)
    config, there, back = tmp_path / "config", tmp_path / "there", tmp_path / "back"
    config.write_text(cli.run("ssh-config", "pair"))
    (there / "deep").mkdir(parents=True)
    (there / "deep" / "data").write_bytes(os.urandom(100_000))
    (there / "link").symlink_to("deep/data")
    shell = f"ssh -F {config} -o BatchMode=yes"
    name = f"pair.{machine.replace('/', '.')}"

    def sync(source: str, target: str) -> str:
        words = ["rsync", "-ai", "-e", shell, f"--rsync-path={program}", source, target]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=UP_TO).stdout

    assert "deep/data" in sync(f"{there}/", f"{name}:/root/synced/")
    assert sync(f"{there}/", f"{name}:/root/synced/") == "", "what is the same is not sent again"
    sync(f"{name}:/root/synced/", f"{back}/")
    assert (back / "link").readlink() == Path("deep/data")
    assert (back / "link").read_bytes() == (there / "deep" / "data").read_bytes()
    cli.run("exec", machine, "--", "rm", "-rf", "/root/synced", far_programs.FOLDER)


@pytest.fixture(scope="module")
def ansible() -> Iterator[Callable[..., str]]:
    """Runs a program of ansible-core, with nothing of this user's settings, and gives what it says."""
    beside = str(Path(sys.executable).parent)
    if shutil.which("ansible", path=beside) is None:
        pytest.skip("ansible-core is not installed here; `pip install -e '.[dev]'` installs it")
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        Path(folder, "ansible.cfg").touch()
        persist = "-o ControlMaster=auto -o ControlPersist=5s"
        settings = {"HOME": folder, "SSH_CONTROL_PATH_DIR": f"{folder}/cp", "SSH_ARGS": persist, "NOCOLOR": "1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        ours = {f"ANSIBLE_{key}": value for key, value in settings.items()}
        env = {
            **kept,
            **ours,
            "ANSIBLE_CONFIG": f"{folder}/ansible.cfg",
            "PATH": f"{beside}:{kept.get('PATH', os.defpath)}",
        }

        def run(program: str, *words: str, **more: str) -> str:
            argv = [f"{beside}/{program}", *words]
            done = subprocess.run(argv, env={**env, **more}, capture_output=True, text=True, timeout=UP_TO)
            assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
            return done.stdout

        yield run


def test_ansible_reaches_both_levels_by_the_inventory_alone(
    cli: Cli, tmp_path: Path, ansible: Callable[..., str]
) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text(cli.run("inventory", "pair"))
    told = ansible("ansible", "-i", str(file), "level_1", "-m", "ping")
    assert set(re.findall(r"^(\S+) \| SUCCESS", told, re.MULTILINE)) == {"pair.hv1", "pair.hv2"}
    assert told.count('"ping": "pong"') == 2
    told = ansible("ansible", "-i", str(file), "all", "-m", "raw", "-a", "echo {{ nestlab_path }} is $(hostname)")
    for path in ("hv1", "hv1/web", "hv2", "hv2/web"):
        assert f"{path} is {path.split('/')[-1]}" in told
    told = ansible("ansible", "-i", str(file), "segment_wire:&inside_hv1:&level_2:!hypervisors", "--list-hosts")
    assert told.split() == ["hosts", "(1):", "pair.hv1.web"]


def test_ansible_takes_the_dynamic_inventory_of_the_docs(cli: Cli, tmp_path: Path, ansible: Callable[..., str]) -> None:
    script = tmp_path / "inventory"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m nestlab inventory pair "$@"\n')
    script.chmod(0o755)
    data = json.loads(ansible("ansible-inventory", "-i", str(script), "--list", NESTLAB_HOME=str(cli.home)))
    assert data["level_2"]["hosts"] == ["pair.hv1.web", "pair.hv2.web"]
    assert data["_meta"]["hostvars"]["pair.hv1.web"]["nestlab_level"] == 2


def test_cp_of_what_is_large_goes_by_a_disk_both_ways_and_between_machines(cli: Cli, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(3_000_000))
    for source, target in (
        (str(there), "hv1/web:/tmp/large"),
        ("hv1/web:/tmp/large", "hv2:/tmp/large"),
        ("hv2:/tmp/large", str(back)),
    ):
        [done] = json.loads(cli.run("cp", "--json", source, target))["copied"]
        assert (done["bytes"], done["by"]) == (3_000_000, "disk")
    assert back.read_bytes() == there.read_bytes()
    for machine in ("hv1", "hv1/web", "hv2"):
        assert "new" not in cli.run("exec", machine, "--", "ls", "-A", "/tmp")
    assert not list((cli.home / "labs" / "pair").glob(".copy*"))


@pytest.mark.parametrize("machine", ["hv1", "hv1/web"])
def test_a_capture_holds_what_passed_the_card(cli: Cli, tmp_path: Path, machine: str) -> None:
    file = tmp_path / "wire.pcap"
    argv = [sys.executable, "-m", "nestlab", "capture", machine, "wire", "-o", str(file)]
    pair = {bytes((10, 77, 0, 12)), bytes((10, 77, 0, 14))}

    def echoes() -> set[int]:
        """The kinds of ICMP message between the two that are in the file: 8 asks, 0 answers."""
        frames = [frame for _, frame in Records().feed(file.read_bytes())]
        ours = [each for each in frames if each[12:14] == b"\x08\x00" and {each[26:30], each[30:34]} == pair]
        return {each[34] for each in ours if each[23] == 1}

    with subprocess.Popen(argv, env=cli.env, stderr=subprocess.PIPE, text=True) as work:
        assert work.stderr is not None
        assert "capturing" in work.stderr.readline()
        cli.run("exec", "hv1/web", "--", "ping", "-c3", "10.77.0.14")
        wait_until(lambda: echoes() == {0, 8})
        work.send_signal(signal.SIGINT)
        assert work.wait(UP_TO) == 0, work.stderr.read()


def test_wait_says_what_it_saw(cli: Cli) -> None:
    assert "hv1: ssh.service is active" in cli.run("wait", "pair", "hv1", "--for", "unit:ssh")
    assert "hv1/web: port 22 is listened on" in cli.run("wait", "pair", "hv1/web", "--for", "port:22")
    cli.run("wait", "pair", "hv1/web", "--for", "port:9", "--timeout", "5", status=2)


def test_logs_keep_the_console(cli: Cli) -> None:
    assert "nestlab: ready" in cli.run("logs", "hv1")
    assert "nestlab: ready" in cli.run("logs", "hv1/web")


def test_a_guest_killed_behind_its_back_is_found_and_only_it_is_booted_again(cli: Cli) -> None:
    pid = next(each["pid"] for each in cli.json("status", "pair")["machines"] if each["path"] == "hv1/web")
    cli.run("exec", "hv1", "--", "kill", "-9", str(pid))
    states = {each["path"]: each["state"] for each in cli.json("status", "pair")["machines"]}
    assert states == {"hv1": "running", "hv1/web": "died", "hv2": "running", "hv2/web": "running"}
    steps = cli.json("plan", str(EXAMPLES / "pair.yaml"))["steps"]
    assert [(step["do"], step["on"]) for step in steps] == [("boot", "hv1/web")]
    cli.run("up", str(EXAMPLES / "pair.yaml"), "--no-verify")
    assert cli.json("plan", str(EXAMPLES / "pair.yaml"))["steps"] == []


def test_a_guest_is_stopped_and_started(cli: Cli) -> None:
    cli.run("stop", "pair", "hv1/web")
    states = {each["path"]: each["state"] for each in cli.json("status", "pair")["machines"]}
    assert states["hv1/web"] == "stopped"
    cli.run("start", "pair", "hv1/web")
    assert cli.run("exec", "hv1/web", "--", "hostname").strip() == "web"


def test_secrets_are_for_the_user_alone(cli: Cli) -> None:
    lab = cli.home / "labs" / "pair"
    assert lab.stat().st_mode & 0o777 == 0o700
    keys = [path for path in lab.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()[:4096]]
    assert keys
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)


def test_down_leaves_nothing(cli: Cli) -> None:
    cli.run("down", "pair", "--yes")
    until = time.monotonic() + LONG
    while cli.qemus() and time.monotonic() < until:
        time.sleep(0.1)
    assert cli.qemus() == []
    assert not (cli.home / "labs" / "pair").exists()
    assert cli.json("ls")["labs"] == []
