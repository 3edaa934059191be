"""Three levels end to end, and what a hypervisor that runs is asked to take on later.

One lab for the whole file, brought up once; the tests run in the order they stand in.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from nestlab.home.paths import short_id

pytestmark = [pytest.mark.guest, pytest.mark.slow]

THREE = Path(__file__).resolve().parent.parent / "examples" / "three-levels.yaml"
DEEP = "outer/inner/web"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        yield cli
        cli("down", "three-levels", "--yes", status=None)
        assert not [*(cli.home / "labs").glob("*")]


@pytest.fixture(scope="module")
def file(cli: Cli) -> str:
    """The example in the test's own folder, so that it can be changed."""
    return cli.file(THREE.read_text())


def test_three_levels_come_up_and_are_proven(cli: Cli, file: str) -> None:
    assert "claims hold" in cli("up", file)
    verdict = json.loads(cli.plain("verify", "three-levels", "--json"))
    proofs = {(each["path"], each["claim"]): each["ok"] for each in verdict["proofs"]}
    for hypervisor in ("outer", "outer/inner"):
        assert all(proofs[hypervisor, claim] for claim in ("cpu", "nested", "/dev/kvm", "cpuid", "guest"))
    assert proofs[DEEP, "accelerated"]
    assert proofs[DEEP, "segment wire"]
    assert cli.machines("three-levels")[DEEP]["level"] == 3


def test_root_at_level_two_that_lies_about_its_machines_changes_nothing_outside_it(cli: Cli, file: str) -> None:
    """As in test_hostile_nest, a level deeper: what is beside it in level 1, and on the host, stays."""
    inside = "/var/lib/nestlab/labs/three-levels/m"
    watch = f"cd {inside} && find . ! -name console.log -printf '%p %i\\n' | sort"

    def outside() -> tuple[list[str], str]:
        here = sorted(str(each) for each in cli.home.glob("labs/three-levels/m/*/*") if each.suffix != ".log")
        return here, cli("exec", "outer", "--", "sh", "-c", watch).text

    before = outside()
    lies = {
        short_id("outer"): ("made", '{"path": "outer"}'),
        short_id("outer/inner"): (
            "made",
            '{"path": "outer/inner", "digest": "x", "names": "x", "root": "x", "disk": 0}',
        ),
        "0badcafe": ("making", '{"path": "?"}'),
        "0badcaff": ("making", '{"path": "outer/?"}'),
        "0000000f": ("making", '{"path": "../x"}'),
    }
    writes = []
    for name, (record, text) in lies.items():
        writes.append(f"mkdir -p {inside}/{name} && printf '%s\\n' '{text}' >{inside}/{name}/{record}")
    cli("exec", "outer/inner", "--", "sh", "-c", "\n".join([*writes, f"mkdir -p {inside}/mine"]))
    steps = json.loads(cli("plan", file, "--json").text)["steps"]
    assert {step["id"] for step in steps} == {f"clear:outer/inner/{name}" for name in lies}
    cli("up", file, "--no-verify")
    assert outside() == before
    cli("exec", "outer/inner", "--", "sh", "-c", f"[ -d {inside}/mine ] && [ ! -e {inside}/0badcafe ]")
    assert {each["state"] for each in cli.machines("three-levels").values()} == {"running"}


