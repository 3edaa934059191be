from __future__ import annotations

import os
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.home.directories import SOCKET_LIMIT, Home, check_socket

USER = Path("/home/ann")


def test_directories_come_from_the_environment_then_from_xdg_then_from_the_home_directory() -> None:
    assert Home.of({}, USER) == Home(USER / ".local/state/nestlab", USER / ".cache/nestlab")
    xdg = {"XDG_STATE_HOME": "/xdg/state", "XDG_CACHE_HOME": "/xdg/cache"}
    assert Home.of(xdg, USER) == Home(Path("/xdg/state/nestlab"), Path("/xdg/cache/nestlab"))
    assert Home.of(xdg | {"NESTLAB_HOME": "/n", "NESTLAB_CACHE": "/c"}, USER) == Home(Path("/n"), Path("/c"))


def test_relative_xdg_directories_are_ignored_as_their_specification_says() -> None:
    assert Home.of({"XDG_STATE_HOME": "state"}, USER).state == USER / ".local/state/nestlab"


def test_a_lab_directory_is_private_even_if_it_was_not(tmp_path: Path) -> None:
    home = Home(tmp_path / "state", tmp_path / "cache")
    root = home.lab("pair").root
    assert root == tmp_path / "state/labs/pair"
    root.chmod(0o755)
    assert home.lab("pair").root.stat().st_mode & 0o777 == 0o700
    assert home.existing("pair") == home.lab("pair")
    assert home.existing("other") is None


def test_labs_are_listed_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    assert home.labs() == []
    for name in ("pair", "alone"):
        home.lab(name)
    (tmp_path / "labs/.pair.removed").mkdir()
    (tmp_path / "labs/file").touch()
    assert home.labs() == ["alone", "pair"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "Pair", "a" * 41, "ä"])
def test_what_is_not_a_labs_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match="not the name of a lab"):
        Home(tmp_path, tmp_path).lab(name)
    assert list(tmp_path.iterdir()) == []


def test_machines_have_short_directories_of_their_own(tmp_path: Path) -> None:
    lab = Home(tmp_path, tmp_path).lab("pair")
    assert lab.machine("hv1").parent == lab.root / "m"
    assert len(lab.machine("hv1/" + "x" * 60).name) == 8
    assert lab.machine("hv1") != lab.machine("hv2")


def test_a_directory_too_deep_for_sockets_is_refused_before_it_is_made(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 100)
    with pytest.raises(LabError, match=f"Linux allows {SOCKET_LIMIT}") as caught:
        Home(state, tmp_path).lab("pair")
    assert "NESTLAB_HOME" in caught.value.hint
    assert not state.exists()


def test_a_socket_path_may_have_107_bytes_and_no_more() -> None:
    assert check_socket(Path("/" + "x" * 106))
    with pytest.raises(LabError, match="108 bytes"):
        check_socket(Path("/" + "x" * 107))
    with pytest.raises(LabError, match="109 bytes"):
        check_socket(Path("/" + "ä" * 54))


def test_the_limit_is_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    for length, fits in ((SOCKET_LIMIT, True), (SOCKET_LIMIT + 2, False)):
        with socket.socket(socket.AF_UNIX) as listener:
            if fits:
                listener.bind("x" * length)
            else:
                with pytest.raises(OSError, match="too long"):
                    listener.bind("x" * length)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_lab_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    os.chown(home.lab("pair").root, 12345, 12345)
    with pytest.raises(LabError, match="belongs to user 12345, and this is user 0"):
        home.lab("pair")


def test_a_place_that_cannot_be_used_is_a_labs_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    home = Home(tmp_path / "state", tmp_path)
    with pytest.raises(LabError, match="cannot be used") as caught:
        home.lab("pair")
    assert "NESTLAB_HOME" in caught.value.hint
    with pytest.raises(LabError, match="cannot be used"):
        home.labs()
