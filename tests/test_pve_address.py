"""Which Proxmox VE an address means, and that no address holds a secret."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.lab.pve_address import FORM, SSH_FORM, Place, Shell, parse, place, veiled

SECRET = "12345678-1234-1234-1234-123456789abc"
TOKEN = f"lab@pve!nestlab={SECRET}"


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("pve://pve1.example.org", Place("pve1.example.org")),
        ("pve://10.0.0.5:443/pve2", Place("10.0.0.5", 443, node="pve2")),
        ("pve://[fd00::5]/pve2", Place("fd00::5", node="pve2")),
        ("pve://root@pam@pve1", Place("pve1", user="root@pam")),
        ("pve://lab@pve!nestlab@pve1:8007/n", Place("pve1", 8007, "lab@pve", "nestlab", "n")),
        ("pve://lab%40pve!nestlab@pve1", Place("pve1", user="lab@pve", token_id="nestlab")),
        ("pve://a%23b@pam@pve1", Place("pve1", user="a#b@pam")),
        ("pve+ssh://pve1", Shell("pve1")),
        ("pve+ssh://root@Pve_1:2222", Shell("Pve_1", "root", 2222)),
        ("pve+ssh://[fd00::5]:22/", Shell("fd00::5", None, 22)),
        ("pve+local", Shell()),
    ],
)
def test_an_address_says_host_user_token_and_node(address: str, meant: Place | Shell) -> None:
    assert parse(address) == meant
    assert parse(str(meant)) == meant


def test_an_address_of_a_shell_is_one_for_ssh_too() -> None:
    assert [Shell("h").ssh, Shell("fd00::5", "a b", 22).ssh, Shell().ssh] == ["ssh://h", "ssh://a%20b@[fd00::5]:22", ""]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "https://pve1",
        "pve://",
        "pve://pve1:x",
        "pve://pve1/a/b",
        "pve://root@pve1",
        "pve://a@b!@pve1",
        "pve://h?x=1",
        "pve://h h",
        "pve://h\n",
        "pve+local/x",
        "PVE+SSH://h",
    ],
)
def test_what_is_no_address_is_refused_with_how_to_write_one(address: str) -> None:
    with pytest.raises(LabError, match="no address of a Proxmox VE") as caught:
        parse(address)
    assert FORM in caught.value.hint


@pytest.mark.parametrize("address", ["pve+ssh://", "pve+ssh://h:0", "pve+ssh://h/x", "pve+ssh://-o@h", "pve+ssh://@h"])
def test_what_is_no_address_for_ssh_is_refused_with_how_to_write_one(address: str) -> None:
    with pytest.raises(LabError, match="no address of a Proxmox VE") as caught:
        parse(address)
    assert SSH_FORM in caught.value.hint


LEAKS = [
    f"pve://{TOKEN}@pve1",
    f"pve://root@pam:{SECRET}@pve1",
    f"pve://x:{SECRET}@h:p",
    f"pve://{TOKEN}",
    f"pve://root:{SECRET}",
    f"pve://root@pam:a/{SECRET}@pve1",
    f"pve://root@pam:a b {SECRET}@pve1",
    f"pve://root@pam:a\n{SECRET}@pve1",
    f"pve://root@pam%3a{SECRET}@pve1",
    f"pve://h?token={SECRET}",
    f"pve+ssh://root:{SECRET}@pve1",
    f"https://root:{SECRET}@pve1",
]


@pytest.mark.parametrize("address", LEAKS)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(LabError) as caught:
        parse(address)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("on: pve://root@pam:geheim@pve1", "on: pve://***************@pve1"),
        ("on: {pve: pve://root@pam:a b@h, pool: x}", "on: {pve: pve://************@h, pool: x}"),
        ("on: root@pam:geheim@pve1", "on: ***************@pve1"),
        ("on: pve://root:geheim", "on: pve://root:******"),
        ("on: pve://lab@pve!x=geheim", "on: pve://lab@pve!x=******"),
        ("on.password=geheim", "on.password=******"),
        ("  token: 'geheim'", "  token: ********"),
    ],
)
def test_a_line_is_shown_without_what_looks_like_a_secret(line: str, shown: str) -> None:
    assert veiled(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        "on: {pve: pve://root@pam!lab@pve1:8006/node, cpu: 'EPYC,flags=+nested-virt'}",
        "on=pve://root@pam!lab@pve1",
        "on: pve+ssh://root@[fd00::5]:22",
        "on: pve://h:${PORT}",
        "on: {pve: pve://h:443, pool: x}",
        "segments: {token: {cidr: 10.77.0.0/24}}",
        "mirror: http://mirror.invalid:80/debian?a=b",
    ],
)
def test_a_line_without_a_secret_is_shown_as_it_is(line: str) -> None:
    assert veiled(line) == line


@given(st.text())
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    for address in (text, f"pve://{text}", f"pve+ssh://{text}"):
        with contextlib.suppress(LabError):
            meant = parse(address)
            assert meant.host
            assert parse(str(meant)) == meant
    with contextlib.suppress(LabError):
        assert place(f"pve://{text}").host
    assert len(veiled(text)) == len(text)
