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

OUTLETS = debian.Outlets(root=100, boot=101, packages=102)


def words(recipe: object = DEBIAN) -> list[str]:
    assert isinstance(recipe, type(DEBIAN))
    place = Path("/a cache")
    return debian.arguments(recipe, overlay=place / "overlay.tar", packages=place, outlets=OUTLETS)


def test_the_same_recipe_has_the_same_digest() -> None:
    assert replace(KVM).digest == KVM.digest
    assert len(KVM.digest) == 64


def test_every_builtin_recipe_is_known_by_its_name_and_has_a_digest_of_its_own() -> None:
    assert {name: recipe.name for name, recipe in BUILTIN.items()} == {name: name for name in ("kvm", "debian", "tiny")}
    assert len({recipe.digest for recipe in BUILTIN.values()}) == 3


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


def test_paths_with_spaces_survive_mmdebstraps_own_splitting() -> None:
    assert "--customize-hook=tar-in '/a cache/overlay.tar' /" in words()


def test_a_script_runs_before_the_filesystem_is_made_and_is_not_in_it() -> None:
    hooks = [word for word in words(extend(DEBIAN, script="touch /made")) if word.startswith("--customize-hook")]
    script = next(at for at, hook in enumerate(hooks) if debian.SCRIPT in hook)
    assert f'rm "$1/{debian.SCRIPT}"' in hooks[script]
    assert script < next(at for at, hook in enumerate(hooks) if "mke2fs" in hook)


def test_the_agent_of_an_image_that_lives_in_memory_counts_in_its_digest_and_in_no_others() -> None:
    assert replace(TINY, agent=()).digest != TINY.digest
    assert replace(KVM, agent=("usr/sbin/qemu-ga",)).digest != KVM.digest
    lists = [word for word in words(TINY) if "--list" in word]
    assert [name in lists[1] for name in ("usr/sbin/qemu-ga", "nestlab-agent")] == [True, True]
    assert not any("--list" in word for word in words(KVM))


def test_an_image_without_a_disk_makes_no_filesystem_and_installs_nothing() -> None:
    tiny = words(TINY)
    assert "--variant=extract" in tiny
    assert not any("mke2fs" in word for word in tiny)


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
    subprocess.run(["sh", "-eu", "-c", debian._INIT, "hook", str(root)], check=True)
    assert (root / "sbin/init").read_text() == "init"


def test_a_kernel_of_the_users_choice_gets_the_modules_that_the_usual_one_has_built_in() -> None:
    assert "ext4" not in DEBIAN.modules
    assert extend(DEBIAN, kernel="generic").kernel == "linux-image-amd64"
    for recipe in (extend(DEBIAN, kernel="generic"), extend(TINY, suite="bookworm")):
        assert {"ext4", "virtio_pci", "virtio_blk"} <= set(recipe.modules)
