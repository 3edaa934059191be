"""What `doctor --fix` would change, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.doctor import kernel_command_line
from nestlab.doctor.change_record import Original, Record, Task
from nestlab.doctor.finding import Reload, Remedy, Run, SetParameter, Want, Write
from nestlab.doctor.fix_preview import show, show_undo
from nestlab.doctor.remedies import AS_ROOT, FIXABLE, HEADER, OWN, remedies
from nestlab.hosts.facts import Facts, Holder, Module

AMD = Facts(
    kernel="6.12.0",
    arch="x86_64",
    vendor="AuthenticAMD",
    flags=frozenset({"svm", "lm"}),
    provider="kvm_amd",
    parameters={"kvm_amd.nested": "0", "kvm.ignore_msrs": "N"},
    uid=0,
    examined=True,
    kernel_modules={"kvm_amd": Module(loaded=True, refcnt=0), "kvm": Module(loaded=True, refcnt=1, users=("kvm_amd",))},
    tools=frozenset({"modprobe"}),
)
INTEL = replace(
    AMD,
    vendor="GenuineIntel",
    flags=frozenset({"vmx", "lm"}),
    provider="kvm_intel",
    parameters={"kvm_intel.nested": "N", "kvm.ignore_msrs": "N"},
    kernel_modules={"kvm_intel": Module(loaded=True, refcnt=0)},
)
ON = replace(AMD, parameters={"kvm_amd.nested": "1", "kvm.ignore_msrs": "N"})
USED = replace(AMD, kernel_modules={"kvm_amd": Module(loaded=True, refcnt=2)})
BUILT_IN = replace(AMD, kernel_modules={"kvm_amd": Module(builtin=True)}, tools=frozenset({"update-grub"}))
GRUB = 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet splash"\nGRUB_CMDLINE_LINUX=""\n'
NESTED_FILE = f"{HEADER}options kvm_amd nested=1\n"
WINDOWS = Want(guests=frozenset({"windows"}))


def one(facts: Facts, *checks: str, **more: Any) -> Remedy:
    (found,) = remedies(facts, checks, **more)
    return found


def with_file(facts: Facts, path: str, text: str) -> Facts:
    return replace(facts, files={**facts.files, path: text})


# -- nested


def test_nested_off_and_unused_is_a_file_and_a_reload() -> None:
    assert one(AMD) == Remedy("nested", (Write(OWN, NESTED_FILE), Reload("kvm_amd", (), "0")))
    intel = one(INTEL)
    assert intel.changes == (Write(OWN, f"{HEADER}options kvm_intel nested=1\n"), Reload("kvm_intel", (), "N"))


def test_nothing_is_to_do_where_nested_is_on() -> None:
    assert remedies(ON) == ()
    assert remedies(ON, ["nested"]) == ()
    assert remedies(ON, ["lasting"]) == ()


def test_temporary_leaves_no_file() -> None:
    assert one(AMD, temporary=True).changes == (Reload("kvm_amd", ("nested=1",), "0"),)
    assert one(AMD, "ignore-msrs", temporary=True).changes == (SetParameter("kvm", "ignore_msrs", "Y", "N"),)
    assert (
        "--temporary leaves none"
        in one(with_file(ON, "/etc/modprobe.d/a.conf", "options kvm_amd nested=0\n"), "lasting", temporary=True).refused
    )


def test_a_module_in_use_waits_for_a_reboot_and_its_guests_are_named() -> None:
    holders = (
        Holder(7, "kvm", "pve", "101 web"),
        Holder(8, "qemu-system-x86", "libvirt", "debian12"),
        Holder(9, "crosvm"),
    )
    found = one(replace(USED, holders=holders))
    assert found.changes == (Write(OWN, NESTED_FILE),)
    assert "reboot to finish" in found.staged
    assert found.holders == ("PVE guest 101 web (pid 7)", "libvirt guest debian12 (pid 8)", "pid 9 (crosvm)")
    assert one(replace(AMD, kernel_modules={})).staged, "nobody knows whether it is in use"


def test_what_is_staged_stays_staged_without_another_change() -> None:
    found = one(with_file(USED, OWN, NESTED_FILE))
    assert (found.changes, bool(found.staged)) == ((), True)


def test_temporary_is_refused_while_the_module_is_in_use() -> None:
    assert "in use" in one(USED, temporary=True).refused


def test_a_file_that_switches_it_off_is_said_before_anything_is_changed() -> None:
    found = one(with_file(AMD, "/etc/modprobe.d/kvm.conf", "# no\noptions kvm-amd nested=0\n"))
    assert found.notes == ("It was switched off on purpose by /etc/modprobe.d/kvm.conf line 2 (nested=0).",)
    assert len(found.changes) == 2


def test_a_file_that_sorts_later_wins_and_is_named() -> None:
    later = with_file(AMD, "/etc/modprobe.d/zzz.conf", "options kvm_amd nested=0\n")
    found = one(later)
    assert found.changes[-1] == Reload("kvm_amd", ("nested=1",), "0")
    assert any("zzz.conf line 1" in note and "not outlast" in note for note in found.notes)
    used = replace(later, kernel_modules=USED.kernel_modules)
    assert "zzz.conf line 1" in one(used).refused
    assert one(used).hint == "Write `nested=1` there, in /etc/modprobe.d/zzz.conf line 1."
    on = replace(later, parameters=ON.parameters)
    assert "zzz.conf line 1" in one(on).refused


def test_the_running_command_line_wins_and_is_named() -> None:
    found = one(replace(AMD, cmdline="quiet kvm_amd.nested=0"))
    assert found.changes[-1] == Reload("kvm_amd", ("nested=1",), "0")
    assert any("`kvm_amd.nested=1`" in note for note in found.notes)


def test_a_value_with_which_the_module_would_not_load_again_is_mended_first() -> None:
    found = one(with_file(AMD, "/etc/modprobe.d/a.conf", "options kvm_amd nested=Y\n"))
    assert "a.conf line 1 sets nested=Y" in found.refused
    assert found.changes == ()


def test_a_module_that_modprobe_may_not_load_is_not_unloaded() -> None:
    found = one(with_file(AMD, "/etc/modprobe.d/a.conf", "install kvm_amd /bin/false\n"))
    assert "could not be loaded again" in found.refused


# -- one file


def test_one_file_holds_all_that_is_wanted() -> None:
    both = remedies(AMD, ["nested", "ignore-msrs"])
    assert [each.check for each in both] == ["nested", "ignore-msrs"]
    last = both[1].changes[0]
    assert isinstance(last, Write)
    assert (last.content, last.before) == (f"{NESTED_FILE}options kvm ignore_msrs=1\n", NESTED_FILE)
    later = one(with_file(ON, OWN, NESTED_FILE), "ignore-msrs").changes[0]
    assert later == Write(OWN, f"{NESTED_FILE}options kvm ignore_msrs=1\n", NESTED_FILE)


def test_other_lines_of_the_file_are_kept_and_a_contrary_one_goes() -> None:
    text = "# mine\noptions kvm_amd nested=0\noptions kvm_amd npt=1\n"
    write = one(with_file(AMD, OWN, text)).changes[0]
    assert isinstance(write, Write)
    assert write.content == "# mine\noptions kvm_amd npt=1\noptions kvm_amd nested=1\n"


# -- lasting


def test_a_file_that_would_switch_it_off_is_outvoted_without_a_reload() -> None:
    found = one(with_file(ON, "/etc/modprobe.d/a.conf", "options kvm_amd nested=0\n"))
    assert (found.check, found.changes, found.staged) == ("lasting", (Write(OWN, NESTED_FILE),), "")


def test_an_old_kernels_default_is_off() -> None:
    old = replace(INTEL, parameters={"kvm_intel.nested": "Y"}, kernel="4.19.0")
    assert one(old).check == "lasting"
    assert remedies(replace(old, kernel="4.20.0")) == ()


# -- ignore-msrs


def test_ignore_msrs_is_set_at_once_and_written() -> None:
    found = one(ON, "ignore-msrs")
    write = Write(OWN, f"{HEADER}options kvm ignore_msrs=1\n")
    assert found.changes == (write, SetParameter("kvm", "ignore_msrs", "Y", "N"))
    assert remedies(ON, want=WINDOWS) == (found,)
    assert remedies(ON, want=Want(guests=frozenset({"haiku"}))) == ()


def test_ignore_msrs_that_runs_is_only_written() -> None:
    on = replace(ON, parameters={**ON.parameters, "kvm.ignore_msrs": "Y"})
    assert [type(each) for each in one(on, "ignore-msrs").changes] == [Write]
    assert remedies(on, ["ignore-msrs"], temporary=True) == ()


# -- refusals


@pytest.mark.parametrize(
    ("facts", "why", "hint"),
    [
        (replace(AMD, uid=1000), "Only root", "sudo"),
        (replace(AMD, readonly="read-only file system"), "cannot be written: read-only file system", "--temporary"),
        (replace(AMD, container="lxc"), "container (lxc)", "container's host"),
        (replace(AMD, kernel="6.6.0-microsoft-standard-WSL2"), "WSL", ".wslconfig"),
        (replace(AMD, tools=frozenset()), "no modprobe", "kmod"),
        (replace(AMD, provider="kvm_pvm", flags=frozenset({"lm"})), "kvm_pvm", "emulates"),
        (replace(AMD, provider="", flags=frozenset({"lm"})), "neither vmx nor svm", "firmware"),
        (replace(AMD, provider="", flags=frozenset({"lm"}), machine="kvm"), "outer host", "outer host first"),
        (replace(AMD, provider=""), "No KVM module", "modprobe kvm_amd"),
        (replace(AMD, parameters={}), "was not seen", "/sys/module/kvm_amd"),
        (replace(AMD, unseen={"/etc/modprobe.d": "permission denied"}), "permission denied", "as root"),
    ],
)
def test_it_is_refused_with_what_to_do(facts: Facts, why: str, hint: str) -> None:
    found = one(facts, "nested")
    assert why in found.refused
    assert hint in found.hint
    assert found.changes == ()


def test_a_vulnerable_kernel_needs_accept_risk() -> None:
    found = one(AMD, risk="CVE-1 is not fixed in this kernel.")
    assert found.refused == "CVE-1 is not fixed in this kernel: switching nesting on needs --accept-risk."
    accepted = one(AMD, risk="CVE-1 is not fixed in this kernel.", accept_risk=True)
    assert accepted.changes
    assert accepted.notes == ("CVE-1 is not fixed in this kernel; the risk was accepted.",)
    assert not one(ON, "ignore-msrs", risk="CVE-1").refused


def test_a_check_without_a_fix_is_an_error_that_names_those_with_one() -> None:
    with pytest.raises(LabError, match="There is no fix for `cpu`") as error:
        remedies(AMD, ["nested", "cpu"])
    assert error.value.hint == "nestlab can fix: nested, lasting, ignore-msrs."


# -- shown


def test_what_is_shown_is_a_diff_of_each_file_and_the_commands() -> None:
    found = remedies(with_file(AMD, "/etc/modprobe.d/a.conf", "options kvm_amd nested=0\n"), ["nested", "ignore-msrs"])
    assert show(found) == (
        "nested: takes effect at once.\n"
        "  Note: It was switched off on purpose by /etc/modprobe.d/a.conf line 1 (nested=0).\n"
        "ignore-msrs: takes effect at once.\n"
        "\n"
        "--- /dev/null\n"
        "+++ /etc/modprobe.d/zz-nestlab.conf\n"
        "@@ -0,0 +1,3 @@\n"
        "+# Written by nestlab (nestlab doctor --fix); `nestlab doctor --undo` restores what was there before.\n"
        "+options kvm_amd nested=1\n"
        "+options kvm ignore_msrs=1\n"
        "\n"
        "Commands:\n"
        "  modprobe -r kvm_amd && modprobe kvm_amd    # now nested=0\n"
        "  echo Y > /sys/module/kvm/parameters/ignore_msrs    # now N"
    )


def test_what_waits_and_what_is_refused_is_shown() -> None:
    waiting = show(remedies(replace(USED, holders=(Holder(7, "kvm", "pve", "101 web"),))))
    assert "nested: kvm_amd is in use and keeps nested=0 until it is loaded again: reboot to finish.\n" in waiting
    assert "  In use by: PVE guest 101 web (pid 7).\n" in waiting
    refused = show(remedies(replace(AMD, uid=1)))
    assert refused == f"nested: not done. Only root may change this.\n  {AS_ROOT}"
    assert show(()) == ""
    grub = show(remedies(with_file(BUILT_IN, "/etc/default/grub", 'GRUB_CMDLINE_LINUX="a"')))
    assert '-GRUB_CMDLINE_LINUX="a"\n\\ No newline at end of file\n+GRUB' in grub


def test_what_undo_would_do_is_shown() -> None:
    files = {OWN: Original(None), "/etc/default/grub": Original(b"x")}
    tasks = (Task(Run(("update-grub",)), done=True),)
    record = Record("boot", (), files, {"kvm.ignore_msrs": "N"}, {"kvm_amd": "0"}, tasks)
    assert show_undo(record) == (
        "To take back, where it is not so already:\n"
        "  remove /etc/modprobe.d/zz-nestlab.conf\n"
        "  restore /etc/default/grub\n"
        "  update-grub\n"
        "  load kvm_amd again with nested=0\n"
        "  echo N > /sys/module/kvm/parameters/ignore_msrs"
    )
    assert show_undo(Record()) == ""


# -- properties

LINES = st.lists(
    st.sampled_from(
        (
            "options kvm_amd nested=0",
            "options kvm_amd nested=1 npt=1",
            "options kvm_intel nested=N",
            "options kvm-intel nested=Y",
            "options kvm ignore_msrs=0",
            "options kvm ignore_msrs=1",
            "# mine",
            "options kvm_amd \\",
            "install kvm_amd /bin/false",
        )
    ),
    max_size=3,
).map("\n".join)


@st.composite
def hosts(draw: st.DrawFn) -> Facts:
    """Hosts that may have anything in the files that matter."""
    vendor = draw(st.sampled_from(("kvm_amd", "kvm_intel")))
    base = AMD if vendor == "kvm_amd" else INTEL
    value = draw(st.sampled_from(("0", "1") if vendor == "kvm_amd" else ("N", "Y")))
    names = st.sampled_from(("/etc/modprobe.d/a.conf", OWN, "/etc/modprobe.d/zzz.conf", "/usr/lib/modprobe.d/b.conf"))
    files = draw(st.dictionaries(names, LINES, max_size=3))
    if draw(st.booleans()):
        files["/etc/default/grub"] = draw(
            st.sampled_from((GRUB, "GRUB_CMDLINE_LINUX=$x\n", 'A=1\nGRUB_CMDLINE_LINUX="a"'))
        )
    return replace(
        base,
        parameters={f"{vendor}.nested": value, "kvm.ignore_msrs": draw(st.sampled_from("YN"))},
        kernel_modules={
            vendor: draw(
                st.sampled_from((Module(loaded=True, refcnt=0), Module(loaded=True, refcnt=3), Module(builtin=True)))
            )
        },
        files=files,
        cmdline=draw(st.sampled_from(("", "quiet", "kvm_amd.nested=0", "BOOT_IMAGE=/x kvm.ignore_msrs=0"))),
        tools=frozenset(draw(st.lists(st.sampled_from(("modprobe", "update-grub", "grub2-mkconfig"))))),
        container=draw(st.sampled_from(("", "", "", "lxc"))),
        uid=draw(st.sampled_from((0, 0, 0, 1000))),
    )


def done(facts: Facts, found: tuple[Remedy, ...]) -> Facts:
    """A model of a host after these remedies."""
    parameters = dict(facts.parameters)
    for change in (change for remedy in found for change in remedy.changes):
        if isinstance(change, SetParameter):
            parameters[f"{change.module}.{change.name}"] = change.value
        if isinstance(change, Reload):
            parameters[f"{change.module}.nested"] = "1" if change.module == "kvm_amd" else "Y"
    changes = tuple(change for remedy in found for change in remedy.changes)
    return replace(kernel_command_line.written(facts, changes), parameters=parameters)


@given(hosts(), st.sets(st.sampled_from(FIXABLE)), st.booleans())
def test_what_is_fixed_needs_no_other_change(facts: Facts, checks: set[str], temporary: bool) -> None:
    found = remedies(facts, checks, want=WINDOWS, temporary=temporary)
    again = remedies(done(facts, found), checks, want=WINDOWS, temporary=temporary)
    assert [change for remedy in again for change in remedy.changes] == []


@given(hosts(), st.sets(st.sampled_from(FIXABLE)), st.booleans())
def test_no_file_but_nestlabs_own_and_the_boot_loaders_is_written(
    facts: Facts, checks: set[str], temporary: bool
) -> None:
    found = remedies(facts, checks, want=WINDOWS, temporary=temporary)
    writes = [change for remedy in found for change in remedy.changes if isinstance(change, Write)]
    assert {write.path for write in writes} <= {OWN, "/etc/default/grub", "/etc/kernel/cmdline"}
    assert not (temporary and writes)
    assert all(bool(remedy.refused) <= (not remedy.changes) for remedy in found)
    assert show(found) is not None


@pytest.mark.parametrize("path", sorted(Path(__file__).with_name("facts").glob("*.json")), ids=lambda path: path.stem)
def test_recorded_hosts_get_an_answer(path: Path) -> None:
    facts = Facts.from_json(path.read_text())
    for each in (facts, replace(facts, uid=0)):
        for temporary in (False, True):
            for remedy in remedies(each, FIXABLE, want=WINDOWS, temporary=temporary):
                assert remedy.refused or remedy.changes or remedy.staged
                assert not remedy.refused or remedy.hint


def test_an_option_on_the_kernel_s_command_line_is_changed_there_for_a_loadable_module_too() -> None:
    grub = 'GRUB_CMDLINE_LINUX="kvm_amd.nested=0"\n'
    facts = replace(
        AMD, files={"/etc/default/grub": grub}, tools=AMD.tools | {"update-grub"}, cmdline="BOOT_IMAGE=/v x"
    )
    (found,) = remedies(facts, ["nested"])
    assert found.changes == (
        Write("/etc/default/grub", grub.replace("=0", "=1"), grub),
        Run(("update-grub",)),
        Reload("kvm_amd", ("nested=1",), "0"),
    )


def test_a_switch_that_no_module_understands_keeps_it_from_being_unloaded() -> None:
    facts = replace(AMD, files={"/etc/modprobe.d/bad.conf": "options kvm_amd npt=zzz"})
    (found,) = remedies(facts)
    assert found.refused == "/etc/modprobe.d/bad.conf line 1 sets npt=zzz, with which kvm_amd does not load."
