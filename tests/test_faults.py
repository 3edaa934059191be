"""What goes wrong with machines and images, tried for real: each is told plainly, and `up` or `down` puts it right."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from disk_headers import qcow2
from nestlab.engines.qemu import boot
from nestlab.engines.qemu.argv import name_of
from nestlab.home.paths import Place
from waiting import VERY_LONG

pytestmark = [pytest.mark.guest, pytest.mark.slow]

TINY = "lab: one\nmachines:\n  t: {image: tiny, memory: 128M}\n"
DEBIAN = "lab: one\nmachines:\n  t: {image: debian, memory: 512M}\n"
AARCH64 = r"\\177ELF\\002\\001\\001\\0\\0\\0\\0\\0\\0\\0\\0\\0\\002\\0\\267\\0"
"""The head of a program for another processor, for printf in a YAML string."""
OWN = "lab: own\nmachines:\n  m: {image: {file: disk.%s}, memory: 128M}\n"


@pytest.fixture
def cli() -> Iterator[Cli]:
    """A home of its own, in which nothing is left at the end."""
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        yield cli
        for lab in ("one", "own"):
            cli("down", lab, "--yes", status=None)
        assert not [*(cli.home / "labs").glob("*")]


def place(cli: Cli, machine: str = "t") -> Path:
    return Path(Place(str(cli.home / "labs" / "one")).of(machine).root)


def up(cli: Cli, text: str) -> str:
    file = cli.file(text)
    cli("up", file, "--no-verify")
    return file


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("img", b"", "is empty"),
        ("img", os.urandom(1 << 20), "nothing on its disk boots"),
        ("img", bytes(1 << 20), "nothing on its disk boots"),
        ("qcow2", b"hello", "is not a qcow2 image"),
        ("qcow2", b"QFI\xfb\x00\x00\x00\x03" + (64).to_bytes(8, "big") + (4).to_bytes(4, "big"), "not a qcow2 image"),
    ],
)
def test_an_image_that_cannot_boot_is_said_to_be_one(cli: Cli, kind: str, content: bytes, told: str) -> None:
    (cli.home / f"disk.{kind}").write_bytes(content)
    assert told in cli("up", cli.file(OWN % kind), status=2)


def test_a_layer_over_another_file_is_refused_before_anything_is_made(cli: Cli) -> None:
    (cli.home / "disk.qcow2").write_bytes(qcow2(below=b"/etc/shadow"))
    assert "is a layer over another file, /etc/shadow" in cli("up", cli.file(OWN % "qcow2"), status=2)
    assert not (cli.home / "labs" / "one").exists()


def test_an_image_file_that_is_missing_is_a_mistake_in_the_lab_file(cli: Cli) -> None:
    said = cli("up", cli.file(OWN % "img"), status=2)
    assert "there is no file" in said
    assert "lab.yaml:3:" in said


def test_a_kernel_panic_while_booting_shows_the_end_of_the_console(cli: Cli) -> None:
    file = cli.file(TINY.replace("128M}", '128M, cmdline: "rdinit=/nope"}'))
    said = cli("up", file, status=2)
    assert "its kernel panicked: VFS" in said
    assert "  | " in said
    assert cli.machines("one")["t"]["why"].startswith("its kernel panicked")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("rm -f /sbin/init", "has no /sbin/init"),
        (f"printf '{AARCH64}' >/x; mv /x /sbin/init; chmod 755 /sbin/init", "its kernel panicked"),
    ],
)
def test_an_image_without_an_init_for_this_processor_says_so(cli: Cli, script: str, told: str) -> None:
    image = f'images: {{odd: {{from: debian, script: "{script}"}}}}\n'
    said = cli(
        "up", cli.file(DEBIAN.replace("machines:", f"{image}machines:").replace("debian, m", "odd, m")), status=2
    )
    assert told in said
    assert "  | " in said


def test_a_panic_after_up_is_found_and_repaired(cli: Cli) -> None:
    file = up(cli, DEBIAN)
    cli("exec", "t", "--", "sh", "-c", "echo c > /proc/sysrq-trigger", status=None)
    until_state(cli, "died")
    assert "sysrq triggered crash" in cli.machines("one")["t"]["why"]
    assert cli.steps(file) == ["boot t"]
    cli("up", file)
    assert cli.steps(file) == []


def until_state(cli: Cli, state: str) -> None:
    deadline = time.monotonic() + VERY_LONG
    while cli.states("one")["t"] != state and time.monotonic() < deadline:
        time.sleep(0.2)
    assert cli.states("one")["t"] == state


def test_poweroff_and_reboot_inside_are_understood(cli: Cli) -> None:
    file = up(cli, TINY)
    cli("exec", "t", "--", "reboot", status=None)
    cli("exec", "t", "--", "true", status=None)
    assert cli.steps(file) == [], "a machine that reboots is still there"
    deadline = time.monotonic() + VERY_LONG
    while cli("exec", "t", "--", "true", status=None).status and time.monotonic() < deadline:
        time.sleep(0.5)
    cli("exec", "t", "--", "poweroff", status=None)
    until_state(cli, "died")
    assert cli.machines("one")["t"]["why"] == "it shut itself down"
    cli("up", file)


def test_a_machine_whose_qemu_is_stopped_is_paused_and_up_resumes_it(cli: Cli) -> None:
    file = up(cli, TINY)
    pid = cli.machines("one")["t"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert cli.states("one") == {"t": "paused"}
    cli("up", file)
    assert cli.machines("one")["t"]["pid"] == pid


def test_a_machine_paused_through_qmp_is_seen_and_resumed(cli: Cli) -> None:
    from nestlab.wire.qmp import ask

    file = up(cli, TINY)
    ask(str(place(cli) / "qmp"), ("stop",))
    assert cli.machines("one")["t"]["why"] == "it was paused through QMP"
    cli("up", file)
    assert cli.states("one") == {"t": "running"}


def test_a_qemu_killed_while_it_boots_is_told_at_once_and_booted_again(cli: Cli) -> None:
    file = cli.file(TINY)
    with cli.running("up", file) as work:
        work.until("boot: booting")
        os.kill(int((place(cli) / "pid").read_text()), signal.SIGKILL)
        said = work.end()
    assert said.status == 2
    assert "ended before it was up" in said
    cli("up", file)


def test_a_taken_port_is_left_alone_and_another_one_used(cli: Cli) -> None:
    with taken(2):
        up(cli, TINY)
        assert cli("exec", "t", "--", "hostname").text.strip() == "t"


def test_when_every_port_is_taken_it_says_so(cli: Cli) -> None:
    with taken(boot.TRIES):
        assert "no free port for ssh" in cli("up", cli.file(TINY), status=2)
    assert not [*place(cli).glob("console.*.log")], "nothing was said, so no console is kept"


def taken(count: int) -> ExitStack:
    """The first ports that are tried for the machine are in use."""
    seed, stack = zlib.crc32(name_of("one", "t").encode()), ExitStack()
    for attempt in range(count):
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", boot.FIRST_PORT + (seed + attempt * 37) % boot.PORTS))
        listener.listen()
    return stack


def test_another_host_key_is_refused_loudly(cli: Cli) -> None:
    file = up(cli, DEBIAN)
    change = "ssh-keygen -q -t ed25519 -N '' -f /tmp/k; cat /tmp/k > /run/nestlab/ssh_host_ed25519_key; "
    cli("exec", "t", "--", "sh", "-c", change + "systemctl restart ssh", status=None)
    assert "THE HOST KEY OF t IS NOT THE ONE" in cli("exec", "t", "--", "true", status=2)
    assert "THE HOST KEY OF t" in cli("verify", "one", status=2)
    cli("stop", "one", "t")
    cli("up", file)


def test_a_machine_without_sshd_fails_its_proof_and_still_shuts_down(cli: Cli) -> None:
    file = up(cli, DEBIAN)
    cli("exec", "t", "--", "systemctl", "stop", "ssh", status=None)
    cli("exec", "t", "--", "true", status=2)
    said = cli("verify", "one", status=2)
    assert "nestlab console t" in said, "the hint is no `up`, which would find nothing to do"
    cli("stop", "one", "t")
    assert cli.states("one") == {"t": "stopped"}
    cli("up", file)


def test_a_lost_lab_key_is_told_and_not_replaced(cli: Cli) -> None:
    up(cli, TINY)
    key = cli.home / "labs/one/id_ed25519"
    kept = key.read_bytes()
    key.unlink()
    assert "is gone" in cli("exec", "t", "--", "true", status=2)
    key.write_bytes(kept)
    key.chmod(0o600)
    cli("exec", "t", "--", "true")


def test_a_damaged_host_key_is_told(cli: Cli) -> None:
    up(cli, TINY)
    for path in (cli.home / "labs/one/keys").iterdir():
        path.write_text("rubbish")
    assert "cannot be read" in cli("exec", "t", "--", "true", status=2)
