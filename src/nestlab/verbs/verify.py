"""Proves a running lab, level by level: nothing is concluded from a flag that can be tried instead.

What is claimed of a hypervisor: its CPU shows vmx or svm; a vendor module offers nesting; /dev/kvm opens and offers
VMX or SVM to guests; and a 64-bit guest reached its userland there under KVM, which is one of its own machines, or a
`tiny` guest started for the proof. What is claimed of every machine: QEMU itself says how it runs, it can be reached,
and it reaches the others on its segments.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Event, Failed, Finished, Said, Say, Started
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.base.proofs import Proof, Verdict
from nestlab.hosts.host import Host
from nestlab.images.image_files import keys_of
from nestlab.lab.blueprint import PROBE, PROBE_NAME, Blueprint, Spec
from nestlab.lab.model import MIB, Machine, digest_of
from nestlab.plan import states
from nestlab.plan.steps import Boot, Create, Observed, Remove
from nestlab.verbs import node_identity, verify_clusters, verify_containers, verify_outside
from nestlab.verbs.nest import Aside, Asides, Nest
from nestlab.verbs.reachability import Pair, Pairs, Reached, pairs_of

PROBE_NETWORK = "192.0.2.0/24"
"""TEST-NET-1 (RFC 5737), which no route leads to: the probe's own link to its hypervisor."""

PATIENCE = 120.0
"""Nominal seconds for what a machine is asked: two rounds of echoes that stay unanswered take a fifth of it."""

SAID, SHOWN = 1 << 18, 60
"""Letters of a machine's answer that are read, and of one thing in it that is shown."""

ASK = r"""
hypervisor=$1; shift
ping=ping
if command -v busybox >/dev/null; then ping='busybox ping'
elif [ ! -w / ] && command -v sudo >/dev/null; then ping='sudo -n ping'  # where only root may
fi
call() {
  count=$1; shift; pids=
  for a in "$@"; do
    case $a in *:*) f=-6;; *) f=-4;; esac
    $ping $f -c "$count" -W 10 "$a" >/dev/null 2>&1 &
    pids="$pids $!/$a"
  done
}
hear() {
  failed=
  for each in $pids; do
    if wait "${each%%/*}"; then echo "y ${each#*/}"; else failed="$failed ${each#*/}"; fi
  done
}
call 1 "$@"
read -r arch 2>/dev/null </proc/sys/kernel/arch || arch=$(uname -m)
echo "arch $arch"
read -r _ root _ </proc/self/uid_map && echo "root $root"
while read -r k l; do
  [ "$k" = flags ] || continue
  case " $l " in *' vmx '*) echo 'flag vmx' ;; *' svm '*) echo 'flag svm' ;; esac
  break
done </proc/cpuinfo
if [ "$hypervisor" = yes ]; then
  for m in kvm_intel kvm_amd kvm_pvm; do
    [ -d "/sys/module/$m" ] || continue
    v=
    read -r v <"/sys/module/$m/parameters/nested"
    echo "module $m $v"
  done 2>/dev/null
  if [ ! -e /dev/kvm ]; then echo "kvm it is not there"
  elif { true <>/dev/kvm; } 2>/dev/null; then echo "kvm"
  else echo "kvm it cannot be opened"; fi
fi
hear
[ -z "$failed" ] || { ping=${ping#busybox }; call 2 $failed; hear; }
for a in $failed; do echo "n $a"; done
"""
"""Arguments: yes for a hypervisor; addresses. Prints y or n for each, and, while echoes are on their way, what the
machine is: its architecture, which user of its kernel its root is, vmx or svm if its CPU shows one; of a hypervisor,
its vendor module with the parameter `nested`, and why /dev/kvm cannot be opened. As few processes as can be, for they
start slowly in an emulated machine, and busybox where it is."""


@frozen
class _Machine:
    """What was seen of one machine."""

    spec: Spec
    accel: str = ""
    arch: str = ""
    root: str = ""
    """Which user of the kernel that it runs on its root is."""
    flag: str = ""
    """`vmx` or `svm`, if its CPU shows one."""
    module: str = ""
    nested: str = ""
    kvm: str = ""
    """Why its /dev/kvm does not open; "" when it does."""
    reached: Mapping[str, bool] = field(default_factory=dict)
    error: str = ""
    hint: str = "`nestlab up` brings it up"
    down: bool = False
    """It does not run."""
    said_by: str = "its kernel"
    """Who says what its CPU shows."""
    up: bool = True
    """Of one that nestlab does not log in to: it is up, by what its `ready:` names."""

    @property
    def userland(self) -> bool:
        """A 64-bit system answers in it."""
        return self.arch == "x86_64"


