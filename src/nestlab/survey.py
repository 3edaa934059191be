"""Asking a host for its facts: by the probe where it has Python, else by what its shell can see."""

from __future__ import annotations

from pathlib import Path

from nestlab import probe
from nestlab.errors import LabError
from nestlab.facts import Facts, Kvm
from nestlab.host import Host

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


async def over_shell(host: Host, timeout: float) -> Facts:
    """The facts of a host with a POSIX shell. One command; `timeout` in seconds."""
    result = await host.run(["sh", "-c", SCRIPT], input=_source(), timeout=timeout)
    if result.text.startswith(MARK):
        return of_shell(result.text)
    return of_probe(result.text, host.path)


def _source() -> bytes:
    return Path(probe.__file__).read_bytes()


def of_probe(text: str, where: str) -> Facts:
    """The facts that the probe printed. LabError if it printed something else."""
    try:
        return Facts.from_json(text)
    except (ValueError, TypeError) as error:
        what = f"The probe of {where} printed no facts: {error}."
        raise LabError(what, hint="Is its python3 what it should be?", detail=text[:500]) from error


def of_shell(text: str) -> Facts:
    """The facts in what FALLBACK printed. Of /dev/kvm a shell sees only whether it opens."""
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
    opened = said == "opened"
    return Facts(
        **found,  # type: ignore[arg-type]
        kvm=Kvm(opened=opened, error="" if opened else said),
        arch=answers["arch"],
        user=answers["user"],
        uid=int(answers["uid"]) if answers["uid"].isdigit() else -1,
        clock=float(answers["clock"]) if answers["clock"].isdigit() else 0.0,
    )


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
