"""Recipes as values: what changes a digest, and what does not."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab import guest
from nestlab.base.errors import LabError
from nestlab.images import debian
from nestlab.images.recipes import BUILTIN, DEBIAN, KVM, TINY, File, extend

OPEN = debian.Descriptors(root=100, boot=101, packages=102, overlay=103, kept=104)


def words(recipe: object = DEBIAN) -> list[str]:
    assert isinstance(recipe, type(DEBIAN))
    return debian.arguments(recipe, OPEN)


def hooks(recipe: object = DEBIAN) -> list[str]:
    """What happens to the chroot once its packages are there."""
    return [word.partition("=")[2] for word in words(recipe) if word.startswith(("--customize-hook", "--extract-hook"))]


def finish(recipe: object = DEBIAN) -> str:
    """What is done inside the finished chroot."""
    assert isinstance(recipe, type(DEBIAN))
    return debian.environment(recipe, OPEN)[debian.FINISH]


def test_the_same_recipe_has_the_same_digest() -> None:
    assert replace(KVM).digest == KVM.digest
    assert len(KVM.digest) == 64


def test_every_builtin_recipe_is_known_by_its_name_and_has_a_digest_of_its_own() -> None:
    assert {name: recipe.name for name, recipe in BUILTIN.items()} == {
        name: name for name in ("kvm", "libvirt", "debian", "tiny")
    }
    assert len({recipe.digest for recipe in BUILTIN.values()}) == len(BUILTIN)


@pytest.mark.parametrize(
    "changed",
    [
        extend(DEBIAN, packages=["nginx"]),
        extend(DEBIAN, files={"etc/motd": "hello"}),
        extend(DEBIAN, script="true"),
        extend(DEBIAN, mirror="file:///srv/debian"),
        extend(DEBIAN, size=8 << 30),
        replace(DEBIAN, suite="bookworm"),
    ],
)
def test_whatever_changes_the_image_changes_the_digest(changed: object) -> None:
    assert isinstance(changed, type(DEBIAN))
    assert changed.digest != DEBIAN.digest


def test_a_files_contents_and_mode_are_part_of_the_digest() -> None:
    digests = {extend(DEBIAN, files=[File("a", data, mode)]).digest for data in (b"1", b"2") for mode in (0o644, 0o600)}
    assert len(digests) == 4


def test_a_changed_guest_script_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = DEBIAN.digest
    monkeypatch.setattr(guest, "init", lambda base: b"#!/bin/busybox sh\n")
    assert DEBIAN.digest != before


def test_adding_what_is_there_changes_nothing() -> None:
    assert extend(DEBIAN, packages=["iproute2"]) == DEBIAN


def test_a_file_of_the_same_path_replaces_the_recipes() -> None:
    twice = extend(extend(DEBIAN, files={"etc/motd": "one"}), files={"etc/motd": "two"})
    assert [file.data for file in twice.files] == [b"two"]


def test_a_file_that_starts_as_a_script_can_be_executed() -> None:
    (script,) = extend(DEBIAN, files={"usr/local/bin/x": "#!/bin/sh\n"}).files
    assert script.mode == 0o755


def test_scripts_run_in_the_order_in_which_they_were_added() -> None:
    assert extend(extend(DEBIAN, script="one"), script="two").script == "one\ntwo"


def test_packages_for_an_image_without_a_package_manager_are_refused() -> None:
    with pytest.raises(LabError, match="neither packages nor a script"):
        extend(TINY, packages=["nginx"])


def test_no_mirror_is_named_unless_the_recipe_names_one() -> None:
    assert words()[-2:] == ["trixie", "-"]
    assert words(extend(DEBIAN, mirror="file:///srv/debian"))[-1] == "file:///srv/debian"
    assert not any("://" in word for word in words())


def test_a_script_runs_before_the_filesystem_is_made_and_is_not_in_it() -> None:
    found = hooks(extend(DEBIAN, script="touch /made"))
    script = next(at for at, hook in enumerate(found) if debian.SCRIPT in hook)
    assert f"rm -f /{debian.SCRIPT}" in found[script]
    assert script < next(at for at, hook in enumerate(found) if debian.FINISH in hook)
    assert "mke2fs" in finish()


@pytest.mark.parametrize("recipe", [DEBIAN, KVM, TINY, extend(DEBIAN, script="x", files={"a": "b"})])
def test_after_what_a_lab_adds_nothing_happens_to_the_chroot_but_inside_it(recipe: object) -> None:
    packages, *others = hooks(recipe)
    assert debian.CONFINE not in packages
    assert len(others) >= 2
    for hook in others:
        for line in hook.splitlines()[1:]:
            assert line.startswith(f'perl -e "${debian.CONFINE}" "$1" '), line


def test_a_script_has_no_descriptor_and_no_other_step_has_more_than_it_needs() -> None:
    _, overlay, script, last = hooks(extend(DEBIAN, script="x"))
    assert script.count('"$1" "" "" ') == script.count("perl") == 2
    assert '"$1" "" 103 /usr/bin/tar' in overlay
    assert '"$1" mnt 100,101 /bin/sh' in last


def test_no_text_of_the_labs_is_in_a_command_line() -> None:
    recipe = extend(DEBIAN, script="echo hush", files={"etc/secret": "hush"})
    assert not any("hush" in word for word in words(recipe))
    assert not any("hush" in value for value in debian.environment(recipe, OPEN).values())


def test_what_containers_need_is_in_the_image_of_a_hypervisor_and_starts_nothing_at_boot() -> None:
    files = {file.path: file.data for file in KVM.files}
    assert {"lxc", "uidmap"} <= set(KVM.packages)
    assert files["etc/subuid"] == files["etc/subgid"] == b"root:100000:65536\n"
    assert all(name in KVM.script for name in ("lxc.service", "lxc-net.service", "disable", "mask"))
    assert " veth overlay " in finish(KVM), "they are unpacked there"
    assert replace(KVM, asked=()).digest != KVM.digest


def test_the_agent_of_an_image_that_lives_in_memory_counts_in_its_digest_and_in_no_others() -> None:
    assert replace(TINY, agent=()).digest != TINY.digest
    assert replace(KVM, agent=("usr/sbin/qemu-ga",)).digest != KVM.digest
    _, programs, agent = finish(TINY).split("for program in ")
    assert [name in agent for name in ("usr/sbin/qemu-ga", "nestlab-agent")] == [True, True]
    assert "nestlab-programs" in programs
    assert "--list" not in finish(KVM)


def test_an_image_without_a_disk_makes_no_filesystem_and_installs_nothing() -> None:
    tiny = words(TINY)
    assert "--variant=extract" in tiny
    assert "mke2fs" not in finish(TINY)


def test_a_filesystems_uuid_follows_from_the_digest() -> None:
    assert debian.uuid(KVM.digest) == debian.uuid(KVM.digest) != debian.uuid(DEBIAN.digest)
    assert [len(part) for part in debian.uuid(KVM.digest).split("-")] == [8, 4, 4, 4, 12]


def test_the_guests_first_process_is_one_script_for_busybox() -> None:
    for recipe in BUILTIN.values():
        script = guest.init(recipe.base).decode()
        assert script.startswith("#!/bin/busybox sh\n")
        assert script.count("#!") == 1


def test_every_unit_that_a_disk_image_starts_is_one_it_brings_or_systemd_has() -> None:
    brought = {path.rpartition("/")[2] for path in guest.tree("disk")}
    for path, target in guest.links("disk").items():
        if ".wants/" in path and target != "/dev/null":
            assert path.rpartition("/")[2] in brought


@pytest.mark.parametrize("target", ["/lib/systemd/systemd", "../lib/systemd/systemd"])
def test_init_is_found_before_its_root_is_the_root(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    for folder in ("usr/sbin", "usr/lib/systemd"):
        (root / folder).mkdir(parents=True)
    (root / "sbin").symlink_to("usr/sbin")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/systemd/systemd").write_text("init")
    (root / "usr/sbin/init").symlink_to(target)
    subprocess.run(["sh", "-eu", "-c", debian._INIT], cwd=root, check=True)
    assert (root / "sbin/init").read_text() == "init"


def test_a_kernel_of_the_users_choice_gets_the_modules_that_the_usual_one_has_built_in() -> None:
    assert "ext4" not in DEBIAN.modules
    assert extend(DEBIAN, kernel="generic").kernel == "linux-image-amd64"
    for recipe in (extend(DEBIAN, kernel="generic"), extend(TINY, suite="bookworm")):
        assert {"ext4", "virtio_pci", "virtio_blk"} <= set(recipe.modules)
