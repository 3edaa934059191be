"""A container in a hypervisor for real: to a user it is a machine like any other, and it is no virtual machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from command_line import Cli
from lab_up import lab_up
from nestlab.home.paths import short_id
from waiting import wait_until

pytestmark = [pytest.mark.guest, pytest.mark.slow]

LAB = """
lab: box
segments:
  wire: {}
machines:
  hv1:
    hypervisor: kvm
    memory: 768M
    segments: [wire]
    machines:
      web: {container: true, image: debian, segments: [wire]}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with lab_up(LAB) as found:
        yield found


def sh(cli: Cli, machine: str, script: str) -> str:
    return cli.plain("exec", machine, "--", "sh", "-c", script)


def test_it_is_proven_to_be_unprivileged_and_on_its_segment(cli: Cli) -> None:
    verdict = json.loads(cli.plain("verify", "box", "--json"))
    proofs = {each["claim"]: each for each in verdict["proofs"] if each["path"] == "hv1/web"}
    assert [claim for claim, proof in proofs.items() if not proof["ok"]] == []
    assert set(proofs) == {"reachable", "container", "segment wire"}
    assert "user 100000" in proofs["container"]["seen"]


def test_its_root_is_nobody_outside_and_its_memory_is_bounded(cli: Cli) -> None:
    assert sh(cli, "hv1/web", "id -u; hostname; cat /proc/1/comm").split() == ["0", "web", "systemd"]
    assert "denied" in sh(cli, "hv1/web", "mknod /root/kvm c 10 232 2>&1 || echo denied")
    owners = sh(cli, "hv1", "stat -c %u /proc/[0-9]*/root/run/nestlab/init 2>/dev/null | sort -u")
    assert owners.split() == ["100000"]
    assert sh(cli, "hv1", "cat /sys/fs/cgroup/lxc.payload.*/memory.max").strip() == str(128 << 20)


def test_status_tells_what_it_is_and_nothing_is_left_to_do(cli: Cli) -> None:
    web = cli.machines("box")["hv1/web"]
    assert (web["state"], web["accel"], web["level"]) == ("running", "container", 2)
    assert cli.steps(str(cli.home / "lab.yaml")) == []


def test_its_limits_and_the_memory_of_its_hypervisor_change_while_both_run(cli: Cli) -> None:
    def now() -> tuple[str, int]:
        """The boot of the hypervisor with what runs the container, and the mebibytes of the hypervisor."""
        boots = sh(cli, "hv1", "cat /proc/sys/kernel/random/boot_id /var/lib/nestlab/labs/box/m/*/pid")
        return boots, int(sh(cli, "hv1", "awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))

    boots, memory = now()
    for outer, inner, cpus in ((1024, 192, 2), (768, 128, 1)):
        file = cli.home / "more.yaml"
        text = LAB.replace("memory: 768M", f"memory: {outer}M")
        file.write_text(text.replace("image: debian", f"image: debian, memory: {inner}M, cpus: {cpus}"))
        assert "restart" not in cli.plain("plan", str(file), "--adopt")
        cli("up", str(file), "--adopt", "--no-verify")
        there, has = now()
        assert there == boots
        assert 0 <= has - (memory + outer - 768) <= 32
        limits = sh(cli, "hv1", "cat /sys/fs/cgroup/lxc.payload.*/memory.max /sys/fs/cgroup/lxc.payload.*/cpu.max")
        assert limits.split() == [str(inner << 20), f"{cpus}00000", "100000"]
    cli("up", str(cli.home / "lab.yaml"), "--adopt", "--no-verify")


def test_what_is_copied_into_it_outlives_a_stop_and_its_console_is_kept(cli: Cli) -> None:
    assert "nestlab: ready" in cli.plain("logs", "hv1/web")
    kept = cli.home / "kept"
    kept.write_text("kept\n")
    cli("cp", str(kept), "hv1/web:/root/kept")
    cli("stop", "hv1/web")
    assert cli.states("box")["hv1/web"] == "stopped"
    assert "lxc.payload" not in sh(cli, "hv1", "ls /sys/fs/cgroup")
    cli("up", str(cli.home / "lab.yaml"), "--no-verify")
    assert sh(cli, "hv1/web", "cat /root/kept") == "kept\n"


def test_one_that_is_killed_is_told_to_have_died_and_takes_all_of_it_along(cli: Cli) -> None:
    sh(cli, "hv1", "kill -9 $(cat /var/lib/nestlab/labs/box/m/*/pid)")
    inside = "find /sys/fs/cgroup/lxc.* -name cgroup.procs -exec cat {} + 2>/dev/null || :"
    wait_until(lambda: not sh(cli, "hv1", inside).strip(), pause=1)
    assert cli.states("box")["hv1/web"] == "died"


def test_down_leaves_nothing_of_it_in_its_hypervisor(cli: Cli) -> None:
    cli("down", "hv1/web", "--yes")
    left = sh(cli, "hv1", "ls /var/lib/nestlab/labs/box/m; cat /proc/mounts; ls /sys/class/net /sys/fs/cgroup; ps ax")
    for word in ("overlay", f"v{short_id('hv1/web')}n0", "runner.py", "lxc-start"):
        assert word not in left