def test_level_three_is_used_like_any_other(cli: Cli, tmp_path: Path) -> None:
    assert cli("exec", DEEP, "--", "hostname").text.strip() == "web"
    assert cli("exec", DEEP, "--", "sh", "-c", "exit 5", status=5).text == ""
    (tmp_path / "there").write_bytes(os.urandom(50_000))
    cli("cp", str(tmp_path / "there"), f"{DEEP}:/tmp/file")
    cli("cp", f"{DEEP}:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()
    assert "nestlab: ready" in cli("logs", DEEP)


def test_a_death_at_level_three_is_found_and_only_it_is_booted_again(cli: Cli, file: str) -> None:
    pid = cli.machines("three-levels")[DEEP]["pid"]
    cli("exec", "outer/inner", "--", "kill", "-9", str(pid))
    assert cli.states("three-levels") == {"outer": "running", "outer/inner": "running", DEEP: "died"}
    assert cli.steps(file) == [f"boot {DEEP}"]
    cli("up", file, "--no-verify")


def test_a_wrong_clock_in_a_hypervisor_harms_nothing(cli: Cli) -> None:
    cli("exec", "outer", "--", "date", "-s", "-5 hours")
    cli("exec", "outer/inner", "--", "date", "-s", "+9 hours")
    uptimes = [each["uptime"] for each in cli.machines("three-levels").values()]
    assert all(0 <= uptime < 3600 for uptime in uptimes)
    assert "claims hold" in cli("verify", "three-levels")


def test_a_machine_is_added_whose_image_is_not_on_board(cli: Cli, file: str) -> None:
    added(cli, file, "more: {image: debian, memory: 512M}")
    assert cli.machines("three-levels")["outer/more"]["accel"] == "kvm"
    assert cli("exec", "outer/more", "--", "hostname").text.strip() == "more"
    removed(cli, file)


def test_an_emulated_machine_in_a_hypervisor_is_announced_as_one(cli: Cli, file: str) -> None:
    added(cli, file, "more: {image: tiny, memory: 128M, accel: tcg}")
    assert "outer/more is emulated (KVM off): the lab file says accel: tcg" in cli("plan", file)
    assert cli.machines("three-levels")["outer/more"]["accel"] == "tcg"
    assert cli("exec", "outer/more", "--", "hostname").text.strip() == "more"
    removed(cli, file)


def test_a_kvm_that_only_looks_like_one_is_found_out_by_the_first_guest_which_is_then_emulated(cli: Cli) -> None:
    """In a hypervisor KVM is presumed where module, flag and device are there: here the device is /dev/null."""
    lab = "lab: lying\nmachines:\n  hv:\n    hypervisor: kvm\n    memory: 768M\n"
    cli("up", cli.file(lab), "--no-verify")
    cli("exec", "lying:hv", "--", "sh", "-c", "rm /dev/kvm && mknod -m 666 /dev/kvm c 1 3")
    try:
        said = cli("up", cli.file(lab + "    machines: {web: {image: tiny, memory: 128M}}\n"), "--no-verify").text
        assert "starting again: /dev/kvm opens, but does not answer as KVM does (KVM refused" in said
        assert cli.machines("lying")["hv/web"]["accel"] == "tcg"
        assert cli("exec", "lying:hv/web", "--", "hostname").text.strip() == "web"
    finally:
        cli("down", "lying", "--yes")


def added(cli: Cli, file: str, machine: str) -> None:
    """One more machine in the outer hypervisor; what runs is not touched."""
    before = {path: each["pid"] for path, each in cli.machines("three-levels").items()}
    Path(file).write_text(f"{THREE.read_text()}      {machine}\n")
    cli("up", file, "--no-verify")
    after = {path: each["pid"] for path, each in cli.machines("three-levels").items()}
    assert {path: after[path] for path in before} == before


def removed(cli: Cli, file: str) -> None:
    Path(file).write_text(THREE.read_text())
    assert cli.steps(file)[:1] == ["remove outer/more"]
    assert "`--replace` agrees" in cli("up", file, "--no-verify", status=2)
    cli("up", file, "--no-verify", "--replace")
    assert "outer/more" not in cli.machines("three-levels")


def test_stop_and_start_keep_every_level(cli: Cli) -> None:
    cli("stop", "three-levels")
    assert set(cli.states("three-levels").values()) == {"stopped"}
    assert len(leaks.processes(cli.home)) == 0
    cli("start", "three-levels")
    assert set(cli.states("three-levels").values()) == {"running"}
    assert cli("exec", DEEP, "--", "hostname").text.strip() == "web"
