"""What a lab file says about the first boot of a machine: keys, a setup, cloud-init, the release and the kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disk_headers import qcow2
from nestlab import kinds
from nestlab.base.errors import Mistake, Mistakes
from nestlab.home import key_pairs
from nestlab.images import pve
from nestlab.images.image_files import key_of, recipe_of
from nestlab.images.recipes import BUILTIN
from nestlab.lab.model import File, Image, Lab, Machine, Setup
from nestlab.lab.pve_packages import PvePackages
from nestlab.labfile import parse_text, render

KEY = key_pairs.generate(comment="alice@here").public
OTHER = key_pairs.generate(comment="bob@here").public


def lab(text: str, directory: Path | None = None) -> Lab:
    return parse_text(text, "lab.yaml", environ={}, directory=directory)


def machine(inside: str, directory: Path | None = None) -> Machine:
    """The machine `m`, given as the inside of its mapping."""
    return lab(f"lab: x\nmachines: {{m: {{{inside}}}}}\n", directory).machines[0]


def only(inside: str, directory: Path | None = None) -> Mistake:
    with pytest.raises(Mistakes) as caught:
        machine(inside, directory)
    (found,) = caught.value.mistakes
    return found


def test_keys_are_said_in_place_or_by_the_files_that_they_are_in(tmp_path: Path) -> None:
    (tmp_path / "both.pub").write_text(f"# mine\n{KEY}\n\n{OTHER}\n")
    assert machine(f'ssh_keys: "{KEY}"').ssh_keys == (KEY,)
    assert machine("ssh_keys: both.pub", tmp_path).ssh_keys == (KEY, OTHER)
    assert machine(f'ssh_keys: [both.pub, "{OTHER}"]', tmp_path).ssh_keys == (KEY, OTHER)


def test_keys_under_defaults_are_for_all_machines() -> None:
    found = lab(f'lab: x\ndefaults: {{ssh_keys: "{KEY}"}}\nmachines: {{a: {{}}, b: {{ssh_keys: "{OTHER}"}}}}\n')
    assert [each.ssh_keys for each in found.machines] == [(KEY,), (OTHER,)]
    with pytest.raises(Mistakes, match="Say it under `defaults:`"):
        lab(f'lab: x\nssh_keys: "{KEY}"\nmachines: {{a: {{}}}}\n')


def test_what_is_no_public_key_is_refused_and_a_private_one_never_shown(tmp_path: Path) -> None:
    pair = key_pairs.generate(comment="x")
    (tmp_path / "id").write_text(pair.private)
    (tmp_path / "empty.pub").write_text("# nothing\n")
    (tmp_path / "odd.pub").write_text(f'command="id" {KEY}\n')
    wrong = only("ssh_keys: id", tmp_path)
    assert "is a private key" in wrong.what
    assert wrong.hint == "Name its public part: id.pub"
    assert "there is no key in" in only("ssh_keys: empty.pub", tmp_path).what
    assert "no public ssh key" in only("ssh_keys: odd.pub", tmp_path).what
    assert "cannot be read: No such file" in only("ssh_keys: [gone.pub]", tmp_path).what
    assert "no public ssh key" in only('ssh_keys: "ssh-rsa AAAA"').what
    assert "no public ssh key" in only(f'ssh_keys: "{KEY.replace("ssh-ed25519", "ssh-rsa")}"').what
    shown = only(f"ssh_keys: {json.dumps(pair.private)}")
    assert pair.private[40:60] not in str(shown)


def test_a_setup_is_commands_or_files_and_then_commands(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("hello")
    assert machine("setup: [one, two]").setup == Setup(commands=("one", "two"))
    files = "/a: text, /b: {source: page, mode: 0o600}"
    assert machine(f"setup: {{files: {{{files}}}, commands: [x]}}", tmp_path).setup == Setup(
        (File("/a", text="text"), File("/b", source=str(tmp_path / "page"), mode=0o600)), ("x",)
    )
    assert machine("setup: []").setup is None
    assert "there is no file" in only("setup: {files: {/b: {source: page2}}}", tmp_path).what
    assert "nestlab writes it at every boot" in only("setup: {files: {/etc/hosts: x}}").what
    assert only("setup: {run: [x]}").hint == "Did you mean `commands`?"
    assert only("provision: [x]").hint == "Did you mean `setup`?"


def test_a_container_has_no_setup() -> None:
    text = (
        "lab: x\non: pve://root@pam!lab@pve1\nmachines: {m: {container: true, setup: [x], image: {file: t.tar.gz}}}\n"
    )
    with pytest.raises(Mistakes, match="runs no commands in a container"):
        lab(text)


def test_the_release_and_the_kernel_of_an_image_are_chosen() -> None:
    image = machine("image: {from: debian, suite: bookworm, kernel: generic}").image
    assert (recipe_of(image).suite, recipe_of(image).kernel) == ("bookworm", "linux-image-amd64")
    assert recipe_of(Image(base="tiny", kernel="linux-image-rt-amd64")).kernel == "linux-image-rt-amd64"
    assert key_of(image) != key_of(Image(base="debian"))
    assert "expected bookworm, trixie, forky or sid" in only("image: {from: debian, suite: jessie}").what
    assert "expected `cloud`, `generic`" in only("image: {from: debian, kernel: linux}").what
    assert "of an image" in only("kernel: generic").hint


def test_a_kernel_among_the_packages_is_told_to_be_one() -> None:
    wrong = only("image: {from: debian, packages: [curl, linux-image-amd64]}")
    assert (wrong.what, wrong.hint) == (
        "linux-image-amd64 is a kernel, and the image has one",
        "Say `kernel: generic` instead.",
    )


def test_what_cannot_be_added_to_an_image_is_found_when_the_file_is_read() -> None:
    assert "tiny is no Debian system" in only("image: {from: tiny, packages: [curl]}").what
    assert "tiny is no Debian system" in only("image: {from: tiny, script: x}").what
    assert "nestlab writes it at every boot" in only("image: {from: debian, files: {/etc/hosts: x}}").what


def test_a_disk_smaller_than_its_image_is_a_mistake_and_passed_over_in_defaults(tmp_path: Path) -> None:
    wrong = only("disk: 3G")
    assert (wrong.key, wrong.what) == ("machines.m.disk", "3G is less than the image has: 4G")
    assert "16G" in only("hypervisor: kvm, disk: 5G").what
    (tmp_path / "d.qcow2").write_bytes(qcow2(3 << 30))
    assert "3G" in only("image: {file: d.qcow2}, disk: 2G", tmp_path).what
    assert machine("image: {file: d.qcow2}, disk: 3G", tmp_path).disk == 3 << 30
    found = lab("lab: x\ndefaults: {disk: 5G}\nmachines: {a: {}, b: {hypervisor: kvm}}\n").machines
    assert [each.disk for each in found] == [5 << 30, None]


def test_the_disks_of_images_are_as_large_as_kinds_say() -> None:
    sizes = {name: plain.disk for name, plain in kinds.plains().items()}
    sizes |= {each.image: each.disk for each in kinds.kinds().values()}
    made = {name: recipe.size for name, recipe in BUILTIN.items()}
    assert sizes == made | {pve.NAME: pve.recipe(PvePackages(), "").size}


def test_an_address_that_two_have_is_found_beside_other_mistakes() -> None:
    both = "{a: {segments: {w: 10.7.0.9}}, b: {segments: {w: 10.7.0.9}}}"
    text = f"lab: x\nsegments: {{w: {{cidr: nonsense}}}}\nmachines: {both}\n"
    with pytest.raises(Mistakes) as caught:
        lab(text)
    assert any("10.7.0.9 is the address of a already" in each.what for each in caught.value.mistakes)


@pytest.mark.parametrize(
    ("word", "meant"), [("firmware", ""), ("memry", "memory"), ("segmnets", "segments"), ("addr", "")]
)
def test_a_key_is_guessed_only_where_it_is_close(word: str, meant: str) -> None:
    assert (f"Did you mean `{meant}`?" in only(f"{word}: x").hint) == bool(meant)


def test_what_a_user_calls_an_image_is_kept_and_makes_no_other_image_of_it() -> None:
    found = (
        lab("lab: x\nimages: {mine: {from: tiny, files: {/a: x}}}\nmachines: {m: {image: mine}}\n").machines[0].image
    )
    unnamed = Image(base="tiny", files=(File("/a", text="x"),))
    assert found.name == "mine"
    assert found == unnamed
    assert key_of(found) == key_of(unnamed)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk.raw").write_bytes(bytes(1024))
    return tmp_path


def test_user_data_is_a_mapping_a_text_or_a_file(disk: Path) -> None:
    (disk / "user.yaml").write_text("#cloud-config\nruncmd: [one]\n")
    for said in ("{runcmd: [one]}", "user.yaml", '"#cloud-config\\nruncmd: [one]\\n"'):
        image = machine(f"image: {{file: disk.raw, cloud_init: {said}}}", disk).image
        assert json.loads(image.cloud_init or "") == {"runcmd": ["one"]}


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("gone.yaml", "there is no such file"),
        ("script", "script does not begin with #cloud-config"),
        ("[one]", "found a list, expected a mapping"),
        ("{hostname: x}", "line 2 says `hostname`, which is nestlab's to say: it is the machine's name"),
        ("bad.yaml", "bad.yaml, line 3: this is not YAML"),
    ],
)
def test_user_data_that_cannot_be_is_refused(disk: Path, said: str, what: str) -> None:
    (disk / "script").write_text("#!/bin/sh\ntrue\n")
    (disk / "bad.yaml").write_text("#cloud-config\na: b\n c: d\n")
    assert what in only(f"image: {{file: disk.raw, cloud_init: {said}}}", disk).what


def test_user_data_is_for_disks_of_the_users_own() -> None:
    assert "`cloud_init` means nothing with `from`" in only("image: {from: debian, cloud_init: {a: 1}}").what


def test_all_of_it_is_written_down_and_read_again(disk: Path) -> None:
    setup = """{files: {/a: "$$x"}, commands: ["a: b", "two\\nlines"]}"""
    config = '{runcmd: [[echo, "a: b"], x], nested: {a: [1, true, null]}}'
    own = f"{{file: disk.raw, user: admin, cloud_init: {config}}}"
    other = "{image: {from: debian, suite: sid, kernel: cloud}}"
    text = f'lab: x\nmachines: {{m: {{ssh_keys: "{KEY}", setup: {setup}, image: {own}}}, n: {other}}}\n'
    assert parse_text(render(lab(text, disk)), environ={}) == lab(text, disk)
