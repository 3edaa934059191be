"""Root in a real hypervisor of a lab lies to `cp`: with its tar, with what it says of sizes, and by an attached disk.

One lab for the whole file, brought up once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli, qemus
from nestlab.verbs.copy import LARGE
from test_copy import ESCAPES
from test_copy_attacks import BAD, made

pytestmark = pytest.mark.guest

LAB = """
lab: tar
machines:
  hv1:
    hypervisor: kvm
    memory: 768M
    machines:
      web: {image: tiny, memory: 128M}
"""
EVIL = {case: made(*members) for case, members in ESCAPES.items()} | {
    case: BAD[case] for case in ("a FIFO", "a device", "a time that is no number", "a pax header of 1 GB")
}


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        found = Cli(Path(home))
        found("up", found.file(LAB))
        yield found
        found("down", "tar", "--yes", status=None)
        left = qemus(found.home)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "something still ran after down"


@pytest.fixture
def liar(cli: Cli) -> Iterator[str]:
    """A machine whose tar sends what is in /root/evil, by stream and by disk."""
    where = "tar:hv1"
    cli("cp", write(cli, "liar", LIAR), f"{where}:/root/liar")
    cli("exec", where, "--", "sh", "-c", TURN)
    yield "hv1"
    cli("exec", where, "--", "sh", "-c", BACK)


LIAR = """#!/bin/sh
case $* in *-cf*)
  f= p=
  for w; do [ "$p" != -cf ] || f=$w; p=$w; done
  [ "$f" != - ] || exec cat /root/evil
  exec cat /root/evil 1<>"$f"
esac
exec /root/tar.true "$@"
"""
TURN = """
t=$(command -v tar) && mv "$t" /root/tar.true && cp /root/liar "$t" && chmod 755 "$t" && echo "$t" > /root/where || exit
mkdir -p /root/x && echo x > /root/x/f
"""
BACK = 'mv /root/tar.true "$(cat /root/where)"'


def write(cli: Cli, name: str, data: str | bytes) -> str:
    path = cli.home / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def give(cli: Cli, liar: str, case: str) -> None:
    cli("cp", write(cli, "evil", EVIL[case]), f"tar:{liar}:/root/evil")


def test_a_machine_that_lies_while_its_files_are_copied_writes_nothing_anywhere(
    cli: Cli, liar: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "place").mkdir()
    for case in EVIL:
        give(cli, liar, case)
        said = cli("cp", f"tar:{liar}:/root/x", f"{tmp_path}/place/copy", status=2)
        assert "error: " in said, case
        assert list((tmp_path / "place").iterdir()) == [], case
    assert (tmp_path / "secret").read_text() == "secret"


def test_by_a_disk_it_can_do_no_more(cli: Cli, liar: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    for case in ("above", "through the top"):
        give(cli, liar, case)
        cli("exec", f"tar:{liar}", "--", "sh", "-c", f"head -c {2 * LARGE} /dev/zero > /root/x/large")
        said = cli("cp", f"tar:{liar}:/root/x", f"{tmp_path}/place/copy", status=2)
        assert "leaves its place" in said, case
        assert list((tmp_path / "place").iterdir()) == []


def test_nothing_of_it_comes_to_another_machine(cli: Cli, liar: str) -> None:
    other = "tar:hv1/web"
    for case in ("above", "absolute", "through the top"):
        give(cli, liar, case)
        said = cli("cp", f"tar:{liar}:/root/x", f"{other}:/root/copy", status=2)
        assert "leaves its place" in said, case
        cli("exec", other, "--", "sh", "-c", "[ ! -e /root/copy ] && [ ! -L /root/copy ] && [ ! -e /evil ]")


def test_honest_machines_copy_as_before_with_links_and_odd_names(cli: Cli, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "new\nline").write_text("odd")
    (tree / "link").symlink_to("/etc/hostname")
    cli("cp", str(tree), "tar:hv1/web:/root/tree")
    cli("cp", "tar:hv1/web:/root/tree", f"{tmp_path}/back")
    assert (tmp_path / "back" / "new\nline").read_text() == "odd"
    assert (tmp_path / "back" / "link").readlink() == Path("/etc/hostname")


KEEPERS = """for at in /proc/[0-9]*; do
  tr '\\0' '\\n' < "$at/cmdline" | grep -qx keep || continue
  sed -n 's/^\\(Pid\\|PPid\\):.//p' "$at/status" | tr '\\n' ' '
  echo
done 2>/dev/null
true"""


def test_beside_every_qemu_somebody_cuts_its_console(cli: Cli) -> None:
    """At both levels, until that QEMU ends. What such a shell starts is a copy of it for a moment, until its exec."""
    here = alone(subprocess.check_output(["sh", "-c", KEEPERS], text=True))
    places = [Path(f"/proc/{line.split()[0]}/cwd") for line in here]
    assert len([place for place in places if place.resolve() in running(cli)]) == 1
    assert len(alone(cli("exec", "tar:hv1", "--", "sh", "-c", KEEPERS).text)) == 1


def alone(keepers: str) -> list[str]:
    """The lines (`pid parent`) of those whose parent is none of them."""
    lines = keepers.splitlines()
    return [line for line in lines if line.split()[1] not in {each.split()[0] for each in lines}]


def running(cli: Cli) -> set[Path]:
    return {Path(f"/proc/{pid}") for pid in qemus(cli.home)}
