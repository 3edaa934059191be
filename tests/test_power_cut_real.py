"""The power of a machine goes while nestlab works in it: its QEMU is killed, and with it the page cache of its kernel.

The machine's disk is attached as one with a write cache that obeys flushes (`cache=writeback`), and its kernel writes
nothing back by itself: what nestlab did not sync is lost, as a file beside it shows that is never synced.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
import nestlab
from command_line import Cli
from nestlab.home.paths import Place
from waiting import VERY_LONG, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

LAB = """
lab: cut
machines:
  host:
    hypervisor: kvm
    memory: 1G
"""

CUTS = 5

PACKAGES = ("asyncssh", "ruamel.yaml", "typer", "rich")

NO_WRITEBACK = "echo 0 >/proc/sys/vm/dirty_writeback_centisecs; echo 360000 >/proc/sys/vm/dirty_expire_centisecs"
"""The kernel then writes what is dirty when it is synced, or when memory is short: never by the clock."""


@pytest.fixture
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        yield cli
        cli("down", "cut", "--yes", status=None)


def test_after_power_cuts_in_a_machine_all_state_is_whole_and_nestlab_goes_on(cli: Cli) -> None:
    cli("up", cli.file(LAB), "--no-verify")
    handed_over(cli)
    root = Path(Place(str(cli.home / "labs" / "cut")).of("host").root)
    argv = Path(f"/proc/{pid_of(root)}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    argv = [re.sub(r"cache=unsafe", "cache=writeback", word) for word in argv]
    assert any("disk.qcow2" in word and "cache=writeback" in word for word in argv)
    cli("stop", "cut")
    dice = random.Random(2026)
    lost = 0
    for _ in range(CUTS):
        started(cli, root, argv)
        begun = cut_at(cli, root, dice.randrange(3, 40))
        started(cli, root, argv)
        said = worker(cli, "check").stdout
        whole = int(said.split()[-1])
        lost += begun - whole
        inside(cli, "sh", "-c", "rm -rf /root/work/controls /root/work/state; sync")
        os.kill(pid_of(root), signal.SIGKILL)
        gone(root)
    assert lost > 0, "nothing was lost: the power was not really cut"


def handed_over(cli: Cli) -> None:
    """The sources, and the Python packages that they need, for the Python of the machine, which reaches no network."""
    version = inside(cli, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()
    site = cli.home / "site"
    words = ["install", "-qq", "--target", str(site), "--python-version", version, "--only-binary", ":all:"]
    words += ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words, *PACKAGES], check=True)
    sources = Path(nestlab.__file__).parents[1]
    for folder, names in ((site, ["."]), (sources, ["nestlab"]), (Path(__file__).parent, ["power_worker.py"])):
        packed = subprocess.run(
            ["tar", "-cz", "--exclude=__pycache__", "-C", folder, *names], capture_output=True, check=True
        ).stdout
        inside(cli, "sh", "-c", "mkdir -p /root/work /root/site && tar -xz -C /root/site", data=packed)
    inside(cli, "sh", "-c", "python3 -m compileall -q /root/site; sync")


def inside(cli: Cli, *words: str, data: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nestlab", "exec", "host", "--", *words]
    done = subprocess.run(argv, env=cli.environment, input=data, capture_output=True, timeout=VERY_LONG, check=False)
    said = subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert not check or said.returncode == 0, said.stdout + said.stderr
    return said


def worker_words(what: str) -> list[str]:
    return [
        "env",
        "PYTHONPATH=/root/site",
        "LC_ALL=C.UTF-8",
        "python3",
        "/root/site/power_worker.py",
        what,
        "/root/work",
    ]


def worker(cli: Cli, what: str) -> subprocess.CompletedProcess[str]:
    return inside(cli, *worker_words(what))


def cut_at(cli: Cli, root: Path, line: int) -> int:
    """Have nestlab work in the machine, and cut its power after so many things that were begun; how many files were
    written that are never synced."""
    argv = [sys.executable, "-m", "nestlab", "exec", "host", "--", *worker_words("work")]
    with subprocess.Popen(argv, env=cli.environment, stdout=subprocess.PIPE, text=True) as work:
        assert work.stdout is not None
        said = list(itertools.islice(work.stdout, line))
        os.kill(pid_of(root), signal.SIGKILL)
        said += work.stdout
        work.wait(VERY_LONG)
    assert said[:1] == ["begun\n"]
    gone(root)
    return sum(each.endswith(" up\n") for each in said)


def started(cli: Cli, root: Path, argv: list[str]) -> None:
    """The machine, started again by its own command line, up to where nestlab reaches it."""
    for left in ("pid", "stopped", "answered", "qmp", "con", "qga"):
        (root / left).unlink(missing_ok=True)
    subprocess.run(argv, check=True, env={**os.environ, **qemu_environment(argv)})
    wait_until(lambda: inside(cli, "true", check=False).returncode == 0, VERY_LONG, pause=1.0)
    inside(cli, "sh", "-c", NO_WRITEBACK)


def qemu_environment(argv: list[str]) -> dict[str, str]:
    """Where nestlab's own QEMU has its modules."""
    return {"QEMU_MODULE_DIR": f"{argv[2]}/qemu"} if argv[1] == "--library-path" else {}


def pid_of(root: Path) -> int:
    return int((root / "pid").read_text())


def gone(root: Path) -> None:
    pid = pid_of(root)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
