"""Lab files: checked, settled, compiled to all that machines are given, planned, and shown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

from fuzz import clock, lab_values, mutate
from fuzz.said import REPO, instead, printed, printed_json
from nestlab.base.errors import LabError
from nestlab.cli import consent, lab_work
from nestlab.cli.consent import Consent
from nestlab.engines.pve import hardware
from nestlab.engines.qemu.argv import Launch, argv
from nestlab.home.directories import Home
from nestlab.home.paths import Place
from nestlab.home.targets import Which
from nestlab.images import cloud_init
from nestlab.images.image_files import keys_of
from nestlab.lab import addresses
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, settle
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json
from nestlab.lab.model import Image, Lab
from nestlab.lab.places import Pve
from nestlab.labfile import check, parse_text, render
from nestlab.labfile.fields import RECORDS
from nestlab.network import network_script
from nestlab.show import addresses as address_lists
from nestlab.show import graph
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import machine_setup
from nestlab.verbs.site import Site

ENVIRONMENT = {"X": "wire", "EMPTY": "", "DEEP": "${X}", "YAML": "{a: [1", "LONG": "x" * 3000, "TOKEN": "s3cret"}

MAC = "52:54:00:00:00:01"

VALUES = (
    *(
        "tiny",
        "debian",
        "kvm",
        "wire",
        "local",
        "pve://h",
        "4G",
        "128M",
        "0",
        "-1",
        "1e400",
        ".inf",
        ".nan",
        "0x10",
        "1_000",
    ),
    *(
        "10.77.0.0/24",
        "0.0.0.0/0",
        "10.77.0.0/33",
        "fd77::/64",
        "::/0",
        "52:54:00:aa:bb:cc",
        "~",
        "null",
        "yes",
        "true",
    ),
    *(
        "[wire]",
        "{wire: 10.77.0.11}",
        "{wire: {mac: '52:54:00:aa:bb:cc'}}",
        "[]",
        "{}",
        "*node",
        "&node {}",
        "*nothing",
    ),
    *("{file: ./disk.qcow2}", "{file: disk.raw, cloud_init: {users: [root]}}", "{from: debian, packages: [curl]}"),
    *("{from: debian, script: 'touch /x', files: {/etc/motd: x}}", "{from: debian, suite: bookworm, kernel: generic}"),
    *("${X}", "${EMPTY}", "${DEEP}", "${YAML}", "${LONG}", "${NONE}", "${NONE:-y}", "${A:-${B:-${C:-z}}}", "$$", "${"),
    *("!!str 5", "!!binary aGk=", "!x y", "| \n  text", ">-\n  folded", "'", '"', '"\\ud800"', '"\\x1b[2J"', '"\\0"'),
    *("2001-01-01", "0o777", "0b1", "1:30", "<<", "=", "{? [a] : b}", "{<<: *node}", "{<<: [*node, *node]}"),
    *(
        "folder",
        "pipe",
        "common.yaml",
        "loop.yaml",
        "../../up.yaml",
        "/dev/zero",
        "~nobody/x",
        "[common.yaml, loop.yaml]",
    ),
)
GOOD: dict[str, Sequence[str]] = {
    "machines": ("{a: {image: tiny}}", "*node",
                 "{a: {hypervisor: kvm, machines: {b: {image: tiny, segments: [wire]}}}}"),
    "memory": ("64M", "128M", "1G", "300G", "1024M"),
    "segments": ("[wire]", "{wire: 10.77.0.11}", "{wire: {address6: 'fd77::11'}}", "",
                 "{wire: {mac: '52:54:00:aa:bb:cc'}}"),
    "image": ("tiny", "debian", "{file: disk.raw}",
              "{file: ./disk.qcow2, user: admin, cloud_init: {runcmd: [ls]}}",
              "{from: debian, packages: [curl], files: {/etc/motd: 'x\x1b[2J'}}", "{from: tiny}"),
    "setup": ("[ls]", "{files: {/a: b, /c: {text: x, mode: '0600'}}, commands: [a, b]}",
              "{files: {/a: {source: common.yaml}}}"),
    "ssh_keys": ("[]", "['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@here']"),
    "cmdline": ("quiet", "'a=\"b c\" --'", "console=ttyS0"),
    "include": ("common.yaml", "[common.yaml, common.yaml]"),
    "defaults": ("{cpus: 2}", "{memory: 2G, internet: true}", ""),
    **lab_values.NAMED,
}  # fmt: skip
"""What is mostly right, by key; of other keys the table's own example is."""

