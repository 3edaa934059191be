"""What a lab file may say, and the Lab that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from disk_headers import qcow2
from nestlab.base.errors import Mistakes
from nestlab.lab.model import GIB, MIB, File, Image, Lab, Link, Machine, Segment
from nestlab.labfile import parse, parse_text, render

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))


def lab(text: str, environ: Mapping[str, str] | None = None, sets: Sequence[str] = ()) -> Lab:
    return parse_text(text, environ=environ or {}, sets=sets)


def only(text: str, environ: Mapping[str, str] | None = None, sets: Sequence[str] = ()) -> Machine:
    """The machine `m` of a lab with it alone, given as the inside of its mapping."""
    (machine,) = lab(
        f"lab: x\nsegments: {{wire: {{cidr: 10.77.0.0/24}}}}\nmachines:\n  m:\n{text}", environ, sets
    ).machines
    return machine


ONE_LEVEL = ("install", "netboot")
"""Examples without a machine inside another: what they show is the same at every level."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_labs(path: Path) -> None:
    parsed = parse(path, environ={})
    assert parsed.name == path.stem
    assert any(placed.level > 1 for placed in parsed.walk()) or path.stem in ONE_LEVEL
    assert parse_text(render(parsed), environ={}) == parsed


def test_the_pair_is_two_hypervisors_on_a_wire_with_a_guest_each() -> None:
    pair = parse(EXAMPLES[0].with_name("pair.yaml"), environ={})
    web = Machine("web", image=Image(base="tiny"), memory=128 * MIB, links=(Link("wire"),))
    hv1 = Machine("hv1", "kvm", Image(base="kvm"), memory=GIB, links=(Link("wire"),), machines=(web,))
    hv2 = replace(hv1, name="hv2")
    assert pair == Lab("pair", segments=(Segment("wire", "10.77.0.0/24"),), machines=(hv1, hv2))


def test_a_machine_that_says_nothing_is_a_small_debian() -> None:
    assert lab("lab: x\nmachines: {m: {}}").machines == (Machine("m", memory=512 * MIB),)


@pytest.mark.parametrize(
    ("image", "memory"), [("tiny", 128 * MIB), ("debian", 512 * MIB), ("kvm", GIB), ("{from: tiny}", 128 * MIB)]
)
def test_memory_left_out_is_that_of_the_image(image: str, memory: int) -> None:
    assert only(f"    image: {image}").memory == memory


def test_a_hypervisor_without_memory_gets_what_its_machines_need_and_one_gibibyte() -> None:
    inner = "machines: {a: {memory: 2G}, b: {hypervisor: kvm, machines: {c: {image: tiny}}}}"
    assert only(f"    hypervisor: kvm\n    {inner}").memory == GIB + 2 * GIB + (GIB + 128 * MIB)
    assert only("    hypervisor: kvm").memory == GIB


def test_defaults_are_for_every_machine_that_does_not_say_otherwise() -> None:
    text = """
    lab: x
    segments: {wire: }
    defaults: {cpus: 3, memory: 2G, image: tiny, segments: [wire], internet: true, accel: tcg}
    machines: {a: {}, b: {cpus: 1, memory: 1G, segments: [], internet: false, accel: auto, image: debian}}
    """
    a, b = lab(text).machines
    assert (a.cpus, a.memory, a.image.base, a.links) == (3, 2 * GIB, "tiny", (Link("wire"),))
    assert (a.internet, a.accel) == (True, "tcg")
    assert (b.cpus, b.memory, b.image.base, b.links, b.internet, b.accel) == (1, GIB, "debian", (), False, "auto")


def test_default_memory_too_small_for_its_machines_does_not_count_for_a_hypervisor() -> None:
    text = "lab: x\ndefaults: {memory: 2G}\nmachines: {hv: {hypervisor: kvm, machines: {a: {}, b: {}}}, other: {}}"
    hv, other = lab(text).machines
    assert (hv.memory, other.memory) == (5 * GIB, 2 * GIB)


def test_the_default_image_is_for_plain_guests() -> None:
    text = "lab: x\ndefaults: {image: tiny}\nmachines: {hv: {hypervisor: kvm, machines: {a: {}}}}"
    (hv,) = lab(text).machines
    assert (hv.image.base, hv.machines[0].image.base) == ("kvm", "tiny")


