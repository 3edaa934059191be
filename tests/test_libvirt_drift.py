"""What of a domain was changed by hand is told key by key; what libvirt adds by itself is no change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nestlab.engines.libvirt import drift, observed
from nestlab.engines.libvirt.xml import parsed
from nestlab.plan.steps import Drift
from test_libvirt_domain import LIBVIRT_CASES

GOLDEN = Path(__file__).parent / "golden" / "libvirt"
WANTED = (GOLDEN / "cargo.xml").read_text()

BY_LIBVIRT = (
    (r"<vcpu>", '<currentMemory unit="KiB">131072</currentMemory><vcpu placement="static">'),
    (r'machine="pc"', 'machine="pc-i440fx-10.0"'),
    (r'machine="q35"', 'machine="pc-q35-10.0"'),
    (r"<devices>", "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"),
    (r"<readonly />", '<alias name="virtio-disk1"/><readonly/><address type="pci" slot="0x03"/>'),
    (r'host-passthrough" check="none"', 'host-passthrough" check="none" migratable="on"'),
    (r"</devices>", '<input type="mouse" bus="ps2"/><audio id="1" type="none"/><controller type="pci"/></devices>'),
)
"""What libvirt's QEMU driver makes of a definition, as regular expressions and what stands there then."""


def as_libvirt_has_it(text: str) -> str:
    for before, after in BY_LIBVIRT:
        text = re.sub(before, after, text)
    return text


def changed(before: str, after: str) -> tuple[Drift, ...]:
    text = as_libvirt_has_it(WANTED)
    assert len(re.findall(before, text)) == 1
    return drift.changes(parsed(WANTED), parsed(re.sub(before, after, text)))


@pytest.mark.parametrize("name", LIBVIRT_CASES)
def test_a_domain_that_nobody_changed_has_no_drift(name: str) -> None:
    text = (GOLDEN / f"{name}.xml").read_text()
    assert drift.changes(parsed(text), parsed(text)) == ()
    assert drift.changes(parsed(text), parsed(as_libvirt_has_it(text))) == ()


def test_what_a_recorded_libvirt_made_of_a_definition_is_no_change() -> None:
    recorded = (Path(__file__).parent / "recorded" / "libvirt-11.3.xml").read_text()
    wanted = (Path(__file__).parent / "recorded" / "libvirt-11.3.wanted.xml").read_text()
    assert drift.changes(parsed(wanted), parsed(recorded)) == ()


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (r'<memory unit="KiB">131072', '<memory unit="KiB">262144', "memory is 262144, wanted 131072"),
        (r'placement="static">1<', 'placement="static">4<', "vcpu is 4, wanted 1"),
        (r'bridge="br-wire"', 'bridge="virbr0"', "interface 52:54:00:aa:bb:02 source bridge is virbr0, wanted br-wire"),
        (r'discard="unmap"', 'discard="ignore"', "disk vda driver discard is ignore, wanted unmap"),
        (r'<panic model="isa" />', "", "panic is not there any more"),
        (r"console=ttyS0 panic=-1 quiet", "single", "os cmdline is single, wanted console=ttyS0 panic=-1 quiet"),
        (r'machine="pc-i440fx-10.0"', 'machine="pc-q35-10.0"', "os type machine is pc-q35-10.0, wanted pc"),
        (r"</devices>", '<disk><target dev="vdq"/></disk></devices>', "disk vdq was added"),
        (r"</devices>", "<hostdev/></devices>", "hostdev was added"),
    ],
)
def test_a_change_by_hand_is_told_with_what_is_and_what_was_wanted(before: str, after: str, what: str) -> None:
    assert [each.what for each in changed(before, after)] == [what]


def test_a_change_of_the_next_start_of_a_machine_that_runs_can_be_set_back_while_it_does() -> None:
    more = as_libvirt_has_it(WANTED).replace(">131072</memory>", ">262144</memory>")
    now = parsed(as_libvirt_has_it(WANTED))
    [next_start] = drift.changes(parsed(WANTED), parsed(more), now)
    assert next_start == Drift("memory is 262144, wanted 131072", live=True)
    [both] = drift.changes(parsed(WANTED), parsed(more), parsed(more))
    assert not both.live


def test_what_one_domain_says_is_never_taken_for_anothers() -> None:
    spoofed = as_libvirt_has_it(WANTED).replace("<devices>", "<description>\n@@x b\n@@y b\n</description><devices>")
    bigger = WANTED.replace(">131072</memory>", ">262144</memory>")
    text = f"@@y a\n{WANTED}@@y defined\n{bigger}@@y b\n{WANTED}@@y defined\n{as_libvirt_has_it(WANTED)}"
    found = observed.drifts(text, "@@y", {"a": "hv/a", "b": "hv/b", "c": "hv/c"})
    assert [each.what for each in found["hv/a"]] == ["memory is 262144, wanted 131072"]
    assert found["hv/b"] == ()
    assert "hv/c" not in found
    assert observed.drifts(f"@@z a\n{WANTED}@@z defined\n{spoofed}", "@@z", {"a": "hv/a"}) == {"hv/a": ()}


def test_a_domain_that_cannot_be_read_tells_of_no_change() -> None:
    assert observed.drifts(f"@@y a\n{WANTED}@@y defined\nerror: no domain\n", "@@y", {"a": "hv/a"}) == {}
    assert observed.drifts("nonsense", "@@y", {"a": "hv/a"}) == {}


def test_labels_that_libvirt_gives_a_machine_while_it_runs_are_no_change_and_another_user_is() -> None:
    text = (GOLDEN / "of-the-user.xml").read_text()
    apparmor = '<seclabel type="dynamic" model="apparmor" relabel="yes"><label>libvirt-1</label></seclabel>'
    runs = text.replace('  <seclabel type="static"', f'  {apparmor}<seclabel type="static"')
    assert runs != text
    assert drift.changes(parsed(text), parsed(text), parsed(runs)) == ()
    [told] = drift.changes(parsed(text), parsed(text.replace("+1000:+1000", "+0:+0")))
    assert told.what == "seclabel dac label is +0:+0, wanted +1000:+1000"
