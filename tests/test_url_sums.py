"""Checksum files of vendors: read once, signed by a throw-away key, what they say kept; and `nestlab images pull`."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blueprints import draft
from command_line import Cli
from nestlab.base.errors import LabError
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.images import pins, signatures
from nestlab.images.downloads import key_of
from nestlab.lab import blueprint_file
from nestlab.lab.model import GIB, Image, Lab, Machine
from nestlab.plan import planner
from nestlab.plan.steps import Observed, Plan, Pull
from nestlab.show import render
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import session
from nestlab.verbs.site import Site
from nestlab.wire import download as wire
from test_url_images import ova
from url_server import Served, serving

BODY = os.urandom(200_000)
OTHER = os.urandom(200_000)


def digits(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state", tmp_path / "cache")


class Vendor:
    """Somebody with a key of their own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.gpg("--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never")

    def gpg(self, *words: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.folder), "--batch", "--passphrase", "", "--pinentry-mode", "loopback"]
        return subprocess.run([*argv, *words], input=data, capture_output=True, check=True).stdout

    def key(self, path: Path, *, armor: bool = True) -> Path:
        path.write_bytes(self.gpg("--export", *(["--armor"] if armor else [])))
        return path

    def detached(self, data: bytes) -> bytes:
        return self.gpg("--detach-sign", data=data)

    def clear(self, data: bytes) -> bytes:
        return self.gpg("--clear-sign", data=data)


@pytest.fixture(scope="module")
def vendors() -> Iterator[tuple[Vendor, Vendor]]:
    if not shutil.which("gpg") or not shutil.which("gpgv"):
        pytest.skip("there is no gpg here")
    folders = [Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp")) for _ in "12"]  # gpg-agent's sockets: a short path
    try:
        yield Vendor(folders[0], "vendor"), Vendor(folders[1], "stranger")
    finally:
        for folder in folders:
            subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False)
            while folder.exists():  # the agent ends a little later, and removes its sockets meanwhile
                shutil.rmtree(folder, ignore_errors=True)


def lab_of(image: Image) -> Lab:
    return Lab("l", machines=(Machine("hv", image=image, machines=(Machine("in", image=image),)),))


def image_at(served: Served, **how: str) -> Image:
    url = served.put("/disk.raw", BODY)
    return Image(url=url, sums=f"{served.url}/SHA256SUMS", format="raw", **how)  # type: ignore[arg-type]


async def settled(image: Image, home: Home) -> str | None:
    lab = await pins.settled(lab_of(image), home, lambda _: None)
    assert lab.machines[0].image == lab.machines[0].machines[0].image
    return lab.machines[0].image.checksum


async def refused(image: Image, home: Home) -> LabError:
    with pytest.raises(LabError) as error:
        await settled(image, home)
    assert not list((home.state / "checksums").glob("*")) if home.state.exists() else True
    return error.value


async def test_what_it_said_stays_until_it_is_asked_again(served: Served, home: Home) -> None:
    image = image_at(served)
    served.put("/SHA256SUMS", f"{digits(BODY)}  disk.raw\n".encode())
    assert pins.known(lab_of(image), home) == lab_of(image), "nobody is asked by a plan"
    assert not served.asked
    assert await settled(image, home) == f"sha256:{digits(BODY)}"
    served.put("/SHA256SUMS", f"{digits(OTHER)}  disk.raw\n".encode())
    assert await settled(image, home) == f"sha256:{digits(BODY)}"
    assert len(served.asked) == 1
    told = await pins.read([image], home, lambda _: None)
    assert (told[0].before, told[0].checksum) == (f"sha256:{digits(BODY)}", f"sha256:{digits(OTHER)}")
    assert pins.known(lab_of(image), home).machines[0].image.checksum == f"sha256:{digits(OTHER)}"


async def test_its_key_is_its_content_s_once_that_is_known(served: Served, home: Home) -> None:
    image = image_at(served)
    served.put("/SHA256SUMS", f"{digits(BODY)}  disk.raw\n".encode())
    before = key_of(image)
    known = (await pins.settled(lab_of(image), home, lambda _: None)).machines[0].image
    assert key_of(known) == key_of(replace(image, checksum=f"sha256:{digits(BODY)}", sums=None)) != before


async def test_what_does_not_help_is_said(served: Served, home: Home) -> None:
    image = image_at(served)
    assert "404" in (await refused(image, home)).what
    served.put("/SHA256SUMS", f"{digits(BODY)}  other.raw\n".encode())
    error = await refused(image, home)
    assert "does not name disk.raw" in error.what
    assert "other.raw" in error.hint
    served.put("/SHA256SUMS", b"<!DOCTYPE html>")
    assert "web page" in (await refused(image, home)).what


