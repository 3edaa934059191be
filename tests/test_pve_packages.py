"""`hypervisor: pve` in the lab file, the packages it is made of, and its image as a recipe."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from golden_files import assert_golden
from nestlab.base.errors import LabError, Mistakes
from nestlab.images import archives, debian, pve
from nestlab.images.image_files import key_of, recipe_of
from nestlab.images.recipes import KVM, Archive
from nestlab.lab import blueprint_file
from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import Leases, settle
from nestlab.lab.model import GIB, MIB, Image, Machine
from nestlab.lab.pve_packages import MIRROR, RELEASES, PvePackages
from nestlab.labfile import parse_text, render

NODES = """
lab: nodes
segments: {lan: }
machines:
  pve1: {hypervisor: pve, segments: [lan]}
"""
OPEN = debian.Descriptors(root=100, boot=101, packages=102, overlay=103, kept=104)
SUM = "sha256:" + "0" * 64


def machine(text: str, name: str = "pve1") -> Machine:
    return next(each for each in parse_text(text, environ={}).machines if each.name == name)


def mistake(text: str) -> str:
    with pytest.raises(Mistakes) as caught:
        parse_text(text, environ={})
    return str(caught.value)


def with_image(image: str, top: str = "") -> str:
    return f"lab: nodes\n{top}\nmachines:\n  pve1: {{hypervisor: pve, image: {image}}}\n"


def test_a_node_is_the_latest_version_from_proxmox_with_what_a_member_of_a_cluster_needs() -> None:
    node = machine(NODES)
    assert node.image == Image(base="pve")
    assert (node.memory, node.nests) == (1536 * MIB, True)
    recipe = recipe_of(node.image)
    (archive,) = recipe.archives
    assert (archive.uri, archive.suite, archive.component) == (MIRROR, "trixie", "pve-no-subscription")
    assert archive.checksum == RELEASES[9].checksum
    assert (recipe.suite, recipe.size, "proxmox-ve" in recipe.packages) == ("trixie", 16 * GIB, True)


def test_version_8_is_made_on_bookworm_with_its_own_keys() -> None:
    recipe = recipe_of(machine(with_image("{from: pve, version: 8}")).image)
    (archive,) = recipe.archives
    assert (recipe.suite, archive.suite) == ("bookworm", "bookworm")
    assert archive.keyring.endswith("proxmox-release-bookworm.gpg")
    assert archive.checksum.startswith("sha512:")


def test_the_repository_of_the_lab_is_that_of_all_nodes_and_an_image_may_say_another() -> None:
    text = """
