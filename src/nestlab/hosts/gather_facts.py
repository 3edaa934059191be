"""Collects the facts of a host: by Perl or Python where it has one, else by its shell."""

from __future__ import annotations

import os
import struct
from functools import cache
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.hosts import probe
from nestlab.hosts.facts import Facts, Kvm
from nestlab.hosts.host import Host

MARK = "@@nestlab@@ "
"""Starts the line before the content of each file (or answer) that the shell shows."""

# Files, one by one, that are there; and answers under names that are no paths. <> would make a missing /dev/kvm.
FALLBACK = f"""
show() {{ printf '{MARK}%s\\n' "$1"; cat "$1" 2>/dev/null; echo; }}
for f in {probe.PATHS} /sys/module/kvm*/parameters/*; do [ -r "$f" ] && show "$f"; done
for f in {" ".join(probe.MARKS)}; do [ -e "$f" ] && printf '{MARK}%s\\n' "$f"; done
for m in {" ".join(probe.MODULES)}; do [ -d "/sys/module/$m" ] && printf '{MARK}module\\n%s\\n' "$m"; done
answer() {{ printf '{MARK}%s\\n' "$1"; shift; "$@" 2>&1; }}
answer arch uname -m
answer user id -un
answer uid id -u
answer clock date +%s
printf '{MARK}kvm\\n'
if [ -e /dev/kvm ]; then (: <>/dev/kvm) 2>&1 && echo opened; else echo '/dev/kvm: No such file or directory'; fi
:
"""

SCRIPT = f"python3 -ISE - 2>/dev/null && exit\n{FALLBACK}"

GLANCE = f"""
printf '{MARK}/proc/cpuinfo\\n'
while read -r l; do
  printf '%s\\n' "$l"
  case $l in flags*) break ;; esac
done </proc/cpuinfo
for m in {" ".join(probe.MODULES)}; do
  [ -d "/sys/module/$m" ] || continue
  printf '{MARK}module\\n%s\\n' "$m"
  f=/sys/module/$m/parameters/nested
  [ -r "$f" ] && read -r v <"$f" && printf '{MARK}%s\\n%s\\n' "$f" "$v"
done
printf '{MARK}kvm\\n'
if [ -e /dev/kvm ]; then {{ true <>/dev/kvm; }} 2>&1 && echo opened; else echo '/dev/kvm: No such file or directory'; fi
:
"""
"""What /dev/kvm seems to be, for `of_marks`: no process where FALLBACK takes dozens. Prints that a guest may be tried,
never that one ran."""

LIMIT = 4 << 20
"""Bytes of all that a host prints of its facts: a hundredth of that, with many CPUs a tenth."""

SHOWN = 200
"""Letters of the reason why an answer tells no facts."""

ODD = (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, struct.error)
"""What reading an answer ends in that no kernel and no probe gives."""

QUICK = 'said=$(perl -e "$@" 2>/dev/null) && printf "%s\\n" "$said"'
"""Arguments: `ask.pl` and its arguments. Fails where there is no Perl, or another processor than x86-64."""


async def over_shell(host: Host, timeout: float) -> Facts:
    """The facts of a host with a POSIX shell. One command, or a second where it has no Perl; `timeout` in seconds."""
    seed, second = struct.unpack("<QQ", os.urandom(16))
    arguments = (MARK, probe.PATHS, " ".join(probe.MARKS), " ".join(probe.MODULES), _memory(seed, second), _sregs())
    deadline = patience.allowed(probe.DEADLINE, host.slowness)
    quick = ("sh", "-c", QUICK, "quick", _source("ask.pl"), *arguments, f"{deadline:.0f}")
    result = await host.run(quick, check=False, timeout=timeout)
    if result.status == 0:
        return _of_answer(result.text, host.path, probe.answer(seed, second))
    result = await host.run(["sh", "-c", SCRIPT], input=_source("probe.py").encode(), timeout=timeout)
    return _of_answer(result.text, host.path)


