"""Whatever hostile parts a lab file is put together from: it is a lab that can be planned or one error, and on the way
nothing is connected to, looked up or run, and no file is opened but those that may be read."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.home.directories import Home
from nestlab.labfile import parse
from nestlab.labfile.fields import RECORDS
from nestlab.show import render
from nestlab.show import taken as shown
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import session as verbs
from nestlab.verbs.site import Site

ACTS = ("socket.connect", "socket.get", "socket.send", "subprocess.", "os.exec", "os.posix_spawn", "os.system", "pty.")

watching: list[list[tuple[str, str]]] = []
"""Where what happens is noted; an audit hook (PEP 578) stays as long as the process."""


def _note(name: str, args: tuple[object, ...]) -> None:
    if watching and (name == "open" or name.startswith(ACTS)):
        watching[-1].append((name, str(args[0])))


sys.addaudithook(_note)


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    watching.append([])
    try:
        yield watching[-1]
    finally:
        watching.pop()


VALUES = st.sampled_from(
    [
        "pve://evil.example",
        "pve+ssh://-oProxyCommand=x@evil.example",
        "ssh://evil.example",
        "pve://${S}.evil.example",
        "${S}",
        "${N:-${N:-x}}",
        "$${S}",
        "/proc/self/environ",
        "/proc/kmsg",
        "/dev/zero",
        "/dev/tty",
        "fifo",
        "loop",
        "huge",
        "inside",
        "../outside",
        "~root/.ssh/id_rsa",
        "/net/evil.example/${S}",
        "disk.raw",
        "json:{}",
        "nbd://evil.example/",
        "http://${S}.evil.example/",
        "-snapshot",
        "a,readonly=off",
        "\u202eetad",
        "\x1b]52;c;x\x07",
        "x" * 5000,
        "../../../tmp/x",
        "#cloud-config\n{a: &a [*a]}\n",
        "9" * 400,
        "4G",
        "tiny",
        "debian",
        "kvm",
        "wire",
    ]
)
KEYS = st.sampled_from(
    [*sorted({field.name for record in RECORDS.values() for field in record.fields}), "m", "wire", "/x", "../x", "<<"]
)
TREES = st.recursive(
    VALUES | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
MACHINES = st.fixed_dictionaries({}, optional={field.name: TREES for field in RECORDS["machine"].fields})
IMAGES = st.fixed_dictionaries({}, optional={field.name: TREES for field in RECORDS["image"].fields})
SMALL = {"image": "tiny"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("p")
    (made / "inside").write_text("text")
    (made / "disk.raw").write_bytes(b"\0" * 512)
    (made / "loop").symlink_to("loop")
    os.mkfifo(made / "fifo")
    with (made / "huge").open("wb") as huge:
        huge.truncate(3 << 30)
    return made


async def planned(site: Site, file: Path, name: str) -> str:
    lab, _ = verbs.read(file, {"S": "s3cret"})
    async with verbs.looking(site, lab=lab) as session:
        await session.look(setups=True)
        todo = session.plan()
        return "\n".join([render.plan(todo, session.blueprint), *shown.lines(lab.taken), name])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MACHINES | st.just(SMALL), IMAGES | st.none(), TREES | st.none(), TREES | st.none())
def test_a_file_of_hostile_parts_is_planned_or_refused_and_nothing_happens(
    folder: Path, machine: object, image: object, on: object, include: object
) -> None:
    tree: dict[str, object] = {"lab": "x", "segments": {"wire": None}, "machines": {"m": machine, "n": SMALL}}
    tree |= {name: each for name, each in (("on", on), ("include", include)) if each is not None}
    if image is not None:
        tree["images"] = {"mine": image}
    file = folder / "lab.yaml"
    file.write_text(json.dumps(tree))
    home = Home(folder / "state", folder / "cache")
    world = FakeWorld()
    site = Site(home, world.host, world.engine, {"kvm": world.engine}, needs=lambda: ())
    with watched() as events:
        try:
            parse(file, environ={"S": "s3cret"})
            said = asyncio.run(planned(site, file, "x"))
        except LabError as error:
            said = str(error)
    assert said
    assert [event for event in events if event[0] != "open"] == []
    opened = {Path(path) for name, path in events if path.startswith(str(folder))}
    assert not {path.name for path in opened} & {"fifo", "loop"}
    for _, path in events:
        assert not path.startswith(("/proc/self/environ", "/proc/kmsg", "/dev/zero", "/dev/tty", "/net/")), path
        assert "s3cret" not in path or path.startswith(str(folder)), path
