"""A package that Debian does not have is found before anything is made, with its place and the nearest name."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from nestlab.base.errors import Mistakes
from nestlab.base.events import Say
from nestlab.cli.app import app
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.images import inventory, package_names
from nestlab.images.package_names import FRESH, KEPT, Archive, load, nearest
from nestlab.images.unused import unused
from nestlab.lab.model import GIB, Image
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import local, unknown_packages
from nestlab.verbs.site import Site

NAMES = b"curl\nnginx\nnginx-full\ndefault-mysql-server\npython3\nmail-transport-agent\ntcpdump\nlinux-image-rt-amd64\n"
TRIXIE = Archive("trixie", None)
LAB = """\
lab: shop
images:
  web:
    from: debian
    packages: [curl, ngnix]
machines:
  front: {image: web, memory: 512M}
"""


def listed(cache: Path, archive: Archive = TRIXIE, text: bytes = NAMES, age: float = 0.0) -> Path:
    """A list in the cache, as old as that."""
    folder = archive.folder(cache)
    folder.mkdir(parents=True, exist_ok=True)
    package_names.keep(text, folder)
    (file,) = folder.iterdir()
    for path in (file, folder):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    return file


def image(*packages: str, suite: str | None = None, kernel: str | None = None, base: str = "debian") -> Image:
    return Image(base=base, packages=packages, suite=suite, kernel=kernel, name="web", said="lab.yaml:5")


class Shop:
    """The command line with a home, a world and a mirror of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))
        self.home = Home(folder / "state", folder / "cache")
        self.mirror = NAMES
        self.asked: list[Archive] = []
        self.env = {"NESTLAB_HOME": str(self.home.state), "NESTLAB_CACHE": str(self.home.cache), "HOME": str(folder)}
        (folder / "lab.yaml").write_text(LAB)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(local, "site", lambda home, consent=None: self.site)

    async def names(self, archive: Archive, cache: Path, say: Say) -> None:
        self.asked.append(archive)
        listed(cache, archive, self.mirror)

    @property
    def site(self) -> Site:
        inside = {"kvm": self.world.engine}
        return Site(self.home, self.world.host, self.world.engine, inside, needs=lambda: (), names=self.names)

    def run(self, *words: str, status: int) -> str:
        result = CliRunner(env=self.env).invoke(app, list(words))
        assert result.exit_code == status, result.output
        return " ".join(result.output.split())


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


def test_without_a_list_nothing_is_said_and_nothing_asked(shop: Shop) -> None:
    assert "ok: lab shop" in shop.run("validate", status=0)
    assert "refuse" not in shop.run("plan", status=0)
    assert shop.asked == []


def test_validate_and_plan_name_it_with_file_line_and_the_nearest_name(shop: Shop) -> None:
    listed(shop.home.cache)
    for text in (shop.run("validate", status=2), shop.run("plan", status=0)):
        assert "lab.yaml:5:1: image web: packages: Debian trixie has no package ngnix" in text
        assert "Did you mean `nginx`?" in text
        assert "curl" not in text.split("refuse")[-1].replace("debian+curl", "")
    assert "`up` would refuse this" in shop.run("plan", status=0)
    (mistake,) = json.loads(CliRunner(env=shop.env).invoke(app, ["validate", "--json"]).stdout)["mistakes"]
    assert (mistake["file"], mistake["line"]) == ("lab.yaml", 5)
    assert shop.asked == []


def test_up_asks_the_mirror_and_refuses_before_anything_is_made(shop: Shop) -> None:
    text = shop.run("up", "--no-verify", status=2)
    assert "lab.yaml:5:1: image web: packages: Debian trixie has no package ngnix" in text
    assert shop.asked == [TRIXIE]
    assert shop.world.machines == {}
    assert shop.home.labs() == []


def test_up_of_packages_that_are_there_goes_on_and_asks_no_more(shop: Shop) -> None:
    listed(shop.home.cache, age=KEPT / 2)
    assert "front" in shop.run(
        "up", "--no-verify", "--set", "images.web.packages=[curl, mail-transport-agent]", status=0
    )
    assert shop.asked == []
    assert shop.world.machines


def test_a_package_that_is_new_since_the_list_is_no_mistake_of_the_file(shop: Shop) -> None:
    listed(shop.home.cache, age=2 * FRESH)
    shop.mirror = NAMES + b"ngnix\n"
    shop.run("up", "--no-verify", status=0)
    assert shop.asked == [TRIXIE]


@pytest.mark.parametrize(
    "words",
    [("recreate", "shop", "front", "--yes"), ("restart", "shop", "front"), ("start", "shop")],
    ids=["recreate", "restart", "start"],
)
def test_an_image_that_cannot_be_built_again_is_refused_before_anything_stops_or_goes(
    shop: Shop, words: tuple[str, ...]
) -> None:
    shop.mirror = NAMES + b"ngnix\n"
    shop.run("up", "--no-verify", status=0)
    shop.world.images.clear()
    if words[0] == "start":
        shop.run("stop", "shop", status=0)
    before = {key: replace(each) for key, each in shop.world.machines.items()}
    listed(shop.home.cache, text=NAMES + b"ngnix\n", age=KEPT + 60)
    shop.mirror, shop.asked = NAMES, []
    text = shop.run(*words, status=2)
    assert "lab.yaml:5:1: image web: packages: Debian trixie has no package ngnix" in text
    assert "Did you mean `nginx`?" in text
    assert shop.asked == [TRIXIE]
    assert shop.world.machines == before


