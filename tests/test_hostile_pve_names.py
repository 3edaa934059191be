"""Whatever guests and their marks on a Proxmox VE are called, no verb passes on what acts on a terminal, and none takes
a guest of others for a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from command_line import Cli
from hostile_world import EVIL
from nestlab.engines.pve import tags
from nestlab.home.directories import Home
from nestlab.lab import addresses, blueprint_file
from nestlab.lab.blueprint import Leases, settle
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.world import Guest
from nestlab.verbs import session as verbs
from test_hostile_world import dangerous

LINE = "nestlab: "
COMMANDS = """
status one; status one --json; status one --deep; status one --deep --json; status one web; ls; ls --json
plan lab.yaml; plan lab.yaml --json; verify one; verify one --json; doctor one; doctor web; logs web
exec web -- true; cp web:/etc/hostname .; ssh-config one; inventory one; hosts one; env one; graph one
wait one --timeout 0.01; console web; screenshot web -o x.png; migrate web pve2; rename one two; rename two one
pve check ON; pve setup ON; images gc --on ON --yes; images ls; gc --yes; up lab.yaml --no-verify; stop web
recreate web --yes; down one --yes
"""


def evil_guests(fake: FakePve, lab: Path, home: Home) -> None:
    """One machine of the lab, renamed by hand; and guests of others in its pool, whose marks lie."""
    found, _ = verbs.read(lab, {})
    settled = settle(found, addresses.lease(found, Leases(), ()), dict.fromkeys([found.machines[0].image], "image-1"))
    blueprint_file.save(home.lab("one").blueprint, settled)
    mark = tags.Mark("one", "web", 100, "d", wanted="running")
    mine: dict[str, Any] = {"description": tags.line(mark), "tags": tags.tags("", mark), "name": f"one-web{EVIL}"}
    lies = [
        tags.line(tags.Mark("one", f"web{EVIL}", 101, "d")),
        tags.line(tags.Mark(f"one{EVIL}", "web", 102, "d")),
        tags.line(tags.Mark("one", "../web", 103, "d")),
        f"{LINE}{EVIL}",
        f"{EVIL}\n{LINE}[[[[",
        tags.line(tags.Mark("one", "web", 100, "d")),  # the mark of another number
    ]
    with fake.world.lock:
        fake.world.guests[100] = Guest(100, "pve1", "qemu", config=mine)
        for vmid, text in enumerate(lies, 101):
            config: dict[str, Any] = {"description": text, "name": f"other{EVIL}", "tags": f"nestlab;{EVIL}"}
            fake.world.guests[vmid] = Guest(vmid, "pve2", "qemu", config=config, running=True)


def test_no_name_there_acts_on_a_terminal_or_adds_a_line_in_any_verb(
    fake: FakePve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    on = f"pve://127.0.0.1:{fake.port}"
    file = tmp_path / "lab.yaml"
    file.write_text(f"lab: one\non: {on}\nmachines:\n  web: {{image: debian}}\n")
    evil_guests(fake, file, Home(tmp_path / "state", tmp_path / "cache"))
    name, secret = fake.token
    env = {"NESTLAB_PVE_HOST": f"127.0.0.1:{fake.port}", "NESTLAB_PVE_TOKEN": f"{name}={secret}"}
    env |= {"NESTLAB_PVE_FINGERPRINT": fake.fingerprint, "NESTLAB_CACHE": str(tmp_path / "cache")}
    env |= {"NESTLAB_PATIENCE": "0.1"}
    cli = Cli(tmp_path / "state", env)
    told = []
    for words in COMMANDS.replace("ON", on).replace("\n", ";").split(";"):
        if not words.strip():
            continue
        said = cli(*words.split(), status=None)
        assert said.status in (0, 2, 255), (words, said.text[-3000:])
        assert [ascii(line[:300]) for line in dangerous(said.text)] == [], words
        assert [line for line in said.text.split("\n") if line.startswith("INJECTED")] == [], words
        assert "Traceback" not in said.text, words
        told.append(said.text)
    assert "web   died" in told[0], "the machine is seen, whatever is beside it"
    assert "one: nothing of it is left" in told[-1]
    with fake.world.lock:
        assert {vmid: guest.running for vmid, guest in fake.world.guests.items() if vmid in range(101, 107)} == (
            dict.fromkeys(range(101, 107), True)
        ), "guests of others"
