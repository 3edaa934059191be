"""A disk of somebody's own, with its own boot loader and cloud-init: nestlab's seed makes it a machine of the lab. The
same disk, packed and on a server, as another machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from command_line import Cli
from own_disk import SENTENCE, build, cd
from url_server import serving
from waiting import VERY_LONG

pytestmark = [
    pytest.mark.guest,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="builds a disk, as root"),
]

LAB = """
lab: own
images:
  mine: {{file: {disk}, user: admin}}
  cd: {{file: {cd}}}
  away: {{url: {url}, sha256: {digits}, user: admin}}
segments: {{wire: {{cidr: 10.79.0.0/24}}}}
machines:
  mine: {{image: mine, memory: 768M, segments: [wire]}}
  tiny: {{image: tiny, memory: 128M, segments: [wire]}}
  disc: {{image: cd, memory: 256M}}
  away: {{image: away, memory: 768M, segments: [wire]}}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder:
        disk = build(Path(folder))
        before, disc = disk.stat().st_mtime_ns, cd(Path(folder))
        subprocess.run(["zstd", "-q", "-1", str(disk)], check=True)
        packed = Path(f"{disk}.zst").read_bytes()
        with leaks.world(Path(folder)), serving() as served:
            cli, url = Cli(Path(folder)), served.put("/own.raw.zst", packed)
            digits = hashlib.sha256(packed).hexdigest()
            cli("up", cli.file(LAB.format(disk=disk, cd=disc, url=url, digits=digits)), "--no-verify")
            yield cli
            cli("down", "own", "--yes")
            cli("images", "rm", "own.raw.zst")
        assert disk.stat().st_mtime_ns == before, "a disk of the user's is never written to"


def test_a_login_right_after_it_is_up_is_not_cut_off(cli: Cli) -> None:
    """Whatever cloud-init is still at: it does not restart sshd."""
    for name in ("mine", "away"):
        cli("exec", name, "--", "sh", "-c", "cloud-init status --wait; :")
        began = cli.plain("exec", name, "--", "sudo", "-n", "journalctl", "-b", "-u", "ssh", "-o", "cat")
        assert began.count("Server listening on 0.0.0.0") == 1, began


def test_it_is_reached_by_its_user_with_the_labs_key_and_host_key(cli: Cli) -> None:
    proofs = json.loads(cli("verify", "own", "--json", status=None).text)["proofs"]
    assert {each["claim"] for each in proofs if each["path"] == "mine" and each["ok"]} == {"reachable", "segment wire"}
    assert cli("exec", "mine", "--", "id", "-un").text.strip() == "admin"
    assert cli("exec", "mine", "--", "sudo", "-n", "id", "-u").text.strip() == "0"


def test_one_that_was_downloaded_is_as_good(cli: Cli) -> None:
    assert cli("exec", "away", "--", "hostname").text.strip() == "away"
    assert cli("exec", "away", "--", "id", "-un").text.strip() == "admin"
    assert cli("exec", "away", "--", "getent", "hosts", "mine").text.strip()


def test_it_has_its_name_its_addresses_and_the_names_of_the_others(cli: Cli) -> None:
    assert cli("exec", "mine", "--", "hostname").text.strip() == "mine"
    assert "10.79.0." in cli("exec", "mine", "--", "ip", "-4", "addr", "show", "lab0").text
    assert cli("exec", "mine", "--", "getent", "hosts", "tiny").text.strip()
    cli("exec", "tiny", "--", "ping", "-c1", "mine")


def test_nobody_gets_in_with_a_password(cli: Cli) -> None:
    shadow = cli("exec", "mine", "--", "sudo", "-n", "cat", "/etc/shadow").text
    assert all(line.split(":")[1].startswith(("!", "*")) for line in shadow.splitlines() if line)
    assert "passwordauthentication no" in cli("exec", "mine", "--", "sudo", "-n", "sshd", "-T").text


def test_what_was_written_is_there_after_a_stop(cli: Cli) -> None:
    cli("exec", "mine", "--", "sh", "-c", "echo kept >note && sync")
    cli("stop", "own", "mine")
    assert cli.states("own")["mine"] == "stopped"
    cli("start", "own", "mine")
    assert cli("exec", "mine", "--", "cat", "note").text.strip() == "kept"


def test_a_cd_boots_and_says_so_on_the_console(cli: Cli) -> None:
    deadline = time.monotonic() + VERY_LONG
    while SENTENCE not in said(cli) and time.monotonic() < deadline:
        time.sleep(1)
    assert SENTENCE in said(cli)
    assert cli.states("own")["disc"] == "running"


def said(cli: Cli) -> str:
    """The console without what moves its cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", cli("logs", "disc").text)
