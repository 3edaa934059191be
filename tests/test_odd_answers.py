"""Answers that nobody who is sound gives: a Proxmox VE, a guest agent and a QEMU of somebody hostile."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import leaks
from nestlab.base import typed
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.printable import one_line
from nestlab.engines.pve import tags, templates
from nestlab.wire import jsonlines, qga, qmp, shapes
from nestlab.wire.pve import answers
from nestlab.wire.pve.agent import Agent
from nestlab.wire.shapes import Odd, Unfit
from scripted import GREETING, Hang, Hear, Say, Step, server

KEYS = [
    "vmid", "node", "type", "status", "tags", "name", "maxmem", "cpu", "storage", "content",
    "avail", "digest", "description", "pending", "key", "value", "t", "n", "exited", "exitcode",
    "signal", "out-data", "pid", "result", "error", "desc", "cidr", "iface", "zone", "vnet",
    "state", "alias", "tag", "version", "memory", "total",
]  # fmt: skip
TEXTS = st.sampled_from(["", "qemu", "node", "storage", "running", "../..", "1", "-1", "9" * 5000, "\x1b]0;x\x07", "²"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63), 10**400, 1e308, float("nan"), float("inf"), float("-inf"), 0.5])
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs"]), max_size=2)
    | TEXTS
)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), below, max_size=6)
    ),
    max_leaves=12,
)
"""Whatever JSON can say, with the names that answers have more often than others."""

PATHS = [(method, path.replace("(qemu|lxc)", "qemu").replace("*", "x")) for method, path in answers.paths()]


def written(value: Any) -> None:
    """It can be sent on and kept: no half of a surrogate pair, nothing that JSON does not know."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def harmless(text: str) -> None:
    """It can be printed on a terminal, and is not long."""
    text.encode()
    assert one_line(text) == text
    assert len(text) < 600


def tried(work: Callable[[], Any]) -> tuple[LabError | Unfit | None, Any]:
    """What it raises of what it may raise, or else gives."""
    try:
        return None, work()
    except (LabError, Unfit) as error:
        return error, None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*PATHS, ("POST", "/pools"), ("DELETE", "/nodes/x/qemu/1"), ("PUT", "/cluster/sdn")]), JSON)
def test_whatever_a_proxmox_ve_answers_is_what_it_must_be_or_one_error_that_names_it(
    asked: tuple[str, str], value: Any
) -> None:
    method, path = asked
    said, found = tried(lambda: answers.answered(value, "pve.example.org:8006", method, path))
    if said is not None:
        assert isinstance(said, Odd)
        assert said.what.startswith(f"pve.example.org:8006 gave an odd answer to {method} {path}: ")
        harmless(said.what)
    elif not path.endswith(("/file-write", "/ping")):  # nobody looks at these
        written(found)


READERS: list[shapes.Reader[Any]] = [
    shapes.text, shapes.word, shapes.token, shapes.whole, shapes.count, shapes.status, shapes.real, shapes.flag,
    shapes.scalars, shapes.maybe(shapes.text), shapes.rows(shapes.real), shapes.table(shapes.word),
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(READERS), JSON)
def test_a_reader_gives_a_value_that_can_be_relied_on_or_says_what_is_odd(
    reader: shapes.Reader[Any], value: Any
) -> None:
    said, found = tried(lambda: reader(value))
    if said is not None:
        harmless(str(said))
    else:
        written(found)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"data": 1}, "it is an object, not a list"),
        ([[]], "0 is a list, not an object"),
        ([{"type": "qemu", "vmid": "x", "node": "a"}], "0.vmid is a text, not a whole number"),
        ([{"type": "qemu", "vmid": 2**70, "node": "a"}], "0.vmid is a number of more than 63 bits"),
        ([{"type": "qemu", "vmid": 0, "node": "a"}], "0.vmid is 0, which is no VMID"),
        ([{"type": "qemu", "vmid": 1}], "it has no node"),
        ([{"type": "node", "node": "../../etc"}], "0.node is '../../etc', which is no name"),
        ([{"type": "node", "node": "a", "mem": -1}], "0.mem is -1, less than 0"),
        ([{"type": "node", "node": "a", "maxcpu": float("nan")}], "0.maxcpu is no number of a sensible size"),
        ([{"type": {}}], "0.type is an object, not a text"),
        (None, "it is null, not a list"),
    ],
)
def test_an_odd_answer_is_told_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(Odd) as caught:
        answers.answered(value, "pve1:8006", "GET", "/cluster/resources")
    assert said.removeprefix("it ") in caught.value.what


def test_numbers_that_come_as_texts_are_numbers_and_what_is_not_known_is_not_handed_on() -> None:
    row = {"vmid": "100", "node": "pve1", "type": "qemu", "maxmem": "1024", "template": "0", "cpu": "0.5", "odd": [1]}
    assert answers.answered([{**row, "name": None}], "pve1", "GET", "/cluster/resources") == [
        {"vmid": 100, "node": "pve1", "type": "qemu", "maxmem": 1024, "template": False, "cpu": 0.5}
    ]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "1" * 5000, "", "<html>", '{"a":', b"\xff"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        typed.parsed(text)


