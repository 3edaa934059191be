"""The probe, run for real on this machine, and its pure parts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.hosts import probe
from nestlab.hosts.facts import Facts
from waiting import LONG

AS, OBJCOPY = shutil.which("as"), shutil.which("objcopy")


def run_probe(*argv: str, **options: object) -> dict[str, object]:
    command = [sys.executable, "-ISE", *argv]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONG, **options)  # type: ignore[call-overload]
    return dict(json.loads(result.stdout))


def test_it_prints_facts_as_a_file_and_from_stdin() -> None:
    source = Path(probe.__file__).read_text()
    for said in (run_probe(probe.__file__), run_probe("-", input=source)):
        facts = Facts.from_json(json.dumps(said))
        assert facts.kernel == os.uname().release
        assert facts.cpus == os.cpu_count()
        assert facts.uid == os.getuid()
        assert facts.clock > 1e9
        assert 0 < facts.memory_available <= facts.memory


def test_it_imports_only_what_is_cheap() -> None:
    code = f"import sys; before = set(sys.modules); exec(open({probe.__file__!r}).read(), {{'__name__': 'probe'}});"
    code += "print(*sorted(set(sys.modules) - before))"
    said = subprocess.run([sys.executable, "-ISE", "-c", code], capture_output=True, text=True, check=True).stdout
    of_python_itself = {"os", "os.path", "posixpath", "genericpath", "stat", "_stat", "_collections_abc", "errno"}
    assert set(said.split()) <= {"__future__", "fcntl", "mmap", "pwd", "struct", "_struct"} | of_python_itself


def test_it_names_what_systemd_names() -> None:
    if not (detect := shutil.which("systemd-detect-virt")):
        pytest.skip("needs systemd-detect-virt")
    said = subprocess.run([detect], capture_output=True, text=True, check=False).stdout.strip()
    if said == "container-other":
        pytest.skip("systemd 257 says so in any process namespace; the doctor asks for what limits KVM")
    assert run_probe(probe.__file__)["virtualization"] == said.replace("none", "")


def test_kvm_counts_as_run_only_where_it_opened_and_has_a_vendor() -> None:
    facts = Facts.from_json(json.dumps(run_probe(probe.__file__)))
    assert facts.kvm.opened == (os.access("/dev/kvm", os.R_OK | os.W_OK))
    if facts.kvm.opened:
        assert facts.kvm.api == 12
        assert facts.kvm.ran is not None
        assert facts.kvm.ran == (facts.kvm.ran_error == "")
    else:
        assert facts.kvm.error
        assert facts.kvm.ran is None
    if facts.provider not in ("kvm_intel", "kvm_amd"):
        assert not facts.hardware


# -- the child that asks /dev/kvm


def test_a_child_that_dies_or_hangs_is_what_the_error_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(say: int) -> None:
        os.write(say, b"opened=1\napi=12\n")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(probe, "ask_kvm", dies)
    found = probe.kvm()
    assert (found["opened"], found["api"], found["ran"]) == (True, 12, False)
    assert found["ran_error"] == f"the probe was killed by signal {signal.SIGKILL:d}"

    def hangs(say: int) -> None:
        os.write(say, b"opened=1\n")
        signal.pause()

    monkeypatch.setattr(probe, "ask_kvm", hangs)
    monkeypatch.setattr(probe, "DEADLINE", 0.2)
    found = probe.kvm()
    assert (found["opened"], found["ran"]) == (True, False)
    assert "no answer within" in str(found["ran_error"])


def test_an_open_that_hangs_is_a_kvm_that_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ask_kvm", lambda say: signal.pause())
    monkeypatch.setattr(probe, "DEADLINE", 0.1)
    found = probe.kvm()
    assert (found["opened"], found["ran"]) == (False, None)
    assert "no answer within" in str(found["error"])


@pytest.mark.parametrize(
    ("said", "ran", "error"),
    [
        ("opened=1\napi=12\nnested_state=4224\nnested_cpuid=svm\nran_error=\n", True, ""),
        ("opened=1\napi=12\nran_error=exit 8 (triple fault)\n", False, "exit 8 (triple fault)"),
        ("opened=1\napi=12\n", False, "the probe ended early"),
        ("error=/dev/kvm: Permission denied\n", None, ""),
    ],
)
def test_the_childs_lines_are_judged(said: str, ran: bool | None, error: str) -> None:
    found = probe.judge(said, 0, False)
    assert (found["ran"], found["ran_error"]) == (ran, error)


# -- the proof's guest


@pytest.mark.skipif(AS is None or OBJCOPY is None, reason="needs binutils")
def test_the_guests_code_is_what_its_source_says(tmp_path: Path) -> None:
    assert AS is not None
    assert OBJCOPY is not None
    source = Path(__file__).parent / "proof.s"
    subprocess.run([AS, "--64", "-o", str(tmp_path / "o"), str(source)], check=True)
    subprocess.run([OBJCOPY, "-O", "binary", str(tmp_path / "o"), str(tmp_path / "b")], check=True)
    assembled = (tmp_path / "b").read_bytes().ljust(0x2000, b"\0")
    memory = probe.image(0, 0)[0x4000:0x6000]
    assert memory == assembled


def walk(memory: bytes, root: int, linear: int) -> int:
    """The physical address that the page tables give."""
    table = root
    for shift in (39, 30, 21, 12):
        at = table + 8 * (linear >> shift & 511)
        entry = int.from_bytes(memory[at : at + 8], "little")
        assert entry & 7 == 7, f"{linear:#x} is not mapped"
        table = entry & ~0xFFF
    return table | linear & 0xFFF


def test_the_guests_two_tables_differ_in_one_page() -> None:
    memory = probe.image(1, 2)
    assert len(memory) == probe.SIZE
    for root, page in ((0x1000, 0x6000), (0xA000, 0x7000)):
        assert [walk(memory, root, at) for at in range(0, probe.SIZE, 0x1000)] == list(range(0, probe.SIZE, 0x1000))
        assert walk(memory, root, probe.HIGH) == page


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_answer_depends_on_every_word(seed: int, second: int) -> None:
    assert 0 <= probe.answer(seed, second) < 2**64
    assert probe.answer(seed, second) != probe.answer(seed ^ 1, second)
    assert probe.answer(seed, second) != probe.answer(seed, second ^ 1)


# -- text


def test_routes_of_ipv4() -> None:
    text = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
wg0\t0100400A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
tun0\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0
"""
    assert probe.routes4(text) == ["10.64.0.1/32", "192.0.2.0/24"]


