"""What a host that ssh reaches says it has, read as what it must be; and where a lab file may say that it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.ssh_host.survey import Program, parse
from nestlab.home import ssh_labs
from nestlab.home.directories import LabHome
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.places import Ssh
from nestlab.labfile import parse_text
from nestlab.labfile.render import render

HOST = "ssh://lab@server"
PLAIN = "H /home/lab/.local/state/nestlab\nA x86_64\nD /dev/sda1 1000 400 600 40% /home\nP 3 11 /usr/bin/python3\n"


def test_what_a_host_has_is_read() -> None:
    more = "Q qemu-system-x86_64 /usr/bin/qemu-system-x86_64 QEMU emulator version 10.0.8 (Debian 1:10.0.8)\nR\nL\n"
    found = parse(PLAIN + more + "Q swtpm /usr/bin/swtpm TPM emulator version 0.7.1\n", HOST)
    assert (found.root, found.free) == ("/home/lab/.local/state/nestlab/hosted", 600 << 10)
    assert (found.python, found.swtpm) == ("/usr/bin/python3", "/usr/bin/swtpm")
    assert found.qemu == Program("/usr/bin/qemu-system-x86_64", (10, 0, 8))
    assert found.qemu_img is None
    assert (found.runtime, found.lab) == (True, True)


def test_the_first_python_that_is_new_enough_is_taken() -> None:
    text = PLAIN.replace("P 3 11 /usr/bin/python3\n", "P 3 9 /usr/bin/python3\nP 3 12 /usr/bin/python3.12\n")
    assert parse(text, HOST).python == "/usr/bin/python3.12"
    old = parse(text.replace("P 3 12 /usr/bin/python3.12\n", ""), HOST)
    assert (old.python, old.too_old) == ("", "3.9")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "does not tell what it has"),
        ("welcome!\n", "does not tell what it has"),
        ("H relative\nA x86_64\n", "no plain absolute path"),
        ("H /home/a b\nA x86_64\n", "no plain absolute path"),
        ("H /home/$(id)\nA x86_64\n", "no plain absolute path"),
        (f"H /{'d' * 80}\nA x86_64\n", "of which Linux takes 107"),
        ("H /h\nA aarch64\n", "it is aarch64"),
        ("H /h\nA \x1b[31m\n", r"is \x1b[31m"),
    ],
)
def test_a_host_that_cannot_be_used_is_told_in_its_name(text: str, what: str) -> None:
    with pytest.raises(LabError, match=r"^(?s:.*)ssh://lab@server") as caught:
        parse(text, HOST)
    assert what.replace("it is", "is") in caught.value.what


def test_a_lab_on_a_host_is_written_and_read_again() -> None:
    lab = parse_text("lab: x\non: ssh://lab@server:2222\nmachines: {m: {}}\n", environ={})
    assert lab.on == Ssh("ssh://lab@server:2222")
    assert not lab.named
    assert parse_text(render(lab), environ={}) == lab
    made = Blueprint("x", on=lab.on)
    assert blueprint_file.blueprint_from_json(blueprint_file.blueprint_to_json(made)) == made


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("segments: {a: {bridge: vmbr0}}\nmachines: {m: {}}\n", "`bridge` means nothing here"),
        ("segments: {a: {netboot: {files: ., kernel: k, initrd: i}}}\nmachines: {m: }\n", "`files` means nothing here"),
        ("machines: {m: {node: pve1}}\n", "`node` means nothing here"),
        ("machines: {m: {container: true}}\n", "container on the lab's own host"),
    ],
)
def test_what_no_such_host_has_is_a_mistake_with_its_place(more: str, what: str) -> None:
    with pytest.raises(LabError) as caught:
        parse_text(f"lab: x\non: ssh://lab@server\n{more}", environ={})
    assert what in str(caught.value)


def test_its_segments_serve_what_boots_and_its_machines_have_ports() -> None:
    text = "lab: x\non: ssh://lab@server\nsegments: {a: {netboot: {image: tiny}}}\nmachines: {m: {ports: [22]}}\n"
    lab = parse_text(text, environ={})
    assert lab.segments[0].netboot is not None
    assert [port.port for port in lab.machines[0].ports] == [22]
    assert parse_text(render(lab), environ={}) == lab


def test_the_directory_of_a_lab_there_is_kept_and_a_damaged_record_is_told(tmp_path: Path) -> None:
    place = LabHome("x", tmp_path)
    assert ssh_labs.load(place) == ""
    name = ssh_labs.new()
    ssh_labs.keep(place, name)
    assert ssh_labs.load(place) == name != ssh_labs.new()
    (tmp_path / ssh_labs.NAME).write_text('{"directory": "../../home"}')
    with pytest.raises(LabError, match="names no directory of a lab"):
        ssh_labs.load(place)
    (tmp_path / ssh_labs.NAME).write_text("{")
    with pytest.raises(LabError, match="cannot be read"):
        ssh_labs.load(place)


def test_a_host_is_agreed_to_once(tmp_path: Path) -> None:
    assert not ssh_labs.agreed(tmp_path, HOST)
    ssh_labs.agree(tmp_path, HOST)
    ssh_labs.agree(tmp_path, "ssh://other")
    assert ssh_labs.agreed(tmp_path, HOST)
    assert not ssh_labs.agreed(tmp_path, "ssh://lab@server2")
