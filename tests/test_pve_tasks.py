"""Tasks of a Proxmox VE followed to their end, and files uploaded to it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from https_scripted import Answer, Asked, Hangup, data
from nestlab.base.errors import LabError
from nestlab.wire.pve import multipart, tasks
from nestlab.wire.pve.client import UPLOAD_TRIES
from nestlab.wire.pve.errors import Denied, Locked, Missing, PveError
from nestlab.wire.pve.retries import Lost
from pve_door import APART, ENDED, QUICK, RUNS, UPID, Node, Open, Script, opening


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    return opening(tmp_path)


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FIRST", 0.001)
    monkeypatch.setattr(tasks, "MOST", 0.002)


@pytest.mark.usefixtures("_hurry")
async def test_a_task_is_followed_on_its_own_node_to_its_end_and_its_log_is_told_once(opened: Open) -> None:
    node = Node(RUNS, RUNS, ENDED, log=[f"line {number}" for number in range(700)] + ["TASK OK"])
    told: list[str] = []
    async with opened(node) as (pve, _):
        assert await pve.task(UPID, told.append) == []
    assert told == [f"line {number}" for number in range(700)]
    assert all(target.startswith(f"/api2/json/nodes/pve2/tasks/{UPID}/") for target in node.targets)


@pytest.mark.usefixtures("_hurry")
async def test_warnings_are_success_and_are_returned(opened: Open) -> None:
    log = ["creating", "WARN: nesting is off", "TASK WARNINGS: 1"]
    async with opened(Node({"status": "stopped", "exitstatus": "WARNINGS: 1"}, log=log)) as (pve, _):
        assert await pve.task(UPID) == ["nesting is off"]


@pytest.mark.usefixtures("_hurry")
async def test_a_failed_task_is_an_error_with_the_end_of_its_log(opened: Open) -> None:
    log = [f"line {number}" for number in range(600)] + ["TASK ERROR: no space left"]
    async with opened(Node(RUNS, {"status": "stopped", "exitstatus": "no space left"}, log=log)) as (pve, _):
        with pytest.raises(PveError, match=r"Task qmclone 150 failed on .*: no space left") as caught:
            await pve.task(UPID)
        assert caught.value.upid == UPID
        assert caught.value.detail.endswith("line 599\nTASK ERROR: no space left")
        assert "line 500\n" not in caught.value.detail


@pytest.mark.usefixtures("_hurry")
async def test_a_task_fails_with_the_kind_of_error_that_a_request_would(opened: Open) -> None:
    for status, kind in {
        "403 Permission check failed (/storage/local, Datastore.AllocateSpace)": Denied,
        "can't lock file '/var/lock/qemu-server/lock-150.conf' - got timeout": Locked,
        "Configuration file 'nodes/pve1/qemu-server/150.conf' does not exist": Missing,
    }.items():
        async with opened(Node({"status": "stopped", "exitstatus": status}, log=["x"])) as (pve, _):
            with pytest.raises(kind):
                await pve.task(UPID)


@pytest.mark.usefixtures("_hurry")
async def test_a_lost_connection_does_not_lose_the_task(opened: Open) -> None:
    lost = [Hangup()] * (QUICK.tries + 1)
    async with opened(Node(RUNS, *lost, APART, ENDED, log=[])) as (pve, _):
        assert await pve.task(UPID) == []


@pytest.mark.usefixtures("_hurry")
async def test_a_task_that_takes_too_long_is_told(opened: Open) -> None:
    async with opened(Node(RUNS, log=["slowly"])) as (pve, _):
        with pytest.raises(LabError, match=r"did not end within 0.05 s; it goes on") as caught:
            await pve.task(UPID, lambda _: None, timeout=0.05)
        assert caught.value.detail == "slowly"


async def test_what_is_no_upid_is_refused(opened: Open) -> None:
    async with opened(Script(data(1))) as (pve, server):
        for text in ("", "OK", "UPID:pve1", f"{UPID}/../x"):
            with pytest.raises(LabError, match="not the name of a task"):
                await pve.task(text)
        assert server.asked == []


# -- uploads


def parsed(body: bytes, boundary: bytes) -> tuple[dict[bytes, bytes], bytes, bytes]:
    """Read a body as pve-http-server does: content, checksum-algorithm, checksum, then the file."""
    delim = rb"--" + re.escape(boundary) + rb"\r?\n"
    rest = re.sub(rb"^.*?(" + delim + rb")", rb"\1", body, count=1, flags=re.DOTALL)
    fields = {}
    for name in (b"content", b"checksum-algorithm", b"checksum"):
        pattern = rb"^" + delim + rb'.*?Content-Disposition: (.*?); name="' + name + rb'"(.*?' + delim + rb")"
        found = re.match(pattern, rest, re.DOTALL)
        assert found is not None
        assert found[1] == b"form-data"
        after = re.sub(rb"^.*?(\r?\n){2}", b"", rest[found.start(2) :], count=1, flags=re.DOTALL)
        value, _, _ = after.partition(b"--" + boundary)
        fields[name], rest = value.strip(), after[len(value) :]
    found = re.match(rb"^" + delim + rb'Content-Disposition: (.*?); name="(.*?)"; filename="([^"]+)"', rest, re.DOTALL)
    assert found is not None
    assert found[2] == b"filename"
    content = re.sub(rb"^.*?(\r?\n){2}", b"", rest[found.end() :], count=1, flags=re.DOTALL)
    end = re.search(rb"(\r?\n)?--" + re.escape(boundary) + rb"--", content)
    assert end is not None
    return fields, found[3], content[: end.start()]


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("size", [0, 1, 3 * multipart.CHUNK + 7])
async def test_an_upload_is_what_pves_own_parser_reads(opened: Open, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)[:-2] + b"\r\n" if size > 1 else b"\n" * size
    (tmp_path / "disk").write_bytes(content)
    sent: list[tuple[int, int]] = []
    node = Node(ENDED, log=[])

    def reply(asked: Asked) -> Answer:
        return data(UPID) if asked.method == "POST" else node(asked)

    async with opened(reply) as (pve, server):
        await pve.upload("pve1", "local", "import", tmp_path / "disk", "a.qcow2", lambda *at: sent.append(at))
        asked = server.asked[0]
    assert asked.target == "/api2/json/nodes/pve1/storage/local/upload"
    kind, _, boundary = asked.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    assert '"' not in boundary
    assert int(asked.headers["content-length"]) == len(asked.body)
    assert "transfer-encoding" not in asked.headers
    fields, name, received = parsed(asked.body, boundary.encode())
    digest = hashlib.sha256(content).hexdigest().encode()
    assert fields == {b"content": b"import", b"checksum-algorithm": b"sha256", b"checksum": digest}
    assert (name, received) == (b"a.qcow2", content)
    assert [at for at, _ in sent] == sorted(at for at, _ in sent)
    assert not size or sent[-1] == (size, size)


async def test_an_upload_that_arrives_damaged_is_an_error(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    node = Node({"status": "stopped", "exitstatus": "checksum mismatch: got 'a' != expect 'b'"}, log=["x"])
    async with opened(lambda asked: data(UPID) if asked.method == "POST" else node(asked)) as (pve, _):
        with pytest.raises(PveError, match="checksum mismatch"):
            await pve.upload("pve1", "local", "iso", tmp_path / "disk", "a.iso")


async def test_a_file_that_shrinks_while_it_is_sent_is_named(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 1000)
    async with opened(Script(data(UPID))) as (pve, _):
        parts = multipart.parts(tmp_path / "disk", "iso", "a.iso")
        (tmp_path / "disk").write_bytes(b"x")
        with pytest.raises(LabError, match="became shorter while it was sent: 1 of 1000"):
            await pve._let_in("POST", "/x", lambda: multipart.stream(parts), parts.headers)


async def test_what_cannot_be_uploaded_is_refused_before_anything_is_sent(opened: Open, tmp_path: Path) -> None:
    async with opened(Script(data(UPID))) as (pve, server):
        for content, name in [("snippets", "a.yml"), ("iso", "a.qcow2"), ("iso", 'a".iso'), ("iso", "../a.iso")]:
            with pytest.raises(LabError):
                await pve.upload("pve1", "local", content, tmp_path / "absent", name)
        with pytest.raises(LabError, match=r"absent cannot be read: No such file"):
            await pve.upload("pve1", "local", "iso", tmp_path / "absent", "a.iso")
        assert server.asked == []


async def test_an_upload_that_is_refused_in_the_middle_says_what_may_be_missing(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    async with opened(Script(Hangup())) as (pve, server):
        with pytest.raises(Lost) as caught:
            await pve.upload("pve1", "local", "iso", tmp_path / "disk", "a.iso")
        assert "Datastore.AllocateTemplate" in caught.value.hint
        assert len(server.asked) == UPLOAD_TRIES
