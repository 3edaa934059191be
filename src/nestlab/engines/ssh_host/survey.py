"""What a host that ssh reaches has for the embedded engine: asked in one round trip. Pure, but for the asking."""

from __future__ import annotations

import re

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.home.directories import SOCKET_LIMIT, SOCKET_NAME
from nestlab.hosts.host import Host, called
from nestlab.images.qemu_runtime import Version, parse_version

PYTHON = (3, 11)
"""The oldest Python that nestlab's switch runs on."""

FOLDER = "hosted"
"""Below nestlab's home there: what this program keeps of labs that are made from elsewhere."""

SCRIPT = r"""
home=${NESTLAB_HOME:-${XDG_STATE_HOME:-$HOME/.local/state}/nestlab}
printf 'H %s\n' "$home"
printf 'A %s\n' "$(uname -m)"
at=$home
while [ ! -d "$at" ] && [ "$at" != / ] && [ "$at" != . ]; do at=$(dirname -- "$at"); done
printf 'D %s\n' "$(df -Pk -- "$at" 2>/dev/null | tail -n 1)"
PATH=$PATH:/usr/sbin:/sbin
for p in python3 python3.14 python3.13 python3.12 python3.11; do
  q=$(command -v "$p") && printf 'P %s %s\n' "$("$q" -I -S -c 'import sys; print(*sys.version_info[:2])' 2>&1)" "$q"
done
for p in qemu-system-x86_64 qemu-img swtpm; do
  q=$(command -v "$p") && printf 'Q %s %s %s\n' "$p" "$q" "$("$q" --version 2>&1 | head -n 1)"
done
[ ! -e "$home/hosted/runtime/$1/runtime.json" ] || echo R
[ ! -d "$home/hosted/labs/$2" ] || echo L
exit 0
"""
"""Arguments: the digest of nestlab's own QEMU, the lab's directory. Prints what `parse` reads."""

LIMIT = 30.0
"""Nominal seconds for the answer."""


@frozen
class Program:
    """A program there; `version` (0, 0, 0): it does not say."""

    path: str
    version: Version


@frozen
class Survey:
    """`home`: nestlab's directory there, absolute. `free`: bytes of disk there, None where that is not told. `python`:
    the first that is new enough, `too_old` one that is not. `runtime`: nestlab's own QEMU is there. `lab`: so is the
    lab's directory."""

    home: str
    arch: str
    free: int | None = None
    python: str = ""
    too_old: str = ""
    qemu: Program | None = None
    qemu_img: Program | None = None
    swtpm: str = ""
    runtime: bool = False
    lab: bool = False

    @property
    def root(self) -> str:
        """The directory of all that is kept there from elsewhere."""
        return f"{self.home}/{FOLDER}"


async def survey(host: Host, runtime: str, lab: str) -> Survey:
    """LabError where a lab can never be made there."""
    result = await host.run(("sh", "-c", SCRIPT, "survey", runtime, lab), timeout=LIMIT)
    return parse(result.text, called(host))


def parse(text: str, where: str) -> Survey:
    """What SCRIPT printed on the host `where`. LabError for what is no answer of it, or a host that cannot be used."""
    marks: dict[str, list[str]] = {}
    for line in text.splitlines():
        mark, _, rest = line.partition(" ")
        marks.setdefault(mark, []).append(rest)
    if not marks.get("H") or not marks.get("A"):
        hint = f"Its shell said: {one_line(text)[:120]!r}. Try: ssh HOST true, which should print nothing."
        raise LabError(f"{where} does not tell what it has for nestlab.", hint=hint)
    home, arch = marks["H"][0], marks["A"][0].strip()
    if not re.fullmatch(r"/[\w./+@:~-]*", home):
        what = f"nestlab's directory on {where} would be {one_line(home)!r}, which is no plain absolute path."
        raise LabError(what, hint="Set NESTLAB_HOME there, for logins that are not interactive.")
    longest = len(f"{home}/{FOLDER}/labs/{'0' * 12}/m/{'0' * 8}/{SOCKET_NAME}".encode())
    if longest > SOCKET_LIMIT:
        what = f"Paths of sockets in {home} on {where} would have {longest} bytes, of which Linux takes {SOCKET_LIMIT}."
        raise LabError(what, hint="Set NESTLAB_HOME to a shorter path there, for logins that are not interactive.")
    if arch != "x86_64":
        raise LabError(f"{where} is {one_line(arch)}: nestlab's machines are x86-64.", hint="Take an x86-64 host.")
    python, too_old = _pythons(marks.get("P", ()))
    programs = _programs(marks.get("Q", ()))
    return Survey(
        home,
        arch,
        _free(marks.get("D", [""])[0]),
        python,
        too_old,
        programs.get("qemu-system-x86_64"),
        programs.get("qemu-img"),
        programs["swtpm"].path if "swtpm" in programs else "",
        "R" in marks,
        "L" in marks,
    )


def _pythons(lines: list[str] | tuple[str, ...]) -> tuple[str, str]:
    too_old = ""
    for line in lines:
        found = re.fullmatch(r"([0-9]{1,3}) ([0-9]{1,3}) (/\S+)", line)
        if found and (int(found[1]), int(found[2])) >= PYTHON:
            return found[3], ""
        if found:
            too_old = f"{found[1]}.{found[2]}"
    return "", too_old


def _programs(lines: list[str] | tuple[str, ...]) -> dict[str, Program]:
    found = {}
    for line in lines:
        name, _, rest = line.partition(" ")
        path, _, said = rest.partition(" ")
        if path.startswith("/"):
            found[name] = Program(path, parse_version(said) or (0, 0, 0))
    return found


def _free(line: str) -> int | None:
    """Of a line of `df -Pk`: name, blocks, used, available, …"""
    words = line.split()
    numbers = [word for word in words[1:4] if re.fullmatch(r"[0-9]{1,15}", word)]
    return int(numbers[2]) << 10 if len(numbers) == 3 else None
