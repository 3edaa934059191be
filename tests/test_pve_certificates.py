"""Which certificates of a Proxmox VE are believed, and how one is let in; before that nothing is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import unquote

import pytest

from https_scripted import Answer, Asked, Hangup, certificate, data, refuse, serving
from nestlab.base.errors import LabError
from nestlab.lab.pve_address import place
from nestlab.wire.pve import credentials
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.errors import Unauthorized
from nestlab.wire.pve.login import Badge, Password
from nestlab.wire.pve.trust import Trust, parse
from pve_door import TOKEN, Open, Script, opening


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    return opening(tmp_path)


# -- certificates


async def test_nothing_is_sent_to_a_certificate_that_is_not_the_one_stated(opened: Open, tmp_path: Path) -> None:
    _, other = certificate(tmp_path)
    async with opened(Script(data({"version": "1"})), believed=Trust.of(other)) as (pve, server):
        with pytest.raises(LabError, match="another certificate than it should; nothing was sent") as caught:
            await pve.get("/version")
        assert server.fingerprint in caught.value.detail
        assert other in caught.value.detail
        assert (server.received, server.asked) == (0, [])


async def test_a_password_is_not_sent_to_a_certificate_that_is_not_the_one_stated(opened: Open, tmp_path: Path) -> None:
    _, other = certificate(tmp_path)
    async with opened(Script(data({"version": "1"})), Password("root@pam", "secret"), believed=Trust.of(other)) as (
        pve,
        server,
    ):
        with pytest.raises(LabError, match="nothing was sent"):
            await pve.create("/pools", {"poolid": "lab"})
        assert server.received == 0


async def test_without_pin_and_ca_the_error_shows_the_fingerprint_and_how_to_state_it(opened: Open) -> None:
    async with opened(Script(data({"version": "1"})), believed=Trust()) as (pve, server):
        with pytest.raises(LabError, match="Nothing says which certificate") as caught:
            await pve.get("/version")
        assert server.fingerprint in caught.value.what
        assert f"NESTLAB_PVE_FINGERPRINT={server.fingerprint}" in caught.value.hint
        assert "openssl x509 -noout -fingerprint -sha256" in caught.value.hint
        assert server.received == 0


async def test_a_ca_file_vouches_for_what_it_signed_and_for_nothing_else(opened: Open, tmp_path: Path) -> None:
    async with serving(Script(data({"version": "9.1.10"})), tmp_path) as server:
        good = Pve("127.0.0.1", TOKEN, Trust.of(ca=str(server.certificate)), port=server.port)
        async with good:
            assert await good.get("/version") == {"version": "9.1.10"}
        other, _ = certificate(tmp_path, "other")
        before = server.received
        bad = Pve("127.0.0.1", TOKEN, Trust.of(ca=str(other)), port=server.port)
        async with bad:
            with pytest.raises(LabError, match=r"is not one that .* vouches for") as caught:
                await bad.get("/version")
        assert server.fingerprint in caught.value.detail
        assert server.received == before


async def test_a_ca_file_that_is_none_is_named(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in ("ca.pem", "absent.pem"):
        async with opened(Script(data({"version": "1"})), believed=Trust.of(ca=str(tmp_path / path))) as (pve, _):
            with pytest.raises(LabError, match=f"{path} cannot be used"):
                await pve.get("/version")


async def test_a_certificate_that_changes_midway_is_survived_when_both_are_stated(opened: Open, tmp_path: Path) -> None:
    later, fingerprint = certificate(tmp_path)
    async with serving(Script(data({"version": "1"})), tmp_path) as server:
        believed = Trust.of(f"{server.fingerprint}, {fingerprint}")
        async with Pve("127.0.0.1", TOKEN, believed, port=server.port) as pve:
            assert await pve.get("/version") == {"version": "1"}
            server.renew(later)
            await pve._https.drop()  # its connections are gone, as after a restart of pveproxy
            assert await pve.get("/version") == {"version": "1"}


def test_a_fingerprint_is_read_as_openssl_and_pve_show_it() -> None:
    pin = bytes(range(32))
    shown = pin.hex(":").upper()
    for text in (
        shown,
        pin.hex(),
        f"sha256 Fingerprint={shown}".removeprefix("sha256 Fingerprint="),
        f"SHA256:{shown}",
    ):
        assert parse(text) == pin
    for text in ("AB:CD", "", "d" * 40):
        with pytest.raises(LabError, match="not a SHA-256 fingerprint"):
            parse(text)


# -- tickets


class Tickets:
    """Gives out tickets t1, t2 …, and lets in whoever shows the last one with its CSRF token."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.passwords: list[str] = []
        self.valid = ""

    def __call__(self, asked: Asked) -> Answer:
        if asked.target.endswith("/access/ticket"):
            self.passwords.append(asked.json["password"])
            if asked.json["password"] not in ("secret;+", self.valid):
                return refuse(401, "authentication failure")
            self.valid = f"PVE:root@pam:{len(self.given) + 1}::abc+/="
            self.given.append(self.valid)
            return data({"ticket": self.valid, "CSRFPreventionToken": f"csrf{len(self.given)}"})
        if unquote(asked.headers.get("cookie", "")) != f"PVEAuthCookie={self.valid}":
            return refuse(401, "Authentication failed!")
        if asked.method != "GET" and asked.headers.get("csrfpreventiontoken") != f"csrf{len(self.given)}":
            return refuse(401, "Permission denied - invalid csrf token")
        return data([{"node": "in"}] if asked.method == "GET" else None)