@pytest.mark.parametrize(("ending", "armor"), [*zip(pins.SIGNATURES, (True, False) * 2, strict=True)])
async def test_a_signature_beside_it_counts(
    served: Served, home: Home, tmp_path: Path, vendors: tuple[Vendor, Vendor], ending: str, armor: bool
) -> None:
    sums = f"{digits(BODY)}  disk.raw\n".encode()
    served.put("/SHA256SUMS", sums)
    image = image_at(served, signed_by=str(vendors[0].key(tmp_path / "k", armor=armor)))
    assert "has no signature" in (await refused(image, home)).what
    served.put(f"/SHA256SUMS{ending}", vendors[1].detached(sums))
    assert "none of the keys" in (await refused(image, home)).what
    served.put(f"/SHA256SUMS{ending}", vendors[0].detached(sums + b"x"))
    assert "of something else" in (await refused(image, home)).what
    served.put(f"/SHA256SUMS{ending}", vendors[0].detached(sums))
    assert await settled(image, home) == f"sha256:{digits(BODY)}"


async def test_of_a_clear_signed_one_only_what_is_signed_counts(
    served: Served, home: Home, tmp_path: Path, vendors: tuple[Vendor, Vendor]
) -> None:
    signed = vendors[0].clear(f"SHA256 (disk.raw) = {digits(BODY)}\n".encode())
    image = image_at(served, signed_by=str(vendors[0].key(tmp_path / "k")))
    served.put("/SHA256SUMS", signed.replace(digits(BODY).encode(), digits(OTHER).encode()))
    assert "is not signed" in (await refused(image, home)).what
    other = vendors[0].clear(b"nothing\n") + f"\nSHA256 (disk.raw) = {digits(OTHER)}\n".encode()
    served.put("/SHA256SUMS", other)
    await refused(image, home)
    served.put("/SHA256SUMS", vendors[1].clear(f"SHA256 (disk.raw) = {digits(OTHER)}\n".encode()))
    assert "none of the keys" in (await refused(image, home)).what
    served.put("/SHA256SUMS", signed)
    assert await settled(image, home) == f"sha256:{digits(BODY)}"


async def test_a_signed_file_on_this_computer_counts_as_well(
    served: Served, home: Home, tmp_path: Path, vendors: tuple[Vendor, Vendor]
) -> None:
    place, sums = tmp_path / "SUMS", f"{digits(BODY)}  disk.raw\n".encode()
    place.write_bytes(sums)
    image = replace(image_at(served), sums=str(place), signed_by=str(vendors[0].key(tmp_path / "k")))
    assert "has no signature" in (await refused(image, home)).what
    (tmp_path / "SUMS.asc").write_bytes(vendors[0].detached(sums))
    assert await settled(image, home) == f"sha256:{digits(BODY)}"


async def test_without_gpgv_and_sqv_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="no gpgv here") as error:
        await signatures.verified("SUMS", b"", b"", b"")
    assert "gpgv and sqv" in error.value.hint


def test_only_a_good_signature_by_a_valid_key_is_good() -> None:
    good = "[GNUPG:] GOODSIG 1 x\n[GNUPG:] VALIDSIG 1\n"
    assert signatures.good(good)
    for bad in ("[GNUPG:] EXPKEYSIG 1 x\n[GNUPG:] VALIDSIG 1\n", good + "[GNUPG:] BADSIG 2 y\n", "GOODSIG VALIDSIG"):
        assert not signatures.good(bad)


LAB = """
lab: own
machines:
  m: {{image: {{url: {url}, sums: {sums}, format: raw}}}}
"""


def test_pull_downloads_what_a_lab_file_names_and_the_rest_is_offline(served: Served, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"NESTLAB_CACHE": str(tmp_path / "cache")})
    image = image_at(served)
    file = cli.file(LAB.format(url=image.url, sums=image.sums))
    served.put("/SHA256SUMS", f"{digits(BODY)}  disk.raw\n".encode())
    assert "lab own, 1 machine" in cli("validate", file)
    planned = cli("plan", file).text
    assert "image disk.raw" in planned
    assert "a download from 127.0.0.1, whose checksum `up` reads first" in planned
    assert not served.asked
    said = cli("images", "pull", file)
    assert "disk.raw  file-" in said
    assert "downloaded" in said
    served.things.clear()
    assert "was there already" in cli("images", "pull", file)
    assert "pull" not in cli("plan", file).text
    assert "disk.raw" in cli("images", "ls")
    assert "removed disk.raw" in cli("images", "rm", "disk.raw")