def test_routes_of_ipv6() -> None:
    zero = "0" * 32
    rows = [
        ("fd00" + "0" * 28, "40", "00000001", "eth0"),
        ("fd770000000000010000000000020000", "70", "00000001", "br0"),
        ("fe80" + "0" * 28, "40", "00000001", "eth0"),
        (zero, "00", "00000003", "eth0"),
        ("fd" + "0" * 29 + "2", "80", "80200001", "eth0"),
        ("ff" + "0" * 30, "08", "00000001", "eth0"),
        ("0" * 31 + "1", "80", "80200001", "lo"),
        ("20010db8" + "0" * 24, "20", "00200200", "eth0"),
    ]
    text = "".join(f"{net} {size} {zero} 00 {zero} 0 0 0 {flags} {dev:>8}\n" for net, size, flags, dev in rows)
    assert probe.routes6(text) == ["fd00::/64", "fd77::1:0:0:2:0/112"]


@given(st.integers(0, 2**128 - 1) | st.integers(0, 2**16).map(lambda number: number << 56))
def test_addresses_are_written_as_the_rfc_says(number: int) -> None:
    from ipaddress import IPv6Address

    assert probe._address6(f"{number:032x}") == IPv6Address(number).compressed


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_its_json_is_json(value: object) -> None:
    assert json.loads(probe.to_json(value)) == value