async def verify(
    nest: Nest,
    blueprint: Blueprint,
    look: Callable[[Asides], Awaitable[Observed]],
    platform: Awaitable[Sequence[Proof]],
    emit: Callable[[Event], None],
    down: frozenset[str] = frozenset(),
) -> Verdict:
    """The proofs of all machines of the blueprint, asked while the world is being looked at, of hypervisors in the
    same round trip (`look`). `platform`: what the lab's own level says of itself, and of machines on it. `down`:
    machines that do not run, which nobody waits for.

    A machine that does not run is a failed claim, not an error."""
    pairs = pairs_of(blueprint)
    showing = {spec.path: _Showing(spec, pairs[spec.path], emit) for spec in blueprint.specs}
    below = asyncio.ensure_future(platform)
    up = [spec for spec in blueprint.specs if spec.path not in down]
    asides = {spec.path: _aside(spec, pairs[spec.path], down) for spec in up if spec.machine.nests}
    looking = asyncio.ensure_future(look(asides))
    try:
        seen = await asyncio.gather(
            *(_look(nest, spec, pairs[spec.path], looking, asides.get(spec.path), down) for spec in blueprint.specs)
        )
        told = await below
    finally:
        looking.cancel()
        below.cancel()
    machines = {each.spec.path: each for each in seen}
    inner = await asyncio.gather(
        *(
            _proofs(nest, blueprint.lab, machines, spec, pairs[spec.path], showing[spec.path])
            for spec in blueprint.specs
        )
    )
    more = node_identity.prove(nest, blueprint.specs, down), verify_clusters.prove(nest, blueprint, down)
    told = [*told, *(proof for each in await asyncio.gather(*more) for proof in each)]
    proofs = [proof for proof in told if not proof.path]
    for spec, each in zip(blueprint.specs, inner, strict=True):
        proofs += [*each, *(proof for proof in told if proof.path == spec.path)]
    return Verdict(blueprint.lab, tuple(proofs))


class _Showing:
    """What is being proven of one machine, as a step of the progress shown."""

    def __init__(self, spec: Spec, pairs: Pairs, emit: Callable[[Event], None]) -> None:
        self._step, self._path, self._emit, self._began = f"prove:{spec.path}", spec.path, emit, time.monotonic()
        own = verify_containers.claims(spec) if spec.machine.container else ["reachable", "accelerated"]
        own = own if spec.machine.by_ssh else verify_outside.claims(spec)
        nests = ["cpu", "nested", "/dev/kvm", "cpuid", "guest"] if spec.machine.nests else []
        claims = [*own, *(f"segment {segment}" for segment in pairs), *nests]
        emit(Started(time.time(), self._step, spec.path, ", ".join(claims)))

    def say(self, text: str) -> None:
        self._emit(Said(time.time(), self._step, self._path, text))

    def done(self, proofs: Sequence[Proof]) -> None:
        failed = [proof.claim for proof in proofs if proof.ok is False]
        if failed:
            self._emit(Failed(time.time(), self._step, self._path, f"not proven: {', '.join(failed)}"))
        else:
            self._emit(Finished(time.time(), self._step, self._path, time.monotonic() - self._began))


async def _look(
    nest: Nest,
    spec: Spec,
    pairs: Pairs,
    looking: asyncio.Future[Observed],
    aside: Aside | None,
    down: frozenset[str],
) -> _Machine:
    if spec.path in down:
        there = (await asyncio.shield(looking)).machines.get(spec.path)
        if there is None or there.state != "running":
            return _Machine(spec, error=states.said(there), down=True)
    asking = asyncio.create_task(_ask(nest, spec, pairs, looking, aside, down))
    try:
        there = (await asyncio.shield(looking)).machines.get(spec.path)
        if there is None or there.state != "running":
            return _Machine(spec, error=states.said(there), down=True)
        accel = there.accel or await (await nest.engine(spec.parent)).accel(spec.path)
        machine = await asking
    except LabError as error:
        hint = f"it runs; `nestlab console {spec.path}` shows it, `nestlab stop {spec.path}` and `up` boot it again"
        hint = hint if isinstance(error, Unreachable) else error.hint
        return _Machine(spec, error=error.what, hint=hint)
    finally:
        asking.cancel()
        await asyncio.wait({asking})
    return replace(machine, accel=accel)


def _aside(spec: Spec, pairs: Pairs, down: frozenset[str]) -> Aside:
    return Aside(ASK, _words(spec, pairs, down), asyncio.get_running_loop().create_future())


