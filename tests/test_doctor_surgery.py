"""The doctor changes a host and takes it back, also when it is interrupted. On fake roots (`fake_root`)."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_root import GRUB, FakeRoot, fix, grub, record, undo
from nestlab.base.errors import LabError
from nestlab.doctor.finding import Remedy, Want, Write
from nestlab.doctor.remedies import HEADER, OWN, RECORD, remedies

STAYS = "kvm_amd is in use and keeps nested=1: stop what uses it, or reboot, and run --undo again."
WINDOWS = Want(guests=frozenset({"windows"}))


@pytest.fixture
def amd(tmp_path: Path) -> FakeRoot:
    """nested off, though nothing says so."""
    root = FakeRoot(tmp_path / "host")
    root.load("nested=0")
    return root


# -- fix and undo


async def test_nested_is_switched_on_and_off_again(amd: FakeRoot) -> None:
    before, said = amd.tree(), list[str]()
    found = remedies(amd.facts())
    outcome = await amd.surgeon(said=said).fix(found)
    assert outcome.changed == tuple(said) == (f"Wrote {OWN}.", "kvm_amd was loaded again, with nested=1.")
    assert amd.parameter("kvm_amd.nested") == "1"
    assert amd.read(OWN) == f"{HEADER}options kvm_amd nested=1\n"
    assert amd.at(OWN).stat().st_mode & 0o7777 == 0o644
    assert amd.at(OWN).parent.stat().st_mode & 0o7777 == 0o755
    assert remedies(amd.facts()) == ()
    outcome = await undo(amd)
    assert outcome.changed == (f"Removed {OWN}.", "kvm_amd was loaded again, with nested=0.")
    assert amd.tree() == before


async def test_intels_spelling_is_restored(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host", vendor="kvm_intel")
    root.load("nested=0")
    before = root.tree()
    await fix(root)
    assert root.parameter("kvm_intel.nested") == "Y"
    await undo(root)
    assert root.parameter("kvm_intel.nested") == "N"
    assert root.tree() == before


async def test_the_record_is_for_root_only_and_says_what_was_there(amd: FakeRoot) -> None:
    amd.write(OWN, "# mine\n", 0o600)
    await fix(amd)
    assert amd.at(RECORD).stat().st_mode & 0o7777 == 0o600
    assert amd.at(RECORD).parent.stat().st_mode & 0o7777 == 0o700
    kept = await record(amd)
    assert kept is not None
    assert (kept.unfinished, kept.boot_id, kept.modules) == ((), "first", {"kvm_amd": "0"})
    assert (kept.files[OWN].content, kept.files[OWN].mode) == (b"# mine\n", 0o600)
    assert amd.at(OWN).stat().st_mode & 0o7777 == 0o600, "a file that was there keeps its mode"


async def test_repeating_changes_nothing_and_says_so(amd: FakeRoot) -> None:
    first = remedies(amd.facts(), ["nested", "ignore-msrs"])
    await amd.surgeon().fix(first)
    after, commands = amd.tree(), amd.commands()
    assert (await amd.surgeon().fix(first)).nothing
    assert (await fix(amd, "nested", "ignore-msrs")).nothing
    assert (amd.tree(), amd.commands()) == (after, commands)
    await undo(amd)
    after = amd.tree()
    assert (await undo(amd)).nothing
    assert amd.tree() == after


async def test_undo_without_a_fix_touches_nothing(amd: FakeRoot) -> None:
    amd.at("/var/lib/nestlab").mkdir()
    before = amd.tree()
    assert (await undo(amd)).nothing
    assert amd.tree() == before


async def test_undo_goes_back_to_before_the_first_of_several_fixes(amd: FakeRoot) -> None:
    amd.write(OWN, "# the first\n", 0o600)
    before = amd.tree()
    await fix(amd, "nested")
    await fix(amd, "ignore-msrs")
    assert amd.read(OWN) == "# the first\noptions kvm_amd nested=1\noptions kvm ignore_msrs=1\n"
    assert amd.parameter("kvm.ignore_msrs") == "Y"
    await undo(amd)
    assert amd.tree() == before


async def test_what_was_set_of_kvm_while_it_ran_outlives_the_reload(amd: FakeRoot) -> None:
    amd.write("/sys/module/kvm/parameters/halt_poll_ns", "0\n")
    before = amd.tree()
    await fix(amd)
    assert amd.parameter("kvm.halt_poll_ns") == "0"
    await undo(amd)
    assert {**amd.tree(), "sys/module/kvm/parameters/halt_poll_ns": (0o100644, b"0\n")} == before
    assert amd.parameter("kvm.halt_poll_ns") == "0"


async def test_temporary_leaves_no_file(amd: FakeRoot) -> None:
    before = amd.tree()
    await fix(amd, "nested", "ignore-msrs", temporary=True)
    assert not amd.at("/etc").exists()
    assert (amd.parameter("kvm_amd.nested"), amd.parameter("kvm.ignore_msrs")) == ("1", "Y")
    await undo(amd)
    assert set(amd.tree()) == set(before)
    assert (amd.parameter("kvm_amd.nested"), amd.parameter("kvm.ignore_msrs")) == ("0", "N")


async def test_a_module_in_use_is_finished_by_a_reboot_and_taken_back(amd: FakeRoot) -> None:
    amd.write("/etc/modprobe.d/kvm.conf", "options kvm_amd nested=0\n")
    before = amd.tree()
    amd.use(1)
    outcome = await fix(amd)
    assert outcome.changed == (f"Wrote {OWN}.",)
    assert "reboot to finish" in outcome.staged[0]
    assert amd.commands() == []
    assert amd.parameter("kvm_amd.nested") == "0"
    again = await fix(amd)
    assert (again.changed, again.staged) == ((), outcome.staged)
    amd.reboot()
    assert amd.parameter("kvm_amd.nested") == "1"
    amd.use(1)
    outcome = await undo(amd)
    assert outcome.staged == (STAYS,)
    amd.reboot()
    amd.write("/proc/sys/kernel/random/boot_id", "first\n")
    assert (await undo(amd)).nothing
    assert amd.tree() == before


async def test_undo_of_a_module_in_use_is_finished_when_nothing_uses_it(amd: FakeRoot) -> None:
    before = amd.tree()
    await fix(amd)
    amd.use(1)
    assert (await undo(amd)).staged == (STAYS,)
    assert (await undo(amd)).staged == (STAYS,)
    amd.use(0)
    assert (await undo(amd)).changed == ("kvm_amd was loaded again, with nested=0.",)
    assert amd.tree() == before


async def test_fixing_again_before_undo_is_finished_keeps_the_first_value(amd: FakeRoot) -> None:
    before = amd.tree()
    await fix(amd)
    amd.use(1)
    await undo(amd)
    await fix(amd)
    amd.use(0)
    await undo(amd)
    assert amd.tree() == before


async def test_undo_of_a_module_that_modprobe_d_keeps_from_loading_does_not_switch_it_on(amd: FakeRoot) -> None:
    await fix(amd)
    shutil.rmtree(amd.root / "sys/module/kvm_amd")
    Path(f"{amd.log}.fail").write_text("x\n" * 3)
    await undo(amd)
    assert amd.parameter("kvm_amd.nested") == "0"


async def test_undo_after_the_reboot_loads_the_module_as_it_was(amd: FakeRoot) -> None:
    amd.use(1)
    await fix(amd)
    amd.reboot()
    await undo(amd)
    assert amd.parameter("kvm_amd.nested") == "0"


# -- boot loaders


async def test_grubs_command_line_is_edited_and_restored(tmp_path: Path) -> None:
    root = grub(tmp_path / "host")
    before = root.tree()
    outcome = await fix(root)
    assert outcome.changed == ("Wrote /etc/default/grub.", "Ran `update-grub`.")
    assert "quiet kvm_amd.nested=1" in root.read("/boot/grub.cfg")
    assert root.at("/etc/default/grub").stat().st_mode & 0o7777 == 0o640
    assert (await fix(root)).changed == ()
    await undo(root)
    assert root.tree() == before


async def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    root = grub(tmp_path / "host")
    root.at("/etc/default/grub").rename(root.at("/etc/grub.real"))
    root.at("/etc/default/grub").symlink_to("../grub.real")
    before = root.tree()
    await fix(root)
    assert root.at("/etc/default/grub").is_symlink()
    assert "nested=1" in root.read("/etc/grub.real")
    await undo(root)
    assert root.tree() == before


async def test_proxmox_boot_tool_refreshes_the_boot_partition(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host", builtin=True, tools=("proxmox-boot-tool",))
    root.write("/etc/kernel/cmdline", "root=ZFS=rpool/ROOT boot=zfs\n")
    root.write("/etc/kernel/proxmox-boot-uuids", "AB-12\n")
    root.write("/boot/esp", "root=ZFS=rpool/ROOT boot=zfs\n")
    root.load("nested=0")
    before = root.tree()
    await fix(root)
    assert root.read("/boot/esp") == "root=ZFS=rpool/ROOT boot=zfs kvm_amd.nested=1\n"
    await undo(root)
    assert root.tree() == before


async def test_what_grubby_edits_is_restored(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host", builtin=True, tools=("grubby",))
    root.write("/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet"\n')
    root.write("/boot/loader/entries/a.conf", "title a\noptions root=x\n", 0o600)
    root.load("nested=0")
    before = root.tree()
    await fix(root)
    assert root.read("/boot/loader/entries/a.conf") == "title a\noptions root=x kvm_amd.nested=1\n"
    await undo(root)
    assert root.tree() == before


async def test_a_boot_loader_that_fails_is_an_error_and_finished_later(tmp_path: Path) -> None:
    root = grub(tmp_path / "host")
    before = root.tree()
    root.env["FAKE_SICK"] = "1"
    with pytest.raises(LabError, match="`update-grub` failed") as error:
        await fix(root)
    assert error.value.detail == "update-grub: sick"
    assert "--undo" in error.value.hint
    root.env["FAKE_SICK"] = ""
    assert (await fix(root)).changed == ("Ran `update-grub`.",)
    assert "nested=1" in root.read("/boot/grub.cfg")
    await undo(root)
    assert root.tree() == before


# -- others change things too


async def test_a_file_that_somebody_else_changed_is_left_with_what_to_do(tmp_path: Path) -> None:
    root = grub(tmp_path / "host")
    await fix(root)
    theirs = root.read("/etc/default/grub") + "GRUB_TIMEOUT=3\n"
    root.write("/etc/default/grub", theirs)
    outcome = await undo(root)
    assert "was changed by somebody else" in outcome.left[0]
    assert '`GRUB_CMDLINE_LINUX_DEFAULT="quiet kvm_amd.nested=1"`' in outcome.left[0]
    assert root.read("/etc/default/grub") == theirs
    after = root.tree()
    again = await undo(root)
    assert (again.changed, again.left, root.tree()) == ((), outcome.left, after)
    root.write("/etc/default/grub", GRUB + "GRUB_TIMEOUT=3\n")
    assert (await undo(root)).changed == ("Ran `update-grub`.",)
    assert "nested" not in root.read("/boot/grub.cfg")
    assert root.read("/etc/default/grub") == GRUB + "GRUB_TIMEOUT=3\n"
    assert not root.at("/var/lib/nestlab").exists()


async def test_a_change_between_two_fixes_is_not_lost_by_undo(amd: FakeRoot) -> None:
    await fix(amd, "nested")
    amd.write(OWN, amd.read(OWN) + "options kvm_amd npt=1\n")
    await fix(amd, "ignore-msrs")
    assert (await undo(amd)).left
    assert "npt=1" in amd.read(OWN)


async def test_a_file_that_changes_after_it_was_shown_is_not_overwritten(amd: FakeRoot) -> None:
    amd.write(OWN, "options kvm_amd npt=1\n")
    found = remedies(amd.facts())
    amd.write(OWN, "options kvm_amd npt=0\n")
    before = amd.tree()
    with pytest.raises(LabError, match="was changed since the doctor looked"):
        await amd.surgeon().fix(found)
    assert amd.tree() == before


async def test_newlines_that_the_look_lost_are_written_again(amd: FakeRoot) -> None:
    amd.write(OWN, "# mine\n\n")
    write = Write(OWN, "# mine\n# more", "# mine")
    await amd.surgeon().fix([Remedy("nested", (write,))])
    assert amd.read(OWN) == "# mine\n# more\n\n"


async def test_something_else_than_a_file_is_not_written(amd: FakeRoot) -> None:
    amd.at("/etc/modprobe.d").mkdir(parents=True)
    amd.at(OWN).symlink_to("/dev/null")
    with pytest.raises(LabError, match="is not a regular file"):
        await amd.surgeon().fix(remedies(amd.facts()))
    assert not amd.at("/var/lib/nestlab").exists()


# -- properties

TEXTS = st.lists(
    st.sampled_from(
        (
            "options kvm_amd nested=0",
            "options kvm_intel nested=1",
            "options kvm ignore_msrs=0",
            "options kvm ignore_msrs=1",
            "# mine",
            "",
        )
    ),
    max_size=3,
).flatmap(lambda lines: st.sampled_from(("\n".join(lines), "\n".join([*lines, ""]))))
FILES = st.dictionaries(
    st.sampled_from(("/etc/modprobe.d/a.conf", OWN, "/etc/modprobe.d/zzz.conf", "/var/lib/nestlab/other")),
    st.tuples(TEXTS, st.sampled_from((0o600, 0o644, 0o640, 0o444))),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    FILES,
    st.sampled_from(("kvm_amd", "kvm_intel")),
    st.sampled_from(("", "nested=0", "nested=1")),
    st.booleans(),
    st.booleans(),
    st.sets(st.sampled_from(("nested", "lasting", "ignore-msrs"))),
    st.booleans(),
)
def test_fix_and_undo_are_the_identity_and_fixing_twice_is_fixing_once(
    files: dict[str, tuple[str, int]],
    vendor: str,
    running: str,
    used: bool,
    builtin: bool,
    checks: set[str],
    temporary: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = FakeRoot(Path(folder) / "host", vendor, builtin, ("modprobe", "update-grub"))
        for path, (text, mode) in files.items():
            root.write(path, text, mode)
        if builtin:
            root.write("/etc/default/grub", GRUB)
            root.write("/boot/grub.cfg", "linux  quiet\n")
        root.load(running)
        root.use(int(used))
        before = root.tree()

        async def all_of_it() -> None:
            first = await fix(root, *checks, want=WINDOWS, temporary=temporary)
            after = root.tree()
            assert (await fix(root, *checks, want=WINDOWS, temporary=temporary)).changed == ()
            assert root.tree() == after
            outcome = await undo(root)
            assert root.tree() == before
            assert bool(outcome.changed) == bool(first.changed)

        asyncio.run(all_of_it())
