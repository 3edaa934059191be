"""nestlab in a world in which every machine, host, answer and file says what would act on a terminal: a program that
runs many commands, one after the other. `python hostile_world.py FOLDER`; after each command it prints a line with its
words and its exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from nestlab.base.errors import Refused
from nestlab.base.events import Say
from nestlab.cli import _main, streams
from nestlab.engines import Sshd
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Result
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB
from nestlab.plan.steps import Seen, Step
from nestlab.testing import fake_engine
from nestlab.testing.fake_engine import FakeEngine, FakeWorld
from nestlab.testing.fake_machine import FakeMachine
from nestlab.verbs import local
from nestlab.verbs.site import Site

EVIL = (
    "\x1b]0;title\x07\x1b]52;c;cm0gLXJm\x07\x1b]8;;http://evil.example\x1b\\\x1b[6n\x1b[35m\x1bP$q\x1b\\\x08\x7f\x00"
    "\x9b31m\x9d0;t\x9c\u202e\u2066\u061c\u200f\u200b\u2060\ufeff\U000e0041\U000e0101\u2028[red][link=x]y[/link]"
    "\nINJECTED: all claims hold\rINJECTED"
)
LONG = "x" * 200_000

LAB = """
lab: pair
segments: {wire: }
machines:
  hv1:
    hypervisor: kvm
    memory: 1G
    segments: [wire]
    machines:
      web: {image: tiny, memory: 128M, segments: [wire]}
  hv2: {hypervisor: kvm, memory: 1G, segments: [wire]}