USUAL = ("memory", "image", "setup", "ssh_keys", "cmdline", "cpus", "internet", "accel", "disk")

NAMES = (
    *("hv1", "web", "wire", "a", "A", "x" * 64, "localhost", "1", "-", "é", "true", "hv1/web", "", "..", "0"),
    *lab_values.NAMES,
)


class Fuzzed:
    """See `fuzz.target.Target`. A case is the text of a lab file."""

    def __init__(self) -> None:
        self._seeds = [path.read_text() for path in sorted((REPO / "examples").glob("*.yaml"))]
        self._seeds += [text for record in RECORDS.values() if (text := record.example)]
        fields = [field for record in RECORDS.values() for field in record.fields]
        self._keys = [field.name for field in fields]
        self._good = {**{field.name: (field.example or "true",) for field in fields}, **GOOD}
        self._loop = clock.Runner()
        self._before = dict(os.environ)
        os.environ.clear()
        os.environ.update(ENVIRONMENT)

    def close(self) -> None:
        self._loop.close()
        os.environ.clear()
        os.environ.update(self._before)

    # -- making

    def make(self, rng: Random) -> bytes:
        seed = rng.choice(self._seeds)
        return mutate.one_of(
            rng,
            (5.0, lambda: self._changed(rng, seed).encode(errors="surrogatepass")),
            (3.0, lambda: self._made(rng).encode(errors="surrogatepass")),
            (1.5, lambda: mutate.lines(rng, seed, self._lines(rng)).encode(errors="surrogatepass")),
            (1.0, lambda: mutate.octets(rng, seed.encode())),
            (0.1, lambda: self._flood(rng).encode()),
        )

    def _changed(self, rng: Random, text: str) -> str:
        """Another value for some keys, and lines put in where they may stand."""
        lines = text.split("\n")
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(lines))
            key, colon, _value = lines[at].partition(":")
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            deed = rng.randrange(4)
            if deed == 0 and colon:
                lines[at] = f"{key}: {self._value(rng, key.strip())}"
            elif deed == 1:
                lines.insert(at, f"{indent}{(new := rng.choice(self._keys))}: {self._value(rng, new)}")
            elif deed == 2 and colon:
                lines[at] = f"{indent}{rng.choice((*NAMES, *self._keys))}:{_value}"
            else:
                lines[at] = mutate.inside(rng, lines[at])
        return "\n".join(lines)

    def _value(self, rng: Random, key: str = "") -> str:
        if key in self._good and rng.random() < 0.75:
            return rng.choice(self._good[key])
        return rng.choice(VALUES) if rng.random() < 0.85 else rng.choice(mutate.TEXTS)

    def _lines(self, rng: Random) -> list[str]:
        return [f"{' ' * rng.choice((0, 2, 4))}{key}: {self._value(rng, key)}" for key in self._keys]

    def _made(self, rng: Random) -> str:
        """A lab from nothing, of which most is right."""
        segments = rng.sample(("wire", "back", "a", "net-1"), rng.choice((0, 1, 1, 2)))
        rows = [f"lab: {rng.choice(('x', 'pair', 'a-b', 'x' * 30))}"]
        if rng.random() < 0.15:
            rows.append(f"on: {rng.choice(('local', 'pve://h', 'pve://root@pam!lab@h:8007/node', self._value(rng)))}")
        if segments:
            rows.append("segments:")
            rows += [
                f"  {name}: {rng.choice(('', '{mtu: 9000}', '{cidr: 10.9.0.0/24}', '{cidr6: fd00::/64}'))}"
                for name in segments
            ]
        rows.append("machines:")
        rows += self._machines(rng, "  ", segments, 0)
        text = "\n".join(rows) + "\n"
        return self._changed(rng, text) if rng.random() < 0.5 else text

    def _machines(self, rng: Random, indent: str, segments: list[str], depth: int) -> list[str]:
        rows: list[str] = []
        for number in range(rng.choice((1, 1, 2, 3))):
            rows.append(f"{indent}{rng.choice('abcdefgh')}{number}:")
            inner = f"{indent}  "
            rows += [f"{inner}segments: [{', '.join(segments)}]"] if segments and rng.random() < 0.7 else []
            keys = rng.sample(USUAL if rng.random() < 0.8 else self._keys, rng.choice((0, 1, 2, 4)))
            rows += [
                f"{inner}{key}: {self._value(rng, key)}"
                for key in keys
                if key not in ("machines", "hypervisor", "segments")
            ]
            if depth < 3 and rng.random() < 0.4:
                rows += [f"{inner}hypervisor: kvm", f"{inner}machines:"]
                rows += self._machines(rng, f"{inner}  ", segments, depth + 1)
            elif not keys:
                rows.append(f"{inner}image: tiny")
        return rows

    def _flood(self, rng: Random) -> str:
        """Little text that means much."""
        size = rng.choice((8, 12, 30))
        ways = (
            "a: &a [x]\n"
            + "".join(
                f"k{at}: &k{at} [*{'a' if not at else f'k{at - 1}'}, *{'a' if not at else f'k{at - 1}'}]\n"
                for at in range(size)
            ),
            "lab: x\nmachines: " + "{a: {machines: " * (size * 60) + "}" * (size * 120),
            "lab: " + "${A:-" * (size * 300) + "x" + "}" * (size * 300),
            "lab: x\nmachines:\n" + "".join(f"  m{at}: {{image: tiny}}\n" for at in range(size * 40)),
            "[" * (size * 500),
            "- " * (size * 500),
            "lab: x\nsegments:\n"
            + "".join(f"  s{at}:\n" for at in range(size * 20))
            + "machines: {a: {segments: [s1]}}\n",
            "&a " * (size * 100) + "x",
            "lab: '" + "${X}" * (size * 300) + "'",
            "? " * (size * 300),
        )
        return rng.choice(ways)

    # -- running

    def run(self, case: bytes, place: Path) -> str:
        file = place / "lab.yaml"
        file.write_bytes(case)
        (place / "common.yaml").write_text("segments: {common: }\ndefaults: {cpus: 2}\n")
        (place / "loop.yaml").write_text("include: lab.yaml\n")
        (place / "disk.raw").write_bytes(bytes(1024))
        (place / "disk.qcow2").write_bytes(
            b"QFI\xfb\0\0\0\3".ljust(24, b"\0") + (1 << 20).to_bytes(8, "big") + bytes(480)
        )
        (place / "folder").mkdir()
        os.mkfifo(place / "pipe")
        before = sorted(place.rglob("*"))
        lab, _ = check(file, environ=ENVIRONMENT, memory=8 << 30)
        self._settled(lab)
        assert sorted(place.rglob("*")) == before
        return self._planned(file, place)

    def _settled(self, lab: Lab) -> None:
        """What would be given to machines, and what tells of them."""
        images: list[Image] = [placed.machine.image for placed in lab.walk()]
        leases = addresses.lease(lab, Leases(), ["192.168.0.0/16"])
        again = addresses.leases_from_json(addresses.leases_to_json(leases))
        assert addresses.lease(lab, again, ["192.168.0.0/16"]) == leases
        blueprint = settle(lab, leases, keys_of([*images, PROBE]), machine_setup.contents(lab))
        assert blueprint_from_json(blueprint_to_json(blueprint)) == blueprint
        assert parse_text(render(lab), environ={}) == lab
        graph.mermaid(graph.of_lab(lab))
        graph.dot(graph.of_blueprint(blueprint))
        address_lists.etc_hosts(blueprint)
        _compiled(blueprint)

    def _planned(self, file: Path, place: Path) -> str:
        """What `plan` prints, for people and for programs."""
        world = FakeWorld()
        site = Site(
            Home(place / "state", place / "cache"), world.host, world.engine, {"kvm": world.engine}, needs=lambda: ()
        )
        instead(lab_work, site=lambda: site, home=lambda: site.home)
        instead(consent, home=lambda: site.home)
        printed(lambda: self._loop.run(_plan(file, as_json=False)))
        printed_json(lambda: self._loop.run(_plan(file, as_json=True)))
        assert world.open == 0
        assert not world.done
        return "planned"


async def _plan(file: Path, *, as_json: bool) -> None:
    await lab_work.show_plan(Which(file=file), [], as_json=as_json, consent=Consent())


def _compiled(blueprint: Blueprint) -> None:
    """The texts and command lines that machines are started with."""
    place = Place("/labs/x")
    for spec in blueprint.specs[:100]:
        for word in argv(Launch(blueprint.lab, spec, place.of(spec.path), "tcg", 20022, MAC, switch=place.switch)):
            if "\0" in word or "\n" in word:
                raise AssertionError(f"a word of QEMU's command line is {word!r}")
        network_script.script(spec, management_mac=MAC)
        network_script.resolv_conf(spec)
        cloud_init.user_data(spec, "ssh-ed25519 AAAA\n", "private", "public")
        cloud_init.network_config(spec, MAC)
        cloud_init.meta_data(spec)
    if isinstance(blueprint.on, Pve):
        try:
            hardware.refused(blueprint, blueprint.on)
        except LabError:
            return
