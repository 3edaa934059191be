"""Machines that nestlab does not log in to, for real: up by their console or a port, proven, and left alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import boot_sector
import leaks
from command_line import Cli, qemus

pytestmark = pytest.mark.guest

LAB = """
lab: shut
machines:
  box: {{hypervisor: other, image: {{file: {disk}}}, memory: 64M, bus: sata, ready: {{console: "login: ?$"}}}}
  desk: {{image: {{file: {shows}}}, memory: 64M, bus: sata, ready: {{screen: still, for: 1s}}}}
  port: {{image: tiny, ready: {{port: 22}}}}
  none: {{image: {{file: {disk}}}, memory: 64M, bus: scsi, ready: none}}
"""


SEE = ": what it shows, see `nestlab screenshot desk`"


def lab_of(cli: Cli) -> str:
    return LAB.format(disk=cli.home / "box.raw", shows=cli.home / "desk.raw")


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        boot_sector.disk(cli.home / "box.raw")
        boot_sector.screen_disk(cli.home / "desk.raw", b"Welcome to the desk")
        cli("up", cli.file(lab_of(cli)), "--no-verify")
        yield cli
        cli("down", "shut", "--yes")


def proofs(cli: Cli) -> dict[tuple[str, str], tuple[bool | None, str]]:
    data = json.loads(cli.plain("verify", "shut", "--json"))
    return {(each["path"], each["claim"]): (each["ok"], each["seen"]) for each in data["proofs"] if each["path"]}


def test_verify_says_what_was_proven_and_what_could_not_be(cli: Cli) -> None:
    found = proofs(cli)
    assert found["box", "ready"] == (True, "its console showed login: ?$")
    assert found["box", "cpu"] in [(True, f"its CPU shows {flag}, its QEMU says") for flag in ("svm", "vmx")]
    assert found["box", "inside"] == (None, "nestlab does not look inside")
    assert found["desk", "ready"] == (True, "its screen stood still for 1 s" + SEE)
    assert found["port", "ready"] == (True, "it takes connections on port 22")
    assert found["none", "ready"][0] is None
    assert {path for path, _ in found} == {"box", "desk", "port", "none"}


def test_it_is_waited_for_by_what_it_says(cli: Cli) -> None:
    assert "box: its console showed" in cli("wait", "box", "port", "none")
    assert "port: it takes connections on port 22" in cli("wait", "port", "--for", "port:22")
    said = cli("wait", "port", "--for", "port:81", "--timeout", "4", status=2)
    assert "nothing takes connections on its port 81" in said
    assert "does not log in to box" in cli("wait", "box", "--for", "ssh", status=2)


def test_a_screen_says_what_it_does_not_prove(cli: Cli) -> None:
    assert "what it shows, see `nestlab screenshot desk`" in cli("verify", "shut")
    assert "desk: its screen stood still for 1 s" in cli("wait", "desk")
    file = Path(cli.file(lab_of(cli)))
    file.write_text(file.read_text().replace("for: 1s", "for: 2s"))
    assert "nothing to do" in cli("up", str(file), "--no-verify")
    assert proofs(cli)["desk", "ready"] == (True, "its screen stood still for 2 s" + SEE)  # looked at now
    cli("up", cli.file(lab_of(cli)), "--no-verify")


def test_who_would_log_in_is_told_once(cli: Cli) -> None:
    for words in (("exec", "box", "true"), ("ssh", "port"), ("cp", "/etc/hostname", "none:/tmp/")):
        assert "nestlab does not log in to" in cli(*words, status=2)
    assert "Host " not in cli.plain("ssh-config", "shut")
    assert json.loads(cli.plain("inventory", "shut", "--json"))["_meta"]["hostvars"] == {}
    assert "login:" in cli.plain("logs", "box")


def test_another_ready_is_no_change_of_the_machine(cli: Cli) -> None:
    file = Path(cli.file(lab_of(cli)))
    before = sorted(qemus(cli.home))
    file.write_text(file.read_text().replace("ready: none", "ready: {console: starting}"))
    assert "nothing to do" in cli("up", str(file), "--no-verify")
    assert sorted(qemus(cli.home)) == before
    assert proofs(cli)["none", "ready"][0] is True


def test_status_shows_them_as_they_are(cli: Cli) -> None:
    data = json.loads(cli.plain("status", "shut", "--json"))
    assert {each["state"] for each in data["machines"]} == {"running"}
