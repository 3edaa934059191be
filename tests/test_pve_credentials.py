"""Which Proxmox VE is meant, and where its secrets come from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.lab.pve_address import Place, Shell, parse, place
from nestlab.wire.pve import credentials, known_addresses
from nestlab.wire.pve.credentials import Ask, Credentials, keep
from nestlab.wire.pve.login import Password, Token

SECRET = "12345678-1234-1234-1234-123456789abc"
TOKEN = f"lab@pve!nestlab={SECRET}"


WHERE = place("pve://pve1")


def find(where: Place, environ: dict[str, str], state: Path, ask: Ask | None = None) -> Credentials:
    """Of an address that the user said on the command line."""
    return credentials.find(where, environ, state, ask, named=True)


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


MINE = {"NESTLAB_PVE_TOKEN": TOKEN, "NESTLAB_PVE_FINGERPRINT": "AB" * 32}


@pytest.mark.parametrize(
    "address", ["pve://evil.example", "pve://pve1:8007", "pve://lab@pve!nestlab@pve1.evil.example"]
)
def test_an_address_that_only_a_lab_file_names_gets_no_credentials(tmp_path: Path, address: str) -> None:
    keep(tmp_path, WHERE, {"fingerprint": "AB" * 32})
    for environ in (MINE, {**MINE, "NESTLAB_PVE_HOST": "pve1"}, {}):
        with pytest.raises(LabError, match="named by a lab file only: nothing was sent there") as caught:
            credentials.find(place(address), environ, tmp_path, lambda _: "typed")
        assert f"nestlab pve trust {place(address)}" in caught.value.hint


@pytest.mark.parametrize("address", ["pve+ssh://evil.example", "pve+ssh://root@pve1:2222"])
def test_a_node_that_only_a_lab_file_names_is_not_reached_by_ssh(tmp_path: Path, address: str) -> None:
    where = parse(address)
    known_addresses.keep_shell(tmp_path, Shell("pve1"))
    with pytest.raises(LabError, match="named by a lab file only"):
        known_addresses.check(where, {"NESTLAB_PVE_HOST": "pve1"}, tmp_path, named=False)
    known_addresses.check(where, {}, tmp_path, named=True)
    known_addresses.check(where, {"NESTLAB_PVE_HOST": f"pve1, {address}"}, tmp_path, named=False)
    assert isinstance(where, Shell)
    known_addresses.keep_shell(tmp_path, where)
    known_addresses.check(where, {}, tmp_path, named=False)


def test_what_the_environment_holds_is_for_the_host_that_stands_beside_it(tmp_path: Path) -> None:
    environ = {**MINE, "NESTLAB_PVE_HOST": "pve1 other:8443"}
    for address in ("pve://pve1", "pve://lab@pve@PVE1/node", "pve://other:8443"):
        assert credentials.find(place(address), environ, tmp_path).login == Token("lab@pve", "nestlab", SECRET)
    keep(tmp_path, place("pve://second"), {"fingerprint": "CD" * 32})
    for say in (False, True):
        with pytest.raises(LabError, match="NESTLAB_PVE_TOKEN does not belong to second") as caught:
            credentials.find(place("pve://second"), environ, tmp_path, named=say)
    assert "NESTLAB_PVE_HOST=second" in caught.value.hint
    keep(tmp_path, place("pve://second"), {"fingerprint": "CD" * 32, "token": "b@pve!b=" + SECRET})
    second = credentials.find(place("pve://second"), environ, tmp_path)
    assert (second.login.name, second.trust.pins) == ("b@pve!b", (b"\xcd" * 32,)), "and not the other's fingerprint"


def test_without_a_host_beside_it_the_environment_is_for_the_only_address_that_is_trusted(tmp_path: Path) -> None:
    keep(tmp_path, WHERE, {"fingerprint": "AB" * 32})
    assert credentials.find(WHERE, MINE, tmp_path).login.name == "lab@pve!nestlab"
    keep(tmp_path, place("pve://second"), {"fingerprint": "CD" * 32})
    for where in (WHERE, place("pve://second")):
        with pytest.raises(LabError, match="NESTLAB_PVE_HOST says which Proxmox VE it is for"):
            credentials.find(where, MINE, tmp_path)
        assert credentials.find(where, MINE, tmp_path, named=True).login.name == "lab@pve!nestlab"


def test_a_host_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="NESTLAB_PVE_HOST"):
        credentials.find(WHERE, {**MINE, "NESTLAB_PVE_HOST": "-oProxyCommand=x"}, tmp_path)
