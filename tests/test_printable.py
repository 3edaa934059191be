"""What others wrote does nothing to a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.base.paint import PLAIN, Paint, inked
from nestlab.base.printable import console_lines, one_line, printable
from nestlab.doctor.finding import Remedy, Write
from nestlab.doctor.fix_preview import show
from nestlab.doctor.report import Visit, summary, text, visit
from nestlab.hosts.facts import Facts
from nestlab.show.render import error

EVIL = "6.1.0\x1b[31mRED\x07"
SHOWN = "6.1.0\\x1b[31mRED\\x07"


@given(st.text())
def test_no_control_character_stays(words: str) -> None:
    assert not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in one_line(words))
    assert printable(words).count("\n") == words.count("\n")


def test_other_letters_newlines_and_tabs_stay() -> None:
    assert printable("Größe\u00a0—\t1\n") == "Größe\u00a0—\t1\n"
    assert one_line("a\tb\n") == "a\\x09b\\x0a"
    assert printable("\r\x9b\u202e") == "\\x0d\\x9b\\u202e"


def test_a_report_shows_control_characters_of_a_host_and_keeps_its_own_colours() -> None:
    facts = Facts(kernel=EVIL, arch="x86_64", distribution="D\nebian", parameters={"kvm_intel.nested": EVIL})
    assert f"D\\x0aebian, Linux {SHOWN}" in text(visit("hv1", 1, facts), PLAIN)
    painted = inked(text(visit("hv1", 1, facts), Paint(True)))
    assert painted.startswith("\x1b[1mhv1\x1b[0m")
    assert "\x1b[31mRED" not in painted
    assert SHOWN in text(Visit("hv1", 1, error=EVIL), PLAIN)
    assert SHOWN in summary([Visit("hv1", 1, error=EVIL)])


def test_what_fix_would_change_shows_them_too_and_its_diffs_stay_diffs() -> None:
    write = Write("/etc/modprobe.d/a.conf", "options\tkvm\n", f"{EVIL}\nold\n")
    said = show([Remedy("nested", (write,), holders=("pid 317 (\x1b[31mEVIL\x07\nx)",))])
    assert "In use by: pid 317 (\\x1b[31mEVIL\\x07\\x0ax)." in said
    assert f"\n-{SHOWN}\n-old\n+options\tkvm" in said


def test_an_error_shows_them_too() -> None:
    said = error(LabError("What\x07.", hint="Do\x1b[0m.", detail="one\r\ntwo\x1b"), PLAIN)
    assert said == "error: What\\x07.\nDo\\x1b[0m.\n  one\n  two\\x1b"


CONSOLE = [
    (b"\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m.\r", ["  OK  ] Started ssh.service."]),
    (b"\x1b[6n\x1b[c\x1b]0;title\x07\x1bP$q q\x1b\\login: ", ["login: "]),
    (b"\xc2\x9b6n\xc2\x9d52;c;cm0gLXJm\x07x", ["x"]),
    (b"10%\r20%\r\r100%\r", ["10%", "20%", "100%"]),
    (b"\x1b]0;never ended, so it is shown", ["0;never ended, so it is shown"]),
    (b"bell\x07 and \x1b", ["bell\\x07 and \\x1b"]),
    (b"tab\tstays", ["tab\tstays"]),
    (b"\xff\xfe", ["\ufffd\ufffd"]),
    (b"", [""]),
]


def test_a_console_is_told_without_its_sequences() -> None:
    assert [console_lines(line) for line, _ in CONSOLE] == [lines for _, lines in CONSOLE]


@given(st.binary())
def test_nothing_that_a_console_says_acts_on_a_terminal(line: bytes) -> None:
    for each in console_lines(line):
        assert not any((ord(letter) < 0x20 and letter != "\t") or 0x7F <= ord(letter) < 0xA0 for letter in each)
