"""docs/explain.md, from the table of signatures. Pure."""

from __future__ import annotations

from nestlab.explain.clouds import CLOUDS, Cloud
from nestlab.explain.signatures import SECTIONS, TABLE, Rank, Signature

_HEAD = """# Explained errors

`nestlab explain` says what the errors in a log mean, what to do, and where that is documented:

```console
$ sudo dmesg | nestlab explain
$ nestlab explain task.log
$ nestlab explain 'modprobe: FATAL: Module kvm_intel is in use.'
```

It knows {count} messages of the kernel, QEMU, libvirt, Proxmox VE and others. Each is told once, with the first line it
stands in and how many more there are. Root causes come first, then who refuses because of something below, then errors
that every program prints for many reasons, then what follows from other lines, then mere notes that are no failure;
each says how sure it is. `--json` prints the same as data. The exit status is 0 if something is known, 2 if nothing is
or the file cannot be read. Nothing is sent anywhere.

A machine's configuration is read as well: `qm config VMID`, cpu-models.conf, `virsh dumpxml NAME`, a command line of
QEMU. CPU models that were put together by hand are named (vmx or svm added to a generic model or to another vendor's,
or taken away, a second `-cpu` past the manager's own), KVM that is off, and what keeps frames of nested guests from a
card (`firewall=1`, libvirt's filters, macvtap).

Where the level below is to be mended, it says that too: for the hypervisor or the cloud that the log shows (by its DMI
lines, kernel or host names), or in general. A cloud's tenant is told the provider's own switch.

The same table adds to the errors of `nestlab up` and of failed commands what is known of the output they show.

This page is made from the tables in `src/nestlab/explain`; `NESTLAB_GOLDEN=write pytest tests/test_explain.py` writes
it again. To add a message, add an entry in `signatures` with a line as it is really printed.
"""

_RANKS = {
    Rank.CAUSE: "root cause",
    Rank.REFUSAL: "refusal",
    Rank.GENERAL: "general",
    Rank.SYMPTOM: "symptom",
    Rank.NOTE: "note",
}


def text() -> str:
    """The whole page."""
    parts = [_HEAD.format(count=len(TABLE))]
    for title, table in SECTIONS:
        parts += [f"\n## {title}\n", "| message | meaning | what to do | see |", "|---|---|---|---|"]
        parts += [_row(each) for each in table]
    parts += ["\n## Clouds\n", "| provider | which machines nest | what a tenant does | see |", "|---|---|---|---|"]
    parts += [_cloud(each) for each in CLOUDS]
    return "\n".join(parts) + "\n"


def _row(each: Signature) -> str:
    shown = each.example.strip().replace("``", "`").replace("|", "\\|")
    fence = "``" if "`" in shown else "`"
    message = f"{fence}{' ' * (len(fence) - 1)}{shown}{' ' * (len(fence) - 1)}{fence}"
    cells = (f"**{each.name}** ({_RANKS[each.rank]})<br>{message}", each.cause, each.do, each.see)
    return "| " + " | ".join([cells[0], *(_cell(cell) for cell in cells[1:])]) + " |"


def _cloud(each: Cloud) -> str:
    do = " ".join(dict.fromkeys((each.switch.do, each.move.do)))
    commands = "".join(f"<br>`{_cell(line)}`" for line in each.move.commands)
    return "| " + " | ".join((each.name, _cell(each.types), _cell(do) + commands, each.see)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