# -- marks in notes, which everybody may write who may change a machine


@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from(["", '"lab":"a","path":"web","vmid":1,']))
@example({"options": ["x"], "lab": "a", "path": "web", "vmid": 1}, "")
@example({"lab": "a", "path": "../../x", "vmid": 1}, "")
@example({"lab": "a", "path": "web", "vmid": 10**400}, "")
@example({"lab": "a", "path": "web", "vmid": 1, "cargo": 1}, "")
def test_a_mark_is_whole_or_none(value: Any, first: str) -> None:
    text = json.dumps(value)
    if first and text.startswith("{") and text != "{}":
        text = "{" + first + text[1:]
    mark = tags.of_line(tags.PREFIX + text)
    if mark is not None:
        assert "/" not in mark.path
        assert tags.of_line(tags.line(mark)) == mark
        assert all("=" in option for option in mark.options)
    found = templates.mark_of(tags.PREFIX + text)
    assert isinstance(found.get("cargo", []), list)


def test_a_mark_that_is_nested_without_end_is_none() -> None:
    deep = tags.PREFIX + '{"lab":' + "[" * 100_000
    assert tags.of_line(deep) is None
    assert templates.mark_of(deep + "}") == {}


# -- a guest agent through a Proxmox VE: what the guest says comes with what PVE says


class Asked:
    """A Proxmox VE whose answers about an agent are read as the client reads them."""

    where = "pve1:8006"

    def __init__(self, value: Any) -> None:
        self.value = value

    async def get(self, path: str, params: object = None) -> Any:
        return answers.answered(self.value, self.where, "GET", path)

    async def create(self, path: str, params: object = None) -> Any:
        return answers.answered(self.value, self.where, "POST", path)


ASKING: list[Callable[[Agent], Any]] = [
    lambda agent: agent.addresses(),
    lambda agent: agent.text("/x"),
    lambda agent: agent.start(["true"]),
    lambda agent: agent.ended(1, ["true"]),
    lambda agent: agent.place("/x", b""),
]
CARDS = [
    {"result": 1}, {"result": [1]}, {"result": {"error": 1}}, {"result": {"error": {"desc": []}}}, {"result": "x"},
    {"result": [{"ip-addresses": 1}]}, {"result": [{"hardware-address": [], "ip-addresses": [[]]}]}, [], None, 5,
    {"exited": "maybe"}, {"exited": 1, "exitcode": 2**40}, {"exited": 1, "signal": []}, {"exited": 1, "out-data": {}},
    {"pid": "x"}, {"content": [1]}, {},
]  # fmt: skip


@pytest.mark.parametrize("value", CARDS)
@pytest.mark.parametrize("ask", ASKING)
async def test_an_agent_behind_a_proxmox_ve_answers_soundly_or_is_told_of(
    ask: Callable[[Agent], Any], value: Any
) -> None:
    agent = Agent(Asked(value), "pve1", 100, "web", silence=0)  # type: ignore[arg-type]
    said = None
    try:
        await ask(agent)
    except LabError as error:
        said = error.what
    assert said is None or "pve1:8006" in said or "web" in said


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ASKING), JSON)
async def test_no_answer_of_an_agent_is_a_crash(ask: Callable[[Agent], Any], value: Any) -> None:
    with contextlib.suppress(LabError):
        await ask(Agent(Asked(value), "pve1", 100, "web", silence=0))  # type: ignore[arg-type]


# -- a guest agent on its socket

ODD_AGENTS: list[Any] = [
    {"return": {}}, {"return": None}, {"return": []}, {"return": {"pid": "x"}}, {"return": {"pid": [1]}}, {},
    {"error": 1}, {"error": {"desc": {}}}, {"return": {"pid": 1e400}}, b"[]\n", b"nonsense\n", b"\xff\xfe\n",
    b'{"return": ' + b"[" * 100_000 + b"\n",
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD_AGENTS, ids=lambda each: str(each)[:30])
def test_an_odd_answer_of_an_agent_is_told_of_its_machine(tmp_path: Path, answer: Any) -> None:
    with (
        leaks.none(),
        agent_that_says(tmp_path, answer) as path,
        pytest.raises(LabError, match="hv1"),
        qga.Agent(path, timeout=10, where="hv1") as agent,
    ):
        agent.run(["true"])


ODD_ENDS: list[Any] = [
    {}, {"exited": "x"}, {"exited": True, "exitcode": "x"}, {"exited": True, "exitcode": 1 << 60},
    {"exited": True, "signal": {}}, {"exited": True, "out-data": "%"}, {"exited": True, "out-data": 1.5e308}, [], None,
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD_ENDS, ids=str)
def test_an_odd_end_of_a_command_is_told_of_its_machine(tmp_path: Path, answer: Any) -> None:
    with (
        agent_that_says(tmp_path, {"return": {"pid": 7}}, {"return": answer}) as path,
        pytest.raises(Odd, match="The agent of hv1 gave an odd answer to guest-exec-status"),
        qga.Agent(path, timeout=10, where="hv1") as agent,
    ):
        agent.run(["true"])


