"""`nestlab pve`, and other verbs on a lab that is on a Proxmox VE: what they print, and with which status they end."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from disk_headers import qcow2
from nestlab.cli.app import app
from nestlab.testing.fake_pve import FakePve
from nestlab.wire.pve import credentials
from nestlab.wire.pve.trust import Trust
from pve_lab import assert_valid, cluster


class Shell:
    """The command line with a home of its own and what its user says in the environment."""

    def __init__(self, folder: Path, fake: FakePve) -> None:
        self.folder = folder
        self.fake = fake
        self.on = f"pve://127.0.0.1:{fake.port}"
        name, secret = fake.token
        self.env = {
            "NESTLAB_HOME": str(folder / "state"),
            "NESTLAB_CACHE": str(folder / "cache"),
            "NESTLAB_PVE_HOST": f"127.0.0.1:{fake.port} 127.0.0.1:1",
            "NESTLAB_PVE_TOKEN": f"{name}={secret}",
            "NESTLAB_PVE_FINGERPRINT": fake.fingerprint,
        }

    @property
    def kept(self) -> Path:
        return self.folder / "state" / "pve" / f"127.0.0.1_{self.fake.port}.toml"

    def run(self, *words: str, status: int = 0, env: Mapping[str, str | None] = {}, input: str = "") -> Result:
        result = CliRunner(env={**self.env, **env}).invoke(app, list(words), input=input)
        assert result.exit_code == status, f"{words}: {result.exit_code}\n{result.output}\n{result.exception!r}"
        return result

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", status=status).stdout)


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2") as pve:
        yield pve
        assert_valid(pve)


@pytest.fixture
def shell(fake: FakePve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in os.environ:
        if name.startswith("NESTLAB_"):
            monkeypatch.delenv(name)
    return Shell(tmp_path, fake)


def points(data: Any) -> dict[str, bool | None]:
    return {point["what"]: point["ok"] for point in data["points"]}


def test_check_says_that_labs_can_be_made(shell: Shell) -> None:
    said = shell.run("pve", "check", shell.on).stdout
    assert "ready: labs can be made there" in said
    found = points(shell.json("pve", "check", shell.on))
    assert found["privileges"] is found["pool"] is found["SDN zone"] is found["disks on pve2"] is True
    assert found["nesting on pve1"] is None, "9.1 does not tell whether `nested` is on"


def test_check_names_a_node_that_is_off(shell: Shell, fake: FakePve) -> None:
    fake.node_down("pve2")
    said = shell.run("pve", "check", shell.on).stdout
    assert "-     node pve2" in said
    assert "it is offline: no machine of a lab can be there until it is back" in said
    assert "ready: labs can be made there" in said


@pytest.mark.parametrize(
    ("spoil", "what", "said"),
    [
        (lambda fake: fake.world.pools.pop("nestlab"), "pool", "there is no nestlab"),
        (lambda fake: fake.world.sdn.config["zones"].clear(), "SDN zone", "nestlab"),
        (lambda fake: setattr(fake.storages["local"], "content", "images"), "images on pve1", "import"),
        (lambda fake: setattr(fake.storages["local"], "content", "import"), "disks on pve1", "no storage"),
        (lambda fake: vars(fake.nodes["pve1"]).update(kvm=False, flags="fpu lm"), "", ""),
    ],
)
def test_check_says_what_is_missing_and_what_to_do(
    shell: Shell, fake: FakePve, spoil: Any, what: str, said: str
) -> None:
    with fake.world.lock:
        spoil(fake)
    if not what:  # a node without KVM can host a lab, slowly
        text = shell.run("pve", "check", shell.on).stdout
        assert "machines are emulated (kvm: 0, cpu: max), 20 times slower" in text
        return
    data = shell.json("pve", "check", shell.on, status=2)
    point = next(each for each in data["points"] if each["what"] == what)
    assert not data["ok"]
    assert point["ok"] is False
    assert said in point["seen"]
    assert point["do"]


def test_check_names_each_privilege_that_is_missing_and_where(shell: Shell, fake: FakePve) -> None:
    name, secret = fake.add_token("lab@pve", "poor", {"/pool/nestlab": "VM.Audit Pool.Audit", "/": "Sys.Audit"})
    text = shell.run("pve", "check", shell.on, status=2, env={"NESTLAB_PVE_TOKEN": f"{name}={secret}"}).stdout
    assert "VM.Allocate is missing on /pool/nestlab: nestlab could not make and remove machines." in text
    assert "SDN.Use is missing on /sdn/zones/nestlab" in text
    assert "not ready" in text


@pytest.mark.parametrize("version", ["8.4", "9.1"])
def test_what_setup_prints_is_all_that_a_lab_needs(tmp_path: Path, version: str) -> None:
    """Its commands, as requests of root, and then nothing is missing for the token that they made."""
    with cluster("pve1", version=version) as fake:
        shell = Shell(tmp_path, fake)
        with fake.world.lock:
            fake.world.pools.clear()
            for stage in (fake.world.sdn.config, fake.world.sdn.applied):
                stage["zones"].clear()
            fake.storages["local"].content = "images,iso"
        said = shell.run("pve", "setup", shell.on).stdout
        agent = "VM.Monitor" if version == "8.4" else "VM.GuestAgent.Unrestricted"
        assert agent in said
        assert "pvesm set local --content images,iso,import" in said
        assert "--propagate 0" in said
        assert not fake.pools, "printing does nothing"

        password = {"NESTLAB_PVE_TOKEN": None, "NESTLAB_PVE_USER": "root@pam", "NESTLAB_PVE_PASSWORD": fake.password}
        refused = shell.run("pve", "setup", shell.on, "--perform", status=2, env=password)
        assert not fake.pools, "nobody agreed"
        assert fake.password not in refused.output
        done = shell.run("pve", "setup", shell.on, "--perform", "--yes", env=password)
        assert "the token nestlab@pve!nestlab is kept in" in done.stdout
        assert stat.S_IMODE(shell.kept.stat().st_mode) == 0o600
        secret = re.search(r'token = "nestlab@pve!nestlab=([^"]+)"', shell.kept.read_text())
        assert secret is not None
        assert secret[1] not in done.output

        mine = {"NESTLAB_PVE_TOKEN": None, "NESTLAB_PVE_FINGERPRINT": None}
        assert "ready" in shell.run("pve", "check", shell.on, env=mine).stdout
        again = shell.run("pve", "setup", shell.on, "--perform", "--yes", status=2, env=password)
        assert "There is a token nestlab already" in again.output
        assert_valid(fake)


def test_setup_of_a_proxmox_ve_that_cannot_be_asked_prints_commands_all_the_same(shell: Shell) -> None:
    said = shell.run("pve", "setup", "pve://127.0.0.1:1").stdout
    assert "(not asked)" in said
    assert 'pveum acl modify "/storage/$DISKS"' in said
    assert "pvesm set local --content" in said


def test_setup_names_a_node_or_a_storage_that_is_not_there(shell: Shell) -> None:
    said = shell.run("pve", "setup", f"{shell.on}/pve9", status=2).output
    assert "no node pve9; it has: pve1, pve2" in said
    assert "pveum" not in said
    file = shell.folder / "lab.yaml"
    file.write_text(f"lab: one\non: {{pve: {shell.on}, images: nowhere}}\nmachines: {{m: {{image: debian}}}}\n")
    said = shell.run("pve", "setup", str(file), status=2).output
    assert "no storage nowhere" in said
    assert "(not asked)" not in said


def test_setup_for_a_lab_grants_the_bridges_that_it_names(shell: Shell) -> None:
    file = shell.folder / "lab.yaml"
    file.write_text(
        f"lab: one\non: {{pve: {shell.on}, bridge: vmbr0}}\nsegments: {{wire: {{bridge: vmbr1, vlan: 7}}}}\n"
        "machines: {m: {image: debian, segments: [wire]}}\n"
    )
    said = shell.run("pve", "setup", str(file)).stdout
    assert "pveum acl modify /sdn/zones/localnetwork/vmbr0" in said
    assert "pveum acl modify /sdn/zones/localnetwork/vmbr1" in said
    assert "no vmbr1 that may be used" in shell.run("pve", "check", str(file), status=2).stdout


def test_setup_applies_nothing_that_somebody_else_has_not_finished(shell: Shell, fake: FakePve) -> None:
    with fake.world.lock:
        for stage in (fake.world.sdn.config, fake.world.sdn.applied):
            stage["zones"].clear()
        fake.world.sdn.config["zones"]["other"] = {"zone": "other", "type": "simple"}
    said = shell.run("pve", "setup", shell.on, "--perform", "--yes", status=2)
    assert "wait for being applied" in said.output
    assert "nestlab@pve" not in fake.world.access.users


def test_a_certificate_is_believed_only_after_somebody_agreed(shell: Shell, fake: FakePve) -> None:
    unknown = {"NESTLAB_PVE_FINGERPRINT": None}
    said = shell.run("pve", "check", shell.on, status=2, env=unknown).output
    assert fake.fingerprint in said
    assert "nestlab pve trust" in said
    assert not fake.requests, "nothing is sent to somebody unknown"
    shell.run("pve", "trust", shell.on, status=2, env=unknown)
    assert not shell.kept.exists()
    shell.run("pve", "trust", shell.on, "--yes", env=unknown)
    assert "ready" in shell.run("pve", "check", shell.on, env=unknown).stdout

    fake.new_certificate()
    fake.requests.clear()
    said = shell.run("pve", "check", shell.on, status=2, env=unknown).output
    assert "another certificate" in said
    assert not fake.requests
    assert "believed:" in shell.run("pve", "trust", shell.on, "--yes", env=unknown).stdout
    assert "believed already" in shell.run("pve", "trust", shell.on, env=unknown).stdout


def test_trust_keeps_the_token_that_was_there(shell: Shell, fake: FakePve) -> None:
    where = credentials.keep(shell.folder / "state", _place(shell), {"token": shell.env["NESTLAB_PVE_TOKEN"]})
    alone: dict[str, str | None] = {"NESTLAB_PVE_FINGERPRINT": None, "NESTLAB_PVE_TOKEN": None}
    shell.run("pve", "trust", shell.on, "--yes", env=alone)
    assert "token" in where.read_text()
    assert Trust.of(fake.fingerprint).pins
    assert "ready" in shell.run("pve", "check", shell.on, env=alone).stdout


def _place(shell: Shell) -> Any:
    from nestlab.lab import pve_address

    return pve_address.place(shell.on)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pve", "check", "nowhere"), "nowhere is neither an address nor a lab"),
        (("pve", "check", "pve://"), "is no address of a Proxmox VE"),
        (("pve", "check", "pve://root@pam:secret@host"), "must not hold a secret"),
        (("pve", "check", "pve://127.0.0.1:1"), "does not answer"),
        (("pve", "trust", "pve+local"), "this computer: it needs no trust"),
        (("images", "gc", "--on", "nowhere"), "nowhere is neither an address nor a lab"),
        (("migrate", "hv1", "pve2"), "no lab"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_message(shell: Shell, words: tuple[str, ...], said: str) -> None:
    told = shell.run(*words, status=2).output
    assert said.lower() in told.lower()
    assert "secret@" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("root@pam!lab=wrong", "Authentication failed"),
        ("no token", "USER@REALM!ID=SECRET"),
        ("", "nothing to log in"),
    ],
)
def test_a_token_that_is_none_or_not_good_is_told(shell: Shell, token: str, said: str) -> None:
    told = shell.run("pve", "check", shell.on, status=2, env={"NESTLAB_PVE_TOKEN": token}).output
    assert said in told
    assert "wrong" not in told


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("{pve: ADDRESS, nodes: [pve9]}", "pve9"),
        ("{pve: ADDRESS, storage: nowhere}", "nowhere"),
        ("{pve: ADDRESS, pool: nowhere}", "has no pool nowhere that can be seen; it has: nestlab"),
        ("{pve: ADDRESS, zone: nowhere}", "nowhere"),
        ("{pve: ADDRESS, bridge: vmbr9}", "vmbr9"),
        ("{pve: ADDRESS, images: nowhere}", "nowhere"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_made(shell: Shell, fake: FakePve, on: str, said: str) -> None:
    file = shell.folder / "lab.yaml"
    place = on.replace("ADDRESS", shell.on)
    internet = ", internet: true" if "bridge" in on else ""
    file.write_text(
        f"lab: one\non: {place}\nsegments: {{wire: }}\n"
        f"machines: {{m: {{image: {{file: {shell.folder}/x.qcow2}}, memory: 256M, segments: [wire]{internet}}}}}\n"
    )
    (shell.folder / "x.qcow2").write_bytes(qcow2(1 << 20))
    told = shell.run("up", str(file), "--no-verify", status=2).output
    assert said in told
    assert not fake.vms
    assert not [volume for volume in fake.volumes if "once" in volume]


def test_a_lab_file_alone_takes_a_token_nowhere(shell: Shell, fake: FakePve, tmp_path: Path) -> None:
    """What a stranger's lab file names is not asked anything, whatever is asked for."""
    file = tmp_path / "lab.yaml"
    file.write_text(f"lab: x\non: {shell.on}\nmachines: {{m: {{image: tiny}}}}\n")
    others = ({"NESTLAB_PVE_HOST": None}, {"NESTLAB_PVE_HOST": "pve1.example.org"})
    for words in (("plan",), ("up",), ("pve", "check"), ("pve", "trust"), ("images", "gc", "--on")):
        for env in others:
            said = shell.run(*words, str(file), status=2, env=env).output
            assert f"{shell.on} is named by a lab file only" in said
    for env in others:
        shell.run("validate", str(file), env=env)
        shell.run("graph", str(file), env=env)
        assert "(not asked)" in shell.run("pve", "setup", str(file), env=env).stdout
    assert not fake.requests
    assert "tiny" in shell.run("plan", str(file)).stdout, "NESTLAB_PVE_HOST names it"
    set_on = ("--set", f"on={shell.on}")
    assert "tiny" in shell.run("plan", str(file), *set_on, env={"NESTLAB_PVE_HOST": None}).stdout
    assert "kept in" in shell.run("pve", "trust", shell.on, "--yes", env={"NESTLAB_PVE_HOST": None}).stdout
    assert "tiny" in shell.run("plan", str(file), env={"NESTLAB_PVE_HOST": None}).stdout


def test_a_node_by_ssh_is_trusted_by_its_name(shell: Shell, tmp_path: Path) -> None:
    env = {"NESTLAB_PVE_HOST": None}
    file = tmp_path / "lab.yaml"
    file.write_text("lab: x\non: pve+ssh://root@127.0.0.1:1\nmachines: {m: {image: tiny}}\n")
    assert "named by a lab file only" in shell.run("plan", str(file), status=2, env=env).output
    assert "nothing was changed" in shell.run("pve", "trust", "pve+ssh://root@127.0.0.1:1", status=2, env=env).output
    shell.run("pve", "trust", "pve+ssh://root@127.0.0.1:1", "--yes", env=env)
    told = shell.run("plan", str(file), status=2, env=env).output
    assert "named by a lab file only" not in told
    assert "127.0.0.1:1" in told
