"""Whatever is written, a lab file is a Lab or a list of mistakes; and a Lab can be written down and read again."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nestlab.base.errors import Mistakes
from nestlab.home import key_pairs
from nestlab.lab.model import MIB, File, Image, Lab, Link, Machine, Segment, Setup
from nestlab.lab.places import Pve
from nestlab.labfile import parse_text, render
from nestlab.labfile.fields import RECORDS, RESERVED
from nestlab.labfile.image_fields import SUITES

PIECES = [
    *(f"{field.name}:" for record in RECORDS.values() for field in record.fields),
    *(
        "lab: x\n",
        "machines:\n",
        "segments:\n",
        "  m:\n",
        "    ",
        "  ",
        "\n",
        "{",
        "}",
        "[",
        "]",
        ": ",
        ", ",
        "- ",
        "? ",
    ),
    *(
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!x ",
        "| \n",
        ">-\n",
        "# ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "%TAG ! a\n",
        "'",
        '"',
    ),
    *(
        "${X}",
        "${X:-y}",
        "$$",
        "${",
        "4G",
        "512",
        "0x",
        "1e400",
        "-",
        ".inf",
        "tiny",
        "kvm",
        "wire",
        "10.77.0.0/24",
        "::/0",
    ),
    *("\t", "\r", "\\", "\\U00110000", "\\ud800", "\ufeff", "\x85", "\u2028", "\0", "٤", "é", "@", "`", "~", "0o644"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=30).map("".join)


def outcome(text: str, *sets: str) -> Lab | Mistakes:
    try:
        return parse_text(text, environ={"X": "z: [1"}, sets=sets, directory=Path("/nonexistent"))
    except Mistakes as mistakes:
        return mistakes


def is_a_lab_or_mistakes(text: str, *sets: str) -> None:
    result = outcome(text, *sets)
    if isinstance(result, Lab):
        assert result.machines
    else:
        assert str(result)
        assert result.mistakes
        assert all(each.what and each.line >= 1 and each.column >= 1 for each in result.mistakes)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example('lab: "\\U00110000"')
@example("%YAML 1.999999999999\n---\n")
@example("? \n")
@example("&a [*a]")
def test_any_text_is_a_lab_or_mistakes(text: str) -> None:
    is_a_lab_or_mistakes(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(PIECES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                sorted({field.name for record in RECORDS.values() for field in record.fields} | {"m", "wire"})
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, JSON, JSON, st.just("local") | st.just("pve://h") | JSON)
def test_any_tree_is_a_lab_or_mistakes(
    machine: object, segment: object, image: object, defaults: object, on: object
) -> None:
    tree = {
        "lab": "x",
        "on": on,
        "defaults": defaults,
        "segments": {"wire": segment},
        "images": {"mine": image},
        "machines": {"m": machine, "n": {"image": "mine", "segments": ["wire"]}},
    }
    is_a_lab_or_mistakes(json.dumps(tree))


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=10))
def test_any_set_is_a_lab_or_mistakes(path: str, value: str) -> None:
    for text in (path, f"{path}={value}", f"machines.m.{path}={value}", f"machines.m.cpus={value}"):
        is_a_lab_or_mistakes("lab: x\nmachines: {m: {}}", text)


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True).filter(lambda name: name not in RESERVED)
TEXT = st.text(max_size=20)
KEYS = [key_pairs.generate(comment=name).public for name in ("one", "two $x")]
PATHS = st.from_regex(r"/[a-z ]{1,5}(/[a-zé.]{3,5}[a-z])?", fullmatch=True)


@st.composite
def images(draw: st.DrawFn, kind: str | None) -> Image:
    files = draw(st.lists(st.builds(File, PATHS, TEXT, st.none(), st.integers(0, 0o7777)), max_size=2))
    base = "kvm" if kind else draw(st.sampled_from(["debian", "tiny"]))
    packages = st.lists(st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,6}", fullmatch=True), max_size=2, unique=True)
    return Image(
        base=base,
        mirror=draw(st.none() | st.just("http://mirror.invalid/debian")),
        packages=() if base == "tiny" else tuple(draw(packages)),
        files=tuple({file.path: file for file in files}.values()),
        script=None if base == "tiny" else draw(st.none() | TEXT),
        suite=draw(st.none() | st.sampled_from(SUITES)),
        kernel=draw(st.none() | st.sampled_from(["cloud", "generic", "linux-image-rt-amd64"])),
    )


@st.composite
def setups(draw: st.DrawFn) -> Setup | None:
    files = draw(st.lists(st.builds(File, PATHS, TEXT, st.none(), st.integers(0, 0o7777)), max_size=2))
    made = Setup(tuple({file.path: file for file in files}.values()), tuple(draw(st.lists(TEXT, max_size=2))))
    return made if made != Setup() else None


@st.composite
def machines(draw: st.DrawFn, name: str, segments: list[str], depth: int, *, on_pve: bool = False) -> Machine:
    kind = draw(st.sampled_from([None, "kvm"])) if depth else None
    names = draw(st.lists(NAMES, max_size=2, unique=True)) if kind else []
    inner = tuple(draw(machines(each, segments, depth - 1)) for each in names)
    image = draw(images(kind))
    links = draw(st.lists(st.sampled_from(segments), unique=True)) if segments else []
    node = draw(st.none() | st.sampled_from(["pve1", "n"])) if on_pve else None
    return Machine(
        name=name,
        hypervisor=kind,
        image=image,
        cpus=draw(st.integers(1, 255)),
        memory=sum(each.memory for each in inner) + 448 * MIB + draw(st.integers(0, 1 << 40)),
        disk=None if image.base == "tiny" else draw(st.none() | st.integers(1 << 34, 1 << 46)),
        links=tuple(Link(segment) for segment in links),
        internet=draw(st.booleans()),
        accel=draw(st.sampled_from(["auto", "kvm", "tcg"])),
        cmdline=draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)),
        node=node,
        ssh_keys=tuple(draw(st.lists(st.sampled_from(KEYS), unique=True))),
        setup=draw(setups()),
        machines=inner,
    )


STORAGES = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,5}[A-Za-z0-9]", fullmatch=True)
NODES = ["pve1", "n", "other"]
ADDRESSES = [
    "pve://pve1",
    "pve://root@pam!lab@pve1:443/n",
    "pve://a%24%7Bb%7D@pve@[fd00::5]",
    "pve+ssh://root@h:22",
    "pve+local",
]


@st.composite
def places(draw: st.DrawFn) -> Pve:
    return Pve(
        draw(st.sampled_from(ADDRESSES)),
        pool=draw(st.sampled_from(["nestlab", "a/b.c/D_e", "null", "1e3", "7"])),
        storage=draw(st.none() | STORAGES),
        images=draw(st.none() | STORAGES),
        zone=draw(st.from_regex(r"[A-Za-z][A-Za-z0-9]{1,7}", fullmatch=True)),
        bridge=draw(st.sampled_from([None, "vmbr0", "a.1_b-c"])),
        nodes=draw(st.sampled_from([(), (*NODES, "1"), tuple(NODES)])),
        placement=draw(st.sampled_from(["spread", "pack"])),
        cpu=draw(st.sampled_from([None, "host", "EPYC,flags=+nested-virt;-pcid", "486", "cputype=host,hidden=1"])),
    )


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    segments = draw(st.lists(NAMES, max_size=3, unique=True))
    on = draw(st.none() | places())
    made = []
    for number, name in enumerate(segments):
        cidr = draw(st.sampled_from([None, f"10.{number}.0.0/16"]))
        cidr6 = draw(st.sampled_from([None, f"fd00:{number + 1}::/64"]))
        bridge = draw(st.sampled_from([None, "vmbr1", "1"])) if on else None
        vlan = draw(st.none() | st.integers(1, 4094)) if bridge else None
        made.append(Segment(name, cidr, cidr6, draw(st.integers(1280, 65521)), bridge, vlan))
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    inside = tuple(draw(machines(each, segments, 2, on_pve=on is not None)) for each in names)
    return Lab(draw(NAMES), on, tuple(made), inside)


@settings(max_examples=200, deadline=None)
@given(labs())
def test_a_lab_written_down_is_read_as_the_same_lab(lab: Lab) -> None:
    assert parse_text(render(lab), environ={}) == lab


def test_addresses_disks_and_files_written_down_are_read_as_the_same(tmp_path: Path) -> None:
    disk = tmp_path / 'a "disk" $x.qcow2'
    disk.write_bytes(b"")
    links = (Link("w", "10.1.0.9", "fd77::9", "52:54:00:00:00:01"), Link("v"))
    image = Image(base="debian", files=(File("/a", source=str(disk), mode=0o755),))
    lab = Lab(
        "x",
        segments=(Segment("w", "10.1.0.0/24", "fd77::/64"), Segment("v")),
        machines=(
            Machine("m", links=links, image=Image(file=str(disk), format="raw", user="admin")),
            Machine("n", image=image),
        ),
    )
    assert parse_text(render(lab), environ={}) == lab


def test_a_container_written_down_is_read_as_the_same(tmp_path: Path) -> None:
    template = tmp_path / "debian.tar.zst"
    template.write_bytes(b"")
    container = Machine("ct", image=Image(file=str(template)), container=True, node="pve1")
    lab = Lab("x", Pve("pve://pve1"), machines=(container,))
    assert parse_text(render(lab), environ={}) == lab
