"""What errors mean: every signature knows its own line, logs are explained root cause first, and any text will do."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from nestlab.cli.app import app
from nestlab.engines.qemu.boot import _hopeless
from nestlab.engines.qemu.console import Watch
from nestlab.explain.explain import LONGEST, advice, explain, with_advice
from nestlab.explain.search import needles
from nestlab.explain.signatures import SECTIONS, TABLE, Rank, Signature, reference
from nestlab.wire.result import Result as Ran
from nestlab.wire.result import failure

DOCS = Path(__file__).parent.parent / "docs" / "explain.md"
each_signature = pytest.mark.parametrize("signature", TABLE, ids=lambda each: each.name)

LOCKED = """\
[    0.000000] Linux version 6.12.48+deb13-amd64 (debian-kernel@lists.debian.org)\r
[    0.084301] \x1b[33mx86/cpu: VMX (outside TXT) disabled by BIOS\x1b[0m\r
[    1.202310] systemd[1]: Detected architecture x86-64.\r
[    8.411029] kvm_intel: VMX not enabled (by BIOS) in MSR_IA32_FEAT_CTL on CPU 2\r
Nov 24 08:12:01 hv1 modprobe[411]: modprobe: ERROR: could not insert 'kvm_intel': Operation not supported\r
"""
TASK = """\
generating cloud-init ISO
kvm: error: failed to set MSR 0x48f to 0x7fffff00036dfb
kvm: ../target/i386/kvm/kvm.c:3888: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.
TASK ERROR: start failed: QEMU exited with code 1
"""
CONSOLE = """\
  | [    1.210331] virtio_blk virtio0: [vda] 4194304 512-byte logical blocks
  | [    2.662104] Run /sbin/init as init process
  | [    2.671155] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004
  | [    2.671901] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12.48 #1
  | [    2.672655] ---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004 ]---
"""
FULL = """\
[  99.1] Kernel panic - not syncing: Fatal exception
qemu-system-x86_64: terminating on signal 15 from pid 2101 (/usr/bin/sh)
cp: error writing '/srv/lab/root.qcow2': No space left on device
"""


def names(text: str) -> list[str]:
    return [each.signature.name for each in explain(text)]


def test_there_are_many_signatures_with_names_of_their_own() -> None:
    assert len({each.name for each in TABLE}) == len(TABLE) >= 55
    assert len(TABLE) == sum(len(section) for _, section in SECTIONS)


@each_signature
def test_a_signature_explains_its_own_example(signature: Signature) -> None:
    first, *rest = explain(signature.example)
    assert first.signature == signature
    assert rest == []
    assert "{" not in first.cause.replace("{print", "")
    assert not re.search(r"\{\w+\}", first.do)


@each_signature
def test_a_signature_says_cause_what_to_do_and_where_that_is_documented(signature: Signature) -> None:
    for words in (signature.cause, signature.do):
        assert words[-1] == "."
        assert len(words) < 330
    assert signature.see
    assert re.fullmatch(r"[a-z0-9-]+", signature.name)
    assert set(re.findall(r"\{(\w+)\}", signature.cause + signature.do)) <= set(
        re.compile(signature.pattern).groupindex
    )


@each_signature
def test_a_pattern_has_fixed_parts_to_look_for_and_no_gap_without_a_limit(signature: Signature) -> None:
    assert min(len(each) for each in needles(signature.pattern)) >= 4
    outside = re.sub(r"\[(?:\\.|[^\]])+\]", "x", signature.pattern)
    assert not re.search(r"(?<!\\)\.[*+]|\\[sS][*+]", outside)
    assert "^" not in outside


@given(st.sampled_from(TABLE), st.sampled_from(["[   12.345678] ", "Nov 24 08:12:01 hv1 kernel: ", "  | ", "\x1b[31m"]))
def test_prefixes_escapes_case_and_line_ends_do_not_matter(signature: Signature, prefix: str) -> None:
    assert names(f"{prefix}{signature.example}\x1b[0m\r\n")[0] == signature.name
    shouted = explain(f"nothing\n{prefix}{signature.example.upper()}\r\n")
    assert [each.number for each in shouted] == [2]


def test_firmware_that_locks_virtualization_is_the_cause_of_the_module_that_does_not_load() -> None:
    found = explain(LOCKED)
    assert [each.signature.name for each in found] == ["firmware-locks-vmx", "module-not-supported"]
    assert (found[0].number, found[0].times, found[1].number) == (2, 2, 5)
    assert found[0].line == "[    0.084301] x86/cpu: VMX (outside TXT) disabled by BIOS"
    assert found[1].cause.startswith("kvm_intel finds no virtualization")


def test_a_task_log_is_explained_by_what_stands_before_its_end() -> None:
    assert names(TASK) == ["set-msr", "msr-assertion", "pve-start-failed"]


def test_a_panic_on_a_console_is_explained_once_by_its_own_words() -> None:
    (found,) = explain(CONSOLE)
    assert (found.signature.name, found.number, found.times) == ("init-killed", 3, 2)


def test_a_full_disk_comes_before_the_panic_it_led_to() -> None:
    assert names(FULL) == ["disk-full", "kernel-panic", "qemu-killed"]
    assert advice(FULL).startswith("The disk is full")


def test_the_advice_of_a_text_without_a_known_cause_is_nothing() -> None:
    assert advice("all is well\n") == ""
    assert advice("Kernel panic - not syncing: Fatal exception in interrupt") == "", "the error says that itself"
    assert with_advice("See below.", "all is well") == "See below."


@each_signature
def test_what_a_log_says_becomes_no_command(signature: Signature) -> None:
    match = re.search(signature.pattern, signature.example, re.IGNORECASE)
    assert match is not None
    for value in filter(None, match.groupdict().values()):
        for evil in (";evil", "$(evil)", "`evil`", " evil"):
            for found in explain(signature.example.replace(value, value + evil)):
                assert value + evil not in found.do


@given(st.text(), st.sampled_from(TABLE))
def test_any_text_can_be_explained(text: str, signature: Signature) -> None:
    explain(text)
    for each in explain(f"{text}\n{signature.example}\n{text}"):
        assert each.number >= 1
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", each.line + each.cause + each.do)


@settings(max_examples=20)
@given(st.lists(st.sampled_from([*(each.example for each in TABLE), "", "nothing", "x" * 5000]), max_size=30))
@example(["qemu-system-x86_64 -accel kvm -cpu EPYC-Milan,+vmx"] * 2)
@example(["qemu-system-x86_64 -enable-kvm -cpu kvm64,+vmx,+lahf_lm -m 4096"] * 3)
def test_the_order_is_root_causes_first_and_then_that_of_the_lines(lines: list[str]) -> None:
    found = explain("\n".join(lines))
    order = [(each.signature.rank, each.signature.sure, each.number) for each in found]
    assert order == sorted(order)
    assert sum(each.times for each in found) == sum(line not in ("", "nothing", "x" * 5000) for line in lines)


def test_a_log_of_megabytes_is_read() -> None:
    noise = "Nov 24 08:12:01 hv1 kernel: kvm: vcpu0 modprobe qemu-system-x86_64: connection to 10.0.0.1\n"
    text = (
        noise * 30_000 + "No space left on device\n" + "ssh: connect to host a port 22: Connection refused\n" * 60_000
    )
    found = explain(text)
    assert [(each.signature.name, each.number, each.times) for each in found] == [
        ("disk-full", 30_001, 1),
        ("connection-refused", 30_002, 60_000),
    ]


@pytest.mark.parametrize("piece", ["kvm ", "'", "Module ", "Permission check failed (", "State blocked by ", "a"])
def test_one_line_of_megabytes_is_read_and_shown_short(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    for each in explain(text):
        assert len(each.line) <= LONGEST + 2
    shown = {each.signature.name: each.line for each in explain(text + " No space left on device " + text)}
    assert "No space left on device" in shown.get("disk-full", "No space left on device")


@each_signature
def test_the_fixed_part_of_a_pattern_repeated_a_thousand_times_is_no_trap(signature: Signature) -> None:
    for needle in needles(signature.pattern):
        explain((needle + "'") * 1000)


def test_a_value_that_looks_like_an_option_stands_in_no_command() -> None:
    (found,) = explain("rmmod: ERROR: Module kvm is in use by: --force")
    assert "--force" not in found.do


def run(*words: str, input: bytes = b"", status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["explain", *words], input=input)
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


def test_explain_tells_line_cause_what_to_do_and_source(tmp_path: Path) -> None:
    log = tmp_path / "dmesg"
    log.write_text(LOCKED)
    said = run(str(log)).stdout
    assert "line 2 (and 1 more like it): [    0.084301] x86/cpu: VMX (outside TXT) disabled by BIOS" in said
    assert said.index("cause  The firmware") < said.index("do     Switch VT-x") < said.index("see    linux:")
    assert run(input=LOCKED.encode()).stdout == run("-", input=LOCKED.encode()).stdout == said


def test_explain_takes_an_error_line_itself() -> None:
    line = "modprobe: FATAL: Module kvm_intel is in use."
    assert "sudo modprobe -r kvm_intel" in run(line).stdout
    assert run(*line.split()).stdout == run(line).stdout
    assert "sudo modprobe -r kvm_intel" in run("-", input=b"\xff\xfe\n" + line.encode()).stdout


def test_explain_as_json_has_all_of_it() -> None:
    found: list[dict[str, Any]] = json.loads(run("--json", "-", input=FULL.encode()).stdout)["found"]
    assert [each["name"] for each in found] == ["disk-full", "kernel-panic", "qemu-killed"]
    assert set(found[0]) == {"name", "line", "text", "times", "rank", "sure", "cause", "do", "below", "see"}
    assert json.loads(run("--json", "all is well", status=2).stdout) == {"found": []}


def test_explain_ends_with_status_2_where_there_is_nothing_to_explain(tmp_path: Path) -> None:
    assert "Nothing in that text is known" in run("all is well", status=2).stderr
    assert "stdin is empty" in run(status=2).stderr
    assert "No such file or directory" in run(str(tmp_path / "none"), status=2).stderr
    assert "Is a directory" in run(str(tmp_path), status=2).stderr
    assert "one file" in run(str(tmp_path), str(tmp_path), status=2).stderr
    assert "Nothing in that text" in run("long " * 2000, status=2).stderr


def test_explain_says_so_where_nothing_found_is_a_cause() -> None:
    assert "Nothing of this is a failure by itself." in run("RTNETLINK answers: File exists").stdout
    assert "follows from another failure" in run("Kernel panic - not syncing: Fatal exception").stdout
    assert "by itself" not in run("modprobe: FATAL: Module kvm_intel is in use.").stdout


def test_explain_names_the_level_below_and_what_is_typed_there() -> None:
    said = run(input=b"DMI: Amazon EC2 m7g.large/\nKVM acceleration can NOT be used\n").stdout
    assert "below  This log shows Amazon EC2:" in said
    assert "$ aws ec2 modify-instance-cpu-options" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_a_message(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch(mode=0)
    assert "Permission denied" in run(str(log), status=2).stderr


def test_without_anything_given_at_a_terminal_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    from nestlab.base.errors import LabError
    from nestlab.cli import explain as verb

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(LabError) as caught:
        verb._text([])
    assert "Give a log file" in caught.value.hint


def test_a_failed_command_is_explained_in_its_error() -> None:
    said = b"modprobe: FATAL: Module kvm_amd is in use.\n"
    assert "kvm_amd cannot be unloaded" in failure(Ran(("modprobe",), 1, b"", said), "").hint
    assert failure(Ran(("x",), 1, b"", b"no idea\n"), "").hint.startswith("See what it said")
    assert "not installed" in failure(Ran(("x",), 127, b"", said), "").hint
    assert failure(Ran(("x",), 1, b"", b""), "").hint.startswith("It said nothing")


def test_a_failed_script_is_named_by_its_first_line_that_says_something() -> None:
    script = "\n\n# All of it.\nset -e\n" + "true\n" * 1000
    assert failure(Ran(("sh", "-c", script, "x"), 3, b"", b""), " on hv1").what == (
        "`sh -c 'set -e …' x` failed on hv1 (status 3)."
    )
    assert len(failure(Ran(("echo", "x" * 1000), 3, b"", b""), "").what) < 200


def test_a_machine_that_does_not_come_up_is_explained_in_its_error() -> None:
    class Machine:
        path = "hv1"
        host = type("Here", (), {"path": ""})

    watch = Watch()
    watch.feed(b"[    1.2] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug\n")
    error = _hopeless(Machine(), watch)  # type: ignore[arg-type]
    assert error.hint.startswith("The guest's timer does not tick.")
    assert "nestlab logs hv1" in error.hint


def test_the_committed_page_is_current() -> None:
    if os.environ.get("NESTLAB_GOLDEN") == "write":
        DOCS.write_text(reference.text())
    assert DOCS.read_text() == reference.text(), "NESTLAB_GOLDEN=write pytest tests/test_explain.py writes it again"


def test_ranks_are_told_apart_in_the_table() -> None:
    assert {each.rank for each in TABLE} == set(Rank)
    assert [each.rank for each in TABLE] == sorted(each.rank for each in TABLE)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Module kvm_intel is in use.", "module-in-use"),
        ("rmmod: ERROR: Module kvm_intel is in use", "module-in-use"),
        ("modprobe: FATAL: Module kvm_amd is in use.", "module-in-use"),
        ("rmmod: ERROR: Module kvm_intel is in use by: vboxdrv", "module-in-use-by"),
        ("modprobe: FATAL: Module kvm is in use by: kvm_intel", "module-in-use-by"),
        ("HTTP 401: authentication failure", "pve-authentication"),
        ("401 authentication failure", "pve-authentication"),
        ("HTTP 401: No ticket", "pve-authentication"),
        ("HTTP 595: Connection refused", "pve-proxy-error"),
        ("KVM: unsupported EVMCS field 2032", "evmcs-field"),
        ("TASK ERROR: unexpected status", "pve-worker"),
        ("exitstatus: unexpected status", "pve-worker"),
        ("VM 9000 qmp command 'guest-exec' failed - got timeout", "pve-guest-agent"),
        ("VM 9000 qga command 'guest-exec' failed - got timeout", "pve-guest-agent"),
        ("VM 9 qmp command 'guest-ping' failed - unable to connect to VM 9 qga socket - timeout", "pve-guest-agent"),
        ("VM 101 qmp command 'query-status' failed - got timeout", "pve-qemu-silent"),
        ("unable to connect to VM 101 qmp socket - timeout after 51 retries", "pve-qemu-silent"),
        ("  QEMU: Checking if device /dev/kvm exists                  : FAIL (Check that", "kvm-device-missing"),
        ("QEMU: Checking if device /dev/kvm exists : FAIL", "kvm-device-missing"),
        ("QEMU: Checking if device '/dev/kvm' is accessible : FAIL", "kvm-device-forbidden"),
        ("INFO: /dev/kvm does not exist", "kvm-device-missing"),
        ("INFO: KVM (vmx) is disabled by your BIOS", "firmware-locks"),
        ("INFO: KVM is disabled by your BIOS", "firmware-locks"),
        (
            "modprobe: can't load module kvm_intel (kernel/arch/x86/kvm/kvm-intel.ko): Operation not supported",
            "module-not-supported",
        ),
        (
            "modprobe: can't load module kvm_amd (kernel/arch/x86/kvm/kvm-amd.ko.gz): Not supported",
            "module-not-supported",
        ),
    ],
)
def test_one_cause_is_known_in_the_words_of_every_program(line: str, name: str) -> None:
    assert names(line) == [name]


@pytest.mark.parametrize(
    "line",
    [
        "QEMU: Checking if device /dev/kvm exists : PASS",
        "INFO: /dev/kvm exists",
        "VM 101 qmp command 'query-status' failed - VM 101 not running",
        "TASK OK",
    ],
)
def test_what_is_well_or_says_its_own_cause_is_not_explained(line: str) -> None:
    assert names(line) == []


def test_kvm_ok_on_a_locked_machine_is_explained_by_its_firmware() -> None:
    said = """\
INFO: /dev/kvm does not exist
HINT:   sudo modprobe kvm_intel
INFO: Your CPU supports KVM extensions
INFO: KVM (vmx) is disabled by your BIOS
KVM acceleration can NOT be used
"""
    assert names(said) == ["firmware-locks", "kvm-device-missing", "kvm-ok-cannot"]


@pytest.mark.parametrize(
    ("tail", "name"),
    [
        (": current time 2026-11-26T08:12:01+07:00 is after 2026-01-01T00:00:00Z", "certificate-expired"),
        (": current time 2026-11-26T.. is before 2027-01-01T..", "certificate-not-yet-valid"),
        ("", "certificate-out-of-date"),
    ],
)
def test_a_certificate_of_go_has_expired_or_is_of_the_future_as_its_two_times_say(tail: str, name: str) -> None:
    (found,) = explain(f"tls: x509: certificate has expired or is not yet valid{tail}")
    assert found.signature.name == name
    assert ("clock is behind" in found.cause) == (name == "certificate-not-yet-valid")


def test_a_certificate_that_only_expired_is_no_clock_that_is_behind() -> None:
    assert names("curl: (60) SSL certificate problem: certificate has expired") == ["certificate-expired"]
    assert names("curl: (60) SSL certificate problem: certificate is not yet valid") == ["certificate-not-yet-valid"]


@pytest.mark.parametrize(
    "line",
    [
        "blk_update_request: I/O error, dev {}, sector 0",
        "[   18.926065] I/O error, dev {}, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
        "[    9.537206] Buffer I/O error on dev {}, logical block 0, async page read",
        "Buffer I/O error on device {}, logical block 0",
    ],
)
def test_a_floppy_or_cd_drive_without_a_medium_is_no_damaged_disk(line: str) -> None:
    for drive in ("fd0", "sr1"):
        assert names(line.format(drive)) == ["drive-without-medium"]
        assert advice(line.format(drive)) == ""
    for disk in ("vda", "sda1", "fdisk", "dm-0"):
        assert names(line.format(disk)) == ["disk-errors"]