def _of_answer(text: str, where: str, answer: int = 0) -> Facts:
    """The facts in what a host printed. LabError, in its name, where that tells none: it may be hostile."""
    if len(text) > LIMIT:
        raise _none(where, f"it printed more than {LIMIT >> 20} MiB", text)
    if not text.startswith(MARK):
        return of_probe(text, where)
    try:
        return of_marks(text, answer)
    except ODD as error:
        raise _none(where, f"{type(error).__name__}: {error}", text) from error


def _none(where: str, why: str, text: str) -> LabError:
    what = f"The probe of {where} printed no facts: {why[:SHOWN]}."
    return LabError(what, hint="Are its sh, perl and python3 what they should be?", detail=text[:500])


@cache
def _source(name: str) -> str:
    return Path(probe.__file__).with_name(name).read_text(encoding="utf-8")


def _memory(seed: int, second: int) -> str:
    """The proof's guest, as `ask.pl` takes it: only the words that are not zero."""
    return _patches(probe.image(seed, second), bytes(probe.SIZE), 8)


@cache
def _sregs() -> str:
    """The bytes of struct kvm_sregs that `probe.long_mode` sets, whatever they were."""
    size = probe.SREGS
    zeros, ones = probe.long_mode(bytes(size)), probe.long_mode(b"\xff" * size)
    return ",".join(f"{at}:{zeros[at]:02x}" for at in range(size) if zeros[at] == ones[at])


def _patches(data: bytes, platform: bytes, step: int) -> str:
    parts = ((at, data[at : at + step]) for at in range(0, len(data), step) if data[at] or any(data[at : at + step]))
    return ",".join(f"{at}:{part.hex()}" for at, part in parts if part != platform[at : at + step])


def of_probe(text: str, where: str) -> Facts:
    """The facts that the probe printed. LabError if it printed something else."""
    try:
        return Facts.from_json(text)
    except ODD as error:
        raise _none(where, str(error), text) from error


def of_marks(text: str, answer: int = 0) -> Facts:
    """The facts in what FALLBACK or `ask.pl` printed; `answer` is what the latter's guest had to compute. Of /dev/kvm
    a shell sees only whether it opens."""
    files: dict[str, str] = {}
    modules = []
    for part in text.split(MARK)[1:]:
        name, _, content = part.partition("\n")
        if name == "module":
            modules.append(content.strip())
        else:
            files[name] = content
    said = files.pop("kvm", "").strip()
    answers = {name: files.pop(name, "").strip() for name in ("arch", "user", "uid", "clock")}
    found = probe.facts(files, modules)
    found["flags"] = frozenset(_strings(found["flags"]))
    found["routes"] = tuple(_strings(found["routes"]))
    found["modules"] = tuple(modules)
    return Facts(
        **found,  # type: ignore[arg-type]
        kvm=_kvm(said, answer),
        arch=answers["arch"],
        user=answers["user"],
        uid=int(answers["uid"]) if answers["uid"].isdigit() else -1,
        clock=float(answers["clock"]) if answers["clock"].isdigit() else 0.0,
    )


def _kvm(said: str, answer: int) -> Kvm:
    """What FALLBACK saw of /dev/kvm (`opened`, or why not), or the `key=value` lines of `ask.pl`."""
    told = dict(line.partition("=")[::2] for line in said.splitlines() if "=" in line)
    if "status" not in told:
        return Kvm(opened=said == "opened", error="" if said == "opened" else said)
    if "ran" in told:
        told["ran_error"] = _ran(told["ran"].split(), answer)
    lines = "\n".join(f"{key}={value}" for key, value in told.items())
    return Kvm(**probe.judge(lines, int(told["status"]), "killed" in told))  # type: ignore[arg-type]


def _ran(said: list[str], answer: int) -> str:
    """How the guest ended, as `ask.pl` says it: `exit REASON WORD…`, or `io SIZE PORT COUNT`."""
    numbers = [int(word) for word in said[1:]]
    if said[0] == "io":
        return f"it wrote {numbers[2]}x{numbers[0]} bytes to port {numbers[1]:#x}"
    return probe.ended(numbers[0], numbers[1:], answer)


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