def _words(spec: Spec, pairs: Pairs, down: frozenset[str]) -> list[str]:
    """The arguments of ASK for a machine: nothing that does not run is asked for, which would take 20 seconds."""
    mine = (pair for each in pairs.values() for pair in each if pair.pinger == spec.path and pair.other not in down)
    hypervisor = "yes" if spec.machine.nests else "no"
    return [hypervisor, *(address for pair in mine for address in pair.addresses)]


async def _ask(
    nest: Nest,
    spec: Spec,
    pairs: Pairs,
    looking: asyncio.Future[Observed],
    aside: Aside | None,
    down: frozenset[str],
) -> _Machine:
    if not spec.machine.by_ssh:
        up, flag, who = await verify_outside.look(nest, spec)
        return _Machine(spec, up=up, flag=flag, said_by=who)
    if spec.sealed:  # nothing runs commands in one from outside; its peers tell whether they reach it
        return _Machine(spec)
    if aside is not None:
        either: set[asyncio.Future[Any]] = {looking, aside.answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if aside.answer.done():
            return _told(spec, aside.answer.result())
    host: Host = await nest.host(spec.path)
    asked = await host.run(("sh", "-c", ASK, "ask", *_words(spec, pairs, down)), check=False, timeout=PATIENCE)
    return _told(spec, asked.text)


def _told(spec: Spec, text: str) -> _Machine:
    """What the lines of ASK say."""
    lines = [line.partition(" ")[::2] for line in text[:SAID].split("\n")]
    said = {key: one_line(rest)[:SHOWN] for key, rest in lines}
    module, _, nested = said.get("module", "").partition(" ")
    flag = said.get("flag", "")
    return _Machine(
        spec,
        arch=said.get("arch", ""),
        root=said.get("root", ""),
        flag=flag if flag in ("vmx", "svm") else "",
        module=module,
        nested=nested,
        kvm=said.get("kvm", "it did not say"),
        reached={rest: key == "y" for key, rest in lines if key in ("y", "n")},
    )


async def _proofs(
    nest: Nest, lab: str, machines: dict[str, _Machine], spec: Spec, pairs: Pairs, showing: _Showing
) -> list[Proof]:
    machine = machines[spec.path]
    down = frozenset(path for path, each in machines.items() if each.down)
    proofs = _of_machine(machine, pairs, {path: each.reached for path, each in machines.items()}, down)
    if spec.machine.nests and not machine.error:
        inner = [each for each in machines.values() if each.spec.parent == spec.path]
        proofs += await _of_hypervisor(nest, lab, machine, inner, showing.say)
    showing.done(proofs)
    return proofs


def _of_machine(machine: _Machine, pairs: Pairs, reached: Reached, down: frozenset[str] = frozenset()) -> list[Proof]:
    spec = machine.spec
    if machine.error:
        return [Proof(spec.path, spec.level, "reachable", False, machine.error, machine.hint)]
    segments = [_of_segment(machine, segment, each, reached, down) for segment, each in pairs.items()]
    if spec.sealed:
        return [verify_containers.of_sealed(spec), *segments]
    if spec.machine.container:
        return [*verify_containers.of_inner(spec, machine.arch, machine.root), *segments]
    kvm = machine.accel == "kvm"
    how = "QEMU: KVM enabled" if kvm else "QEMU: KVM off, emulated"
    accelerated = Proof(spec.path, spec.level, "accelerated", True if kvm else None, how)
    if not spec.machine.by_ssh:
        proofs = [verify_outside.of_ready(spec, up=machine.up), accelerated, *verify_outside.of_segments(spec)]
        return [
            *proofs,
            *(verify_outside.of_foreign(spec, machine.flag, machine.said_by) if spec.machine.foreign else ()),
        ]
    proofs = [Proof(spec.path, spec.level, "reachable", True, f"answers over ssh ({machine.arch})"), accelerated]
    if spec.machine.foreign:
        proofs += verify_outside.of_foreign(spec, machine.flag, machine.said_by)
    return [*proofs, *segments]


def _of_segment(
    machine: _Machine, segment: str, pairs: tuple[Pair, ...], reached: Reached, down: frozenset[str]
) -> Proof:
    spec, claim = machine.spec, f"segment {segment}"
    absent = sorted({pair.other for pair in pairs if pair.other in down})
    lost = sorted(
        f"{pair.other} ({'IPv6' if ':' in address else 'IPv4'})"
        for pair in pairs
        for address in pair.addresses
        if pair.other not in down and not reached[pair.pinger].get(address)
    )
    if lost or absent:
        silent = [f"does not reach {', '.join(lost)}"] if lost else []
        idle = [f"{', '.join(absent)} {'does' if len(absent) == 1 else 'do'} not run"] if absent else []
        return Proof(spec.path, spec.level, claim, False, "; ".join([*silent, *idle]))
    others = ", ".join(sorted({pair.other for pair in pairs}))
    return Proof(spec.path, spec.level, claim, True, f"reaches {others} over IPv4 and IPv6")


async def _of_hypervisor(nest: Nest, lab: str, machine: _Machine, inner: list[_Machine], say: Say) -> list[Proof]:
    """What makes a machine a hypervisor, from what it says about itself down to a guest that ran."""
    spec = machine.spec

    def claim(name: str, ok: bool, seen: str, why: str = "") -> Proof:
        return Proof(spec.path, spec.level, name, ok, seen, "" if ok else why)

    return [
        claim("cpu", bool(machine.flag), machine.flag or "neither vmx nor svm", "its CPU gives it no virtualization"),
        claim(
            "nested",
            machine.module in ("kvm_intel", "kvm_amd") and machine.nested in ("Y", "y", "1"),
            f"{machine.module or 'no vendor module'}, nested={machine.nested or 'not set'}",
            "its guests get no virtualization of their own",
        ),
        claim("/dev/kvm", not machine.kvm, machine.kvm or "opened", "no guest can use KVM"),
        claim("cpuid", *await _offered(nest, spec, inner), "its guests cannot nest"),
        await _guest(nest, lab, spec, inner, say),
    ]


async def _offered(nest: Nest, spec: Spec, inner: list[_Machine]) -> tuple[bool, str]:
    """Whether KVM_GET_SUPPORTED_CPUID offers vmx or svm to guests: with CPU `host` a guest has what is offered, so one
    that shows it is the proof; else /dev/kvm is asked."""
    guest = next((each for each in inner if each.accel == "kvm" and each.flag), None)
    if guest is not None:
        return True, f"{guest.flag} offered to guests: {guest.spec.path} has it"
    try:
        offered = (await (await nest.host(spec.path)).facts()).kvm.nested_cpuid
    except LabError as error:
        return False, error.what
    return offered is not None, f"{offered or 'neither vmx nor svm'} offered to guests"


async def _guest(nest: Nest, lab: str, spec: Spec, inner: list[_Machine], say: Say) -> Proof:
    """A 64-bit guest in its userland under KVM: one of the lab's, else a tiny one started for the proof."""
    proven = next((each for each in inner if each.accel == "kvm" and each.userland), None)
    if proven is not None:
        return Proof(spec.path, spec.level, "guest", True, f"{proven.spec.path} runs 64-bit userland under KVM")
    say("starting a tiny guest for the proof")
    try:
        await probe(nest, lab, spec, lambda text: say(f"a tiny guest for the proof: {text}"))
    except LabError as error:
        why = error.detail.strip().splitlines()[-1].strip(" |") if error.detail else error.hint
        return Proof(spec.path, spec.level, "guest", False, error.what, why)
    return Proof(spec.path, spec.level, "guest", True, "a tiny guest reached 64-bit userland under KVM")


async def probe(nest: Nest, lab: str, hypervisor: Spec, say: Say) -> None:
    """Boot a tiny guest under KVM in a hypervisor, see that it is one, and take it away. LabError if it is not."""
    path = f"{hypervisor.path}/{PROBE_NAME}"
    machine = Machine(PROBE_NAME, image=PROBE, memory=96 * MIB, accel="kvm")
    key = keys_of([PROBE])[PROBE]
    spec = Spec(
        path, machine, (), PROBE_NETWORK, key, (), digest_of(machine, hypervisor.digest), "127.0.0.1 localhost\n"
    )
    blueprint = Blueprint(lab, (), (spec,), {key: PROBE})
    engine = await nest.engine(hypervisor.path)
    remove = Remove(machine=path, why="the proof is over")
    await engine.perform(remove, blueprint, _quiet)
    try:
        await engine.perform(Create(machine=path, why="a proof"), blueprint, say)
        await engine.perform(Boot(machine=path, why="a proof"), blueprint, say)
        host = await engine.host(path)
        arch = one_line((await host.run(("uname", "-m"), timeout=PATIENCE)).text.strip())[:SHOWN]
        accel = await engine.accel(path)
    finally:
        await engine.perform(remove, blueprint, _quiet)
    if accel != "kvm" or arch != "x86_64":
        raise LabError(f"The guest in {hypervisor.path} ran as {arch} under {accel}, not as x86_64 under KVM.")


def _quiet(_: str) -> None:
    """Taking it away is no news."""