"""

COMMANDS: Sequence[Sequence[str]] = (
    ("status", "pair", "--deep"),
    ("status", "pair", "--deep", "--json"),
    ("status", "--deep"),
    ("ls",),
    ("plan", "pair.yaml"),
    ("plan", "pair.yaml", "--json"),
    ("up", "pair.yaml"),
    ("up", "pair.yaml", "--json"),
    ("verify", "pair"),
    ("verify", "pair", "--json"),
    ("wait", "pair", "--for", "proofs", "--timeout", "0.01"),
    ("wait", "hv1", "--timeout", "0.01", "--json"),
    ("exec", "hv1,hv2", "--json", "--", "x"),
    ("doctor", "pair"),
    ("doctor", "pair", "--json"),
    ("doctor", "hv1"),
    ("doctor", "hv1", "--facts"),
    ("logs", "hv1"),
    ("logs", "hv1", "--list"),
    ("ssh-config", "pair"),
    ("ssh-config", "pair", "--json"),
    ("inventory", "pair"),
    ("inventory", "pair", "--list"),
    ("hosts", "pair", "--table"),
    ("env", "pair"),
    ("graph", "pair"),
    ("graph", "evil.yaml", "--format", "dot"),
    ("graph", "evil.yaml"),
    ("console", "hv1"),
    ("screenshot", "hv1", "-o", "x.png"),
    ("type", "hv1", f"x{EVIL[:30]}"),
    ("keys", "hv1", f"a-{EVIL[:30]}"),
    ("unforward", "hv1"),
    ("forward", "hv1", f"8{EVIL[:9]}"),
    ("capture", "hv1", "wire", "-o", "x.pcap", "--seconds", "0.1"),
    ("cp", "hv1:/etc/x", "."),
    ("cp", f"{EVIL[:40]}", "hv1:/"),
    ("stop", "hv2"),
    ("start", "hv2"),
    ("restart", "hv2"),
    ("recreate", "hv2", "--yes"),
    ("rename", "pair", "other"),
    ("migrate", "hv1", f"node{EVIL[:30]}"),
    ("validate", "evil.yaml"),
    ("validate", "broken.yaml"),
    ("validate", "broken.yaml", "--json"),
    ("validate", "nested.yaml"),
    ("plan", "broken.yaml"),
    ("explain", "evil.log"),
    ("explain", "evil.log", "--json"),
    ("explain", f"KVM: {EVIL[:30]}"),
    ("init", "--from", f"x{EVIL[:20]}"),
    ("images", "ls"),
    ("images", "ls", "--json"),
    ("gc", "--yes"),
    ("pve", "check", f"pve://h{EVIL[:9]}"),
    ("pve", "setup", "pve://127.0.0.1:1"),
    ("schema",),
    (f"nosuch{EVIL[:20]}",),
    ("status", f"--nosuch{EVIL[:20]}"),
    ("status", f"lab{EVIL[:60]}"),
    ("--help",),
    ("down", "pair", "--yes"),
)


class Engine(FakeEngine):
    """Whatever it says has it in it."""

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> None:
        say(f"phase {EVIL}{LONG}")
        await super().perform(step, blueprint, say)

    async def sshds(self) -> tuple[Sshd, ...]:
        return tuple(
            replace(each, user=f"root{EVIL}") if each.path == "hv2" else each for each in await super().sshds()
        )


class World(FakeWorld):
    evil = False

    def engine(self, lab: str, parent: Any) -> Engine:
        return Engine(self, lab, parent.path)

    def directly_in(self, lab: str, parent: str) -> Mapping[str, Seen]:
        seen = super().directly_in(lab, parent)
        return {path: replace(each, why=EVIL, node=EVIL) for path, each in seen.items()} if self.evil else seen

    def do(self, lab: str, step: Step, blueprint: Blueprint) -> None:
        if self.evil and step.path == "hv2":
            raise Refused(f"It refuses {EVIL}.", hint=f"Do {EVIL}.", detail=f"{EVIL}\n{LONG}")
        super().do(lab, step, blueprint)


def answer(path: str, argv: Sequence[str]) -> Result:
    return Result(tuple(argv), 1, f"{EVIL}\n{EVIL}\n".encode(), f"{EVIL}{LONG}\n".encode())


def run(words: Sequence[str]) -> int | str | None:
    before = sys.argv
    sys.argv = ["nestlab", *words]
    try:
        _main(list(words))
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before
    return 0


def prepare(folder: Path) -> World:
    """A lab that is up, files that are read, and then all is spoilt."""
    os.environ |= {"NESTLAB_HOME": str(folder / "s"), "NESTLAB_CACHE": str(folder / "c"), "HOME": str(folder)}
    os.chdir(folder)
    world = World(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))

    def site(home: Home, *, consent: Callable[[str], bool] | None = None) -> Site:
        return Site(home, world.host, world.engine, {"kvm": world.engine}, needs=lambda: ())

    local.site = site
    Path("pair.yaml").write_text(LAB)
    Path("evil.yaml").write_bytes(LAB.replace("lab: pair", f'lab: "x" # {EVIL}').encode(errors="surrogateescape"))
    odd = f"'a\u202e\u200b{LONG[:300]}': {{memory: '1\u2066\x9b'}}"
    Path("broken.yaml").write_text(f"lab: x\nmachines:\n  {odd}\n# \u202e\nfoo: [")
    machines = r'{"h\u202e\e[35m": {image: "i\e\u2066"}}'
    Path("nested.yaml").write_text(r'lab: "x\e]0;t\a\u202e"' + f"\nmachines: {machines}\n")
    lines = f"KVM: disabled by bios {EVIL}", f"qemu: {LONG} could not open {EVIL} no space left on device"
    Path("evil.log").write_text("\n".join(lines))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert run(("up", "pair.yaml", "--no-verify")) in (0, None)
    evil = folder / "s" / "labs" / "pair" / "m" / "hv1"
    evil.mkdir(parents=True, exist_ok=True)
    (evil / "console.log").write_text(f"{EVIL}\n{LONG}\n")
    world.evil, world.answer = True, answer
    world.facts = replace(world.facts, distribution=EVIL, kernel=EVIL, model=EVIL)
    world.machines["pair", "hv1/web"].state = "died"
    world.machines["pair", "hv2"].digest = EVIL
    world.machines["pair", f"stray{EVIL}"] = FakeMachine("d", "n", "running")
    return world


def main() -> None:
    prepare(Path(sys.argv[1]))
    streams.settle()
    for words in COMMANDS:
        status = run(words)
        sys.stdout.flush()
        sys.stderr.flush()
        print(f"#### {words[0]} {words[1:2]} {status}", flush=True)


if __name__ == "__main__":
    assert fake_engine
    main()
