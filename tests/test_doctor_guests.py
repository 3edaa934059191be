"""The doctor at a real hypervisor: nesting found off, switched on, proven by a guest that has it, and taken back."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import leaks
from command_line import Cli

pytestmark = pytest.mark.guest

LAB = """
lab: ward
machines:
  worded: {hypervisor: kvm, memory: 768M, cmdline: kvm_amd.nested=0 kvm_intel.nested=0%s}
  filed: {hypervisor: kvm, memory: 768M%s}
"""
WEB = ", machines: {web: {image: tiny, memory: 128M}}"
OWN = "/etc/modprobe.d/zz-nestlab.conf"
TRACES = "find /etc/modprobe.d /var/lib/nestlab/doctor -type f 2>/dev/null | sort"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        cli("up", cli.file(LAB % ("", "")), "--no-verify")
        yield cli
        cli("down", "ward", "--yes", status=None)


def findings(cli: Cli, machine: str, *words: str) -> dict[str, Any]:
    """By check, what the doctor finds; the exit status says whether something failed."""
    said = cli("doctor", machine, "--json", *words, status=None)
    found = {each["check"]: each for each in json.loads(said.text)["findings"]}
    assert said.status == (2 if any(each["level"] == "fail" for each in found.values()) else 0)
    return found


def shell(cli: Cli, machine: str, command: str) -> str:
    return cli("exec", machine, "--", "sh", "-c", command).text.strip()


def module(cli: Cli, machine: str) -> str:
    """The vendor module there: under KVM the host's vendor decides, emulated it is AMD's."""
    return shell(cli, machine, "cd /sys/module && ls -d kvm_intel kvm_amd 2>/dev/null | head -n 1")


def nested(cli: Cli, machine: str) -> str:
    """`0` or `1`, also where it is kvm_intel's `N` or `Y`."""
    return shell(cli, machine, f"tr NY 01 </sys/module/{module(cli, machine)}/parameters/nested")


def reload(cli: Cli, machine: str, *options: str) -> None:
    name = module(cli, machine)
    shell(cli, machine, f"modprobe -r {name} && modprobe {' '.join([name, *options])}")


def guest_flag(cli: Cli, path: str) -> bool:
    """Whether the CPU of a guest started now has vmx or svm."""
    cli("stop", path, status=None)
    cli("start", path)
    return shell(cli, path, "grep -c -w -E 'vmx|svm' /proc/cpuinfo || :") != "0"


def test_nesting_that_is_off_is_found_fixed_proven_by_a_guest_and_taken_back(cli: Cli) -> None:
    before, name = shell(cli, "worded", TRACES), module(cli, "worded")
    off, on = ("N", "Y") if name == "kvm_intel" else ("0", "1")
    found = findings(cli, "worded")
    assert (found["nested"]["level"], found["runs"]["level"]) == ("fail", "ok")
    assert f"{name} has nested={off}" in found["nested"]["seen"]

    refused = cli("doctor", "worded", "--fix", status=2)
    assert f"+options {name} nested=1" in refused
    assert "Nothing was changed" in refused
    assert nested(cli, "worded") == "0"

    fixed = cli("doctor", "worded", "--fix", "nested", "--yes")
    assert "It was switched off on purpose by /proc/cmdline" in fixed
    assert f"{name} was loaded again, with nested={on}." in fixed
    assert f"Nesting works here: {name}, nested={on}, proven by a guest that ran." in fixed
    assert findings(cli, "worded")["nested"]["level"] == "ok"
    assert "nothing to fix" in cli("doctor", "worded", "--fix", "nested", "--yes")

    cli("up", cli.file(LAB % (WEB, "")), "--no-verify")
    assert guest_flag(cli, "worded/web")
    assert findings(cli, "worded/web")["cpu"]["level"] == "ok"

    waits = f"is in use and keeps nested={on}: stop what uses it, or reboot, and run --undo again"
    assert waits in cli("doctor", "worded", "--undo", "--yes")
    cli("stop", "worded")
    cli("start", "worded/web")
    assert nested(cli, "worded") == "0"
    assert not guest_flag(cli, "worded/web")
    cli("doctor", "worded", "--undo", "--yes")
    assert shell(cli, "worded", TRACES) == before
    assert "nothing to undo" in cli("doctor", "worded", "--undo", "--yes")


def test_a_hypervisor_in_use_is_not_reloaded_but_right_after_a_reboot(cli: Cli) -> None:
    shell(cli, "filed", f"echo 'options {module(cli, 'filed')} nested=0' >/etc/modprobe.d/old.conf")
    reload(cli, "filed")
    cli("up", cli.file(LAB % (WEB, WEB)), "--no-verify")
    assert nested(cli, "filed") == "0"
    pid = cli.machines("ward")["filed/web"]["pid"]

    staged = cli("doctor", "filed", "--fix", "--yes")
    assert "reboot to finish" in staged
    assert f"(pid {pid})" in staged
    assert nested(cli, "filed") == "0"
    assert cli.states("ward")["filed/web"] == "running"
    assert findings(cli, "filed")["lasting"]["level"] == "warn"

    cli("stop", "filed")
    cli("start", "filed")
    assert nested(cli, "filed") == "1"
    found = findings(cli, "filed")
    assert (found["nested"]["level"], found["lasting"]["level"]) == ("ok", "ok")

    cli("stop", "filed/web")
    cli("doctor", "filed", "--undo", "--yes")
    assert nested(cli, "filed") == "0"
    assert shell(cli, "filed", TRACES).splitlines()[-1] == "/etc/modprobe.d/old.conf"


