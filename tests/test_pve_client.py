"""The door to a Proxmox VE, against a small HTTPS server of the tests that answers as a real one was seen to."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from https_scripted import Answer, Asked, Hangup, data, refuse, serving
from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.pve import client, encode
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.errors import Denied, Exists, Invalid, Locked, Missing, NodeUnreachable, PveError, refusal
from nestlab.wire.pve.https import read
from nestlab.wire.pve.retries import Lost, Patience, repeatable
from nestlab.wire.pve.trust import Trust
from nestlab.wire.shapes import Odd
from pve_door import APART, BUSY, CUT, QUICK, RUNS, TOKEN, UPID, Open, Script, opening
from waiting import LONG

VERSION = {"version": "9.1.10"}


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    return opening(tmp_path)


def test_the_door_opens_without_loading_its_library() -> None:
    code = "import sys, nestlab.wire.pve.client, nestlab.wire.pve.pvesh; print('aiohttp' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG, check=True)
    assert said.stdout == "False\n"


# -- what is sent


async def test_a_token_is_shown_without_csrf_and_without_cookie(opened: Open) -> None:
    async with opened(Script(data([]))) as (pve, server):
        await pve.create("/pools", {"poolid": "lab"})
        headers = server.asked[0].headers
        assert headers["authorization"] == "PVEAPIToken=lab@pve!nestlab=12345678-1234-1234-1234-123456789abc"
        assert "cookie" not in headers
        assert "csrfpreventiontoken" not in headers


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_text_survives_the_form_parser_that_splits_on_semicolons_and_eats_pluses(
    text: str, many: list[str]
) -> None:
    written = encode.query({"cpu": text, "tags": many})
    pairs = [part.partition("=") for part in written.replace(";", "&").split("&")]
    read = [(unquote(name.replace("+", " ")), unquote(value.replace("+", " "))) for name, _, value in pairs]
    assert read == [("cpu", text), *(("tags", each) for each in many)]


async def test_bodies_are_json_and_queries_are_percent_encoded(opened: Open) -> None:
    cpu = "host,flags=+hv-evmcs;-pcid"
    async with opened(Script(data(None), data(None), data([]))) as (pve, server):
        await pve.set("/nodes/pve1/qemu/100/config", {"cpu": cpu, "kvm": False, "delete": None, "cores": 2})
        await pve.delete("/nodes/pve1/qemu/100", {"purge": True, "note": "a;b+c"})
        await pve.get("/cluster/resources", {"type": "vm"})
        put, delete, get = server.asked
        assert put.headers["content-type"] == "application/json"
        assert put.json == {"cpu": cpu, "kvm": "0", "cores": "2"}
        assert (delete.body, delete.headers.get("content-length", "0")) == (b"", "0")
        assert delete.target == "/api2/json/nodes/pve1/qemu/100?purge=1&note=a%3Bb%2Bc"
        assert get.target == "/api2/json/cluster/resources?type=vm"


async def test_a_upid_in_a_path_is_quoted(opened: Open) -> None:
    async with opened(Script(data(RUNS))) as (pve, server):
        await pve.get(f"/nodes/pve2/tasks/{UPID}/status")
        path = urlsplit(server.asked[0].target).path
        assert path == (
            "/api2/json/nodes/pve2/tasks/"
            "UPID%3Apve2%3A00000E0E%3A000A95CC%3A6B036B74%3Aqmclone%3A150%3Aroot%40pam%21lab%3A/status"
        )


async def test_a_body_that_pve_would_not_read_is_not_sent(opened: Open) -> None:
    async with opened(Script(data(None))) as (pve, server):
        with pytest.raises(LabError, match="too long"):
            await pve.create("/pools", {"comment": "x" * (1 << 20)})
        assert server.asked == []


async def test_requests_for_one_node_are_bounded_and_connections_are_kept(opened: Open) -> None:
    async def slowly() -> Answer:
        await asyncio.sleep(0.02)
        return data({})

    async with opened(lambda _: asyncio.ensure_future(slowly())) as (pve, server):
        await asyncio.gather(*(pve.get("/nodes/pve1/status") for _ in range(40)))
        assert server.most <= client.PER_NODE
        assert server.connections <= client.PER_NODE
        await asyncio.gather(*(pve.get(f"/nodes/pve{number}/status") for number in range(40)))
        assert server.connections <= client.CONNECTIONS


# -- errors and repeating


async def test_every_wrong_parameter_is_named(opened: Open) -> None:
    wrong = {"net0": "invalid format\n", "cores": "type check ('integer') failed"}
    async with opened(Script(refuse(400, "Parameter verification failed.", wrong))) as (pve, server):
        with pytest.raises(Invalid, match=r"net0: invalid format; cores: type check") as caught:
            await pve.create("/nodes/pve1/qemu", {"vmid": 100})
        assert set(caught.value.parameters) == {"net0", "cores"}
        assert "POST /nodes/pve1/qemu" in caught.value.what
        assert len(server.asked) == 1


async def test_a_missing_privilege_names_path_privilege_and_what_to_grant(opened: Open) -> None:
    answer = refuse(403, "Permission check failed (/vms/210, VM.PowerMgmt)")
    async with opened(Script(answer)) as (pve, _):
        with pytest.raises(Denied) as caught:
            await pve.create("/nodes/pve1/qemu/210/status/start")
        assert (caught.value.path, caught.value.privileges) == ("/vms/210", ("VM.PowerMgmt",))
        assert "pveum acl modify /vms/210" in caught.value.hint


@pytest.mark.parametrize("method", ["get", "create", "set", "delete"])
@pytest.mark.parametrize("first", [BUSY, APART])
async def test_what_was_refused_before_it_was_begun_is_asked_again(opened: Open, method: str, first: Answer) -> None:
    done = {"digest": "abc"} if method == "get" else "done"
    async with opened(Script(first, first, data(done))) as (pve, server):
        assert await getattr(pve, method)("/nodes/pve1/qemu/170/config") == done
        assert len(server.asked) == 3


@pytest.mark.parametrize("trouble", [CUT, Hangup()])
async def test_what_may_have_been_done_is_not_asked_again_and_reading_is(
    opened: Open, trouble: Answer | Hangup
) -> None:
    async with opened(Script(data(VERSION), trouble, trouble, data({"kversion": "6"}))) as (pve, server):
        await pve.get("/version")
        assert await pve.get("/nodes/pve1/status") == {"kversion": "6"}
        assert len(server.asked) == 4
    for method in ("create", "set", "delete"):
        async with opened(Script(data(VERSION), trouble, data("done"))) as (pve, server):
            await pve.get("/version")
            with pytest.raises(Unreachable):
                await getattr(pve, method)("/nodes/pve1/qemu/100/resize", {"size": "+1G"})
            assert len(server.asked) == 2


async def test_a_lost_connection_says_that_it_is_not_known_what_was_done(opened: Open) -> None:
    async with opened(Script(Hangup())) as (pve, _):
        with pytest.raises(Lost, match="Whether it was done is not known"):
            await pve.create("/nodes/pve1/qemu")


@pytest.mark.parametrize(("trouble", "kind"), [(BUSY, Locked), (CUT, NodeUnreachable), (APART, NodeUnreachable)])
async def test_repeating_has_a_bound(opened: Open, trouble: Answer, kind: type[PveError]) -> None:
    async with opened(Script(trouble)) as (pve, server):
        with pytest.raises(kind):
            await pve.get("/nodes/pve1/qemu")
        assert len(server.asked) == QUICK.tries


async def test_nobody_there_is_told_at_once_and_after_a_meeting_waited_for(opened: Open, tmp_path: Path) -> None:
    async with serving(Script(data(VERSION)), tmp_path) as server:
        pve = Pve("127.0.0.1", TOKEN, Trust.of(server.fingerprint), port=server.port, patience=QUICK)
        await pve.get("/version")
    pauses: list[int] = []

    class Counted(Patience):
        def pause(self, tried: int) -> float:
            pauses.append(tried)
            return 0

    pve._patience = Counted(tries=3, away=0)
    with pytest.raises(Unreachable, match=f"127.0.0.1:{server.port} does not answer"):
        await pve.create("/pools")
    assert pauses == [1, 2]
    await pve.close()
    stranger = Pve("127.0.0.1", TOKEN, Trust.of(server.fingerprint), port=server.port, patience=Counted())
    with pytest.raises(Unreachable):
        await stranger.get("/version")
    assert pauses == [1, 2]
    await stranger.close()


def test_pauses_grow_and_are_bounded() -> None:
    patience = Patience(first=0.5, most=8)
    assert all(0.25 <= patience.pause(1) <= 0.5 for _ in range(50))
    assert all(4 <= patience.pause(9) <= 8 for _ in range(50))


async def test_a_missing_vm_is_missing_although_http_says_500(opened: Open) -> None:
    message = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
    async with opened(Script(refuse(500, message))) as (pve, server):
        with pytest.raises(Missing) as caught:
            await pve.get("/nodes/pve1/qemu/999/config")
        assert caught.value.guest == 999
        assert len(server.asked) == 1


async def test_a_vmid_that_is_taken_exists(opened: Open) -> None:
    message = "unable to create VM 100 - VM 100 already exists on node 'pve1'"
    async with opened(Script(refuse(500, message))) as (pve, _):
        with pytest.raises(Exists):
            await pve.create("/nodes/pve1/qemu", {"vmid": 100})


async def test_an_answer_that_is_no_json_is_an_error_and_not_a_crash(opened: Open) -> None:
    for body in (b"<html>", b"[]", b'{"data":{"version":"9', b'{"data":NaN}', b"[" * 100_000, b"\xff\xfe"):
        async with opened(Script(Answer(body=body))) as (pve, _):
            with pytest.raises(Odd, match="odd answer to GET /version: the answer is not JSON") as caught:
                await pve.get("/version")
            assert pve.where in caught.value.what
    async with opened(Script(Answer(body=b""))) as (pve, _):
        assert await pve.create("/pools") is None
        with pytest.raises(Odd, match="it is null, not an object"):
            await pve.get("/version")


async def test_a_cancelled_request_leaves_nothing_behind(opened: Open) -> None:
    hangs: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    came = asyncio.Event()

    def reply(_: Asked) -> asyncio.Future[Answer]:
        came.set()
        return hangs

    async with opened(reply) as (pve, _):
        asking = asyncio.create_task(pve.create("/pools"))
        await came.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert pve._slots[""]._value == client.PER_NODE
        hangs.set_result(data(None))
    del asking
    gc.collect()
    assert len(asyncio.all_tasks()) == 1


@settings(deadline=None)
@given(st.integers(100, 999), st.text(), st.binary())
def test_no_answer_is_so_odd_that_it_is_a_crash(status: int, reason: str, body: bytes) -> None:
    answer = read(status, reason, body)
    error = refusal("pve1", "GET /", answer.status, answer.message, parameters=answer.errors)
    assert error.what
    assert error.hint
    assert repeatable(error, "GET") >= repeatable(error, "POST")