ROOT = Password("root@pam", "secret;+")


async def test_a_ticket_is_got_once_for_many_requests_at_once(opened: Open) -> None:
    tickets = Tickets()
    async with opened(tickets, ROOT) as (pve, _):
        assert set(await asyncio.gather(*(pve.create("/pools") for _ in range(10)))) == {None}
        assert len(tickets.given) == 1


async def test_a_ticket_that_expired_is_got_anew_once_and_the_request_repeated(opened: Open) -> None:
    tickets = Tickets()
    async with opened(tickets, ROOT) as (pve, _):
        await pve.get("/nodes")
        tickets.valid = "another"
        assert await pve.create("/pools", {"poolid": "lab"}) is None
        assert tickets.passwords == ["secret;+", "secret;+"]


async def test_a_ticket_is_renewed_with_itself_before_its_two_hours_are_over(opened: Open) -> None:
    tickets, now = Tickets(), [0.0]
    badge = Badge(ROOT, lambda: now[0])
    async with opened(tickets, ROOT, badge=badge) as (pve, _):
        await pve.get("/nodes")
        now[0] = 5401
        await pve.get("/nodes")
        assert tickets.passwords == ["secret;+", tickets.given[0]]
        now[0] += 7300  # asleep for too long: the ticket is no password any more
        await pve.get("/nodes")
        assert tickets.passwords[2:] == ["secret;+"]


async def test_a_ticket_that_cannot_renew_itself_gives_way_to_the_password(opened: Open) -> None:
    tickets, now = Tickets(), [0.0]
    async with opened(tickets, ROOT, badge=Badge(ROOT, lambda: now[0])) as (pve, _):
        await pve.get("/nodes")
        now[0], tickets.valid = 5401, "the node joined a cluster"
        assert await pve.get("/nodes") == [{"node": "in"}]
        assert tickets.passwords[1:] == [tickets.given[0], "secret;+"]


async def test_a_login_that_is_cut_off_is_repeated_whatever_it_was_for(opened: Open) -> None:
    tickets, trouble = Tickets(), [True]

    def reply(asked: Asked) -> Answer:
        if asked.target.endswith("/access/ticket") and tickets.given and trouble:
            trouble.clear()
            raise Hangup
        return tickets(asked)

    async with opened(reply, ROOT) as (pve, _):
        await pve.get("/nodes")
        tickets.valid = "another"
        assert await pve.create("/pools") is None
        assert not trouble


async def test_a_wrong_password_is_tried_once(opened: Open) -> None:
    tickets = Tickets()
    async with opened(tickets, Password("root@pam", "wrong")) as (pve, _):
        with pytest.raises(Unauthorized, match="authentication failure") as caught:
            await pve.get("/nodes")
        assert tickets.passwords == ["wrong"]
        assert "wrong" not in str(caught.value).replace("wrong one", "")


async def test_a_second_factor_is_answered_with_advice(opened: Open) -> None:
    answer = data({"ticket": "PVE:!tfa!abc", "NeedTFA": 1, "CSRFPreventionToken": "x"})
    async with opened(Script(answer), ROOT) as (pve, _):
        with pytest.raises(LabError, match="second factor") as caught:
            await pve.get("/nodes")
        assert "NESTLAB_PVE_TOKEN" in caught.value.hint


async def test_a_refused_token_is_not_tried_again_and_not_shown(opened: Open) -> None:
    async with opened(Script(refuse(401, "Authentication failed!"))) as (pve, server):
        with pytest.raises(Unauthorized) as caught:
            await pve.get("/nodes")
        assert len(server.asked) == 1
        assert TOKEN.secret not in str(caught.value) + repr(TOKEN)


async def test_credentials_that_were_found_open_the_door(tmp_path: Path) -> None:
    async with serving(Tickets(), tmp_path) as server:
        where = place(f"pve://root@pam@127.0.0.1:{server.port}")
        credentials.keep(tmp_path, where, {"password": ROOT.secret, "fingerprint": server.fingerprint})
        async with Pve.of(credentials.find(where, {}, tmp_path)) as pve:
            assert await pve.get("/nodes") == [{"node": "in"}]
