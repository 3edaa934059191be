"""The reference of lab files, made from the table in `fields`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nestlab import kinds
from nestlab.lab.model import format_size
from nestlab.labfile.fields import DEPTH_LIMIT, MACHINES_LIMIT, RECORDS
from nestlab.labfile.shapes import Either, Field, ListOf, MapOf, Nothing, Record, Ref, Shape

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
    "setup": "The setup of a machine",
    "link": "A card on a segment",
    "segment": "A segment",
    "image": "An image",
    "entry": "A file",
}

_TAIL = f"""\
## Changing it

`nestlab plan` says for each machine that is there which way a change takes; `up` takes it.

**live**, nothing stops: a larger `disk` (in nestlab's images the filesystem grows with it), names of other machines,
`ssh_keys`, `setup`, and the images that machines inside are given.

**restart**, a stop and a start with the disk kept; machines inside are stopped before and started after: `memory`,
`cpus`, `cmdline`, `internet`, `accel`, `hypervisor`, `segments` with their addresses, `mac`, `mtu` and `cidr`, and of
an image of yours `user` and `cloud_init` (cloud-init then does its work again). A restart empties what has no disk:
`tiny`.

**anew**, the disk is deleted with all that is inside: `image` (also what is added to it), a smaller `disk`,
`container`, another place in the nest. A machine that is no longer in the file is deleted, too.

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

**Includes** are read relative to the file that names them and may include others. Mappings are merged, key by key, at
any depth; of anything else the later file wins, and the including file over all. An included file says everything but
`lab`. Paths in it (`file`, `source`) are relative to itself.

**`--set KEY=VALUE`** on the command line goes over the file: `--set machines.hv1.memory=4G`,
`--set defaults.cpus=2`, `--set machines.hv1.machines.web.image=tiny`. The key must lead to something in the file, or
to a key that is missing there. The value is read as YAML reads an unquoted one; `[a, b]` is a list. Of machines that
share an anchor only the one that is named is changed. Relative paths in it start at the directory of the lab file.

**Another place** for the same lab is one key: by `--set on=pve://root@pam!lab@pve1`, or `on: ${{WHERE:-local}}` in the
file, what runs on this computer runs on a Proxmox VE. `bridge` and `vlan` of segments, `container` and `node` of
machines are mistakes without one.

**Limits**: {MACHINES_LIMIT} machines, nested {DEPTH_LIMIT // 2 - 1} deep.

## What is checked beside the types

- Machines are inside hypervisors only, and a hypervisor's memory holds its machines and itself.
- The networks of segments are apart; `cidr` has no host bits set; addresses are inside, neither the network's own nor
  the broadcast address, and each is given once. So is each `mac`.
- A network has room for its machines; its first address is kept free unless a machine states it.
- On a Proxmox VE, `container` and `node` are for outermost machines; a container is no hypervisor, and its image is a
  file (.tar.zst, .tar.gz or .tar.xz). No address holds a secret, and what looks like one is not shown.
- Segments and images that are named exist, and so do files.

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
            return f"names: {_words(shape.of)}"
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