@contextlib.contextmanager
def agent_that_says(folder: Path, *replies: Any) -> Iterator[str]:
    """The socket of an agent that is in step, and then gives these answers, one to each request."""
    path = folder / "agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        thread = threading.Thread(target=answer_in_turn, args=(listener, replies))
        thread.start()
        yield str(path)
        thread.join()


def answer_in_turn(listener: socket.socket, replies: tuple[Any, ...]) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError), connection.makefile("rwb") as file:
        step = json.loads(file.readline().strip(b"\xff\n"))["arguments"]["id"]
        file.write(b"\xff" + json.dumps({"return": step}).encode() + b"\n")
        for reply in replies:
            file.flush()
            file.readline()
            file.write(reply if isinstance(reply, bytes) else json.dumps(reply).encode() + b"\n")
        file.flush()
        file.readline()


def test_output_of_a_command_is_what_the_agent_says(tmp_path: Path) -> None:
    end = {"exited": True, "exitcode": 3, "out-data": base64.b64encode(b"\x00\xff").decode()}
    with (
        agent_that_says(tmp_path, {"return": {"pid": 7}}, {"return": end}) as path,
        qga.Agent(path, timeout=10, where="hv1") as agent,
    ):
        result = agent.run(["true"])
    assert (result.status, result.stdout, result.stderr) == (3, b"\x00\xff", b"")


# -- a QEMU, which inside a hypervisor is whatever root there puts in its place

ODD_QEMUS: list[Any] = [
    {"return": []}, {"return": None}, {"return": {"status": {}}}, {"return": {"status": []}}, {"return": 1},
    {"error": []}, {"error": {"class": 1}}, {"error": {"class": {}, "desc": []}},
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD_QEMUS, ids=str)
def test_an_odd_answer_to_a_quick_look_is_told_of_its_machine(tmp_path: Path, answer: Any) -> None:
    script: list[Step] = [Say(GREETING), Say({"return": {}}), Say(answer), Hang()]
    with server(tmp_path / "s", script) as found, pytest.raises(LabError, match="QEMU of hv1/web"):
        qmp.ask(found.path, ["query-status"], timeout=10, where="hv1/web")


WIRE = [
    b"\xff\xfe\n", b"[]\n", b"{}\n", b"1" * 5000 + b"\n", b'{"return": ' + b"[" * 100_000 + b"\n", b'{"id": []}\n',
    b'{"event": []}\n', b'{"event": {}, "data": 1}\n', b'{"error": 1, "id": 0}\n', b"x" * (11 << 20),
]  # fmt: skip


@pytest.mark.parametrize("line", WIRE, ids=lambda line: repr(line[:12]))
async def test_nonsense_in_a_conversation_is_told_of_its_machine(
    tmp_path: Path, line: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    script: list[Step] = [Say(GREETING), Hear(), Say({"return": {}, "id": "ID"}), Hear(), Say(line)]
    with server(tmp_path / "s", script) as found, pytest.raises(Unreachable, match="QEMU of hv1/web") as caught:
        async with qmp.connect(found.path, timeout=10, where="hv1/web") as monitor:
            await monitor.status()
    assert len(caught.value.what) < 3000
    assert one_line(caught.value.what) == caught.value.what
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("answer", ODD_QEMUS, ids=str)
async def test_an_odd_answer_in_a_conversation_is_told_of_its_machine(tmp_path: Path, answer: Any) -> None:
    said = {**answer, "id": "ID"}
    script: list[Step] = [Say(GREETING), Hear(), Say({"return": {}, "id": "ID"}), Hear(), Say(said), Hang()]
    with server(tmp_path / "s", script) as found, pytest.raises(LabError, match="QEMU of hv1/web"):
        async with qmp.connect(found.path, timeout=10, where="hv1/web") as monitor:
            await monitor.status()


@pytest.mark.parametrize("greeting", [{"QMP": 1}, {"QMP": {"capabilities": 5}}, {}, b"\xff\n", b"[" * 100_000 + b"\n"])
async def test_an_odd_greeting_is_told_of_its_machine(tmp_path: Path, greeting: Any) -> None:
    with server(tmp_path / "s", [Say(greeting)]) as found, pytest.raises(Unreachable, match="QEMU of hv1/web"):
        async with qmp.connect(found.path, timeout=10, where="hv1/web"):
            pass


def test_a_message_without_end_is_given_up_with_little_memory(tmp_path: Path) -> None:
    flood = [Say(b"x" * (1 << 20))] * (2 + (jsonlines.LIMIT >> 20))
    with server(tmp_path / "s", flood) as found, pytest.raises(Unreachable, match="without end"):
        qmp.ask(found.path, ["query-status"], timeout=60, where="hv1")


def test_a_flood_of_empty_lines_ends_with_the_time_that_a_conversation_has(tmp_path: Path) -> None:
    flood = [Say(GREETING), *[Say(b"\n" * (1 << 20))] * 64]
    with server(tmp_path / "s", flood) as found, pytest.raises(Unreachable):
        qmp.ask(found.path, ["query-status"], timeout=1, where="hv1")
