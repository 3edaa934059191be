"""A name or an address that came from elsewhere adds no line, option, node or command to what other programs read."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from nestlab.base.errors import LabError
from nestlab.base.printable import hidden
from nestlab.cli import complete
from nestlab.show import inventory
from nestlab.show.addresses import exports
from nestlab.show.graph import Box, Drawing, dot, mermaid
from nestlab.show.ssh_config import SshEntry, ssh_config, unfit

EVIL = 'a"];x\n  ProxyCommand evil\n`$(touch evil)`\\"\u202e\x1b[31m\U000e0041'


def entry(**odd: str) -> SshEntry:
    words = {"path": "hv1", "host": "127.0.0.1", "user": "root"} | odd
    return SshEntry("pair", words["path"], words["host"], 22, words["user"], "/k/key", "ssh-ed25519 AAAA")


@pytest.mark.parametrize("field", ["host", "user", "path"])
@pytest.mark.parametrize(
    "word", [EVIL, "x\nProxyCommand evil", "-oProxyCommand=evil", "*", "a b", "${HOME}", "a\u202eb"]
)
def test_what_is_more_than_one_word_gets_no_entry_in_an_ssh_config(field: str, word: str) -> None:
    odd = entry(**{field: word})
    assert unfit(odd)
    with pytest.raises(LabError, match="cannot hold"):
        ssh_config("pair", [odd], {}, "/k/known")
    assert "ProxyCommand" not in ssh_config("pair", [entry()], {}, "/k/known")


@pytest.mark.parametrize("host", ["127.0.0.1", "fe80::1%eth0", "2001:db8::1", "pve1.example.org"])
def test_addresses_are_words(host: str) -> None:
    assert not unfit(entry(host=host))


def test_a_reason_stays_in_its_comment() -> None:
    lines = ssh_config("pair", [], {"hv1": f"it says {EVIL}"}, "/k/known").splitlines()
    assert len(lines) == 2
    assert all(line.startswith("# ") and not any(map(hidden, line)) for line in lines)


def test_variables_are_data_to_a_shell_that_evaluates_them(tmp_path: Path) -> None:
    lines = exports({"NESTLAB_A": EVIL, "NESTLAB_B;touch evil": "x"})
    ran = subprocess.run(
        ["sh", "-c", 'eval "$1"; printf %s "$NESTLAB_A"', "sh", lines], cwd=tmp_path, capture_output=True, check=True
    )
    assert not list(tmp_path.iterdir())
    assert ran.stdout.decode().startswith('a"];x\\x0a  ProxyCommand evil')


def test_an_inventory_is_yaml_with_the_same_data_whatever_it_is() -> None:
    data = {
        "_meta": {"hostvars": {f"pair.{EVIL}": {"nestlab_path": EVIL, "nestlab_level": 1}}},
        f"lab_{EVIL}": {"hosts": [f"pair.{EVIL}"]},
    }
    text = inventory.as_yaml(data)
    assert not any(hidden(letter) for letter in text if letter != "\n")
    read = YAML(typ="safe", pure=True).load(text)
    assert read["all"]["hosts"] == {f"pair.{EVIL}": {"nestlab_path": EVIL, "nestlab_level": 1}}
    assert list(read["all"]["children"]) == [f"lab_{EVIL}"]


DRAWING = Drawing(
    EVIL, (Box("hv1", (EVIL, EVIL), True, ((EVIL, EVIL),)), Box("hv1/web", (EVIL,), False, ())), {EVIL: EVIL}
)


def test_a_label_stays_a_label_in_mermaid() -> None:
    lines = mermaid(DRAWING).splitlines()
    assert not any(hidden(letter) for line in lines for letter in line)
    assert len(lines) == 7
    assert not any("`" in line or "$(touch evil)`" in line for line in lines[1:])
    assert all(line.count('"') % 2 == 0 for line in lines[1:])


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not here")
def test_graphviz_reads_it_as_two_machines_and_a_segment() -> None:
    ran = subprocess.run(["dot", "-Tjson"], input=dot(DRAWING), capture_output=True, text=True, check=True)
    assert len(json.loads(ran.stdout)["edges"]) == 1


def test_a_label_stays_a_label_in_dot() -> None:
    text = dot(DRAWING)
    assert not any(hidden(letter) for letter in text if letter != "\n")
    for line in text.splitlines():
        quotes = len(line.replace("\\\\", "").replace('\\"', "").split('"')) - 1
        assert quotes % 2 == 0, line


def test_completion_offers_only_words_that_a_shell_makes_nothing_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NESTLAB_HOME", str(tmp_path / "state"))
    for name in (
        "good.yaml",
        "$(touch evil).yaml",
        "`x`.yaml",
        'q".yaml',
        "a;b.yaml",
        "c\x1b[31m.yaml",
        "d\u202e.yaml",
    ):
        (tmp_path / name).touch()
    place = tmp_path / "state" / "labs" / "pair"
    place.mkdir(parents=True)
    (place / "blueprint.json").write_text(json.dumps({"specs": [{"path": "hv1"}, {"path": EVIL}, {"path": "$(x)"}]}))
    assert complete.labs_and_files("") == ["good.yaml", "state/", *complete.labs("")]
    assert set(complete.machines("")) <= {"hv1"}
    assert [word for word in complete.machines_or_files("") if word.endswith(".yaml")] == ["good.yaml"]