lab: nodes
pve_mirror: {url: http://mirror.example.org/pve, component: pvetest, keyring: ./a.gpg}
machines:
  pve1: {hypervisor: pve}
  pve2: {hypervisor: pve, image: {from: pve, pve_mirror: /srv/pve}}
  pve3: {hypervisor: pve, image: pve}
  web: {image: debian}
"""
    first, second = machine(text).image.pve, machine(text, "pve2").image.pve
    assert first is not None
    assert second is not None
    assert first == machine(text, "pve3").image.pve
    assert (first.mirror, first.component) == ("http://mirror.example.org/pve", "pvetest")
    assert first.keyring is not None
    assert first.keyring.endswith("/a.gpg")
    assert second == replace(first, mirror="/srv/pve")
    assert machine(text, "web").image.pve is None


@pytest.mark.parametrize(
    ("said", "mirror"),
    [
        ("http://mirror.example.org/pve/", "http://mirror.example.org/pve"),
        ("https://mirror.example.org/pve", "https://mirror.example.org/pve"),
        ("file:///srv/pve", "/srv/pve"),
        ("copy:///srv/pve", "/srv/pve"),
        ("/srv/pve", "/srv/pve"),
    ],
)
def test_a_repository_is_a_url_or_a_folder(said: str, mirror: str) -> None:
    packages = machine(with_image(f'{{from: pve, pve_mirror: "{said}"}}')).image.pve
    assert packages is not None
    assert packages.mirror == mirror
    assert packages.here == mirror.startswith("/")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (with_image("{from: pve, suite: trixie}"), "Say `version: 9` (trixie)"),
        (with_image("{from: pve, version: 7}"), "expected a whole number from 8 to 9"),
        (with_image("debian"), "cannot be made from the image debian"),
        (with_image("none"), "made from"),
        (
            with_image('{from: pve, pve_mirror: {keyring: "https://a.example/k"}}'),
            "what the keyring at that URL must be",
        ),
        (with_image("{from: pve, pve_mirror: {sha256: " + "0" * 64 + "}}"), "there is none"),
        (with_image("pve", "pve_mirror: {keyring: 'http://a.example/k'}"), "line 2"),
        (with_image('{from: pve, pve_mirror: "ftp://a.example/"}'), "expected a URL (http or https)"),
        (with_image("{from: pve, pve_mirror: {suite: '../x y'}}"), "the name of a suite"),
        ("lab: a\nmachines: {a: {image: {from: debian, version: 9}}}\n", "has nothing of Proxmox VE"),
        ("lab: a\nmachines: {a: {hypervisor: proxmox}}\n", "It is called `pve`"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(text: str, words: str) -> None:
    assert words.replace("line 2", ":2:") in mistake(text)


def test_what_a_lab_file_says_of_packages_comes_back_from_its_rendering_and_from_a_blueprint() -> None:
    lab = parse_text(
        with_image(f"{{from: pve, version: 8, pve_mirror: {{keyring: /k, sha256: {'ab' * 32}}}}}"), environ={}
    )
    assert parse_text(render(lab), environ={}) == lab
    keys = {each: f"k{at}" for at, each in enumerate((lab.machines[0].image, Image(base="tiny")))}
    blueprint = settle(lab, lease(lab, Leases(), []), keys)
    assert blueprint_file.blueprint_from_json(blueprint_file.blueprint_to_json(blueprint)) == blueprint


def test_the_key_of_an_image_is_another_for_another_repository_and_other_keys(tmp_path: Path) -> None:
    keyring = tmp_path / "k.gpg"
    keyring.write_bytes(b"one")
    own = PvePackages(keyring=str(keyring))
    before = key_of(Image(base="pve", pve=own))
    assert before != key_of(Image(base="pve"))
    assert key_of(Image(base="pve", pve=replace(own, component="pvetest"))) != before
    keyring.write_bytes(b"two")
    assert key_of(Image(base="pve", pve=own)) != before


def test_a_keyring_that_is_not_there_is_one_error_that_says_which_key_to_correct(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        key_of(Image(base="pve", pve=PvePackages(keyring=str(tmp_path / "k.gpg"))))
    assert "cannot be read" in caught.value.what
    assert "`keyring` of `pve_mirror`" in caught.value.hint


def test_what_is_done_to_a_node_s_image_is_the_golden_text() -> None:
    recipe = pve.recipe(PvePackages(mirror="/srv/pve", keyring="/k.gpg"), SUM)
    words = debian.arguments(recipe, OPEN)
    hooks = [word for word in words if "archives_text" in word or "vmlinuz" in word or "path-include" in word]
    include = next(word for word in words if word.startswith("--include"))
    assert_golden("images/pve.txt", "\n".join([include, *hooks, recipe.script]))


def test_units_with_a_time_of_their_own_get_more_and_those_without_an_end_stay(tmp_path: Path) -> None:
    units, script = tmp_path / "usr/lib/systemd/system", pve.recipe(PvePackages(), SUM).script
    units.mkdir(parents=True)
    for name, said in {"a": "TimeoutSec=90s", "b": "TimeoutStartSec=60", "c": "TimeoutSec=infinity", "d": ""}.items():
        (units / f"{name}.service").write_text(f"[Service]\n{said}\n")
    start = script.index("for file in")
    loop = script[start : script.index("done", start) + 4].replace("/usr/lib/", f"{tmp_path}/usr/lib/")
    loop = loop.replace("/etc/", f"{tmp_path}/etc/")
    subprocess.run(["sh", "-euc", loop], check=True)
    made = {
        path.parent.name: path.read_text() for path in (tmp_path / "etc/systemd/system").glob("*/nestlab-limit.conf")
    }
    assert made == {f"{name}.service.d": "[Service]\nTimeoutStartSec=15min\n" for name in ("a", "b")}


def test_every_script_of_a_node_s_image_is_one_that_a_shell_reads() -> None:
    recipe = pve.recipe(PvePackages(), SUM)
    for text in (recipe.script, debian.environment(recipe, OPEN)[debian.FINISH]):
        subprocess.run(["sh", "-n"], input=text.encode(), check=True)


def test_the_packages_of_other_images_have_no_other_repository_and_keep_their_digest() -> None:
    assert KVM.archives == ()
    assert "nestlab.sources" not in " ".join(debian.arguments(KVM, OPEN))
    assert "INITRD" not in debian.environment(KVM, OPEN)


def test_what_proxmox_s_packages_read_in_their_documentation_stays() -> None:
    recipe = pve.recipe(PvePackages(), SUM)
    assert "path-include=/usr/share/doc/pve-manager/*" in " ".join(debian.arguments(recipe, OPEN))
    finish = debian.environment(recipe, OPEN)[debian.FINISH]
    assert "! -name pve-manager" in finish
    assert "usr/share/doc/*" not in finish


def kernels(tmp_path: Path, names: list[str], kernel: str) -> list[str]:
    """Those that stay of kernels of these versions."""
    for name in names:
        (tmp_path / "usr/lib/modules" / name).mkdir(parents=True)
        (tmp_path / "boot").mkdir(exist_ok=True)
        (tmp_path / "boot" / f"vmlinuz-{name}").write_text("")
    recipe = replace(pve.recipe(PvePackages(), SUM), kernel=kernel)
    finish = debian.environment(recipe, OPEN)[debian.FINISH]
    start = finish[: finish.index("for name in bin sbin")].replace("cd /\n", "", 1).rpartition("cd /")[0]
    subprocess.run(["sh", "-euc", start], cwd=tmp_path, check=True)
    left = sorted(path.name for path in (tmp_path / "usr/lib/modules").iterdir())
    assert [path.name.removeprefix("vmlinuz-") for path in sorted((tmp_path / "boot").iterdir())] == left
    return left


@pytest.mark.parametrize(
    ("there", "kernel", "stays"),
    [
        (["6.17.2-1-pve", "6.17.13-2-pve", "6.12.1+deb13-amd64"], "", "6.17.13-2-pve"),
        (["6.17.2-1-pve", "6.12.1+deb13-amd64"], "linux-image-amd64", "6.12.1+deb13-amd64"),
        (["6.12.1+deb13-cloud-amd64"], "", "6.12.1+deb13-cloud-amd64"),
        (["6.17.2-1-pve"], "linux-image-amd64", "6.17.2-1-pve"),
    ],
)
def test_of_several_kernels_one_stays(tmp_path: Path, there: list[str], kernel: str, stays: str) -> None:
    assert kernels(tmp_path, there, kernel) == [stays]


def test_a_binary_keyring_becomes_the_armor_that_gpg_reads(tmp_path: Path) -> None:
    keyring = next(
        (path for path in Path("/usr/share/keyrings").glob("debian-archive-keyring.*") if path.is_file()), None
    )
    if keyring is None:
        pytest.skip("debian-archive-keyring is not here")
    command = ["gpg", "--homedir", str(tmp_path), "--batch", "--no-default-keyring", "--dearmor"]
    text = archives.armored(keyring.read_bytes())
    assert subprocess.run(command, input=text.encode(), check=True, capture_output=True).stdout == keyring.read_bytes()
    assert archives.armored(text.encode()) == text


HERE = Archive("http://mirror.example.org/pve", "trixie", "pve-no-subscription", "/k.gpg", SUM)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            [
                "Err:2 http://mirror.example.org/pve trixie InRelease",
                "  Sub-process /usr/bin/sqv returned an error code (1), error message is: Missing key 0123",
                "E: The repository 'http://mirror.example.org/pve trixie InRelease' is not signed.",
            ],
            "is not signed by a key in /k.gpg",
        ),
        (
            [
                "Err:2 http://mirror.example.org/pve trixie InRelease",
                "  Could not connect to mirror.example.org:80 (192.0.2.1). - connect (111: Connection refused)",
                "E: Failed to fetch http://mirror.example.org/pve/dists/trixie/InRelease  Could not connect",
            ],
            "cannot be read (suite trixie)",
        ),
        (["E: Unable to locate package proxmox-ve"], "has no package proxmox-ve in trixie pve-no-subscription"),
    ],
)
def test_what_is_wrong_with_a_repository_is_one_sentence(lines: list[str], words: str) -> None:
    found = archives.blamed([HERE], lines)
    assert found is not None
    assert words in found[0]
    assert "pve_mirror" in found[1]


def test_a_repository_on_this_computer_that_nobody_known_signed_is_told_as_apt_spells_it() -> None:
    (archive,) = pve.recipe(PvePackages(mirror="/srv/pve", keyring="/k.gpg"), SUM).archives
    lines = [
        "W: GPG error: copy:/srv/pve trixie InRelease: The following signatures couldn't be verified: NO_PUBKEY 0123",
        "E: The repository 'copy:/srv/pve trixie InRelease' is not signed.",
    ]
    found = archives.blamed([archive], lines)
    assert found is not None
    assert found[0] == "the repository /srv/pve is not signed by a key in /k.gpg"


def test_what_is_wrong_with_debian_s_mirror_is_not_said_of_proxmox_s() -> None:
    lines = ["E: Failed to fetch http://mirror.example/debian/dists/trixie/InRelease  Could not connect"]
    assert archives.blamed([HERE], lines) is None


async def test_a_keyring_with_another_checksum_is_refused_and_tells_both(tmp_path: Path) -> None:
    keyring = tmp_path / "k.gpg"
    keyring.write_bytes(b"other")
    with pytest.raises(LabError) as caught:
        await archives.told([replace(HERE, keyring=str(keyring))], tmp_path, lambda _: None)
    assert "its checksum differs" in caught.value.what
    assert hashlib.sha256(b"other").hexdigest() in caught.value.detail


async def test_a_folder_that_is_no_repository_or_closed_to_others_is_told_before_a_build(tmp_path: Path) -> None:
    keyring, place = tmp_path / "k.gpg", tmp_path / "pve"
    keyring.write_bytes(b"keys")
    digest = "sha256:" + hashlib.sha256(b"keys").hexdigest()
    archive = replace(HERE, uri=f"copy:{place}", keyring=str(keyring), checksum=digest)
    with pytest.raises(LabError, match="no repository with the suite trixie"):
        await archives.told([archive], tmp_path, lambda _: None)
    (place / "dists" / "trixie").mkdir(parents=True)
    (place / "dists" / "trixie" / "InRelease").write_text("")
    place.chmod(0o700)
    with pytest.raises(LabError, match="only its owner may enter"):
        await archives.told([archive], tmp_path, lambda _: None)


async def test_apt_is_told_the_repository_with_its_keys(tmp_path: Path) -> None:
    keyring = tmp_path / "k.gpg"
    keyring.write_bytes(b"keys")
    digest = "sha256:" + hashlib.sha256(b"keys").hexdigest()
    text = await archives.told([replace(HERE, keyring=str(keyring), checksum=digest)], tmp_path, lambda _: None)
    assert text.startswith("Types: deb\nURIs: http://mirror.example.org/pve\nSuites: trixie\n")
    assert "\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n " in text
    assert text.endswith(" -----END PGP PUBLIC KEY BLOCK-----\n")
