"""The reference of lab files, made from the table in `fields`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nestlab import kinds
from nestlab.lab.model import SOURCE_LIMIT, SOURCES_LIMIT, format_size
from nestlab.labfile.fields import (
    CARDS_LIMIT,
    DEPTH_LIMIT,
    MACHINES_LIMIT,
    MISTAKES_LIMIT,
    RECORDS,
    SIZE_LIMIT,
    WRITTEN_LIMIT,
)
from nestlab.labfile.load import BYTES_LIMIT, FILES_LIMIT
from nestlab.labfile.shapes import Either, Field, Integer, ListOf, MapOf, Nothing, Record, Ref, Shape

_HEAD = """\
# The lab file

<!-- Generated from src/nestlab/labfile/fields.py and reference.py; a test checks that it is current. -->

A lab file says what is wanted: segments, images, machines, and what runs inside them. Indentation is nesting.
It is YAML 1.2. An editor completes and checks it with the schema `src/nestlab/labfile/lab.schema.json` (`nestlab
schema` prints it): put this line first, with the path or URL of that file.

```yaml
# yaml-language-server: $schema=lab.schema.json
```

"""

_TITLES = {
    "lab": "The file as a whole",
    "pve": "A Proxmox VE",
    "defaults": "`defaults`",
    "machine": "A machine",
    "topology": "The topology of CPUs",
    "smbios": "SMBIOS",
    "ready": "When a machine is up",
    "disk": "A disk",
    "medium": "An ISO that is downloaded",
    "setup": "The setup of a machine",
    "link": "A card on a segment",
    "segment": "A segment",
    "vlan": "A VLAN",
    "netboot": "Booting from the network",
    "cluster": "A cluster",
    "cluster_networks": "The networks of a cluster",
    "image": "An image",
    "pve_mirror": "The repository of Proxmox VE",
    "install": "An image that is installed",
    "entry": "A file",
}

_TAIL = f"""\
## Changing it

`nestlab plan` says for each machine that is there which way a change takes; `up` takes it.

**live**, nothing stops: a larger `disk` (in nestlab's images the filesystem grows with it), names of other machines,
`ssh_keys`, `setup`, `ports`, and the images that machines inside are given. `disks` on `virtio`, `nvme` and `scsi` come
and go while the machine runs, as long as it has room: four more than it was started with, on `scsi` any number if it
had one there; on a Proxmox VE if it had a disk at all. On `virtio` and `scsi` they also grow.
`memory` and `cpus` of containers change, and of machines on QEMU in which nestlab works as far as they can: memory of
`debian` and hypervisors to more than they were started with, and back to that (up to 4G more, or twice as much again,
at most 16G), and CPUs up to 8 where the machine runs under KVM. An emulated Linux takes no CPUs while it runs.

**restart**, a stop and a start with the disk kept; machines inside are stopped before and started after: what else of
`memory` and `cpus`, and all of it on a Proxmox VE and on libvirt but for containers; `cmdline`, `internet`, `accel`,
`hypervisor`, all hardware (`cpu` and what follows it), all else of `disks`, `cdroms`, `boot`, `segments` with their
addresses, `mac`, `vlan`, `trunk`, `mtu`, `card` and `cidr`, and of an image of yours `user` and `cloud_init`
(cloud-init then does its work again). A restart empties what has no disk: `tiny`. A `card` that one of nestlab's
images needs another driver for is another image.

**anew**, the disk is deleted with all that is inside: `image` (also what is added to it), a smaller `disk`,
`container`, another place in the nest. A machine that is no longer in the file is deleted, too. Of `disks` only the one
is deleted that is no longer there, is to be smaller, or over another `file`: the machine and its other disks stay.

Before a disk is deleted `up` asks; where nobody can be asked it needs `--replace`, and else does nothing. A `disk` that
is left out is no wish for a smaller one. `nestlab recreate` deletes a machine and makes it again on purpose, `nestlab
restart` restarts it. A file with the `lab:` name of a lab that another file made is refused; with `--adopt` it takes
that lab over.

## Writing it

**Strict types.** `cpus: "4"` and `internet: yes` are mistakes: quoted text is text, and YAML 1.2 knows `true` and
`false` only. Octal numbers begin with `0o`. A key may be in a mapping once.

**Sizes** have a unit and are powers of 1024, as QEMU and Proxmox VE read them: `512M`, `4G`, `1.5G`, `2T`. `GiB` means
the same as `G`. A number without a unit is a mistake, because programs disagree on what it means.

**Names** of labs, segments, images and machines are host names: lower-case letters, digits and dashes, first a letter,
last no dash. The name of a machine inside another is its path, such as `hv1/web`.

**Anchors** repeat: after `hv1: &node …`, the line `hv2: *node` makes a second machine just like it, with everything
inside. `<<: *node` takes over the keys of another mapping and lets you change some. An address or `mac` that is stated
is repeated too, which is a mistake: leave it out, and each machine gets its own.

**Variables** from the environment stand in any value: `${{NAME}}`, or `${{NAME:-default}}` for when it is unset or
empty. Unquoted, what comes in is read as YAML reads it: with `N=4`, `cpus: ${{N}}` is the number 4. Inside `{{ }}` and
`[ ]` such a value needs quotes, and is then text. `$$` is a dollar: in a `script`, write `$$$$` for the shell's
`$$` and `$${{VAR}}` for its `${{VAR}}`; a dollar before anything else stays as it is.

What a variable puts in stays where the file says, and is told to nobody while a lab is only looked at: in an address
(`on`) and a `mirror` it is all of the value, as in `on: ${{WHERE:-local}}`; in a path that leads out of the file's
folder it is the beginning and says where it is, as in `${{DIR}}/disk.qcow2`. NESTLAB_PVE_TOKEN and NESTLAB_PVE_PASSWORD
are no variables.

**What it takes from this computer.** `validate`, `plan` and `up` name each file outside of the lab file's folder (or
hidden in it, as `.ssh` is) and each variable whose value machines get: `file`, `source`, a `cloud_init` that is a file.
Before machines get a file that its mode lets only some users read, or a variable that is named like a secret (TOKEN,
PASSWORD, …), or files out of a folder (`netboot:`), `up` asks, once for a lab; where nobody can be asked it needs
`--private`. What `--set` names is agreed to. All of these are regular files on a disk, of at most
{format_size(SOURCE_LIMIT)} (a disk of yours: of any size), and {format_size(SOURCES_LIMIT)} together: nothing of /proc
or /sys, no device, no FIFO.