def test_a_default_disk_or_cmdline_passes_over_images_without_use_for_it() -> None:
    text = "lab: x\ndefaults: {disk: 8G, cmdline: quiet}\nmachines: {a: {image: tiny}, b: {}}"
    a, b = lab(text).machines
    assert (a.disk, a.cmdline, b.disk, b.cmdline) == (None, "quiet", 8 * GIB, "quiet")


def test_segments_are_a_list_or_a_mapping_with_addresses() -> None:
    assert only("    segments: [wire]").links == (Link("wire"),)
    assert only("    segments: {wire: }").links == (Link("wire"),)
    assert only("    segments: {wire: 10.77.0.9}").links == (Link("wire", "10.77.0.9"),)
    said = "{address: 10.77.0.9, mac: 52:54:00:AA:BB:CC}"
    assert only(f"    segments: {{wire: {said}}}").links == (Link("wire", "10.77.0.9", mac="52:54:00:aa:bb:cc"),)


def test_ipv6_is_understood_in_any_spelling() -> None:
    text = 'lab: x\nsegments: {wire: {cidr6: "FD77:0::/64"}}\nmachines: {m: {segments: {wire: "fd77::0:11"}}}'
    parsed = lab(text)
    assert parsed.segments == (Segment("wire", cidr6="fd77::/64"),)
    assert parsed.machines[0].links == (Link("wire", address6="fd77::11"),)


