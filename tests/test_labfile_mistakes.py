"""Every mistake in a lab file has its place, says what was found and expected, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.base.errors import Mistake, Mistakes
from nestlab.labfile import parse, parse_text


def mistakes(text: str, *sets: str) -> tuple[Mistake, ...]:
    with pytest.raises(Mistakes) as caught:
        parse_text(text, "lab.yaml", environ={}, sets=sets)
    return caught.value.mistakes


def only(text: str, *sets: str) -> Mistake:
    found = mistakes(text, *sets)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def in_machine(text: str) -> Mistake:
    """The one mistake of a machine whose inside is `text`, on line 3."""
    return only(
        f"lab: x\nsegments: {{wire: {{cidr: 10.77.0.0/24, cidr6: 'fd77::/64'}}}}\nmachines: {{m: {{{text}}}}}\n"
    )


MACHINE = [
    ('cpus: "4"', "cpus", 'found the text "4", expected a whole number from 1 to 512', "Leave out the quotes: 4"),
    ("cpus: true", "cpus", "found true, expected a whole number", ""),
    ("cpus: 0", "cpus", "found 0, expected a whole number from 1 to 512", ""),
    ("cpus: 1.5", "cpus", "found 1.5, expected", ""),
    ("cpus: 513", "cpus", "found 513, expected", ""),
    ("cpus: ", "cpus", "found nothing, expected", ""),
    ("cpus: [1]", "cpus", "found a list, expected", ""),
    ("memory: 512", "memory", "found 512 without a unit, expected a size from 64M to 16T", "512M"),
    ('memory: "512"', "memory", "found 512 without a unit", "512M"),
    ("memory: 3 PiB", "memory", 'found the text "3 PiB", expected a size', "512M or 4G"),
    ("memory: 3072T", "memory", "3072T is too much, expected a size from 64M to 16T", "at most 16T"),
    ("memory: 63M", "memory", "63M is too little", "at least 64M"),
    ("memory: -1G", "memory", 'found the text "-1G"', ""),
    ("memory: ٤G", "memory", "expected a size", ""),
    ("disk: 65T", "disk", "65T is too much", "at most 64T"),
    ("image: tiny, disk: 1G", "disk", "`disk` means nothing here: tiny has no disk", "Leave `disk` out"),
    ("internet: yes", "internet", 'found the text "yes", expected true or false', "YAML 1.2 writes it true."),
    ("accel: hvf", "accel", 'found the text "hvf", expected auto, kvm or tcg', ""),
    ("accel: kmv", "accel", "expected auto, kvm or tcg", "Did you mean `kvm`?"),
    ("hypervisor: kvn", "hypervisor", 'found the text "kvn", expected bhyve, esxi', "Did you mean `kvm`?"),
    ("cmdline: 5", "cmdline", "found 5, expected kernel parameters", 'Put it in quotes if it is meant as text: "5"'),
    ('cmdline: "a\\nb"', "cmdline", "expected kernel parameters in one line of ASCII", ""),
    ("memroy: 1G", "memroy", "`memroy` is not a key of a machine", "Did you mean `memory`?"),
    ("vcpus: 2", "vcpus", "`vcpus` is not a key of a machine", "Did you mean `cpus`?"),
    ("zzzzzzzzz: 2", "zzzzzzzzz", "is not a key of a machine", "There is `hypervisor`, `image`"),
    ("cpus: 1, cpus: 2", "cpus", "it is here twice", "The first is on line 3"),
    ("image: tinny", "image", "there is no image `tinny`", "Did you mean `tiny`?"),
    ("image: {}", "image", "it says neither `from`, `file` nor `url`", "from: debian"),
    ("image: {from: tiny, file: x.raw}", "image.file", "`from` and `file` exclude each other", "Keep one"),
    ("image: {from: alpine}", "image.from", "expected debian, kvm, libvirt, pve or tiny", ""),
    ("image: {from: tiny, user: bob}", "image.user", "`user` means nothing with `from`", ""),
    ("image: {file: no.qcow2}", "image.file", "there is no file", "relative to the lab file"),
    ("image: {from: tiny, packages: [Curl]}", "image.packages[0]", "expected the name of a Debian package", ""),
    ("image: {from: tiny, packages: curl}", "image.packages", 'found the text "curl", expected a list', ""),
    (
        "image: {from: tiny, files: {a: b}}",
        "image.files.a",
        "expected an absolute path inside the image",
        "from the root",
    ),
    ("image: {from: tiny, files: {/a: {}}}", "image.files./a", "it says neither `text` nor `source`", ""),
    ("image: {from: tiny, files: {/a: {source: no}}}", "image.files./a.source", "there is no file", ""),
    ("image: {from: tiny, files: {/a: {text: x, mode: 0644}}}", "image.files./a.mode", "found 0644", "0o644"),
    ("image: {from: tiny, files: {/a: {text: x, mode: 644}}}", "image.files./a.mode", "found 644", "0o644"),
    ("image: {from: tiny, mirror: mirror}", "image.mirror", "expected the URL of a Debian mirror", ""),
    (
        "hypervisor: kvm, image: tiny",
        "image",
        "a hypervisor of kind kvm cannot be made from the image tiny",
        "from: kvm",
    ),
    ("segments: [wyre]", "segments.wyre", "there is no segment `wyre`", "Did you mean `wire`?"),
    ("segments: [wire, wire]", "segments.wire", "`wire` is here twice", ""),
    ("segments: wire", "segments", 'found the text "wire", expected a list', ""),
    ("segments: {wire: 10.77.1.1}", "segments.wire", "10.77.1.1 is outside 10.77.0.0/24", "10.77.0.1 to 10.77.0.254"),
    ("segments: {wire: 10.77.0.0}", "segments.wire", "is the address of the network 10.77.0.0/24 itself", ""),
    ("segments: {wire: 10.77.0.255}", "segments.wire", "is the broadcast address of 10.77.0.0/24", ""),
    ("segments: {wire: 'fd78::1'}", "segments.wire", "fd78::1 is outside fd77::/64", ""),
    ("segments: {wire: 10.77.0.300}", "segments.wire", "expected an address such as", ""),
    ("segments: {wire: {address: 10.77.0.9/24}}", "segments.wire.address", "expected an IPv4 address", "leave it out"),
    ("segments: {wire: {address: 'fd77::1'}}", "segments.wire.address", "expected an IPv4", "belongs under `address6`"),
    ("segments: {wire: {mac: 01:00:00:00:00:01}}", "segments.wire.mac", "is a multicast address", "even number"),
    ("segments: {wire: {mac: '52:54'}}", "segments.wire.mac", "expected a MAC address", ""),
    ("segments: {wire: {ip: 10.77.0.9}}", "segments.wire.ip", "`ip` is not a key of a card", "Did you mean `address`?"),
    ("machines: {a: {}}", "machines", "machines inside m, which is a plain guest", "hypervisor: kvm"),
    ("hypervisor: kvm, machines: {A: {}}", "machines.A", '"A" is no name for the machine', "Did you mean `a`?"),
    (
        "hypervisor: kvm, memory: 512M, machines: {a: {}, b: {memory: 256M}}",
        "memory",
        "512M does not hold its machines (512M + 256M = 768M) and the 384M that kvm needs itself: 1152M together",
        "at least 1152M",
    ),
    ("cpus: 300", "cpus", "at most 255 CPUs", "fewer"),
    ("topology: {sockets: 2, cores: 200}", "topology", "400 CPUs", "At most 255"),
    ("cpus: !int 4", "cpus", "the tag !int means nothing here", "Leave it out"),
    ("cpus: *nobody", "cpus", "*nobody stands for nothing", "&nobody"),
    ("cpus: ${", "", "this is not YAML", "only within quotes"),
]


@pytest.mark.parametrize(("text", "key", "what", "hint"), MACHINE, ids=[case[0] for case in MACHINE])
def test_a_mistake_in_a_machine(text: str, key: str, what: str, hint: str) -> None:
    mistake = in_machine(text)
    assert what in mistake.what
    assert hint in mistake.hint
    assert mistake.key == (f"machines.m.{key}" if key else "")
    assert (mistake.file, mistake.line) == ("lab.yaml", 3)
    assert mistake.source == f"machines: {{m: {{{text}}}}}"


WHOLE = [
    ("", "1:1", "there is nothing in this file", "lab: NAME"),
    ("# only a comment\n", "1:1", "there is nothing in this file", ""),
    ("- a\n", "1:1", "found a list, expected a mapping", ""),
    ("just text\n", "1:1", 'found the text "just text", expected a mapping', ""),
    ("machines: {m: {}}\n", "1:1", "`lab` is missing: a name for the lab", "Add lab: pair"),
    ("lab: x\n", "1:1", "`machines` is missing", "Add `machines:`"),
    ("lab: x\nmachines: {}\n", "2:11", "there is no machine in the lab", "tiny"),
    ("lab: x\nmachines:\n", "2:1", "found nothing, expected a mapping", ""),
    (
        "lab: x\nmachines: {m: {}}\non: ssh://root:secret@h\n",
        "3:5",
        "The ssh address has a password in it",
        "Take it out",
    ),
    ("lab: x\nmachines: {m: {}}\non: ssh://a;b@h\n", "3:5", "no usable user's name", "ssh://[user@]host"),
    ("lab: x\nmachines: {m: {}}\non: ssh://h:0\n", "3:5", "is not a port from 1 to 65535", "ssh://[user@]host"),
    ("lab: x\nmachines: {m: {}}\non: ssh://h/path\n", "3:5", "is not a host's name", "ssh://[user@]host"),
    ("lab: x\nmachines: {m: {}}\nsegmnts: {}\n", "3:1", "`segmnts` is not a key of the lab file", "`segments`"),
    ("lab: x\nmachines: {m: [}\n", "2:16", "this is not YAML", ""),
    ("lab: x\n  machines: 1\n", "2:11", "this is not YAML", ""),
    ("lab: x\nmachines: {m: {}}\n---\nlab: y\n", "3:1", "a second document starts here", "one lab in a file"),
    ("%YAML 1.1\n---\nlab: x\n", "2:1", "lab files are YAML 1.2", ""),
    ("lab: x\nmachines: {m: {cmdline: \x01}}\n", "2:25", "this is not YAML: a control character", ""),
    ('lab: x\nmachines: {m: {cmdline: "\\ud800"}}\n', "2:25", "half a character", "UTF-8"),
    ("lab: x\nmachines: {m: {}, 1: {}}\n", "2:19", "found 1, expected a name", ""),
    ("lab: x\nmachines: {m: {}, [a]: {}}\n", "2:19", "a list as a key", ""),
    ("lab: x\nmachines: {m: {<<: 1}}\n", "2:20", "<< takes mappings, found 1", "<<: *name"),
    ("lab: x\nmachines: &a {m: {}, n: *a}\n", "2:25", "*a is part of itself", ""),
    ("lab: x\nmachines: {m: {cmdline: '${X}'}}\n", "2:25", "the variable X is not set", "${X:-default}"),
    ("lab: x\nmachines: {m: {cmdline: '${X:?}'}}\n", "2:25", "${X:?} is not a variable", "$$"),
    ("lab: x\ndefaults: {machines: {}}\nmachines: {m: {}}\n", "2:12", "`machines` is not a key of `defaults`", ""),
    (
        "lab: x\nimages: {tiny: {from: tiny}}\nmachines: {m: {}}\n",
        "2:10",
        "tiny is an image of nestlab's",
        "another name",
    ),
]


@pytest.mark.parametrize(("text", "place", "what", "hint"), WHOLE, ids=[repr(case[0]) for case in WHOLE])
def test_a_mistake_in_the_file(text: str, place: str, what: str, hint: str) -> None:
    mistake = only(text)
    assert f"{mistake.line}:{mistake.column}" == place
    assert what in mistake.what
    assert hint in mistake.hint


SEGMENTS = [
    ("a: {cidr: 10.77.0.1/24}", "a.cidr", "is an address in a network, not a network", "The network is 10.77.0.0/24."),
    ("a: {cidr: 10.77.0.0}", "a.cidr", "is an address, expected an IPv4 network", "/24"),
    ("a: {cidr: 10.77.0.0/31}", "a.cidr", "leaves no room or too much", "/24 is usual"),
    ("a: {cidr: 127.1.0.0/16}", "a.cidr", "has a meaning of its own", "10.0.0.0/8"),
    ("a: {cidr: 'fd77::/64'}", "a.cidr", "expected an IPv4 network", "belongs under `cidr6`"),
    ("a: {cidr6: 'fd77::/80'}", "a.cidr6", "IPv6 wants a /64", "/64 is usual"),
    ("a: {cidr6: 'fe80::/64'}", "a.cidr6", "has a meaning of its own", "fd00::/8"),
    ("a: {mtu: 576}", "a.mtu", "found 576, expected a whole number from 1280 to 65521", "IPv6"),
    ("a: {mtu: 65522}", "a.mtu", "found 65522", ""),
    ("a: {cidr: 10.0.0.0/8}, b: {cidr: 10.1.0.0/16}", "b.cidr", "10.1.0.0/16 overlaps 10.0.0.0/8 of the segment a", ""),
    ("a: {cidr: 10.1.0.0/16}, b: {cidr: 10.0.0.0/8}", "b.cidr", "10.0.0.0/8 overlaps 10.1.0.0/16 of the segment a", ""),
    ("a: {cidr6: 'fd00::/32'}, b: {cidr6: 'fd00:0:1::/64'}", "b.cidr6", "overlaps fd00::/32 of the segment a", "IPv6"),
    ("A: {}", "A", '"A" is no name for the segment', "Did you mean `a`?"),
]


@pytest.mark.parametrize(("text", "key", "what", "hint"), SEGMENTS, ids=[case[0] for case in SEGMENTS])
def test_a_mistake_in_a_segment(text: str, key: str, what: str, hint: str) -> None:
    mistake = only(f"lab: x\nsegments: {{{text}}}\nmachines: {{m: {{}}}}\n")
    assert mistake.key == f"segments.{key}"
    assert what in mistake.what
    assert hint in mistake.hint


NAMES = ["a/b", "ünï", "a" * 300, "Web", "1web", "web-", "-web", "we b", "localhost", "web.hv"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_host_name_is_a_mistake(name: str) -> None:
    mistake = only(f"lab: x\nmachines:\n  {name}: {{}}\n")
    assert (mistake.line, mistake.column) == (3, 3)
    assert "name" in mistake.what
    assert len(str(mistake)) < 900


def test_the_name_of_a_lab_is_short() -> None:
    assert "at most 40" in only(f"lab: {'a' * 41}\nmachines: {{m: {{}}}}").hint


def test_an_address_is_given_once() -> None:
    text = "lab: x\nsegments: {w: {cidr: 10.1.0.0/24}}\nmachines:\n  a: &a {segments: {w: 10.1.0.9}}\n  b: *a\n"
    mistake = only(text)
    assert mistake.what == "10.1.0.9 is the address of a already (line 4)"
    text = text.replace("w: 10.1.0.9", "w: {mac: '52:54:00:00:00:01'}")
    assert only(text).what == "52:54:00:00:00:01 is a card of a already (line 4)"


def test_an_address_needs_the_network_of_its_segment() -> None:
    mistake = only("lab: x\nsegments: {w: }\nmachines: {m: {segments: {w: 10.1.0.9}}}")
    assert "the segment w has no `cidr`" in mistake.what


def test_a_network_needs_room_for_its_machines() -> None:
    text = "lab: x\nsegments: {w: {cidr: 10.1.0.0/30}}\ndefaults: {segments: [w]}\nmachines: {a: {}, b: {}}"
    assert only(text).what == "10.1.0.0/30 has room for 1 machine, and 2 are on this segment"
    parse_text(text.replace("a: {}", "a: {segments: {w: 10.1.0.1}}"), environ={})


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    text = 'lab: X\nmachines:\n  m: {cpus: 0, memory: 1}\n  n:\n    cpus: "2"\n    images: tiny\n'
    found = mistakes(text, "machines.q.cpus=1")
    places = [(each.file, each.line, each.column) for each in found]
    assert places == [("lab.yaml", 1, 6)] + [("lab.yaml", *at) for at in ((3, 13), (3, 24), (5, 11), (6, 5))] + [
        ("--set #1", 1, 10)
    ]


def test_a_mistake_that_an_alias_repeats_is_said_once_at_its_own_place() -> None:
    mistake = only("lab: x\nmachines:\n  a: &a {cpus: 0}\n  b: *a\n  c: {<<: *a}\n")
    assert (mistake.line, mistake.column, mistake.key) == (3, 16, "machines.a.cpus")


@pytest.mark.parametrize(
    ("said", "key", "meant"),
    [
        ("cpu: 2", "cpu", "cpus"),
        ("cpus: host", "cpus", "cpu"),
        ("disk: [20G, 20G]", "disk", "disks"),
        ("segment: [wire]", "segment", "segments"),
    ],
)
def test_a_value_of_the_key_for_one_or_for_many_is_told_that_key(said: str, key: str, meant: str) -> None:
    mistake = only(f"lab: x\nsegments: {{wire: {{}}}}\nmachines: {{m: {{{said}}}}}")
    assert (mistake.key, mistake.hint) == (f"machines.m.{key}", f"Did you mean `{meant}`?")


def test_a_value_that_the_other_key_would_not_take_either_keeps_its_hint() -> None:
    assert only("lab: x\nmachines: {m: {cpu: 2.5}}").hint == 'Put it in quotes if it is meant as text: "2.5"'
    assert only("lab: x\nmachines: {m: {cpu: 2, cpus: 2}}").hint == 'Put it in quotes if it is meant as text: "2"'


def test_a_mistake_shows_its_line_with_a_mark_under_the_place() -> None:
    assert str(only("lab: x\nmachines: {m: {cpus: 0}}")).splitlines()[1:] == [
        "  2 | machines: {m: {cpus: 0}}",
        "    |                      ^",
    ]


def test_a_line_too_long_for_a_screen_is_cut() -> None:
    assert len(only(f"lab: x\nmachines: {{m: {{cpus: 0, cmdline: '{'a' * 1000}'}}}}").source) < 250
    assert only(f"lab: x\nmachines: {{m: {{cmdline: '{'a' * 1000}', cpus: 0}}}}").source == ""


SETS = [
    ("foo", 1, 'found "foo", expected KEY=VALUE', "--set machines.NAME.memory=4G"),
    ("machines.m.memori=1G", 12, 'machines.m has no key "memori"', "Did you mean `memory`?"),
    ("machines.n.cpus=1", 10, 'there is no "n" in machines', "`m`"),
    (
        "machines.m/web.cpus=1",
        10,
        'there is no "m/web" in machines',
        "keys as the file has them: machines.m.machines.web",
    ),
    ("machins.m.cpus=1", 1, 'there is no key "machins"', "Did you mean `machines`?"),
    ("machines.m.cpus.x=1", 17, "machines.m.cpus is", "End the path there"),
    ("machines.m.cpus=many", 17, 'found the text "many", expected a whole number', ""),
    ('machines.m.cpus="4"', 17, 'found the text "4"', "Leave out the quotes"),
    ("machines.m.segments=[w", 23, "this is not YAML", ""),
    ("include=x.yaml", 1, "no key", ""),
]


@pytest.mark.parametrize(("text", "column", "what", "hint"), SETS, ids=[case[0] for case in SETS])
def test_a_mistake_in_a_set_points_at_it(text: str, column: int, what: str, hint: str) -> None:
    mistake = only("lab: x\nmachines: {m: {}}", "lab=y", text)
    assert (mistake.file, mistake.line, mistake.column, mistake.source) == ("--set #2", 1, column, text)
    assert what in mistake.what
    assert hint in mistake.hint


def file_mistakes(path: Path) -> tuple[Mistake, ...]:
    with pytest.raises(Mistakes) as caught:
        parse(path, environ={})
    return caught.value.mistakes


def test_a_file_that_is_not_there_or_no_text_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes("lab: x\n# größe\n".encode("latin-1"))
    (tmp_path / "utf16").write_bytes("lab: x\n".encode("utf-16"))
    wanted = {"nothing": "no such file", ".": "a directory", "latin1": "0xf6 is not UTF-8", "utf16": "not UTF-8"}
    for name, what in wanted.items():
        (mistake,) = file_mistakes(tmp_path / name)
        assert what in mistake.what
    assert file_mistakes(tmp_path / "latin1")[0].line == 2
    # Reading its own memory at offset 0 fails for everybody, root included.
    assert "cannot be read" in file_mistakes(Path("/proc/self/mem"))[0].what


def test_a_mistake_about_an_included_file_is_where_it_is_named_or_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lab: x\ninclude: [b.yaml, no.yaml, 3, a.yaml]\nmachines: {m: {cpus: 0}}\n")
    (tmp_path / "b.yaml").write_text("lab: y\nmachines: {n: {cpus: 0}}\ninclude: a.yaml\n")
    found = file_mistakes(tmp_path / "a.yaml")
    a, b = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    places = [(each.file, each.line, each.column, each.key) for each in found]
    assert places == [
        (a, 2, 19, "include[1]"),
        (a, 2, 28, "include[2]"),
        (a, 2, 31, "include[3]"),
        (a, 3, 22, "machines.m.cpus"),
        (b, 1, 1, "lab"),
        (b, 2, 22, "machines.n.cpus"),
        (b, 3, 10, "include"),
    ]
    assert "no.yaml: there is no such file" in found[0].what
    assert "this file includes itself: a.yaml -> a.yaml" in found[2].what
    assert "this file includes itself: a.yaml -> b.yaml -> a.yaml" in found[6].what


def test_aliases_that_multiply_are_a_mistake() -> None:
    lines = ["lab: x", "machines:", "  a0: &a0 {cmdline: x}"]
    lines += [
        f"  a{n}: &a{n} {{hypervisor: kvm, machines: {{{', '.join(f'm{k}: *a{n - 1}' for k in range(10))}}}}}"
        for n in range(1, 12)
    ]
    mistake = only("\n".join(lines))
    assert "its aliases make it" in mistake.what


def test_nesting_without_end_is_a_mistake() -> None:
    assert "nested more than 100 deep" in only("[" * 100_000).what
    chain = ["lab: x", "machines:", "  a0: &a0 {}"]
    chain += [f"  a{n}: &a{n} {{hypervisor: kvm, machines: {{m: *a{n - 1}}}}}" for n in range(1, 200)]
    assert "deep" in only("\n".join(chain)).what


def test_more_machines_than_a_lab_may_have_are_a_mistake() -> None:
    tens = ["lab: x", "segments: {}", "machines:", "  a: &a {}"]
    tens += [
        f"  b{n}: &b{n} {{hypervisor: kvm, machines: {{{', '.join(f'm{k}: *{inner}' for k in range(22))}}}}}"
        for n, inner in enumerate(["a", "b0", "b1"])
    ]
    assert "more than 10000 machines" in mistakes("\n".join(tens))[0].what


@pytest.mark.parametrize("item", ["{segment: wire, card: e1000e}", "wire: {address: 10.77.0.11}"])
def test_a_name_with_more_in_a_list_is_told_how_it_is_written(item: str) -> None:
    [mistake] = mistakes(f"lab: x\nsegments: {{wire: {{}}}}\nmachines: {{a: {{image: tiny, segments: [{item}]}}}}\n")
    assert mistake.hint == "With more than names, write a mapping: `segments: {NAME: {…}}`."


OTHERS = [
    ("machines: {a: {image: tiny, count: 3}}", "Each machine has its own name, and an anchor repeats the rest"),
    ("machines: {a: {image: tiny, nested: true}}", "Leave it out: every machine with `hypervisor:`"),
    ("machines: {a: {image: tiny, onboot: 1}}", "Leave it out: `nestlab start` starts a lab"),
    ("machines: {a: {image: tiny, ip: 10.0.0.1}}", "It is said of a card"),
    ("machines: {a: {image: tiny, hostname: b}}", "What stands before the colon is its name."),
    ("machines: {a: {image: tiny, version: 9}}", "It is said of an image: `image: {from: pve, version: 8}`"),
    ("machines: {a: {image: tiny, segments: wire}}", "Write a list: [wire]"),
    ("machines: {a: tiny}", "Write a mapping: {image: tiny}"),
    ("machines: {a: {image: tiny, segments: {wire: {ip: 10.0.0.1}}}}", "Did you mean `address`?"),
    ("segments: {lan: {gateway: 10.0.0.1}}", "Nothing leaves a segment."),
    ("segments: {lan: {dhcp: true}}", "nestlab gives machines their addresses."),
    ("segments: {lan: 10.0.0.0/24}", "Write a mapping: {cidr: 10.0.0.0/24}"),
    ("clusters: {c: {members: [a], name: d}}", "What stands before the colon is its name."),
    ("clusters: {c: {nodes: [a]}}", "Did you mean `members`?"),
]


@pytest.mark.parametrize(("text", "hint"), OTHERS)
def test_what_other_tools_call_it_is_told_how_it_is_said_here(text: str, hint: str) -> None:
    rest = "segments: {wire: {}}\n" if not text.startswith("segments") else ""
    rest += "machines: {a: {image: tiny}}\n" if not text.startswith("machines") else ""
    assert any(each.hint.startswith(hint) for each in mistakes(f"lab: x\n{rest}{text}\n"))
