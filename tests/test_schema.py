"""The JSON Schema and the reference are made from the table of fields, are current, and agree with the parser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from nestlab import kinds
from nestlab.base.errors import Mistakes
from nestlab.labfile import parse_text, reference, render
from nestlab.labfile.fields import RECORDS
from nestlab.labfile.schema import schema, text
from nestlab.labfile.shapes import Either, ListOf, MapOf, Ref, Shape

ROOT = Path(__file__).parent.parent
VALIDATOR = Draft202012Validator(schema())


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_committed_schema_is_current() -> None:
    path = "src/nestlab/labfile/lab.schema.json"
    again = f"python -c 'from nestlab.labfile import schema; print(schema.text(), end=\"\")' > {path}"
    assert (ROOT / path).read_text() == text(), f"write it again: {again}"


def test_the_committed_reference_is_current() -> None:
    again = "python -c 'from nestlab.labfile import reference; print(reference.text(), end=\"\")' > docs/labfile.md"
    assert (ROOT / "docs" / "labfile.md").read_text() == reference.text(), f"write it again: {again}"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_valid_by_the_schema(path: Path) -> None:
    tree = load(path.read_text())
    assert list(VALIDATOR.iter_errors(tree)) == []
    again = load(render(parse_text(path.read_text(), environ={})))
    assert list(VALIDATOR.iter_errors(again)) == []


def test_the_schema_points_editors_of_the_examples_to_it() -> None:
    for path in (ROOT / "examples").glob("*.yaml"):
        first = path.read_text().splitlines()[0]
        committed = ROOT / "src" / "nestlab" / "labfile" / "lab.schema.json"
        assert (path.parent / first.partition("$schema=")[2]).resolve() == committed


LAB = "lab: x\nsegments: {wire: {cidr: 10.77.0.0/24}}\nmachines: {m: {%s}}"

GOOD = [
    "cpus: 2",
    "memory: 4G",
    "memory: 1.5GiB",
    'memory: "${M:-1}G"',
    "memory: 1g",
    "disk: 17000MB",
    "segments: {wire: 10.77.0.9}",
    "segments: {wire: }",
    "segments: ",
    "segments: {wire: {mac: 52:54:00:12:34:56}}",
    "image: {from: tiny, files: {/a: b, /c: {text: d, mode: 0o600}}, mirror: 'http://mirror.invalid/debian'}",
    "hypervisor: kvm, machines: {a: {}}",
    "hypervisor: ",
    "accel: tcg, internet: true, cmdline: a=b",
]

BAD = [
    'cpus: "2"',
    "cpus: 0",
    "cpus: true",
    "memory: 4",
    'memory: "512"',
    "memory: 4 G",
    "internet: yes",
    "accel: hvf",
    "hypervisor: xen",
    "ram: 4G",
    "image: {}",
    "image: {from: tiny, file: x}",
    "image: {from: tiny, files: {a: b}}",
    "image: {from: tiny, packages: [A]}",
    "segments: {wire: {mac: 1}}",
    "hypervisor: kvm, machines: {A: {}}",
    "hypervisor: kvm, machines: {localhost: {}}",
    f"cmdline: {'a' * 1025}",
]


@pytest.mark.parametrize("inside", GOOD)
def test_what_nestlab_reads_is_valid_by_the_schema(inside: str) -> None:
    parse_text(LAB % inside, environ={})
    assert list(VALIDATOR.iter_errors(load(LAB % inside))) == []


@pytest.mark.parametrize("inside", BAD)
def test_what_is_invalid_by_the_schema_nestlab_refuses_too(inside: str) -> None:
    assert list(VALIDATOR.iter_errors(load(LAB % inside))) != []
    with pytest.raises(Mistakes):
        parse_text(LAB % inside, environ={})


def test_a_variable_may_stand_for_any_value() -> None:
    text = "lab: ${L}\nmachines:\n  m:\n    cpus: ${N:-2}\n    memory: ${M}\n    internet: ${I}\n    accel: ${A}\n"
    parse_text(text, environ={"L": "x", "M": "1G", "I": "true", "A": "tcg"})
    assert list(VALIDATOR.iter_errors(load(text))) == []


def test_a_lab_without_a_name_or_machines_is_invalid() -> None:
    trees: list[dict[str, object]] = [{}, {"lab": "x"}, {"machines": {"m": {}}}, {"lab": "X", "machines": {"m": {}}}]
    for tree in trees:
        assert not VALIDATOR.is_valid(tree)
    assert VALIDATOR.is_valid({"lab": "x", "include": "machines.yaml"})


def inner_records(shape: Shape) -> Iterator[str]:
    match shape:
        case Ref():
            yield shape.record
        case ListOf() | MapOf():
            yield from inner_records(shape.of)
        case Either():
            for each in shape.shapes:
                yield from inner_records(each)


def test_every_record_of_the_table_is_reached_and_every_field_documented() -> None:
    reached = {name for record in RECORDS.values() for field in record.fields for name in inner_records(field.shape)}
    assert reached | {"lab"} == set(RECORDS)
    for record in RECORDS.values():
        for field in record.fields:
            assert field.doc.endswith(".")
            assert not set(field.misnomers) & set(record.by_name) or record.name == "image", field.name


@pytest.mark.parametrize(
    "record", [record for record in RECORDS.values() if record.example], ids=lambda record: record.name
)
def test_the_examples_of_the_reference_are_yaml(record: Any) -> None:
    tree = load(record.example)
    if record.name != "link":
        whole = {"lab": "x", "segments": {"wire": {"cidr": "10.77.0.0/24"}}, "machines": {"m": {}}} | tree
        assert list(VALIDATOR.iter_errors(whole)) == []


def test_every_kind_has_an_image_and_room_for_itself() -> None:
    assert kinds.names() >= {"kvm"}
    for kind in kinds.kinds().values():
        assert kind.image in kinds.images()
        assert 0 < kind.overhead <= kind.default_memory
        assert kinds.default_image(kind.name) == kind.image
    assert kinds.default_image(None) in kinds.plains()