**Includes** are read relative to the file that names them and may include others. Mappings are merged, key by key, at
any depth; of anything else the later file wins, and the including file over all. An included file says everything but
`lab`. Paths in it (`file`, `source`) are relative to itself.

**`--set KEY=VALUE`** on the command line goes over the file: `--set machines.hv1.memory=4G`,
`--set defaults.cpus=2`, `--set machines.hv1.machines.web.image=tiny`. The key must lead to something in the file, or
to a key that is missing there. The value is read as YAML reads an unquoted one; `[a, b]` is a list. Of machines that
share an anchor only the one that is named is changed. Relative paths in it start at the directory of the lab file.

**Another place** for the same lab is one key: by `--set on=pve://root@pam!lab@pve1`, or `on: ${{WHERE:-local}}` in the
file, what runs on this computer runs on a Proxmox VE, or with `on=ssh://lab@server` on another Linux host
([ssh.md](ssh.md)). `bridge` and `vlan` of segments and `node` of machines are mistakes without a Proxmox VE, and
`transparent` with one; `netboot` is for this computer and for such a host.

**Limits**: {MACHINES_LIMIT} machines, nested {DEPTH_LIMIT // 2 - 1} deep, with {CARDS_LIMIT} cards;
{BYTES_LIMIT >> 20} MiB for each file, {FILES_LIMIT} included files, and {WRITTEN_LIMIT} keys and values in all of them,
{SIZE_LIMIT} with what anchors repeat. After {MISTAKES_LIMIT} mistakes a file is read no further.

## What is checked beside the types

- Machines are inside hypervisors only, and a hypervisor's memory holds its machines and itself.
- The networks of segments are apart; `cidr` has no host bits set; addresses are inside, neither the network's own nor
  the broadcast address, and each is given once. So is each `mac`.
- A network has room for its machines; its first address is kept free unless a machine states it.
- A container is inside a `kvm` hypervisor, of `debian` or `tiny`, inside a `pve` one, of `debian`, or on a Proxmox VE
  itself, of a template (.tar.zst, .tar.gz or .tar.xz). It is no hypervisor, and has no hardware, disks or `cmdline` of
  its own; inside a hypervisor it is up by ssh, and its cards are no `card` to choose.
- Machines inside a `pve` hypervisor have no `cmdline`, `internet` or `ports`, and are up by neither a port nor a
  screen; their disks fit on their node's.
- On a Proxmox VE, `node` is for outermost machines. No address holds a secret, and what looks like one is not shown.
- Segments and images that are named exist, and so do files. A VLAN is one of the `vlans` of its segment, where that
  says any.
- No plain guest has a trunk, unless its image is a disk of yours. A hypervisor's card is on one VLAN only where no
  machine inside uses that segment.

All mistakes are said at once, each with its file, line and column.
"""


def text() -> str:
    """The reference as it is written to `docs/labfile.md`."""
    parts = [_HEAD]
    for record in RECORDS.values():
        parts.append("\n".join(_section(record)) + "\n\n")
        if record.name == "machine":
            parts.append("\n".join(_builtin()) + "\n\n")
    return "".join(parts) + _TAIL


def _section(record: Record) -> Iterator[str]:
    yield f"## {_TITLES[record.name]}"
    yield ""
    yield record.doc
    yield ""
    if record.example:
        yield from ("```yaml", record.example.rstrip(), "```", "")
    if record.name == "defaults":
        yield "The keys are those of a machine, without `machines`."
        return
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for field in record.fields:
        yield f"| `{field.name}` | {_value(field)} | {_default(field)} | {field.doc} |"


def _value(field: Field) -> str:
    example = f"<br>`{field.example}`" if field.example else ""
    return f"{_words(field.shape)}{example}"


def _words(shape: Shape) -> str:
    match shape:
        case Either():
            return " or ".join(_words(each) for each in shape.shapes if each != Nothing())
        case ListOf():
            return f"list: {_words(shape.of)}"
        case Ref():
            return f"[{shape.record}](#{_anchor(_TITLES[shape.record])})"
        case MapOf():
            return f"{'ports' if isinstance(shape.keys, Integer) else 'names'}: {_words(shape.of)}"
    return shape.words


def _anchor(title: str) -> str:
    """As GitHub makes it."""
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def _default(field: Field) -> str:
    return "(required)" if field.required else field.default


def _builtin() -> Iterator[str]:
    yield "### Kinds of hypervisor"
    yield ""
    yield "| `hypervisor` | boots the image | memory, beside its machines' | what it is |"
    yield "|---|---|---|---|"
    for kind in kinds.kinds().values():
        yield f"| `{kind.name}` | `{kind.image}` | {format_size(kind.default_memory)} | {kind.description} |"
    yield ""
    yield "### nestlab's images for plain guests"
    yield ""
    yield "| `image` | memory | what it is |"
    yield "|---|---|---|"
    for plain in kinds.plains().values():
        yield f"| `{plain.name}` | {format_size(plain.default_memory)} | {plain.description} |"
