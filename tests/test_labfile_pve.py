"""`on:` of a lab file: a Proxmox VE, what is said about it, and every mistake in that with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from nestlab.base.errors import Mistake, Mistakes
from nestlab.lab.model import GIB, Image, Lab, Machine, Segment
from nestlab.lab.places import Pve
from nestlab.labfile import parse, parse_text, render
from nestlab.labfile.schema import schema

PAIR = Path(__file__).parent.parent / "examples" / "pair.yaml"
SECRET = "geheim-1234"


def lab(text: str, environ: Mapping[str, str] | None = None, sets: Sequence[str] = (), at: Path | None = None) -> Lab:
    return parse_text(text, "lab.yaml", environ=environ or {}, sets=sets, directory=at)


def mistakes(text: str, *sets: str, environ: Mapping[str, str] | None = None, at: Path | None = None) -> list[Mistake]:
    with pytest.raises(Mistakes) as caught:
        lab(text, environ, sets, at)
    return list(caught.value.mistakes)


def only(text: str, *sets: str, environ: Mapping[str, str] | None = None, at: Path | None = None) -> Mistake:
    found = mistakes(text, *sets, environ=environ, at=at)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def on(said: str) -> str:
    return f"lab: x\non: {said}\nmachines: {{m: {{}}}}\n"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("local", None),
        ("pve://pve1", Pve("pve://pve1")),
        ("pve://lab%40pve!nestlab@PVE1:8006/", Pve("pve://lab@pve!nestlab@pve1")),
        ("'pve://root@pam@[fd00::5]/n'", Pve("pve://root@pam@[fd00::5]/n")),
        ("pve+ssh://root@pve1", Pve("pve+ssh://root@pve1")),
        ("pve+local", Pve("pve+local")),
        ("{pve: pve+local}", Pve("pve+local")),
        (
            "{pve: pve://h, pool: a/b, storage: s1, images: local, zone: labz, bridge: vmbr0, nodes: [n1, n2],"
            " placement: pack, cpu: 'EPYC,flags=+nested-virt'}",
            Pve("pve://h", "a/b", "s1", "local", "labz", "vmbr0", ("n1", "n2"), "pack", "EPYC,flags=+nested-virt"),
        ),
    ],
)
def test_a_lab_is_on_this_computer_or_on_a_proxmox_ve(said: str, meant: Pve | None) -> None:
    assert lab(on(said)).on == meant
    assert lab(render(lab(on(said)))).on == meant


def test_where_a_lab_is_may_come_from_the_environment_or_the_command_line() -> None:
    text = on("${WHERE:-local}")
    assert lab(text).on is None
    assert lab(text, {"WHERE": "pve://h"}).on == Pve("pve://h")
    assert lab(text, sets=["on=pve+local"]).on == Pve("pve+local")
    mapping = on("{pve: pve://h}").replace("{pve: pve://h}", "\n  pve: ${WHERE}\n  nodes: [a]")
    assert lab(mapping, {"WHERE": "pve://h"}, ["on.storage=fast", "on.nodes=[b, c]"]).on == Pve(
        "pve://h", storage="fast", nodes=("b", "c")
    )
    assert lab("lab: x\nmachines: {m: {}}", sets=["on.pve=pve://h", "on.pool=p"]).on == Pve("pve://h", "p")


def test_the_same_lab_is_elsewhere_when_only_on_is_changed() -> None:
    here = parse(PAIR, environ={})
    there = parse(PAIR, environ={}, sets=["on=pve://root@pam!lab@pve1"])
    assert there == Lab("pair", Pve("pve://root@pam!lab@pve1"), here.segments, here.machines)


def test_segments_and_machines_say_what_they_are_on(tmp_path: Path) -> None:
    (tmp_path / "d.tar.zst").write_bytes(b"")
    text = """
    lab: x
    on: pve://h
    segments: {a: {bridge: vmbr1, vlan: 77}, b: {bridge: vmbr2}, c: }
    machines:
      ct: {container: true, node: n1, image: {file: d.tar.zst}}
      vm: {container: false, node: n2}
    """
    found = lab(text, at=tmp_path)
    assert found.segments == (Segment("a", bridge="vmbr1", vlan=77), Segment("b", bridge="vmbr2"), Segment("c"))
    ct, vm = found.machines
    image = Image(file=str(tmp_path / "d.tar.zst"))
    assert ct == Machine("ct", image=image, memory=GIB, container=True, node="n1")
    assert (vm.container, vm.node) == (False, "n2")


def test_default_containers_and_nodes_pass_over_what_cannot_have_them(tmp_path: Path) -> None:
    (tmp_path / "d.tar.gz").write_bytes(b"")
    text = """
    lab: x
    on: pve://h
    defaults: {container: true, node: n1}
    machines:
      ct: {image: {file: d.tar.gz}}
      hv: {hypervisor: kvm, node: n2, machines: {in: {image: tiny}}}
      vm: {container: false}
    """
    ct, hv, vm = lab(text, at=tmp_path).machines
    assert [(each.container, each.node) for each in (ct, hv, vm)] == [(True, "n1"), (False, "n2"), (False, "n1")]
    assert (hv.machines[0].container, hv.machines[0].node) == (False, None)


ON = [
    (
        "",
        "",
        "found nothing, expected `local`, `qemu:///system`, a host such as ssh://lab@server or the address of",
        "",
    ),
    ("5", "", "found 5, expected `local`", ""),
    ("[pve://h]", "", "found a list, expected `local`", ""),
    ("lokal", "", 'found the text "lokal", expected `local`', "Did you mean `local`?"),
    ("https://h:8006", "", 'found the text "https://h:8006", expected', ""),
    ("qemu+tls://h/system", "", "qemu+tls: is not supported", "ssh://[USER@]HOST"),
    ("pve://", "", "it names no host", "pve://[USER@REALM[!TOKENID]@]HOST[:8006][/NODE]"),
    ("pve://root@h", "", "is no user with a realm", "Write it as"),
    ("pve://h/a/b", "", "only the name of a node may follow", "Write it as"),
    ("pve:h", "", "no address of a Proxmox VE", "Write it as"),
    ("pve+ssh://h/n", "", "its host or port cannot be read", "pve+ssh://[USER@]HOST[:22]"),
    ("pve+locale", "", "no address of a Proxmox VE", "Write it as"),
    ("{}", "pve", "`pve` is missing: the address of a Proxmox VE", "Add pve: pve://root@pam!lab@pve1"),
    ("{pve: local}", "pve", "`local` is no Proxmox VE", "say `on: local`"),
    ("{pve: }", "pve", "found nothing, expected the address of a Proxmox VE", ""),
    ("{pve: 'ssh://h'}", "pve", "ssh: is no Proxmox VE", "pve+ssh://"),
    ("{pve: pve+local, pool: a b}", "pool", 'found the text "a b", expected the name of a pool', ""),
    ("{pve: pve+local, pool: a/b/c/d}", "pool", "expected the name of a pool", ""),
    ("{pve: pve+local, storage: x}", "storage", "expected the name of a storage", ""),
    ("{pve: pve+local, storage: 'local:iso'}", "storage", "expected the name of a storage", ""),
    ("{pve: pve+local, images: 1local}", "images", "expected the name of a storage", ""),
    ("{pve: pve+local, zone: nestlabzone}", "zone", "expected the name of an SDN zone, of 2 to 8 letters", ""),
    ("{pve: pve+local, zone: 1zone}", "zone", "expected the name of an SDN zone", ""),
    ("{pve: pve+local, zone: my-zone}", "zone", "expected the name of an SDN zone", ""),
    ("{pve: pve+local, bridge: 'vmbr 0'}", "bridge", "expected the name of a bridge", ""),
    ("{pve: pve+local, nodes: []}", "nodes", "there is no node in it", "leave `nodes` out to allow all"),
    ("{pve: pve+local, nodes: n1}", "nodes", 'found the text "n1", expected a list', ""),
    ("{pve: pve+local, nodes: [n.1]}", "nodes[0]", "expected the name of a node", ""),
    ("{pve: pve+local, nodes: [n1, n1]}", "nodes", "`n1` is here twice", "once"),
    ("{pve: pve+local, placement: best}", "placement", "expected spread or pack", ""),
    ("{pve: pve+local, placement: spred}", "placement", "expected spread or pack", "Did you mean `spread`?"),
    ("{pve: pve+local, cpu: 'host flags'}", "cpu", "expected a CPU as PVE writes it", ""),
    ("{pve: pve+local, datastore: x}", "datastore", "`datastore` is not a key of `on`", "Did you mean `storage`?"),
    ("{pve: pve+local, fingerprint: x}", "fingerprint", "is not a key of `on`", "NESTLAB_PVE_FINGERPRINT"),
    ("{pve: pve+local, user: root@pam}", "user", "is not a key of `on`", "It is part of the address"),
    ("{pve: pve+local, port: 8006}", "port", "is not a key of `on`", "pve://HOST:8006"),
]


@pytest.mark.parametrize(("said", "key", "what", "hint"), ON, ids=[case[0] for case in ON])
def test_a_mistake_about_where_a_lab_is(said: str, key: str, what: str, hint: str) -> None:
    mistake = only(on(said))
    assert what in mistake.what
    assert hint in mistake.hint
    assert mistake.key in (f"on.{key}" if key else "on", key)
    assert (mistake.file, mistake.line) == ("lab.yaml", 2)
    assert mistake.source == f"on: {said}".rstrip()


SECRETS = [
    f"pve://root@pam:{SECRET}@pve1",
    f"pve://lab@pve!nestlab={SECRET}@pve1",
    f"pve://lab@pve!nestlab={SECRET}",
    f"pve://root:{SECRET}",
    f"pve://root@pam:a {SECRET}@pve1",
    f"pve+ssh://root:{SECRET}@pve1",
    f"root:{SECRET}@pve1",
    f"https://root:{SECRET}@pve1:8006",
    f"lab@pve!nestlab={SECRET}",
    f"PVEAPIToken=lab@pve!nestlab={SECRET}",
]


@pytest.mark.parametrize("address", [*SECRETS, f"pve://{'a' * 60}@pam:{SECRET * 20}@pve1"])
def test_a_secret_in_an_address_is_a_mistake_that_does_not_repeat_it(address: str) -> None:
    for text in (on(address), on(f'{{pve: "{address}", zone: "a-b"}}'), on("${WHERE}")):
        found = mistakes(text, environ={"WHERE": address})
        assert {each.line for each in found} == {2}
        assert SECRET not in "".join(map(str, found))
    assert SECRET not in str(only(on("local"), f"on={address}"))


@pytest.mark.parametrize("address", SECRETS[:3])
def test_a_mistake_that_is_about_something_else_does_not_repeat_a_secret(address: str) -> None:
    for text, sets in (
        (on(address), ["on.pool=x"]),
        (f"lab: x\nmachines: {{m: {{node: '{address}'}}}}\n", []),
        (f"lab: x\nmachines: {{m: {{cpus: '{address}'}}}}\n", []),
    ):
        assert all(SECRET not in str(each) for each in mistakes(text, *sets))


@pytest.mark.parametrize("key", ["password", "token", "secret"])
def test_a_secret_as_a_key_is_a_mistake_that_does_not_repeat_it(key: str) -> None:
    mistake = only(on(f"{{pve: pve://h, {key}: '{SECRET}'}}"))
    assert mistake.what == f"`{key}` is not a key of `on`"
    assert "NESTLAB_PVE_TOKEN" in mistake.hint
    assert SECRET not in str(mistake)


def test_a_set_below_an_address_says_that_it_is_no_mapping() -> None:
    mistake = only(on("pve://h"), "on.pool=x")
    assert mistake.what == 'on is "pve://h" and has no keys inside'


def test_an_unknown_key_of_a_proxmox_ve_cannot_be_set() -> None:
    assert "Did you mean `storage`?" in only(on("{pve: pve://h}"), "on.storag=x").hint


SEGMENTS = [
    ("pve://h", "{bridge: vmbr0, vlan: 0}", "a.vlan", "found 0, expected a whole number from 1 to 4094", ""),
    ("pve://h", "{bridge: vmbr0, vlan: 4095}", "a.vlan", "found 4095, expected", ""),
    ("pve://h", "{bridge: 'vm br'}", "a.bridge", "expected the name of a bridge", ""),
    ("pve://h", "{vmbr: vmbr0}", "a.vmbr", "`vmbr` is not a key of a segment", "Did you mean `bridge`?"),
    ("pve://h", "{bridge: vmbr0, tag: 5}", "a.tag", "`tag` is not a key of a segment", "Did you mean `vlan`?"),
    (
        "local",
        "{bridge: vmbr0}",
        "a.bridge",
        "`bridge` means nothing here: the lab runs on no Proxmox VE",
        "on: pve://",
    ),
    ("local", "{vlan: 5}", "a.vlan", "`vlan` means nothing here: the lab runs on no Proxmox VE", "Leave it out"),
]


@pytest.mark.parametrize(("where", "said", "key", "what", "hint"), SEGMENTS, ids=[f"{a[0]} {a[1]}" for a in SEGMENTS])
def test_a_mistake_in_a_segment_of_a_proxmox_ve(where: str, said: str, key: str, what: str, hint: str) -> None:
    mistake = only(f"lab: x\non: {where}\nsegments:\n  a: {said}\nmachines: {{m: {{}}}}\n")
    assert what in mistake.what
    assert hint in mistake.hint
    assert (mistake.key, mistake.line) == (f"segments.{key}", 4)


MACHINES = [
    ("local", "{container: true}", "container", "a container on the lab's own host itself", "hypervisor: kvm"),
    ("local", "{node: n1}", "node", "`node` means nothing here: the lab runs on no Proxmox VE", "Leave it out"),
    ("pve://h", "{container: yes}", "container", "expected true or false", ""),
    ("pve://h", "{node: n_1}", "node", "expected the name of a node", ""),
    ("pve://h", "{lxc: true}", "lxc", "`lxc` is not a key of a machine", "Did you mean `container`?"),
    ("pve://h", "{container: true}", "container", "a container cannot be made from the image debian", ".tar.zst"),
    (
        "pve://h",
        "{container: true, image: tiny}",
        "image",
        "a container cannot be made from the image tiny",
        ".tar.zst",
    ),
    ("pve://h", "{container: true, hypervisor: kvm}", "container", "m is a hypervisor, and a container cannot be", ""),
    ("pve://h", "{hypervisor: kvm, machines: {a: {node: n}}}", "machines.a.node", "a runs inside another machine", ""),
    (
        "pve://h",
        "{hypervisor: kvm, machines: {a: {container: true, image: {file: d.tar.zst}}}}",
        "machines.a.image",
        "a container inside a hypervisor cannot be made from the image d.tar.zst",
        "nestlab's own `debian` or `tiny`",
    ),
    (
        "pve://h",
        "{container: true, image: {file: d.tar.zst}, machines: {a: {}}}",
        "machines",
        "machines inside m, which is a container",
        "Make m a virtual machine with `hypervisor: kvm`",
    ),
    (
        "pve://h",
        "{image: {file: d.tar.zst}}",
        "image",
        "d.tar.zst is a container template, and no disk",
        "container: true",
    ),
    (
        "pve://h",
        "{container: true, image: {file: d.tar.zst, format: raw}}",
        "image.format",
        "`format` means nothing with a container template",
        "Leave it out",
    ),
    ("local", "{image: {file: d.tar.zst}}", "image", "d.tar.zst is a container template, and no disk", ""),
    (
        "{pve: pve://h, nodes: [n1, n2]}",
        "{node: n3}",
        "node",
        "`nodes` of the lab's `on` does not allow n3",
        "`n1`, `n2`",
    ),
]


@pytest.mark.parametrize(("where", "said", "key", "what", "hint"), MACHINES, ids=[f"{a[0]} {a[1]}" for a in MACHINES])
def test_a_mistake_in_a_machine_on_a_proxmox_ve(
    where: str, said: str, key: str, what: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "d.tar.zst").write_bytes(b"")
    mistake = only(f"lab: x\non: {where}\nmachines:\n  m: {said}\n", at=tmp_path)
    assert what in mistake.what
    assert hint in mistake.hint
    assert (mistake.key, mistake.line) == (f"machines.m.{key}", 4)


def test_defaults_that_mean_nothing_on_this_computer_are_mistakes_once() -> None:
    found = mistakes("lab: x\ndefaults: {node: n1}\nmachines: {a: {}, b: {}}\n")
    assert [(each.key, each.line) for each in found] == [("defaults.node", 2)]
    found = mistakes("lab: x\non: {pve: pve://h, nodes: [east1]}\ndefaults: {node: west1}\nmachines: {a: {}, b: {}}\n")
    assert [(each.key, each.hint) for each in found] == [("defaults.node", "There is `east1`.")]


def test_where_a_lab_is_being_wrong_is_the_only_mistake_said_about_that() -> None:
    text = "lab: x\non: pve://\nsegments: {a: {bridge: vmbr0, vlan: 5}}\nmachines: {m: {node: n1}}\n"
    assert only(text).key == "on"


VALID = Draft202012Validator(schema())


@pytest.mark.parametrize(
    "said", ["local", "pve+local", "pve://h", "${X}", "{pve: '${X}', nodes: [a], placement: pack}"]
)
def test_where_a_lab_may_be_is_valid_by_the_schema(said: str) -> None:
    assert list(VALID.iter_errors(YAML(typ="safe", pure=True).load(on(said)))) == []


@pytest.mark.parametrize("said", ["pve://a=b", "{}", "{pve: local}", "{pve: pve://h, zone: too-long-a-name}"])
def test_where_no_lab_can_be_is_invalid_by_the_schema(said: str) -> None:
    assert not VALID.is_valid(YAML(typ="safe", pure=True).load(on(said)))