def test_an_image_has_additions(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("#!/bin/sh\n")
    text = """
    lab: x
    images:
      mine:
        from: debian
        packages: [curl, g++, curl]
        files: {/etc/motd: hi, /a: {text: "b"}, /p: {source: ./probe, mode: 0o755}}
        script: |
          echo $$HOME
        mirror: http://mirror.invalid/debian
    machines: {m: {image: mine}, n: {image: {from: tiny}}}
    """
    m, n = parse_text(text, environ={}, directory=tmp_path).machines
    assert m.image == Image(
        base="debian",
        mirror="http://mirror.invalid/debian",
        packages=("curl", "g++"),
        files=(File("/etc/motd", "hi"), File("/a", "b"), File("/p", source=str(tmp_path / "probe"), mode=0o755)),
        script="echo $HOME\n",
    )
    assert n.image == Image(base="tiny")


@pytest.mark.parametrize(
    ("name", "magic", "format"),
    [
        ("a.qcow2", qcow2(), "qcow2"),
        ("a.raw", b"", "raw"),
        ("a.iso", b"", "iso"),
        ("a.img", b"\0\0\0\0", "raw"),
        ("a.img", qcow2(), "qcow2"),
    ],
)
def test_the_format_of_a_disk_is_known_by_its_name(name: str, magic: bytes, format: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(magic)
    text = f"lab: x\nmachines: {{m: {{image: {{file: ./{name}, user: admin}}}}}}"
    (machine,) = parse_text(text, environ={}, directory=tmp_path).machines
    assert (machine.image.file, machine.image.format, machine.image.user) == (str(tmp_path / name), format, "admin")
    assert machine.memory == GIB


def test_an_alias_makes_another_machine_just_like_it() -> None:
    text = "lab: x\nmachines:\n  a: &n {hypervisor: kvm, machines: {w: {image: tiny}}}\n  b: *n\n  c: {<<: *n, cpus: 4}"
    a, b, c = lab(text).machines
    assert (a.machines, a.cpus) == (b.machines, 1) == (c.machines, 1)
    assert c.cpus == 4


def test_of_several_merged_mappings_the_earlier_counts_and_the_own_key_most() -> None:
    text = """
    lab: x
    machines:
      a: &a {cpus: 2, memory: 1G, disk: 8G}
      b: &b {cpus: 3, memory: 2G, accel: tcg}
      c: {<<: [*a, *b], memory: 3G}
    """
    c = lab(text).machines[2]
    assert (c.cpus, c.memory, c.disk, c.accel) == (2, 3 * GIB, 8 * GIB, "tcg")


def test_yaml_is_1_2() -> None:
    assert lab("on: local\nlab: x\nmachines: {on: {}, no: {}, y: {cpus: 0o17}}").machines[2].cpus == 15
    assert only("    segments: {wire: {mac: 52:54:00:12:34:56}}").links[0].mac == "52:54:00:12:34:56"
    assert [machine.name for machine in lab('lab: x\nmachines: {"true": {}, "null": {}}').machines] == ["true", "null"]


def test_variables_come_from_the_environment() -> None:
    environ = {"N": "4", "M": "2", "EMPTY": ""}
    machine = only("    cpus: ${N}\n    memory: ${M}${UNIT:-G}\n    cmdline: a$$b=${EMPTY:-c} $d", environ)
    assert (machine.cpus, machine.memory, machine.cmdline) == (4, 2 * GIB, "a$b=c $d")
    assert (
        lab("lab: ${NAME}\nmachines: {${NAME}: {}}".replace("{${NAME}: {}}", "\n  ${NAME}: {}"), {"NAME": "z"}).name
        == "z"
    )


def test_what_a_variable_holds_is_a_scalar_and_never_structure() -> None:
    assert only("    cmdline: ${X}", {"X": "a: {b: [c]}"}).cmdline == "a: {b: [c]}"


def test_set_goes_over_the_file() -> None:
    text = "lab: x\nsegments: {wire: }\nmachines:\n  a: &n {hypervisor: kvm, machines: {w: {image: tiny}}}\n  b: *n"
    sets = ["machines.b.machines.w.memory=1G", "defaults.cpus=2", "segments.wire.mtu=9000", "lab=other"]
    parsed = lab(text, sets=[*sets, "machines.b.segments=[wire]", 'machines.a.cmdline="4"', "machines.b.cmdline=$$x"])
    a, b = parsed.machines
    assert (parsed.name, parsed.segments[0].mtu) == ("other", 9000)
    assert (a.machines[0].memory, b.machines[0].memory) == (128 * MIB, GIB)
    assert (a.cpus, b.links, a.cmdline, b.cmdline) == (2, (Link("wire"),), "4", "$$x")


def test_the_last_set_counts() -> None:
    assert only("    cpus: 1", sets=["machines.m.cpus=2", "machines.m.cpus=3"]).cpus == 3


def test_includes_are_merged_and_the_including_file_counts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.yaml").write_text(
        "lab: x\ninclude: [sub/one.yaml, two.yaml]\nmachines: {m: {cpus: 4}}\nsegments: {own: }\n"
    )
    (tmp_path / "sub" / "one.yaml").write_text("include: ../two.yaml\nmachines: {m: {cpus: 2, memory: 1G, disk: 5G}}")
    (tmp_path / "two.yaml").write_text("segments: {wire: }\nmachines: {m: {disk: 6G, segments: [wire]}, n: {}}")
    parsed = parse(tmp_path / "main.yaml", environ={})
    assert [machine.name for machine in parsed.machines] == ["m", "n"]
    m = parsed.machines[0]
    assert (m.cpus, m.memory, m.disk, m.links) == (4, GIB, 6 * GIB, (Link("wire"),))
    assert [segment.name for segment in parsed.segments] == ["wire", "own"]


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("main", "other", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.raw").write_bytes(b"")
    (tmp_path / "main" / "lab.yaml").write_text(
        "lab: x\ninclude: ../other/o.yaml\nmachines: {m: {image: {file: d.raw}}}"
    )
    (tmp_path / "other" / "o.yaml").write_text("machines: {n: {image: {file: d.raw}}, p: {image: {file: x.raw}}}")
    monkeypatch.chdir(tmp_path / "here")
    sets = ["machines.p.image.file=d.raw"]
    machines = parse(Path("../main/lab.yaml"), environ={}, sets=sets).machines
    files = {machine.name: machine.image.file for machine in machines}
    assert files == {name: str(tmp_path / at / "d.raw") for name, at in (("m", "main"), ("n", "other"), ("p", "main"))}


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(b"\xef\xbb\xbflab: x\r\nmachines:\r\n  m:\r\n    cpus: 0\r\n")
    with pytest.raises(Mistakes) as caught:
        parse(path, environ={})
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.column, mistake.source) == (4, 11, "    cpus: 0")


def test_a_plain_guest_may_say_that_it_is_one() -> None:
    text = "lab: x\ndefaults: {hypervisor: kvm}\nmachines: {a: {machines: {b: {hypervisor: , machines: }}}}"
    (a,) = lab(text).machines
    assert (a.hypervisor, a.machines[0].hypervisor) == ("kvm", None)