def test_unknown_registers_are_ignored_for_windows_and_no_longer_after(cli: Cli) -> None:
    value = "cat /sys/module/kvm/parameters/ignore_msrs"
    assert findings(cli, "filed", "--for", "windows")["ignore-msrs"]["level"] in ("warn", "fail")
    assert "ignore-msrs" not in findings(cli, "filed") or findings(cli, "filed")["ignore-msrs"]["level"] == "ok"

    cli("doctor", "filed", "--fix", "ignore-msrs", "--temporary", "--yes")
    assert shell(cli, "filed", value) == "Y"
    assert OWN not in shell(cli, "filed", TRACES)
    cli("doctor", "filed", "--undo", "--yes")
    assert shell(cli, "filed", value) == "N"

    cli("doctor", "filed", "--fix", "--for", "windows", "--yes")
    assert shell(cli, "filed", value) == "Y"
    assert "options kvm ignore_msrs=1" in shell(cli, "filed", f"cat {OWN}")
    assert findings(cli, "filed", "--for", "windows")["ignore-msrs"]["level"] == "ok"
    cli("doctor", "filed", "--undo", "--yes")
    assert shell(cli, "filed", value) == "N"
    assert OWN not in shell(cli, "filed", TRACES)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_a_fix_that_was_killed_is_finished_or_taken_back(cli: Cli, delay: float) -> None:
    if "filed/web" in cli.machines("ward"):
        cli("stop", "filed/web")
    reload(cli, "filed", "nested=0")
    before = shell(cli, "filed", TRACES)
    name = module(cli, "filed")
    with cli.running("doctor", "filed", "--fix", "nested", "--yes") as work:
        work.until(f"modprobe -r {name}")  # it is shown, and done next
        time.sleep(delay)
        work.tell(signal.SIGKILL)
        work.end()
    cli("doctor", "filed", "--fix", "nested", "--yes")
    assert nested(cli, "filed") == "1"
    cli("doctor", "filed", "--undo", "--yes")
    assert nested(cli, "filed") == "0"
    assert shell(cli, "filed", TRACES) == before


def test_over_ssh_a_user_learns_that_kvm_may_not_be_opened(cli: Cli, tmp_path: Path) -> None:
    key = (cli.home / "labs/ward/id_ed25519.pub").read_text().strip()
    home = "/home/plain/.ssh"
    shell(
        cli,
        "filed",
        f"id plain 2>/dev/null || useradd -m -p '*' plain; mkdir -p {home}; echo '{key}' >{home}/authorized_keys",
    )
    shell(
        cli,
        "filed",
        "chmod 755 /home/plain; chown -R plain /home/plain/.ssh; groupadd -f kvm;"
        " chmod 660 /dev/kvm; chgrp kvm /dev/kvm",
    )
    port = json.loads(next(boot for boot in boots(cli) if '"port"' in boot))["port"]
    host_key = shell(cli, "filed", "cat /run/nestlab/ssh_host_ed25519_key.pub")
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (ssh / "config").write_text(f"Host *\n  IdentityFile {cli.home}/labs/ward/id_ed25519\n")
    plain = Cli(cli.home, {"HOME": str(tmp_path), "SSH_AUTH_SOCK": ""})
    url = f"ssh://plain@127.0.0.1:{port}"

    found = findings(plain, url)
    assert found["access"]["level"] == "fail"
    assert any("usermod" in command for command in found["access"]["commands"])
    refused = plain("doctor", url, "--fix", "ignore-msrs", "--yes", status=2)
    assert "Only root may change this" in refused

    other = shell(cli, "worded", "cat /run/nestlab/ssh_host_ed25519_key.pub")
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {other}\n")
    changed = plain("doctor", url, status=2)
    assert "known_hosts:1" in changed
    assert "ssh-keygen -f" in changed
    assert "HAS CHANGED" in changed


def boots(cli: Cli) -> list[str]:
    """What the boots of `filed` say (its directory is the one whose papers name it)."""
    machines = [*(cli.home / "labs/ward/m").iterdir()]
    return [(each / "boot").read_text() for each in machines if '"path":"filed"' in (each / "made").read_text()]


def test_the_first_broken_level_of_a_lab_is_named(cli: Cli) -> None:
    said = cli("doctor", "--all", "ward", status=None)
    assert "worded  level 1" in said
    assert "First broken layer: " in said
    data = json.loads(cli("doctor", "--all", "ward", "--json", status=None).text)
    assert [each["where"] for each in data["hosts"]] == ["this machine", "worded", "filed"]
