"""What a machine's scripts print, a hostile one's: its machines, facts, speed, stamps, and answers to proofs.

Whatever it says, it says of what is inside it alone: that is looked at as well, and that nothing is removed elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import blueprints
from fuzz import clock, mutate
from fuzz.said import REPO, instead, printed
from fuzz.target import Broken
from nestlab.base.paint import PLAIN
from nestlab.base.proofs import Proof
from nestlab.doctor.examine import examine
from nestlab.engines.qemu import quick_status
from nestlab.engines.qemu.scripts import CUT
from nestlab.home import last_seen
from nestlab.home.directories import Home
from nestlab.home.paths import Place
from nestlab.hosts import copy, gather_facts, speed, starvation
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host, Result
from nestlab.lab.model import within
from nestlab.plan import planner
from nestlab.plan.steps import Observed, Remove
from nestlab.show import machine_table, render
from nestlab.testing.fake_engine import FakeEngine, FakeHost, FakeWorld
from nestlab.testing.fake_machine import FakeMachine
from nestlab.verbs import local, machine_setup
from nestlab.verbs.nest import Nest
from nestlab.verbs.verify import verify
from nestlab.wire import qga

LAB = blueprints.pair()
NOW = 1_800_000_000.0

STAT = "77 (qemu-system-x86) S 1 77 77 0 -1 4194560 9 0 0 0 {} 55 0 0 20 0 4 0 {} 1000000 500"
LOOK = [
    "U 1000.55 2000.1",
    "M 0a1b2c3d",
    'W {"path":"hv1/web"}',
    'S {"path":"hv1/web","digest":"d","names":"n","root":"r","disk":0}',
    'B {"port":20022,"accel":"tcg","user":"root","tells":true,"asked":true}',
    f"P {STAT.format(3, 5000)}",
    "R 1000 500 3 4",
    "O",
    "M ffff0000",
    'S {"path":"hv1/deep","digest":"e","names":"m"}',
    'B {"port":20023,"accel":"kvm"}',
    "Y [    1.0] Kernel panic - not syncing: Attempted to kill init!",
    "Y [    2.0] reboot: System halted",
    "M half",
    "X",
]
PATHS = ("victim", "hv2", "hv1", "", "?", "hv1/?", "../..", "hv1/../hv2", "/etc", "hv1/web/x", "hv1/WEB", "hv1/a b",
         "hv1//web",
         "hv1/\x1b[2J", "hv1/é", "hv1/" + "x" * 300, "hv1/?..", "hv1/?*", "hv1/?a/../../..")  # fmt: skip

MARK = gather_facts.MARK
CPU = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A CPU\nflags\t\t: fpu vme lm vmx ept hypervisor\n\n"
FACTS = (
    f"{MARK}/proc/cpuinfo\n{CPU}\n{MARK}/proc/meminfo\nMemTotal: 1000000 kB\nMemAvailable: 900000 kB\n"
    f"{MARK}/proc/net/route\nIface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    f"eth0\t00024D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    f"{MARK}/proc/net/ipv6_route\n"
    f"fd770000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 "
    f"00000100 00000001 00000000 00000001 eth0\n"
    f"{MARK}module\nkvm_intel\n{MARK}/sys/module/kvm_intel/parameters/nested\nY\n{MARK}arch\nx86_64\n"
    f"{MARK}user\nroot\n{MARK}uid\n0\n"
    f"{MARK}clock\n1800000000\n{MARK}kvm\nopened\n",
    f"{MARK}/proc/cpuinfo\n{CPU}\n{MARK}kvm\nstatus=0\nopened=1\napi=12\nvmx=1\nran=exit 5 1 2 3 4 5\n",
    f"{MARK}kvm\nstatus=0\nran=io 4 244 1\nkilled=1\nerror=no\n",
)
DOCTOR = "".join(
    f"\nm-1 {name}\n{content}"
    for name, content in {
        "read": "/proc/cmdline:root=/dev/vda kvm_intel.nested=1\n/proc/meminfo:MemTotal: 1000 kB\n"
        "/proc/meminfo:SwapTotal: 5 kB\n"
        "/sys/class/dmi/id/sys_vendor:QEMU\n/sys/kernel/security/lockdown:none [integrity]\n/sys/kernel/mm/ksm/run:1\n",
        "marks": "/dev/net/tun /run/systemd/container\n",
        "id": "uid=0(root) gid=0(root) groups=0(root),27(sudo)\n",
        "modules": "kvm loaded 1 kvm_intel\nkvm_intel loaded 4\nmsr builtin -\nscanned\n",
        "available": "/lib/modules/6/modules.dep:kernel/arch/x86/kvm/kvm-intel.ko\n",
        "device": "660 root kvm a e8\n",
        "disk": "/ 1000 500\n/var/lib 10 5\n",
        "iommu": "3\n",
        "mounts": "overlay / overlay rw,lowerdir=/docker/x 0 0\n",
        "msr": "58 05 00 00 00 00 00 00 00\n3221291284 00 01 00 00 00 00 00 00\n",
        "kvm": "opened\n",
        "cpu": CPU,
        "clock": "1800000000\n",
        "holder 77": "kvm\n/usr/bin/kvm\0-id\x00100\0-name\0web,x=y\0",
        "packages": "installed linux-image-6.1 6.1.1\ninstalled pve-manager 9.1\n",
        "changelog": "is linux 6.1\nCVE-2021-3653\nCVE-0-0\n",
        "messages": "kvm: disabled by bios\n",
        "file /etc/modprobe.d/kvm.conf": "options kvm_intel nested=1 # x\ninstall kvm /bin/false\nblacklist kvm_amd\n",
        "file /etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet kvm.ignore_msrs=1"\n',
        "tools": "modprobe update-grub\n",
        "denied": "/etc/modprobe.d\n",
        "container": "container=lxc\n",
        "qemu": "QEMU emulator version 10.0.2\n",
        "probe": "",
        "end": "",
    }.items()
)
DOCTOR = f"nestlab facts m-1\n{DOCTOR}"
VERIFY = "\n".join(LOOK[:8]) + f"\n{CUT}\ny 10.77.0.1\narch x86_64\nflag vmx\nmodule kvm_intel Y\nkvm\nn fd77::1\n"
PRESSURE = (
    "cpu some avg10=0.00 avg60=99.00 avg300=0 total=5\nmemory some avg60=1\n"
    "cpu  1 2 3 4 5 6 7 8 9 10\nload 9.5 1 1\ncpus 2\n"
)

ASKS: Mapping[str, tuple[str, ...]] = {
    "observe": ("\n".join(LOOK),),
    "facts": FACTS,
    "doctor": (DOCTOR,),
    "verify": (VERIFY,),
    "speed": ("speed 4000 10\n",),
    "stamps": ("a1b2 c3d4\ne5f6\n",),
    "size": ("d 1000\n", "f 12345\n"),
    "strain": (PRESSURE,),
}
WEIGHTS = (12, 5, 5, 3, 1, 1, 1, 1)


class Fuzzed:
    """See `fuzz.target.Target`. A case is a line with what is asked, and what the machine prints."""

    def __init__(self) -> None:
        self._loop = clock.Runner()
        probes = [json.loads(path.read_text()) for path in sorted((REPO / "tests/facts").glob("*.json"))]
        self._probes = [{"arch": "x86_64", **each} for each in probes]

    def close(self) -> None:
        self._loop.close()

    # -- making

    def make(self, rng: Random) -> bytes:
        asked = rng.choices(list(ASKS), WEIGHTS)[0]
        if asked == "observe":
            text = self._look(rng)
        elif asked in ("facts", "doctor") and rng.random() < 0.4:
            said = mutate.json_text(rng, mutate.tree(rng, rng.choice(self._probes)))
            text = said if asked == "facts" else DOCTOR.replace("m-1 probe\n", f"m-1 probe\n{said}\n")
        else:
            text = rng.choice(ASKS[asked])
        deed = rng.random()
        if deed < 0.5:
            text = mutate.lines(
                rng, text, LOOK if asked == "observe" else [*VERIFY.split("\n"), f"{MARK}kvm", "m-1 end"]
            )
        data = text.encode(errors="surrogatepass")
        if deed > 0.7:
            data = mutate.octets(rng, data, (b"M x\n", MARK.encode(), b"\nm-1 ", b'{"path":"x"}'))
        if deed > 0.99:
            data = data * 2000
        return f"{asked}\n".encode() + data

    def _look(self, rng: Random) -> str:
        """A list of machines in which single words are others."""
        rows = list(LOOK)
        for at in rng.sample(range(len(rows)), rng.choice((0, 1, 2, 3))):
            mark, _, rest = rows[at].partition(" ")
            if mark in "WSB" and rest:
                told = mutate.tree(rng, json.loads(rest), ("path", "port", "accel", "tells", "disk", "root"))
                if isinstance(told, dict) and rng.random() < 0.5:
                    told["path"] = rng.choice(PATHS)
                rows[at] = f"{mark} {mutate.json_text(rng, told)}"
            elif mark == "M":
                rows[at] = f"M {rng.choice((*PATHS, rest))}"
            elif mark == "P":
                rows[at] = f"P {STAT.format(rng.choice(mutate.NUMBERS), rng.choice(mutate.NUMBERS))}"
            else:
                rows[at] = f"{mark} {rng.choice((*map(str, mutate.NUMBERS), *mutate.TEXTS))}"
        return "\n".join(rows)

    # -- running

    def run(self, case: bytes, place: Path) -> str:
        asked, _, said = case.partition(b"\n")
        what = asked.decode(errors="replace")
        if what not in ASKS:
            return "nothing asked"
        os.environ["HOME"] = str(place)
        self._loop.run(getattr(self, f"_{what}")(said, place))
        return what

    async def _observe(self, said: bytes, place: Path) -> None:
        world = _Told(said)
        async with self._nest(world, place) as nest:
            found = await nest.observe()
            self._judged(found, place)
            for step in planner.plan(LAB, found, "gone", previous=LAB).steps:
                if isinstance(step, Remove) and step.machine.startswith("hv1/"):
                    await nest.perform(step, LAB, print)
        for argv in world.ran:
            if argv[2:4] and argv[3] == "remove" and not re.fullmatch(r"/[\w./-]+/m/\w{1,64}", argv[-1]):
                raise Broken("a directory is removed that is no machine's", repr(argv[-1]))
        self._quickly(said, place)

    def _judged(self, found: Observed, place: Path) -> None:
        """What is seen is of the right types, below who said it, and can be planned with, shown and kept."""
        for path, seen in found.machines.items():
            if path != seen.path or not (path in ("hv1", "hv2", "hv2/web") or within(path, "hv1")):
                raise Broken("a machine tells of what is not inside it", repr(path))
            typed = (
                str,
                str,
                str | None,
                str | None,
                str | None,
                int | None,
                float | int | None,
                int | None,
                bool,
                str,
            )
            told = (
                seen.path,
                seen.state,
                seen.digest,
                seen.names,
                seen.accel,
                seen.pid,
                seen.since,
                seen.memory,
                seen.ready,
                seen.why,
            )
            if any(not isinstance(value, kind) for value, kind in zip(told, typed, strict=True)):
                raise Broken("what is seen of a machine has wrong types", repr(told))
        if found.machines.get("hv1") is None or found.machines["hv1"].state != "running":
            raise Broken("a machine's report changed what is seen of itself")
        printed(lambda: _shown(found))
        home = Home(place / "state", place / "cache").lab("pair")
        last_seen.save(home, found.machines)
        last_seen.load(home)

    def _quickly(self, said: bytes, place: Path) -> None:
        """The same, as `status` asks for it: through the guest agent."""

        instead(qga, look=lambda *_, **__: Result((), 0, said, b""))
        home = Home(place / "state", place / "cache").lab("pair")
        looks = quick_status._inside(Place(str(home.root)), "pair", quick_status.guest_place("pair"), "hv1", 1.0)
        seen = {each.seen.path: each.seen for each in looks or ()}
        if any(not within(path, "hv1") or path == "hv1" for path in seen):
            raise Broken("a machine tells of what is not inside it", repr(list(seen)))
        printed(lambda: _shown(Observed(MappingProxyType(seen))))

    async def _facts(self, said: bytes, place: Path) -> None:
        host = _Host(_Told(said), "pair", "hv1")
        facts = await gather_facts.over_shell(host, 60)
        assert Facts.from_json(facts.to_json()) == facts

    async def _doctor(self, said: bytes, place: Path) -> None:
        from nestlab.doctor.finding import Want
        from nestlab.doctor.report import text, visit

        facts = await examine(_Host(_Told(said), "pair", "hv1"))
        assert Facts.from_json(facts.to_json()) == facts
        printed(lambda: print(text(visit("hv1", 1, facts, Want(role="hypervisor")), PLAIN)))

    async def _verify(self, said: bytes, place: Path) -> None:
        world = _Told(said)
        async with self._nest(world, place) as nest:
            verdict = await verify(nest, LAB, nest.observe, _no_proofs(), lambda _: None)
        printed(lambda: print(render.verdict(verdict)))
        json.dumps(verdict.data(), allow_nan=False)

    async def _speed(self, said: bytes, place: Path) -> None:
        assert await speed.measure(_Host(_Told(said), "pair", "hv1")) > 0

    async def _stamps(self, said: bytes, place: Path) -> None:
        await machine_setup.stamped(_Host(_Told(said), "pair", "hv1"))

    async def _size(self, said: bytes, place: Path) -> None:
        await copy.size_of(_Host(_Told(said), "pair", "hv1"), "file")

    async def _strain(self, said: bytes, place: Path) -> None:
        strain = starvation.parse(said.decode(errors="replace"))
        printed(lambda: print("\n".join(strain.causes())))

    @contextlib.asynccontextmanager
    async def _nest(self, world: _Told, place: Path) -> Any:
        home = Home(place / "state", place / "cache")
        inside = local.site(home).inside["kvm"]

        def on(lab: str, parent: Host) -> FakeEngine:
            return _Engine(world, lab, parent.path)

        async with Nest(LAB, world.host(), on, {"kvm": inside}, previous=LAB) as nest:
            yield nest


class _Told(FakeWorld):
    """A world in which a hypervisor runs, and every command there prints the same."""

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self.said = said
        self.ran: list[tuple[str, ...]] = []
        spec = LAB["hv1"]
        self.machines["pair", "hv1"] = FakeMachine(spec.digest, spec.names, "running")


class _Host(FakeHost):
    """The hypervisor."""

    world: _Told

    async def run(self, argv: Sequence[str], **rest: Any) -> Result:
        self.world.ran.append(tuple(argv))
        return Result(tuple(argv), 0, self.world.said if self.path else b"", b"")

    async def facts(self) -> Facts:
        return await gather_facts.over_shell(self, 60) if self.path else self.world.facts


class _Engine(FakeEngine):
    async def host(self, path: str) -> Host:
        return _Host(self.world, self.lab, path)


async def _no_proofs() -> tuple[Proof, ...]:
    return ()


def _shown(found: Observed) -> None:
    """All that is printed of what was seen, and of the plans that follow from it."""
    rows = machine_table.rows(LAB, found, NOW)
    print(machine_table.head("pair", rows), machine_table.table(rows), sep="\n")
    json.dumps(machine_table.data("pair", rows), allow_nan=False)
    for want in ("running", "stopped", "gone"):
        todo = planner.plan(LAB, found, want, previous=LAB)
        print(render.plan(todo, LAB))
        json.dumps(render.plan_data(todo, ()), allow_nan=False)
