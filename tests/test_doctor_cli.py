"""`nestlab doctor` on the command line: recorded hosts, words that make no sense, and nothing changed unasked."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from command_line import Cli

FACTS = Path(__file__).parent / "facts"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path, {"HOME": str(tmp_path)})


def test_this_machine_is_looked_at_and_its_facts_go_round(cli: Cli) -> None:
    facts = cli.plain("doctor", "--facts")
    (cli.home / "host.json").write_text(facts)
    said = cli("doctor", "--json", status=None)
    again = cli("doctor", "--from-facts", str(cli.home / "host.json"), "--json", status=None)
    assert json.loads(facts)["examined"] is True
    same = [{**json.loads(each.text), "where": "", "slowness": 0, "findings": []} for each in (said, again)]
    assert same[0] == same[1]
    assert said.status == again.status


@pytest.mark.parametrize(
    ("host", "status", "first"), [("amd-nested-1", 0, None), ("intel-nested-n", 2, "nested"), ("kvm-pvm", 2, "outer")]
)
def test_a_recorded_host_is_judged(cli: Cli, host: str, status: int, first: str | None) -> None:
    said = cli("doctor", "--from-facts", str(FACTS / f"{host}.json"), "--json", status=status)
    assert json.loads(said.text)["first_broken"] == first


def test_one_sentence_names_the_trap_of_a_kvm_without_hardware(cli: Cli) -> None:
    said = " ".join(cli("doctor", "--from-facts", str(FACTS / "kvm-pvm.json"), status=2).text.split())
    assert "/dev/kvm opens with API 12, but its provider is kvm_pvm" in said
    assert "nestlab emulates instead" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fix", "--undo"], "--fix and --undo do not go together"),
        (["--facts", "--fix"], "--facts only looks"),
        (["--from-facts", "nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["hv1", "--from-facts", "x.json"], "--from-facts judges a file"),
        (["--for", "windoze", "--from-facts", "x"], "No guest `windoze`"),
        (["--fix", "nestd"], "Did you mean `nested`?"),
        (["--fix", "security"], "There is no fix for `security`"),
        (["one", "two"], "`two` is no check"),
        (["--fix", "ignore-msrs", "granola"], "`granola` is neither a check nor a machine"),
        (["--fix", "granola"], "`granola` is neither a check nor a machine"),
        (["http://host"], "http://host is no place the doctor goes to"),
        (["ssh://"], "ssh://"),
        (["nowhere"], "nowhere"),
        (["--all", "nowhere"], "nowhere"),
    ],
)
def test_words_that_make_no_sense_are_one_message(cli: Cli, words: list[str], told: str) -> None:
    said = cli("doctor", *words, status=2)
    assert said.text.startswith("error: ")
    assert told in said


def test_a_file_without_facts_is_an_error(cli: Cli) -> None:
    for content in ("", "[]", "{}", '{"kvm": 3}', '{"cpus": "many"}', "[" * 100_000):
        (cli.home / "x.json").write_text(content)
        assert "holds no facts of a host" in cli("doctor", "--from-facts", str(cli.home / "x.json"), status=2)


def test_other_output_of_the_doctor_is_refused_as_facts(cli: Cli) -> None:
    (cli.home / "x.json").write_text(cli("doctor", "--json", status=None).text)
    assert "it is what was found (--json)" in cli("doctor", "--from-facts", str(cli.home / "x.json"), status=2)


def test_a_host_that_is_not_there_is_an_error(cli: Cli) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        said = cli("doctor", f"ssh://root@127.0.0.1:{unheard.getsockname()[1]}", status=2)
    assert "refused" in said.text.lower()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user refuses for another reason")
def test_what_cannot_be_fixed_is_an_error_and_nothing_is_written(cli: Cli) -> None:
    facts = json.loads(cli.plain("doctor", "--facts"))
    if facts["provider"] in ("kvm_intel", "kvm_amd"):
        pytest.skip("this host could be fixed, and is not the tests' to change")
    said = cli("doctor", "--fix", "nested", "--yes", status=2)
    assert "nested cannot be fixed" in said
    assert not Path("/var/lib/nestlab/doctor").exists()
    assert "nothing to undo" in cli("doctor", "--undo", "--yes")
