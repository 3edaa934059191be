"""docs/doctor.md: the promise by hand, and every check with an example of its finding at one of the recorded hosts."""

from __future__ import annotations

from pathlib import Path

from nestlab.doctor.checks import checks
from nestlab.doctor.diagnose import diagnose
from nestlab.doctor.finding import LAYERS, LEVELS, Finding, Want
from nestlab.hosts.facts import Facts

FACTS = Path(__file__).parent / "facts"

MEANING = {
    "place": "What the host itself runs in: nothing done inside mends what the outside withholds.",
    "cpu": "Virtualization of the CPU, and the firmware's locks on it.",
    "kernel": "Its version, and other hypervisors in it.",
    "module": "The vendor's module and its parameters.",
    "device": "/dev/kvm, for this user.",
    "proof": "What KVM really does: asked by ioctl, and tried with a guest.",
    "lasting": "Whether it stays so after a reboot.",
    "security": "Escapes from guests to hosts that nesting opens, and whether this kernel has the fixes.",
    "guests": "What certain guests need (`--for windows`, `esxi`, `macos`).",
    "capacity": "Room for machines that hold machines.",
}

HEAD = """\
# The doctor

`nestlab doctor [WHERE]` says whether guests of a host can nest, names the first broken layer, and mends it where it
can. WHERE is nothing (this machine), `ssh://[user@]host[:port]`, or a machine of a running lab (`hv1`, `hv1/inner`).
`nestlab doctor --all LAB` walks from the lab's host inwards; where level 1 is emulated, that host need not nest.

It needs a POSIX shell on the host, and takes one round trip; where there is python3 it also runs a 64-bit guest of a
few instructions on /dev/kvm. It works without root and says what it could not see. Exit status: 0 when nothing failed,
2 when a check did.

| | |
|---|---|
| `--facts` | print what the host said, as JSON; for a bug report |
| `--from-facts FILE` | judge a recorded host instead of a real one |
| `--for windows` | look at what those guests need, too |
| `--json` | findings, the verdict and the first broken check |
| `--fix [CHECK...]` | mend what fails, or the checks named: `nested`, `lasting`, `ignore-msrs` |
| `--undo` | restore what was there before, files to the byte, and the running values |

In a virtual machine it says who is to do what: the owner of the level below on that host, in the words of its
hypervisor; a cloud's tenant by the provider's own switch or by another type, or that the provider does not nest (one
catalogue for all of nestlab, `src/nestlab/explain/clouds.py`). A CPU model that was put together by hand is told as
that (`nestlab explain` reads the configuration itself). ARM hosts get answers in ARM's words: EL2, FEAT_NV2,
`kvm-arm.mode=nested`. Sizes of a machine of a lab are the lab file's choice, and a plain guest does not fail for being
one.

## Mending, and taking it back
`--fix` first shows every change: a diff of each file, the commands, what would wait for a reboot, and which guests are
in the way. Then it asks, or takes `--yes`. It writes one file of its own, `/etc/modprobe.d/zz-nestlab.conf`, and edits
nobody else's, except a boot loader's command line (GRUB, proxmox-boot-tool, grubby) where the module is built in, or
where that command line says otherwise. What it would refuse is not offered: the finding then says why, and what to do.

- The vendor's module is loaded again only if nothing uses it, by a command on the host that outlives a lost connection
  and ends with the module loaded, whatever happens. If a guest runs, the option is written and it says `reboot to
  finish`.
- `ignore_msrs` is set at once through sysfs. `--temporary` writes no file in /etc.
- Before the first change, what was there is written to `/var/lib/nestlab/doctor/record.json` on the host (root only).
  A run that was killed anywhere is finished by the next `--fix`, or taken back by `--undo`. The record and every file
  are on the disk before the next change, so that holds where the power goes, too. One doctor at a time changes a host;
  a second one says so and does nothing (a host without `flock` cannot tell).
- A module that is in use when `--undo` wants its old setting back stays in the record: run `--undo` again when nothing
  uses it.
- A file that somebody changed after nestlab wrote it is left alone by `--undo`, which says so.
- Repeating either changes nothing.

Nesting is not switched on in a kernel that is known to let nested guests break out, unless you say `--accept-risk`.
Whether it is known follows from evidence: the changelog of the running kernel's own package first, then the upstream
version on its branch; else it is unknown, and said so. The table is `src/nestlab/doctor/advisories.py`.

## Layers and checks
By layer, outermost first: the first that fails is the one to mend. A level is `ok`, `note` (good to know, or it could
not be seen), `warn` (works, but not well or not for long) or `fail`. The examples are findings at recorded and composed
hosts (`tests/facts/`); this part is generated from them.
"""


def examples() -> dict[str, tuple[str, Finding]]:
    """By check: the host, and its worst finding (of several as bad the first)."""
    found: dict[str, tuple[str, Finding]] = {}
    for path in sorted(FACTS.glob("*.json")):
        facts = Facts.from_json(path.read_text())
        for finding in diagnose(facts, Want(guests=frozenset({"windows"}))):
            known = found.get(finding.check)
            if known is None or LEVELS.index(finding.level) > LEVELS.index(known[1].level):
                found[finding.check] = (path.stem, finding)
    return found


def page() -> str:
    """The whole document."""
    parts, known = [HEAD], examples()
    for layer in LAYERS:
        parts.append(f"\n### {layer}\n{MEANING[layer]}\n")
        for check in checks:
            if check.layer == layer:
                host, finding = known[check.name]
                parts.append(f"\n**{check.name}**: {check.title}.\n\n```\n{_shown(finding)}\n```\nat `{host}`\n")
    return "".join(parts)


def _shown(finding: Finding) -> str:
    lines = [f"{finding.level}  {finding.check}  {finding.seen}", finding.why, finding.do]
    return "\n".join([*filter(None, lines), *(f"  {command}" for command in finding.commands)])
