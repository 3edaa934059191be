"""Which Proxmox VE is meant, and where its secrets come from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.lab.pve_address import place
from nestlab.wire.pve.credentials import find, keep
from nestlab.wire.pve.login import Password, Token

SECRET = "12345678-1234-1234-1234-123456789abc"
TOKEN = f"lab@pve!nestlab={SECRET}"


WHERE = place("pve://pve1")


def test_the_environment_comes_before_the_file_and_the_file_before_asking(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    assert find(WHERE, {}, tmp_path, ask).login == Password("root@pam", "typed")
    assert asked == ["Password of root@pam on pve1: "]
    path = keep(tmp_path, WHERE, {"token": TOKEN, "fingerprint": "AB" * 32})
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    kept = find(WHERE, {}, tmp_path, ask)
    assert kept.login == Token("lab@pve", "nestlab", SECRET)
    assert kept.trust.pins == (b"\xab" * 32,)
    environ = {"NESTLAB_PVE_USER": "adm@pam", "NESTLAB_PVE_PASSWORD": "p", "NESTLAB_PVE_CA": "/ca.pem"}
    told = find(WHERE, environ, tmp_path, ask)
    assert told.login == Password("adm@pam", "p")
    assert told.trust.ca == Path("/ca.pem")
    assert len(asked) == 1


def test_the_secret_of_a_named_token_is_asked_for(tmp_path: Path) -> None:
    where = place("pve://lab@pve!nestlab@pve1")
    assert find(where, {}, tmp_path, lambda _: "s").login == Token("lab@pve", "nestlab", "s")


def test_credentials_of_somebody_else_than_named_are_refused(tmp_path: Path) -> None:
    environ = {"NESTLAB_PVE_TOKEN": TOKEN}
    assert find(place("pve://lab@pve@pve1"), environ, tmp_path).login.name == "lab@pve!nestlab"
    with pytest.raises(LabError, match="names other@pve, but the credentials are those of lab@pve!nestlab"):
        find(place("pve://other@pve@pve1"), environ, tmp_path)


def test_with_nothing_at_all_it_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nothing to log in") as caught:
        find(WHERE, {}, tmp_path)
    assert "NESTLAB_PVE_TOKEN" in caught.value.hint
    assert str(tmp_path / "pve" / "pve1.toml") in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keep(tmp_path, WHERE, {"token": TOKEN}).chmod(mode)
    with pytest.raises(LabError, match="others may read it") as caught:
        find(WHERE, {}, tmp_path)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("text", [f"token = {TOKEN}", f'secret = "{SECRET}"', f'token = ["{SECRET}"]', f"{SECRET}"])
def test_a_file_that_cannot_be_understood_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    path = keep(tmp_path, WHERE, {"token": TOKEN})
    path.write_text(text)
    with pytest.raises(LabError, match=r"pve1\.toml") as caught:
        find(WHERE, {}, tmp_path)
    assert SECRET not in str(caught.value)


def test_a_token_that_is_none_is_refused_and_not_shown(tmp_path: Path) -> None:
    for text in (SECRET, f"lab!x={SECRET}", f"lab@pve!{SECRET}", f"lab@pve={SECRET}"):
        with pytest.raises(LabError, match="not written as") as caught:
            find(WHERE, {"NESTLAB_PVE_TOKEN": text}, tmp_path)
        assert SECRET not in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_password_that_is_kept_is_found_again(password: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keep(Path(folder), WHERE, {"user": "root@pam", "password": password})
        assert find(WHERE, {}, Path(folder)).login == Password("root@pam", password)
