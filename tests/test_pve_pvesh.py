"""A Proxmox VE through pvesh: what it prints, as recorded, read as the API's answers and errors are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.errors import Denied, Exists, Invalid, Locked, Missing, PveError
from nestlab.wire.pve.pvesh import Pvesh
from nestlab.wire.pve.retries import Patience
from nestlab.wire.result import Result
from nestlab.wire.shapes import Odd

UPID = "UPID:pve1:00001B65:000B9B51:6B036E11:qmcreate:220:root@pam:"
QUICK = Patience(tries=3, first=0.001, most=0.002)


class Node:
    """A host that answers commands as it is told, the last answer again and again."""

    path = "node"

    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self.answers = list(answers)
        self.ran: list[list[str]] = []
        self.files: dict[str, bytes] = {}

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        self.ran.append(list(argv))
        if argv[0] == "sha256sum":
            return Result(tuple(argv), 0, hashlib.sha256(self.files[argv[-1]]).hexdigest().encode() + b"  x\n", b"")
        status, out, err = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Result(tuple(argv), status, out.encode(), err.encode())

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        self.files[path] = source.read_bytes()


def test_both_ways_to_a_pve_are_the_same_to_whoever_asks() -> None:
    ways: list[type[Api]] = [Pve, Pvesh]
    assert len(ways) == 2


async def test_a_request_is_one_command_without_a_shell() -> None:
    node = Node((0, '{"data":1}\n', ""))
    await Pvesh(node).set(
        "/nodes/pve1/qemu/100/config", {"cpu": "host,flags=+a;-b", "kvm": False, "x": ["-1", "2", ""]}
    )
    assert node.ran == [
        [
            "pvesh",
            "set",
            "/nodes/pve1/qemu/100/config",
            "--output-format",
            "json",
            "--cpu=host,flags=+a;-b",
            "--kvm=0",
            "--x=-1",
            "--x=2",
            "--x",
            "",
        ]
    ]


@pytest.mark.parametrize(
    ("ask", "path", "printed", "answer"),
    [
        ("get", "/version", '{"release":"9.1","version":"9.1.10"}\n', {"version": "9.1.10"}),
        ("get", "/cluster/nextid", "101\n", 101),
        ("create", "/nodes/pve1/qemu", "", None),
        ("create", "/nodes/pve1/qemu", f"{UPID}\n", UPID),
        ("create", "/nodes/pve1/qemu", f'"{UPID}"\n', UPID),
        ("create", "/nodes/pve1/qemu", f'Formatting x\ntransferred 100%\n"{UPID}"\n', UPID),
        ("get", "/nodes", "[]", []),
    ],
)
async def test_what_it_prints_is_the_answer(ask: str, path: str, printed: str, answer: object) -> None:
    assert await getattr(Pvesh(Node((0, printed, ""))), ask)(path) == answer


@pytest.mark.parametrize("printed", ["", "null", "[]", "{}", '{"version": {}}', "[" * 100_000, "NaN", "\x1b]0;x\x07"])
async def test_what_it_prints_oddly_is_told_of_that_node(printed: str) -> None:
    with pytest.raises(Odd, match=r"^pve1 gave an odd answer to GET /version: ") as caught:
        await Pvesh(Node((0, printed, "")), "pve1").get("/version")
    assert "\x1b" not in caught.value.what


USAGE = "pvesh get <api_path> [OPTIONS] [FORMAT_OPTIONS]\n"


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (255, f"400 Parameter verification failed.\nvmid: VM 100 already exists\n{USAGE}", Exists),
        (255, f"400 Parameter verification failed.\nvmid: bad\n{USAGE}", Invalid),
        (255, "Unknown option: foo\n400 unable to parse option\n" + USAGE, Invalid),
        (2, "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n", Missing),
        (11, "hostname lookup 'nosuch' failed - failed to get address info for: nosuch: x\n", Missing),
        (255, "create pool failed: pool 'clipool' already exists\n", Exists),
        (255, "403 Permission check failed (/vms/100, VM.Audit)\n", Denied),
        (255, "can't lock file '/var/lock/qemu-server/lock-1.conf' - got timeout\n", Locked),
        (1, "No 'get' handler defined for '/nosuch'\n", PveError),
        (255, "ipcc_send_rec[1] failed: Connection refused\nUnable to load access control list\n", Unreachable),
        (127, "sh: 1: exec: pvesh: not found\n", LabError),
    ],
)
async def test_what_it_complains_of_is_the_same_error_as_over_https(
    status: int, said: str, kind: type[LabError]
) -> None:
    with pytest.raises(kind) as caught:
        await Pvesh(Node((status, "", said)), patience=QUICK).get("/cluster/nextid", {"vmid": 100})
    assert caught.value.hint
    assert type(caught.value) is kind or kind is LabError


async def test_every_wrong_parameter_is_named() -> None:
    said = f"400 Parameter verification failed.\ncores: type check ('integer') failed\nvmid: bad\n{USAGE}"
    with pytest.raises(Invalid) as caught:
        await Pvesh(Node((255, "", said))).create("/nodes/pve1/qemu")
    assert caught.value.parameters == {"cores": "type check ('integer') failed", "vmid": "bad"}


async def test_a_lock_that_is_not_free_is_waited_for_within_a_bound() -> None:
    busy = (255, "", "can't lock file '/var/lock/qemu-server/lock-1.conf' - got timeout\n")
    node = Node(busy, busy, (0, "", ""))
    await Pvesh(node, patience=QUICK).set("/nodes/pve1/qemu/1/config")
    assert len(node.ran) == 3
    node = Node(busy)
    with pytest.raises(Locked):
        await Pvesh(node, patience=QUICK).set("/nodes/pve1/qemu/1/config")
    assert len(node.ran) == 3


async def test_a_secret_does_not_get_onto_a_command_line() -> None:
    node = Node((0, "", ""))
    with pytest.raises(LabError, match="would be seen by every user"):
        await Pvesh(node).set("/nodes/pve1/qemu/100/config", {"cipassword": "x"})
    assert node.ran == []


async def test_a_task_is_followed_with_pvesh_too() -> None:
    status = '{"status":"stopped","exitstatus":"start failed"}'
    log = '[{"n":1,"t":"TASK ERROR: start failed"}]'
    with pytest.raises(PveError, match="Task qmcreate 220 failed on node: start failed") as caught:
        await Pvesh(Node((0, status, ""), (0, log, ""))).task(UPID)
    assert caught.value.detail == "TASK ERROR: start failed"


async def test_an_upload_is_a_copy_to_where_the_storage_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes(b"seed")
    node = Node((0, "/var/lib/vz/template/iso/lab.iso\n", ""))
    await Pvesh(node).upload("pve1", "local", "iso", tmp_path / "seed", "lab.iso")
    assert node.files == {"/var/lib/vz/template/iso/lab.iso": b"seed"}
    assert node.ran[0] == ["pvesm", "path", "local:iso/lab.iso"]
    missing = Node((255, "", "storage 'nosuch' does not exist\n"))
    with pytest.raises(Missing):
        await Pvesh(missing).upload("pve1", "nosuch", "iso", tmp_path / "seed", "lab.iso")
