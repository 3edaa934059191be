"""The answer server, over its real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nestlab.answers import Answers, Family
from nestlab.install import relay
from nestlab.install.answer_server import LOG_LINES, AnswerServer, Sockets, serve
from nestlab.install.mirror import split

HASH = "$y$j9T$VgMv8lsz/TEvzesCZU3xD.$SK.h4QW51Jr/EmjuaTz5Bt4kYiX2Iezz6omzoqVEwj9"


@dataclass
class Served:
    server: AnswerServer
    sockets: Sockets
    said: list[str] = field(default_factory=list)

    @property
    def secret(self) -> str:
        return self.server.address.url.rpartition("/")[2]

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, bytes]:
        """The status and the body, over HTTP."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.sockets.plain)), auto_decompress=False
            ) as session,
            session.request(method, f"http://10.0.2.4/{path}", **more) as answer,
        ):
            return answer.status, await answer.read()

    async def ask_tls(
        self, method: str, path: str, body: bytes, token: str | None = None, pin: str | None = None
    ) -> tuple[int, bytes]:
        """The same over TLS, as Proxmox's installer does it: nothing is sent to another certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_unix_connection(self.sockets.tls, ssl=context, server_hostname="10.0.2.4")
        try:
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if hashlib.sha256(der).hexdigest() != (pin or self.server.address.fingerprint).replace(":", "").lower():
                raise ssl.SSLCertVerificationError("Fingerprint did not match!")
            shown = f"Authorization: {token}\r\n" if token is not None else ""
            head = f"{method} /{path} HTTP/1.1\r\nHost: 10.0.2.4\r\n{shown}Content-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            answer = await reader.read()
        finally:
            writer.close()
        head_, _, text = answer.partition(b"\r\n\r\n")
        return int(head_.split()[1]), text


@asynccontextmanager
async def served(
    folder: Path, family: Family = "debian", answers: Answers | None = None, mirror: str | None = None
) -> AsyncIterator[Served]:
    said: list[str] = []
    given = answers or Answers(password=HASH, commands=("touch /done\n",) if family != "proxmox" else ())
    async with serve(family, given, "nestlab-root", folder, "10.0.2", said.append, mirror) as (server, sockets):
        yield Served(server, sockets, said)


async def test_an_installer_gets_its_answers_and_whoever_does_not_know_the_secret_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        status, text = await it.ask("GET", f"{it.secret}/preseed.cfg")
        assert status == 200
        assert b"d-i partman-auto/method string regular" in text
        assert (await it.ask("GET", f"{it.secret}/command/0")) == (200, b"touch /done\n")
        for path in ("", "preseed.cfg", "x/preseed.cfg", f"{it.secret[:-1]}/preseed.cfg", f"{it.secret}x/preseed.cfg"):
            assert (await it.ask("GET", path))[0] == 404
        for path in ("nothing", "command/1", "command/-1", "command/x", "../../etc/passwd"):
            assert (await it.ask("GET", f"{it.secret}/{path}"))[0] == 404


async def test_stages_are_told_and_the_last_means_that_it_is_done(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        for stage in ("started", "started", "partitioning", "nonsense", "installed"):
            assert (await it.ask("GET", f"{it.secret}/stage/{stage}"))[0] == 200
        assert it.said == ["the installer has its answers", "preparing the disk", "the installer is done"]
        assert it.server.state.done
        await it.ask("GET", f"{it.secret}/stage/failed")
        assert not it.server.state.done


async def test_its_sockets_are_for_their_user_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        for path in (it.sockets.plain, it.sockets.tls, it.sockets.log):
            assert path.stat().st_mode & 0o777 == 0o600
        assert sorted(each.name for each in tmp_path.iterdir()) == ["http", "https", "log"]  # and no key


async def test_proxmox_is_answered_over_tls_by_its_token_alone_and_tells_what_it_is(tmp_path: Path) -> None:
    system = {"product": {"product": "pve"}, "dmi": {"system": {"serial": "1"}}}
    body = json.dumps(system).encode()
    async with served(tmp_path, "proxmox") as it:
        path, token = f"{it.secret}/answer", it.server.address.token
        for shown in (None, "", "Bearer x", token):
            assert (await it.ask_tls("POST", path, body, shown))[0] == 401
        assert (await it.ask_tls("GET", path, b"", f"Bearer {token}"))[0] == 401
        status, text = await it.ask_tls("POST", path, body, f"Bearer {token}")
        assert status == 200
        assert b"[disk-setup]" in text
        assert it.server.state.system == system
        assert (await it.ask_tls("POST", f"{it.secret}/installed", b'{"fqdn": "a.b"}'))[0] == 200
        assert it.server.state.result == {"fqdn": "a.b"}
        assert it.server.state.done


async def test_each_installation_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    async with served(tmp_path, "proxmox") as it:
        before, token = it.server.address.fingerprint, it.server.address.token
    async with served(tmp_path, "proxmox") as it:
        assert it.server.address.fingerprint != before
        assert it.server.address.token != token
        with pytest.raises(ssl.SSLCertVerificationError):
            await it.ask_tls("POST", f"{it.secret}/answer", b"{}", pin=before)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'"' + b"x" * (2 << 20)])
async def test_a_body_of_any_shape_is_refused_and_kept_nowhere(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path, "proxmox") as it:
        token = f"Bearer {it.server.address.token}"
        status, _ = await it.ask_tls("POST", f"{it.secret}/answer", body, token)
        assert status in (400, 413)
        assert it.server.state.system == {}


async def test_the_log_is_bounded_and_harmless_and_tells_how_far_debian_is(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        reader, writer = await asyncio.open_unix_connection(it.sockets.log)
        writer.write(b"Nov 30 02:00:00 main-menu[301]: INFO: Menu item 'bootstrap-base' selected\n")
        writer.write(b"\x1b]0;evil\x07" + b"y" * 100_000 + b"\n")
        writer.write(b"".join(b"line %d\n" % number for number in range(2 * LOG_LINES)))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        log = it.server.state.log
        assert log[-1] == f"line {2 * LOG_LINES - 1}"
        assert len(log) == LOG_LINES
        assert not any("\x1b" in line for line in log)
        assert it.said == ["installing the base system"]


async def test_what_subiquity_reports_is_progress_and_its_failure_a_reason(tmp_path: Path) -> None:
    async with served(tmp_path, "ubuntu", Answers(user="ubuntu", password=HASH)) as it:
        event = {"name": "subiquity/Install", "description": "installing system", "event_type": "start"}
        await it.ask("POST", f"{it.secret}/event", json=event)
        assert it.said == ["installing system"]
        await it.ask("POST", f"{it.secret}/event", json={**event, "event_type": "finish", "result": "FAIL"})
        await it.ask("PUT", f"{it.secret}/log/journal", data="curtin: the disk is on fire\n")
        assert it.server.state.failed == "installing system"
        assert it.server.state.log[-1] == "curtin: the disk is on fire"


@asynccontextmanager
async def mirroring(give: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[tuple[str, web.AppRunner]]:
    """The URL of a mirror on this machine, and what ends it."""
    app = web.Application()
    app.router.add_get("/{path:.*}", give)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}/debian/", runner
    finally:
        await runner.cleanup()


async def test_a_list_of_packages_is_the_one_that_the_release_names_though_a_cache_keeps_an_older_one(
    tmp_path: Path,
) -> None:
    """By its checksum, under which there is no older one; by its name, where the mirror has none by checksum."""
    at, sums = "main/binary-amd64", {name: hashlib.sha256(name.encode()).hexdigest() for name in ("new", "gone")}
    text = f"Acquire-By-Hash: yes\nSHA256:\n {sums['new']} 3 {at}/Packages.xz\n {sums['gone']} 4 {at}/Packages.gz\n"
    signed = f"-----BEGIN PGP SIGNED MESSAGE-----\n\nSuite: a\n{text}\n-----BEGIN PGP SIGNATURE-----\nabc\n"
    has = {
        "trixie/InRelease": signed,
        "old/InRelease": signed.replace("Acquire-By-Hash: yes\n", ""),
        f"trixie/{at}/by-hash/SHA256/{sums['new']}": "new",
        **{f"{suite}/{at}/Packages.{kind}": "old" for suite in ("trixie", "old") for kind in ("xz", "gz")},
    }

    async def packages(request: web.Request) -> web.Response:
        if (found := has.get(request.path.removeprefix("/debian/dists/"))) is None:
            raise web.HTTPNotFound
        return web.Response(text=found)

    async with mirroring(packages) as (url, _), served(tmp_path, mirror=url) as it:
        assert await it.ask("GET", f"debian/dists/trixie/{at}/Packages.xz") == (200, b"old")  # nothing is known yet
        for suite in ("trixie", "old"):
            assert (await it.ask("GET", f"debian/dists/{suite}/Release"))[0] == 200
        assert await it.ask("GET", f"debian/dists/trixie/{at}/Packages.xz") == (200, b"new")
        assert await it.ask("GET", f"debian/dists/trixie/{at}/Packages.gz") == (200, b"old")
        assert await it.ask("GET", f"debian/dists/old/{at}/Packages.xz") == (200, b"old")
        assert await it.ask("GET", f"debian/dists/trixie/{at}/by-hash/SHA256/{sums['new']}") == (200, b"new")
        assert (await it.ask("GET", f"debian/dists/trixie/{at}/Packages.bz2"))[0] == 404


async def test_packages_come_through_it_from_the_mirror_byte_for_byte(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    async def packages(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Accept-Encoding", "")))
        if request.path.endswith("missing"):
            raise web.HTTPNotFound
        return web.Response(body=b"\x1f\x8b not unpacked", headers={"Content-Type": "application/gzip"})

    async with mirroring(packages) as (url, mirror), served(tmp_path, mirror=url) as it:
        assert "d-i mirror/http/directory string /debian\n" in it.server.given.files["preseed.cfg"]
        assert await it.ask("GET", "debian/dists/trixie/Release.gz") == (200, b"\x1f\x8b not unpacked")
        assert (await it.ask("GET", "debian/dists/missing"))[0] == 404
        assert asked == [("/debian/dists/trixie/Release.gz", "identity"), ("/debian/dists/missing", "identity")]
        assert it.server.state.log[-1] == "mirror: 404 dists/missing"
        await mirror.cleanup()
        assert (await it.ask("GET", "debian/dists/trixie/Release"))[0] == 502


def test_a_release_and_its_signature_come_out_of_one_file() -> None:
    """So that the two that an installer asks for belong together, whatever a cache has of them."""
    head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    signed = head + b"Origin: x\n- -dashed\n-----BEGIN PGP SIGNATURE-----\nabc\n"
    assert split(signed) == (b"Origin: x\n-dashed", b"-----BEGIN PGP SIGNATURE-----\nabc\n")
    assert split(b"") is None
    assert split(b"Origin: x\n\nno signature") is None


async def test_a_guests_connection_is_passed_on_both_ways_until_both_have_ended(tmp_path: Path) -> None:
    """As QEMU runs it: a program of its own, on stdin and stdout."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(echo, tmp_path / "s"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", relay.__file__, str(tmp_path / "s"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate(b"x" * 200_000)
        assert out == b"got " + b"x" * 200_000
        assert process.returncode == 0


def test_a_relay_without_a_server_ends_quietly(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", relay.__file__, str(tmp_path / "none")]
    done = subprocess.run(words, input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
