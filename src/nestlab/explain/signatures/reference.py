"""docs/explain.md, from the table of signatures. Pure."""

from __future__ import annotations

from nestlab.explain.signatures import SECTIONS, TABLE, Rank, Signature

_HEAD = """# Explained errors

`nestlab explain` says what the errors in a log mean, what to do, and where that is documented:

```console
$ sudo dmesg | nestlab explain
$ nestlab explain task.log
$ nestlab explain 'modprobe: FATAL: Module kvm_intel is in use.'
```

It knows {count} messages of the kernel, QEMU, libvirt, Proxmox VE and others. Each is told once, with the first line it
stands in and how many more there are. Root causes come first, then who refuses because of something below, then what
follows from other lines, then mere notes. `--json` prints the same as data. The exit status is 0 if something is known,
2 if nothing is or the file cannot be read. Nothing is sent anywhere.

The same table adds to the errors of `nestlab up` and of failed commands what is known of the output they show.

This page is made from the table in `src/nestlab/doctor/signatures`; `NESTLAB_GOLDEN=write pytest tests/test_explain.py`
writes it again. To add a message, add an entry there with a line as it is really printed.
"""

_RANKS = {Rank.CAUSE: "root cause", Rank.REFUSAL: "refusal", Rank.SYMPTOM: "symptom", Rank.NOTE: "note"}


def text() -> str:
    """The whole page."""
    parts = [_HEAD.format(count=len(TABLE))]
    for title, table in SECTIONS:
        parts += [f"\n## {title}\n", "| message | meaning | what to do | see |", "|---|---|---|---|"]
        parts += [_row(each) for each in table]
    return "\n".join(parts) + "\n"


def _row(each: Signature) -> str:
    shown = each.example.strip().replace("``", "`").replace("|", "\\|")
    fence = "``" if "`" in shown else "`"
    message = f"{fence}{' ' * (len(fence) - 1)}{shown}{' ' * (len(fence) - 1)}{fence}"
    cells = (f"**{each.name}** ({_RANKS[each.rank]})<br>{message}", each.cause, each.do, each.see)
    return "| " + " | ".join([cells[0], *(_cell(cell) for cell in cells[1:])]) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
