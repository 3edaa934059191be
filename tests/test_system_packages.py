"""Missing system packages, and each distribution's own command."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.images.system_packages import (
    KEYRING,
    MMDEBSTRAP,
    MOUNT,
    UIDMAP,
    commands,
    keyring,
    lacking,
    look,
    manager,
    parse_release,
    release_here,
)

UBUNTU = parse_release('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n')


def test_os_release_is_read_with_quotes_and_comments() -> None:
    text = "# a comment\nNAME='Debian GNU/Linux'\nID=debian\nbroken\nODD=\"unfinished\n"
    assert parse_release(text) == {"NAME": "Debian GNU/Linux", "ID": "debian", "ODD": '"unfinished'}


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ({"ID": "debian"}, ["sudo apt install mmdebstrap uidmap debian-archive-keyring"]),
        (
            {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"},
            ["sudo apt install mmdebstrap uidmap debian-archive-keyring"],
        ),
        ({"ID": "fedora"}, ["sudo dnf install mmdebstrap shadow-utils debian-keyring"]),
        (
            {"ID": "arch"},
            [
                "sudo pacman -S shadow debian-archive-keyring",
                "mmdebstrap: from the AUR (for instance `paru -S mmdebstrap`)",
            ],
        ),
    ],
)
def test_the_command_is_the_distributions_own(release: dict[str, str], expected: list[str]) -> None:
    assert commands((MMDEBSTRAP, UIDMAP, KEYRING), release, root=False) == expected


def test_root_needs_no_sudo() -> None:
    assert commands((MMDEBSTRAP,), UBUNTU, root=True) == ["apt install mmdebstrap"]


def test_opensuse_is_found_by_its_family_and_told_where_else_to_look() -> None:
    release = {"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}
    first, second = commands((MMDEBSTRAP, UIDMAP), release, root=True)
    assert first == "zypper install shadow"
    assert second.startswith("mmdebstrap: ")


def test_an_unknown_distribution_gets_the_names() -> None:
    assert manager({"ID": "plan9"}) is None
    assert commands((MMDEBSTRAP,), {}, root=True) == [
        "Install mmdebstrap (Debian's names) with this distribution's package manager."
    ]


def test_what_is_missing_is_looked_for_in_the_path(tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    assert look(root=False, path=str(tmp_path), keyrings=(keyring,)) == (MMDEBSTRAP, UIDMAP, MOUNT, KEYRING)
    assert look(root=True, path=str(tmp_path), keyrings=(keyring,)) == (MMDEBSTRAP, MOUNT, KEYRING)
    keyring.touch()
    for name in ("mmdebstrap", "newuidmap", "newgidmap", "mount"):
        (tmp_path / name).touch(0o755)
    assert look(root=False, path=str(tmp_path), keyrings=(keyring,)) == ()


def test_the_keyring_is_the_first_file_there_that_apt_takes_as_one(tmp_path: Path) -> None:
    places = tuple(tmp_path / name for name in ("a.gpg", "b.pgp", "c.asc"))
    assert keyring(places) is None
    places[2].touch()
    assert keyring(places) is None
    places[1].touch()
    assert keyring(places) == places[1]
    places[0].touch()
    assert keyring(places) == places[0]


def test_the_error_names_what_is_missing_and_the_command() -> None:
    error = lacking((MMDEBSTRAP, KEYRING), UBUNTU, root=False)
    assert error.what == "mmdebstrap and debian-archive-keyring are not installed here."
    assert error.hint == "Install with: sudo apt install mmdebstrap debian-archive-keyring"
    assert "makes images" in error.detail


def test_this_machines_release_is_read() -> None:
    assert "ID" in release_here()
