from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints import blueprints, draft, guest, pair
from nestlab.base.errors import LabError
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.blueprint_file import blueprint_from_json, blueprint_to_json, load, save
from nestlab.lab.model import GIB, File, Image, Segment
from nestlab.lab.places import Pve


@given(blueprints())
def test_a_blueprint_survives_being_json(blueprint: Blueprint) -> None:
    back = blueprint_from_json(blueprint_to_json(blueprint))
    assert back == blueprint
    assert [spec.hosts for spec in back.specs] == [spec.hosts for spec in blueprint.specs]


def test_every_field_survives() -> None:
    image = Image(base="debian", packages=("curl", "jq"), files=(File("/etc/motd", "hi", None, 0o600),), script="true")
    machine = replace(guest("web"), image=image, disk=GIB, internet=True, accel="kvm", cmdline="quiet")
    lab = draft("lab", machine)
    assert blueprint_from_json(blueprint_to_json(lab)) == lab


def test_where_a_lab_is_survives_and_a_blueprint_from_before_is_on_this_computer() -> None:
    segments = (Segment("wire", bridge="vmbr1", vlan=7),)
    machine = replace(guest("web"), container=True, node="pve1")
    on = Pve("pve://root@pam!lab@pve1", storage="fast", nodes=("pve1", "pve2"), placement="pack")
    lab = replace(draft("lab", machine, segments=segments), on=on)
    text = blueprint_to_json(lab)
    assert blueprint_from_json(text) == lab
    before = json.loads(text)
    del before["on"]
    assert blueprint_from_json(json.dumps(before)).on is None
    assert "on" not in json.loads(blueprint_to_json(pair()))


def test_one_text_of_names_is_kept_once() -> None:
    text = "10.77.0.11 web\n" * 1000
    lab = draft("lab", *(guest(f"m{number}") for number in range(50)), hosts=text)
    assert blueprint_to_json(lab).count("web") == 1000
    back = blueprint_from_json(blueprint_to_json(lab))
    assert len({id(spec.hosts) for spec in back.specs}) == 1


@given(st.text())
def test_text_that_is_no_blueprint_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        blueprint_from_json(text)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"specs": [{}]}, {"specs": 3}, {"lab": None, "images": []}, {"on": {}}, {"on": "pve://h"}]
)
def test_data_that_is_no_blueprint_is_a_value_error(change: dict[str, object]) -> None:
    data = json.loads(blueprint_to_json(pair()))
    with pytest.raises(ValueError):
        blueprint_from_json(json.dumps(data | change))


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    assert load(path, "pair") is None
    save(path, pair())
    save(path, pair(memory=256))
    assert load(path, "pair") == pair(memory=256)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_read_or_written_is_a_labs_error(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    path.write_text("{")
    with pytest.raises(LabError, match=r"lab\.json cannot be read"):
        load(path, "pair")
    with pytest.raises(LabError, match="cannot be written"):
        save(path / "lab.json", pair())