def test_images_build_asks_the_mirror_and_refuses_before_anything_is_made(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def built(*_: object) -> None:
        raise AssertionError("an image was built")

    monkeypatch.setattr(inventory, "build", built)
    text = shop.run("images", "build", "lab.yaml", status=2)
    assert "lab.yaml:5:1: image web: packages: Debian trixie has no package ngnix" in text
    assert shop.asked == [TRIXIE]


def test_images_build_without_packages_of_the_users_asks_nobody(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    async def built(_: Home, wanted: dict[str, Image], *__: object, **___: object) -> None:
        made.extend(wanted)

    monkeypatch.setattr(inventory, "build", built)
    shop.run("images", "build", "tiny", status=0)
    assert len(made) == 1
    assert shop.asked == []


def test_each_release_and_mirror_has_its_own_names(tmp_path: Path) -> None:
    listed(tmp_path, Archive("bookworm", None), b"old-package\n")
    unknown_packages.check([image("old-package", suite="bookworm"), image("curl")], tmp_path)
    with pytest.raises(Mistakes, match="bookworm has no package curl"):
        unknown_packages.check([image("curl", suite="bookworm")], tmp_path)
    other = replace(image("nowhere"), mirror="http://mirror.example/debian")
    unknown_packages.check([other], tmp_path)
    listed(tmp_path, Archive("trixie", other.mirror))
    with pytest.raises(Mistakes, match=r"no package nowhere at http://mirror\.example/debian"):
        unknown_packages.check([other], tmp_path)


def test_a_kernel_is_a_package_and_what_is_not_of_debian_alone_is_left_alone(tmp_path: Path) -> None:
    listed(tmp_path)
    unknown_packages.check([image(kernel="cloud"), image(kernel="linux-image-rt-amd64")], tmp_path)
    with pytest.raises(Mistakes, match="kernel: Debian trixie has no package linux-image-rt-amd46"):
        unknown_packages.check([image(kernel="linux-image-rt-amd46")], tmp_path)
    unknown_packages.check([image("pve-something", base="pve"), Image(file="/x.qcow2")], tmp_path)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("ngnix", "nginx"),
        ("python", "python3"),
        ("mysql-server", "default-mysql-server"),
        ("tcpdmp", "tcpdump"),
        ("zzzzzzzz", ""),
        ("x" * 5000, ""),
    ],
)
def test_the_nearest_name_is_what_was_meant(word: str, name: str) -> None:
    assert nearest(word, NAMES.decode().split()) == name


def test_many_unknown_packages_are_bounded(tmp_path: Path) -> None:
    listed(tmp_path)
    with pytest.raises(Mistakes) as caught:
        unknown_packages.check([image(*(f"no-such-{number}" for number in range(5000)))], tmp_path)
    assert len(caught.value.mistakes) == unknown_packages.MOST


@pytest.mark.parametrize("content", [b"", b"junk", zlib.compress(b"\x1b[2J\n../../etc\n"), zlib.compress(NAMES)[:20]])
def test_a_damaged_list_is_none(tmp_path: Path, content: bytes) -> None:
    listed(tmp_path).write_bytes(content)
    found = load(TRIXIE, tmp_path)
    assert found is None or found.known <= set(NAMES.decode().split())


def test_a_list_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    file = listed(tmp_path)
    file.unlink()
    os.mkfifo(file)
    assert load(TRIXIE, tmp_path) is None


def test_a_list_that_unpacks_to_very_much_is_read_no_further(tmp_path: Path) -> None:
    listed(tmp_path).write_bytes(zlib.compress(b"aa\n" * (50 << 20), 9))
    found = load(TRIXIE, tmp_path)
    assert found is not None
    assert found.known <= {"aa"}


@given(st.binary(max_size=300))
def test_only_names_are_kept_of_whatever_a_mirror_says(text: bytes) -> None:
    kept = package_names._names(text)
    assert all(name.isascii() and name.isprintable() and not set(name) & set("/ \n\"'") for name in kept)


def test_an_old_list_says_nothing_and_is_unused(tmp_path: Path) -> None:
    listed(tmp_path, age=KEPT + 60)
    unknown_packages.check([image("ngnix")], tmp_path)
    assert [each.what for each in unused(tmp_path, ())] == [
        f"names of packages that are out of date, {TRIXIE.folder(tmp_path).name[:12]}"
    ]


@pytest.mark.guest
async def test_debians_own_names_are_those_of_its_lists(tmp_path: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    said: list[str] = []
    await package_names.fetch(TRIXIE, tmp_path, said.append)
    found = load(TRIXIE, tmp_path)
    assert found is not None
    assert {"curl", "mail-transport-agent", "linux-image-amd64"} <= found.known, "virtual packages are known, too"
    assert len(found.known) > 60_000
    assert nearest("ngnix", found.known) == "nginx"
    (file,) = TRIXIE.folder(tmp_path).iterdir()
    assert file.stat().st_size < 4 << 20
    with pytest.raises(Mistakes, match="no package no-such-package"):
        unknown_packages.check([image("no-such-package")], tmp_path)
