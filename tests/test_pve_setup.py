"""`nestlab pve setup` and `check`: commands that keep what is there, undo that is whole, and silent nodes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.engines.pve import network_reload
from nestlab.lab.places import Pve
from nestlab.proxmox import setup
from nestlab.testing.fake_pve import FakePve
from pve_lab import assert_valid, bench, cluster
from test_pve_cli import Shell, shell

__all__ = ["shell"]

FAILS = "error: incompatible ifupdown2 1.2.8\nnlabc : error: nlabc: failed to create the bridge"


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2", version="9.2") as pve:
        with pve.world.lock:
            pve.world.pools.clear()
            for stage in (pve.world.sdn.config, pve.world.sdn.applied):
                stage["zones"].clear()
        yield pve
        assert_valid(pve)


def password(fake: FakePve) -> dict[str, str | None]:
    return {"NESTLAB_PVE_TOKEN": None, "NESTLAB_PVE_USER": "root@pam", "NESTLAB_PVE_PASSWORD": fake.password}


def tool(folder: Path, name: str, script: str = "") -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/done\n{script}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("stores", "content", "disks", "told"),
    [
        ("local dir active\ntank zfspool active", "backup,snippets", "local", "--content backup,snippets,import"),
        ("local-lvm lvmthin active\ntank zfspool active", "iso", "local-lvm", "--content iso,import"),
        ("tank zfspool inactive\nfast dir active", "import,iso", "fast", ""),
    ],
)
def test_commands_for_an_unknown_node_find_its_storages_and_keep_what_they_take(
    tmp_path: Path, stores: str, content: str, disks: str, told: str
) -> None:
    tool(
        tmp_path, "pvesm", f'[ "$1" = set ] || printf "Name Type Status\\n{stores.replace(chr(10), chr(92) + "n")}\\n"'
    )
    tool(tmp_path, "pvesh", f'[ "$1" = set ] || echo \'{{"content":"{content}","path":"/x","storage":"local"}}\'')
    tool(tmp_path, "pveum")
    todo = setup.unasked(Pve("pve://nowhere"), "9", "nestlab@pve", "nestlab")
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-eu"], input="\n".join(todo.commands), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "done").read_text().splitlines()
    assert f"storage for disks: {disks}" in done.stdout
    assert any(line.startswith(f"pveum acl modify /storage/{disks} ") for line in lines)
    assert [line for line in lines if line.startswith("pvesm set")] == ([f"pvesm set local {told}"] if told else [])


def test_a_role_is_modified_only_when_it_is_there(shell: Shell, fake: FakePve) -> None:
    shell.run("pve", "setup", shell.on, "--perform", "--yes", env=password(fake))
    assert fake.calls("PUT", "/access/roles") == []
    shell.run("pve", "setup", shell.on, "--perform", "--yes", "--token", "other", env=password(fake))
    assert len(fake.calls("PUT", "/access/roles")) == len(fake.calls("POST", "/access/roles")) // 2


def test_what_to_type_next_works_with_the_token_that_was_made(shell: Shell, fake: FakePve) -> None:
    named = shell.on.replace("pve://", "pve://root@pam@")
    said = shell.run("pve", "setup", named, "--perform", "--yes", env=password(fake)).stdout
    [line] = [line for line in said.splitlines() if line.startswith("next: ")]
    words = line.removeprefix("next: nestlab ").split()
    assert "ready" in shell.run(*words, env={"NESTLAB_PVE_TOKEN": None}).stdout


def test_the_lines_that_take_it_back_leave_nothing(shell: Shell, fake: FakePve) -> None:
    before = fake.storages["local"].content = "iso,vztmpl"
    said = shell.run("pve", "setup", shell.on).stdout
    back = said.partition("# To take it all back")[2]
    assert "pvesh delete /cluster/sdn/zones/nestlab\n#   pvesh set /cluster/sdn" in back
    assert f"pvesm set local --content {before}" in back
    assert "pveum user token remove nestlab@pve nestlab" in back
    assert f"rm {shell.kept}" in back
    with fake.world.lock:
        for stage in (fake.world.sdn.config, fake.world.sdn.applied):
            stage["zones"]["nestlab"] = {"zone": "nestlab", "type": "simple"}
    assert "pvesh delete" not in shell.run("pve", "setup", shell.on).stdout, "a zone that was there stays"


def test_setup_and_check_name_a_node_that_does_not_load_the_zone(shell: Shell, fake: FakePve) -> None:
    fake.nodes["pve2"].reload_fails = FAILS
    said = shell.run("pve", "setup", shell.on, "--perform", "--yes", env=password(fake), status=2).stdout
    assert "not loaded by node pve2: error: incompatible ifupdown2 1.2.8; nlabc : error: nlabc: failed to" in said
    assert "node pve1" not in said
    data = shell.json("pve", "check", shell.on, status=2)
    found = {point["what"]: (point["ok"], point["seen"]) for point in data["points"]}
    assert found["SDN zone on pve1"] == (True, "nestlab is loaded")
    ok, seen = found["SDN zone on pve2"]
    assert ok is False
    assert "incompatible ifupdown2" in seen
    fake.nodes["pve2"].reload_fails = ""
    with fake.world.lock:
        fake.world.sdn.lock = ""
    assert fake.ask("PUT", "/cluster/sdn", "root@pam", {})
    assert shell.json("pve", "check", shell.on)["ok"]


async def test_check_names_a_zone_that_was_never_applied(fake: FakePve, tmp_path: Path) -> None:
    fake.world.sdn.config["zones"]["nestlab"] = {"zone": "nestlab", "type": "simple"}
    async with bench(fake, tmp_path) as made:
        points = {point.what: point for point in await setup.check(made.api, made.on)}
    assert points["SDN zone on pve1"].ok is False
    assert points["SDN zone on pve1"].do == "Apply it: pvesh set /cluster/sdn"


async def test_check_names_a_node_that_lacks_a_network_of_the_zone(fake: FakePve, tmp_path: Path) -> None:
    for stage in (fake.world.sdn.config, fake.world.sdn.applied):
        stage["zones"]["nestlab"] = {"zone": "nestlab", "type": "simple"}
        stage["vnets"]["nlabc"] = {"vnet": "nlabc", "zone": "nestlab", "type": "vnet"}
    fake.nodes["pve2"].lacks = {"nlabc"}
    async with bench(fake, tmp_path) as made:
        points = {point.what: point for point in await setup.check(made.api, made.on)}
    assert points["SDN zone on pve1"].ok is True
    assert (points["SDN zone on pve2"].ok, points["SDN zone on pve2"].seen) == (
        False,
        "networks of nestlab are missing",
    )


async def test_storages_that_cannot_be_seen_are_not_guessed(fake: FakePve, tmp_path: Path) -> None:
    name, secret = fake.add_token("lab@pve", "poor", {"/pool/nestlab": "VM.Audit Pool.Audit", "/nodes": "Sys.Audit"})
    async with bench(fake, tmp_path, login=(name, secret)) as made:
        points = await setup.check(made.api, made.on)
    assert not [point for point in points if "local-lvm" in point.seen + point.do]
    assert any(point.what == "storage for disks" and "pvesm status" in point.do for point in points)


def test_the_log_of_a_task_that_ended_well_tells_which_node_failed_and_why() -> None:
    log = [
        "pve1: reloading network config",
        "vmbr0 : warning: vmbr0: post-up cmd is slow",
        "pve2: reloading network config",
        "error: incompatible ifupdown2",
        "command 'ifreload -a' failed: exit code 1",
        "proxy handler failed",
        "command 'pvesh set /nodes/pve2/network --regenerate-frr 0' failed: exit code 255",
        "TASK OK",
    ]
    reason = "error: incompatible ifupdown2; command 'ifreload -a' failed: exit code 1; proxy handler failed"
    assert network_reload.complaints(log) == {"pve2": reason}
