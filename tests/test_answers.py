"""What installers are answered: by golden files, and by the rules of those who read them."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.answers import FAMILIES, Answers, Family, ServerAddress, answered, mistakes
from nestlab.answers.proxmox import toml, wrong

GOLDEN = Path(__file__).parent / "golden" / "answers"
HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"
SERVER = ServerAddress(
    url="http://10.0.2.4/s3cret",
    log=("10.0.2.4", 514),
    tls_url="https://10.0.2.4/s3cret",
    fingerprint=":".join(["AB"] * 32),
    token="nestlab:t0ken",
    mirror=("10.0.2.4", "/debian"),
    origin="http://mirror.example.org/debian",
)
PLAIN: dict[Family, Answers] = {
    "debian": Answers(),
    "ubuntu": Answers(user="ubuntu", password=HASH),
    "redhat": Answers(),
    "proxmox": Answers(password=HASH),
}
FULL: dict[Family, Answers] = {
    "debian": Answers(
        locale="de_AT.UTF-8", keyboard="de", timezone="Europe/Vienna", filesystem="xfs", packages=("curl",),
        commands=("touch /done\n",), ssh_keys=("ssh-ed25519 AAAA me",), extra="d-i apt-setup/contrib boolean true",
    ),
    "ubuntu": Answers(
        user="ubuntu", password=HASH, filesystem="btrfs", packages=("curl",), commands=("touch /done\n",),
        ssh_keys=("ssh-ed25519 AAAA me",), extra=json.dumps({"packages": ["jq"], "updates": "all"}),
    ),
    "redhat": Answers(
        user="fedora", password=HASH, filesystem="btrfs", packages=("curl",), commands=("touch /done",),
        ssh_keys=("ssh-ed25519 AAAA me",), extra="%post\ntrue\n%end",
    ),
    "proxmox": Answers(
        password=HASH, keyboard="de", locale="de_AT.UTF-8", timezone="Europe/Vienna", ssh_keys=("ssh-ed25519 AAAA me",),
        extra=json.dumps({"disk-setup": {"filesystem": "zfs", "zfs": {"raid": "raid1"}, "disk-list": ["sda", "sdb"]}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("password", [HASH, None])
def test_root_of_ubuntu_has_the_password_that_the_lab_file_says(password: str | None) -> None:
    answers = Answers(user="root", password=password, ssh_keys=("ssh-ed25519 AAAA me",))
    assert list(mistakes("ubuntu", answers)) == []
    said = json.loads(answered("ubuntu", answers, SERVER, "nestlab-root").files["user-data"].partition("\n")[2])
    assert "identity" not in said["autoinstall"]
    [root] = said["autoinstall"]["user-data"]["users"]
    assert root["ssh_authorized_keys"] == ["ssh-ed25519 AAAA me"]
    assert (root.get("hashed_passwd"), root.get("lock_passwd")) == ((HASH, False) if password else (None, None))


URL = re.compile(r"https?://[!-~]+")
"""What a lab file takes as a mirror (labfile/install_fields.py)."""


@given(st.from_regex(URL, fullmatch=True))
def test_an_installed_system_has_the_real_mirror_in_its_sources_whatever_its_url_is(url: str) -> None:
    path = "/" + url.split("://", 1)[1].partition("/")[2].strip("/")  # as the answer server has it
    with tempfile.TemporaryDirectory() as folder:
        apt = Path(folder) / "etc/apt"
        (apt / "sources.list.d").mkdir(parents=True)
        here, there = f"http://10.0.2.4{path}".rstrip("/"), url.rstrip("/")
        (apt / "sources.list").write_text(f"deb {here} trixie main\ndeb http://1000204/debian x\n")
        (apt / "sources.list.d/own.sources").write_text(f"URIs: {here}/\n")
        server = replace(SERVER, mirror=("10.0.2.4", path), origin=url)
        subprocess.run(["sh", "-euc", server.sources(folder)], check=True)
        assert (apt / "sources.list").read_text() == f"deb {there} trixie main\ndeb http://1000204/debian x\n"
        assert (apt / "sources.list.d/own.sources").read_text() == f"URIs: {there}/\n"
        subprocess.run(["sh", "-euc", replace(SERVER, mirror=None).sources(folder)], check=True)


@pytest.mark.parametrize("outward", [False, True])
def test_debian_from_an_iso_alone_asks_for_no_mirror_unless_it_reaches_one(outward: bool) -> None:
    server = replace(SERVER, mirror=None, outward=outward)
    preseed = answered("debian", Answers(), server, "nestlab-root").files["preseed.cfg"]
    assert ("d-i apt-setup/use_mirror boolean false" in preseed) is not outward
    assert "mirror/http/hostname" not in preseed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["plain", "full"])
def test_what_an_installer_is_given_is_what_the_golden_file_says(family: Family, how: str) -> None:
    answers = {"plain": PLAIN, "full": FULL}[how][family]
    assert list(mistakes(family, answers)) == []
    found = answered(family, answers, SERVER, "nestlab-root")
    parts = [f"cmdline: {' '.join(found.cmdline)}"]
    parts += [f"=== {path}\n{text}" for path, text in [*found.files.items(), *found.medium.items()]]
    text = "\n".join(parts)
    path = GOLDEN / f"{family}-{how}.txt"
    if not path.exists():
        path.write_text(text)
        pytest.fail(f"{path} was not there; it is now: read it")
    assert text == path.read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_installer_that_fails_hands_over_the_answers_that_it_was_given(family: Family) -> None:
    """They hold the hash of a password, and what it hands over is shown."""
    text = "\n".join(answered(family, FULL[family], SERVER, "nestlab-root").files.values())
    sent = re.findall(r"curl -s -T (\S+)", text)
    assert set(sent) <= {"-", "/tmp/anaconda.log"}


def test_an_answer_for_proxmox_is_toml_that_says_what_was_meant() -> None:
    found = answered("proxmox", FULL["proxmox"], SERVER, "nestlab-root")
    said = tomllib.loads(found.files["answer"])
    assert said["global"]["fqdn"] == "nestlab.lab.internal"
    assert said["global"]["country"] == "at"
    assert said["global"]["reboot-mode"] == "power-off"
    assert "root-password" not in said["global"]
    assert said["disk-setup"] == {"filesystem": "zfs", "disk-list": ["sda", "sdb"], "zfs": {"raid": "raid1"}}
    assert said["post-installation-webhook"]["cert-fingerprint"] == SERVER.fingerprint
    mode = tomllib.loads(found.medium["/auto-installer-mode.toml"])
    assert mode["mode"] == "http"
    assert mode["http"]["token"] == SERVER.token


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), VALUES, max_size=5))
def test_what_is_written_as_toml_is_read_back_the_same(tables: dict[str, Any]) -> None:
    assert tomllib.loads(toml(tables)) == tables


GOOD: dict[str, Any] = {
    "global": {
        "country": "at", "keyboard": "de", "timezone": "Europe/Vienna", "fqdn": "pveauto.testinstall",
        "mailto": "mail@no.invalid", "root-password-hashed": HASH,
    },
    "network": {"source": "from-dhcp"},
    "disk-setup": {"filesystem": "ext4", "disk-list": ["sda"]},
}  # fmt: skip

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "both passwords": ("global", {"root-password": "12345678"}),
    "a short password": ("global", {"root-password-hashed": None, "root-password": "1234567"}),
    "a name alone": ("global", {"fqdn": "pveauto"}),
    "a name that is a number": ("global", {"fqdn": "123.lab.internal"}),
    "no address": ("global", {"mailto": "root"}),
    "the example's address": ("global", {"mailto": "mail@example.invalid"}),
    "another keyboard": ("global", {"keyboard": "klingon"}),
    "an unknown key": ("global", {"root_password": "12345678"}),
    "two disks for ext4": ("disk-setup", {"disk-list": ["sda", "sdb"]}),
    "a disk twice": ("disk-setup", {"filesystem": "zfs", "zfs": {"raid": "raid1"}, "disk-list": ["sda", "sda"]}),
    "one disk for a mirror": ("disk-setup", {"filesystem": "zfs", "zfs": {"raid": "raid1"}}),
    "one disk for a mirror of btrfs": ("disk-setup", {"filesystem": "btrfs", "btrfs": {"raid": "raid1"}}),
    "raidz of btrfs": ("disk-setup", {"filesystem": "btrfs", "btrfs": {"raid": "raidz-1"}}),
    "no raid": ("disk-setup", {"filesystem": "zfs"}),
    "no disk": ("disk-setup", {"disk-list": []}),
    "a list and a filter": ("disk-setup", {"filter": {"ID_SERIAL": "x"}}),
    "much swap": ("disk-setup", {"lvm": {"hdsize": 10.0, "swapsize": 6}}),
    "an unknown key of lvm": ("disk-setup", {"lvm": {"size": 10}}),
    "an address without a filter": ("network", {"source": "from-answer", "cidr": "10.0.0.1/24"}),
    "a long name of a card": (
        "network",
        {"interface-name-pinning": {"enabled": True, "mapping": {"52:54:00:00:00:01": "overlong-interface-name"}}},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_proxmox_refuses_is_a_mistake_before_anything_boots(case: str) -> None:
    table, change = REFUSED[case]
    tables = {**GOOD, table: {**GOOD[table], **change}}
    assert [key for key, _, _ in wrong(tables) if key.startswith(table)], case
    assert list(wrong(GOOD)) == []


def test_a_table_that_proxmox_does_not_know_is_a_mistake() -> None:
    assert [key for key, _, _ in wrong({**GOOD, "disks": {}})] == ["disks"]


@pytest.mark.parametrize(
    ("family", "change", "key"),
    [
        ("debian", {"filesystem": "zfs"}, "filesystem"),
        ("debian", {"extra": "d-i partman"}, "extra"),
        ("debian", {"locale": "C"}, "locale"),
        ("debian", {"timezone": "Vienna; reboot"}, "timezone"),
        ("ubuntu", {"extra": '{"autoinstall": {}}'}, "extra"),
        ("ubuntu", {"extra": "[]"}, "extra"),
        ("ubuntu", {"user": "root", "password": None}, "user"),
        ("redhat", {"extra": "%post\ntrue"}, "extra"),
        ("redhat", {"extra": "%end"}, "extra"),
        ("redhat", {"extra": "%nonsense\n%end"}, "extra"),
        ("redhat", {"filesystem": "zfs"}, "filesystem"),
        ("proxmox", {"password": None}, "password"),
        ("proxmox", {"password": "secret"}, "password"),
        ("proxmox", {"user": "alice"}, "user"),
        ("proxmox", {"packages": ("curl",)}, "packages"),
        ("proxmox", {"extra": '{"disk-setup": {"filesystem": "ntfs"}}'}, "extra"),
        ("proxmox", {"domain": "in valid"}, "domain"),
    ],
)
def test_what_an_installer_would_refuse_or_stop_to_ask_is_a_mistake_of_a_key(
    family: Family, change: dict[str, Any], key: str
) -> None:
    found = list(mistakes(family, replace(PLAIN[family], **change)))
    assert key in [each for each, _, _ in found]
    assert all(what and hint.endswith(".") for _, what, hint in found)


WORDS = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20)


@given(st.sampled_from(get_args(Family)), WORDS, WORDS, WORDS, WORDS)
def test_answers_of_any_text_lead_to_mistakes_and_never_to_a_bug(
    family: Family, locale: str, domain: str, password: str, extra: str
) -> None:
    answers = Answers(locale=locale, domain=domain, password=password, extra=extra)
    if not list(mistakes(family, answers)):
        answered(family, answers, SERVER, "nestlab-root")


def test_no_answer_holds_a_password_in_the_clear() -> None:
    for family in FAMILIES:
        found = answered(family, FULL[family], SERVER, "nestlab-root")
        assert not any(SERVER.token in text for text in found.files.values())
        assert SERVER.token not in " ".join(found.cmdline)
