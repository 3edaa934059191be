"""Downloads from a real server on loopback that breaks off, resumes, redirects, lies, serves other things, is slow."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.base import files, patience
from nestlab.base.errors import LabError
from nestlab.wire import download as wire
from nestlab.wire.download import download, text
from url_server import Served, authority, serving

BODY = os.urandom(700_000)
SUM = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
MOST = 1 << 30


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


async def got(url: str, folder: Path, checksum: str = SUM, most: int = MOST) -> bytes:
    folder.mkdir(exist_ok=True)
    return (await download(url, folder, checksum, most, lambda size, total: None)).read_bytes()


async def refused(url: str, folder: Path, checksum: str = SUM, most: int = MOST) -> LabError:
    with pytest.raises(LabError) as error:
        await got(url, folder, checksum, most)
    return error.value


async def test_what_has_the_checksum_is_there_with_progress(served: Served, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    url = served.put("/disk.qcow2", BODY)
    path = await download(url, tmp_path, SUM, MOST, lambda *step: told.append(step))
    assert path.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert path.stat().st_mode & 0o777 == 0o600
    assert served.headers[0]["Accept-Encoding"] == "identity", "the checksum is over what the vendor published"


async def test_a_sha512_is_as_good(served: Served, tmp_path: Path) -> None:
    assert await got(served.put("/d", BODY), tmp_path, f"sha512:{hashlib.sha512(BODY).hexdigest()}") == BODY


async def test_what_broke_off_goes_on_where_it_was(served: Served, tmp_path: Path) -> None:
    assert await got(served.put("/d", BODY, cuts=[100_000, 200_000, 50_000]), tmp_path) == BODY
    assert [each for _, each in served.asked] == ["", "bytes=100000-", "bytes=300000-", "bytes=350000-"]


async def test_another_run_goes_on_where_the_first_was_ended(served: Served, tmp_path: Path) -> None:
    url = served.put("/d", BODY, cuts=[300_000, 0, 0, 0])
    assert "broke off after 293K of 684K" in (await refused(url, tmp_path)).what
    assert await got(url, tmp_path) == BODY
    assert served.asked[-1] == ("/d", "bytes=300000-")


async def test_another_file_at_the_server_is_begun_anew(served: Served, tmp_path: Path) -> None:
    url = served.put("/d", os.urandom(700_000), cuts=[300_000, 0, 0, 0])
    await refused(url, tmp_path)
    served.put("/d", BODY, etag='"two"')
    assert await got(url, tmp_path) == BODY


async def test_a_server_without_proof_is_asked_for_all_of_it(served: Served, tmp_path: Path) -> None:
    url = served.put("/d", BODY, etag="", cuts=[300_000])
    assert await got(url, tmp_path) == BODY
    assert {each for _, each in served.asked} == {""}


async def test_a_server_that_knows_no_parts_is_asked_for_all_of_it(served: Served, tmp_path: Path) -> None:
    assert await got(served.put("/d", BODY, ranges=False, cuts=[300_000, 400_000]), tmp_path) == BODY


async def test_what_suffered_on_the_disk_is_downloaded_once_more(served: Served, tmp_path: Path) -> None:
    url = served.put("/d", BODY, cuts=[300_000, 0, 0, 0])
    await refused(url, tmp_path)
    with (tmp_path / "data").open("r+b") as file:
        file.write(bytes(4096))
    assert await got(url, tmp_path) == BODY


async def test_something_else_is_refused_with_both_checksums_and_not_kept(served: Served, tmp_path: Path) -> None:
    other = os.urandom(1000)
    error = await refused(served.put("/d", other), tmp_path)
    assert "its checksum differs" in error.what
    assert SUM.partition(":")[2] in error.detail
    assert hashlib.sha256(other).hexdigest() in error.detail
    assert not (tmp_path / "data").exists()


async def test_a_web_page_is_said_to_be_one_before_anything_else(served: Served, tmp_path: Path) -> None:
    said = "is a web page (HTML)"
    assert said in (await refused(served.put("/a", b"<p>Log in", kind="text/html; charset=utf-8"), tmp_path)).what
    assert said in (await refused(served.put("/b", b"\n<!DOCTYPE html><html>"), tmp_path)).what


async def test_a_length_that_lies(served: Served, tmp_path: Path) -> None:
    assert await got(served.put("/longer", BODY, claims=len(BODY) + 10), tmp_path / "a") == BODY
    error = await refused(served.put("/shorter", BODY, claims=1000), tmp_path / "b")
    assert "(1000 bytes)" in error.detail or "no proper HTTP" in error.what, "what follows the length is no answer"
    assert not (tmp_path / "b" / "data").exists() or not (tmp_path / "b" / "data").stat().st_size


async def test_more_than_it_may_have_is_refused_before_it_is_taken(served: Served, tmp_path: Path) -> None:
    error = await refused(served.put("/d", BODY), tmp_path, most=500_000)
    assert "684K or more, and may have 488K" in error.what
    assert "max_size" in error.hint
    assert (tmp_path / "data").exists() is False or (tmp_path / "data").stat().st_size == 0


async def test_what_the_disk_has_no_room_for_is_refused(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "disk_free", lambda path: 1000)
    assert "only 1K free" in (await refused(served.put("/d", BODY), tmp_path)).what


async def test_a_disk_that_fills_up_meanwhile_is_said_and_freed(served: Served, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        error = await refused(served.put("/d", BODY), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "is full" in error.what
    assert "images gc" in error.hint
    assert not (tmp_path / "data").stat().st_size


async def test_redirects_are_followed_to_their_end(served: Served, tmp_path: Path) -> None:
    served.put("/real", BODY)
    served.put("/second", status=302, leads="/real")
    assert await got(served.put("/first", status=307, leads=f"{served.url}/second"), tmp_path) == BODY


async def test_redirects_that_are_not_followed(served: Served, tmp_path: Path) -> None:
    assert "without end" in (await refused(served.put("/loop", status=302, leads="/loop"), tmp_path)).what
    for place in ("file:///etc/passwd", "ftp://example.org/d", "http://user:word@127.0.0.1/d"):
        error = await refused(served.put("/d", status=302, leads=place), tmp_path)
        assert "which is not followed" in error.what


def test_no_redirect_leaves_https_or_comes_to_this_computer_from_elsewhere() -> None:
    for here, there in (
        ("https://example.org/d", "http://example.org/d"),
        ("http://example.org/d", "http://127.0.0.1/d"),
        ("https://example.org/d", "https://[::1]/d"),
    ):
        with pytest.raises(LabError):
            wire.led(here, there)
    assert wire.led("http://example.org/d", "https://mirror.example.net/d") == "https://mirror.example.net/d"


async def test_https_is_checked_against_the_systems_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, place = authority(tmp_path)
    with serving(context) as served:
        url = served.put("/d", BODY)
        assert "is not who it says" in (await refused(url, tmp_path / "a")).what
        monkeypatch.setenv("SSL_CERT_FILE", str(place))
        assert await got(url, tmp_path / "b") == BODY


async def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENCE", 0.4)
    monkeypatch.setattr(patience, "allowed", lambda seconds: seconds)
    small = BODY[:50_000]
    checksum = f"sha256:{hashlib.sha256(small).hexdigest()}"
    assert await got(served.put("/slow", small, piece=5000, pause=0.1), tmp_path / "a", checksum) == small
    error = await refused(served.put("/silent", small, piece=5000, pause=3.0, ranges=False), tmp_path / "b", checksum)
    assert "nothing came for" in error.what


async def test_what_a_server_refuses_is_said(served: Served, tmp_path: Path) -> None:
    assert "404 Not Found" in (await refused(f"{served.url}/none", tmp_path)).what
    error = await refused(served.put("/d", status=403), tmp_path)
    assert "403 Forbidden" in error.what
    assert ".netrc" in error.hint


async def test_a_server_that_is_too_busy_is_asked_again(served: Served, tmp_path: Path) -> None:
    error = await refused(served.put("/d", status=503), tmp_path)
    assert "503 Service Unavailable" in error.what
    assert len(served.asked) == wire.TRIES


async def test_nobody_who_listens_is_said_with_the_host(tmp_path: Path) -> None:
    error = await refused("http://127.0.0.1:9/d?token=secret", tmp_path)
    assert "127.0.0.1 does not serve it" in error.what
    assert "secret" not in str(error)


async def test_the_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        proxy.put("http://vendor.invalid/disk", BODY)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await got("http://vendor.invalid/disk", tmp_path) == BODY
        monkeypatch.setenv("no_proxy", "vendor.invalid")
        assert "vendor.invalid does not serve it" in (await refused("http://vendor.invalid/disk", tmp_path / "b")).what


async def test_a_small_file_is_there_or_not_or_too_large(served: Served) -> None:
    assert await text(served.put("/sums", b"abc  disk\n"), 100) == b"abc  disk\n"
    assert await text(f"{served.url}/none", 100) is None
    with pytest.raises(LabError, match="may have"):
        await text(served.put("/large", bytes(1000)), 100)
    with pytest.raises(LabError, match="web page"):
        await text(served.put("/page", b"<html>"), 100)


async def test_what_is_cancelled_goes_on_later(served: Served, tmp_path: Path) -> None:
    url = served.put("/d", BODY, piece=50_000, pause=0.05)
    begun = asyncio.Event()
    work = asyncio.create_task(
        download(url, tmp_path, SUM, MOST, lambda size, total: begun.set() if size > 100_000 else None)
    )
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    served.things["/d"].pause = 0
    assert await got(url, tmp_path) == BODY
    assert served.asked[-1][1].startswith("bytes=")