def test_pull_tells_of_what_is_published_now_where_it_is_asked_to(served: Served, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"NESTLAB_CACHE": str(tmp_path / "cache")})
    image = image_at(served)
    file = cli.file(LAB.format(url=image.url, sums=image.sums))
    served.put("/SHA256SUMS", f"{digits(BODY)}  disk.raw\n".encode())
    cli("images", "pull", file)
    served.put("/SHA256SUMS", f"{digits(OTHER)}  disk.raw\n".encode())
    served.put("/disk.raw", OTHER)
    assert "was there already" in cli("images", "pull", file)
    assert "another one now" in cli("images", "pull", "--update", file)
    assert cli("images", "ls").text.count("disk.raw") == 2


def test_pull_takes_a_url_with_its_checksum_and_none_without(served: Served, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"NESTLAB_CACHE": str(tmp_path / "cache")})
    url = served.put("/disk.raw", BODY)
    said = cli("images", "pull", url, status=2)
    assert "nothing is trusted at first sight" in said
    assert "--sha256 DIGITS" in said
    assert not served.asked
    wrong = cli("images", "pull", "--sha256", digits(OTHER), url, status=2)
    assert digits(OTHER) in wrong
    assert digits(BODY) in wrong
    assert not list((tmp_path / "cache" / "downloads").glob("[!.]*"))
    assert "downloaded" in cli("images", "pull", "--sha256", digits(BODY), url)
    events = [
        json.loads(line)
        for line in cli("images", "pull", "--json", "--sha256", digits(BODY), url).text.split("\n")
        if line
    ]
    assert events[-1]["ok"] is True
    assert "is said of one URL" in cli("images", "pull", "--sha256", digits(BODY), "l", status=2)


def test_a_plan_downloads_before_what_needs_it_is_made() -> None:
    image = Image(url="https://vendor.example/d.raw", checksum="sha256:" + "0" * 64, format="raw")
    blueprint = draft("l", Machine("m", image=image))
    todo = planner.plan(blueprint, Observed(), "running")
    pull = next(step for step in todo.steps if isinstance(step, Pull))
    assert pull.id in next(step for step in todo.steps if step.verb == "create").needs
    assert "image d.raw" in render.plan(todo, blueprint)
    assert "a download from vendor.example, its size not known before" in pull.why


async def test_up_reads_the_checksum_file_first_and_a_lab_keeps_what_it_said(served: Served, tmp_path: Path) -> None:
    world = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))
    home = Home(tmp_path / "state", tmp_path / "cache")
    site = Site(home, world.host, world.engine, {"kvm": world.engine}, needs=lambda: ())
    image, file = image_at(served), tmp_path / "lab.yaml"
    file.write_text(LAB.format(url=image.url, sums=image.sums))
    lab, source = session.read(file, {})

    async def up() -> Plan:
        async with session.changing(site, "up", lab=lab, source=source) as opened:
            todo = opened.plan("running")
            await opened.apply(todo, lambda event: None)
        return todo

    with pytest.raises(LabError, match="404"):
        await up()
    assert not home.labs(), "nothing was begun"
    served.put("/SHA256SUMS", f"{digits(BODY)}  disk.raw\n".encode())
    assert [step.verb for step in (await up()).steps] == ["pull", "create", "boot"]
    made = blueprint_file.load(home.lab("own").blueprint, "own")
    assert made is not None
    assert [each.checksum for each in made.images.values()] == [f"sha256:{digits(BODY)}"]
    served.put("/SHA256SUMS", f"{digits(OTHER)}  disk.raw\n".encode())
    assert not await up(), "its vendor's next build is no change"
    await pins.read([image], home, lambda _: None)
    async with session.looking(site, lab=lab) as opened:
        await opened.look()
        assert [change.way for change in opened.plan().changes] == ["anew"]


def test_a_container_template_is_pulled_by_its_url_as_well(served: Served, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"NESTLAB_CACHE": str(tmp_path / "cache")})
    body = gzip.compress(ova(("./etc/hostname", b"x"), ("./usr/bin/true", b"x")))
    assert "downloaded" in cli("images", "pull", "--sha256", digits(body), served.put("/d.tar.gz", body))
    assert "was there already" in cli("images", "pull", "--sha256", digits(body), served.put("/x/d.tgz", body))
