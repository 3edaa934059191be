"""mmdebstrap's progress and failures, from what it really printed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.images import mmdebstrap as debstrap
from nestlab.images.mmdebstrap import Progress, failure, mmdebstrap


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize(
    ("line", "reason", "hint"),
    [
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "disk is full", "Make room"),
        ("tar: ./x: Cannot write: No space left on device", "disk is full", "Make room"),
        ("Err:1 …  Temporary failure resolving 'mirror.example'", "cannot be downloaded", "network"),
        (
            "Err:1 …  Could not connect to 127.0.0.1:1 (127.0.0.1). - connect (111: Connection refused)",
            "downl",
            "mirror",
        ),
        ("E: Unable to locate package no-such-package", "has no package no-such-package", "Correct its name"),
        ("E: cannot find newuidmap", "user namespaces", "uidmap"),
        ("W: no entry in /etc/subuid for someone", "user namespaces", "add-subuids"),
        (
            "E: Release file for http://mirror.example/debian/dists/sid/InRelease is expired (invalid since 23d 14h).",
            "lists of its mirror are out of date",
            "suite",
        ),
        (
            "E: The repository 'http://mirror.example/debian woody Release' does not have a Release file.",
            "does not have that release",
            "mirror",
        ),
        ("The following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131", "signature", "keyring"),
    ],
)
def test_a_failure_says_what_to_do(line: str, reason: str, hint: str) -> None:
    error = failure("The image x", ["I: running apt-get update...", line], 25)
    assert reason in error.what
    assert hint in error.hint
    assert line in error.detail


def test_an_unknown_failure_shows_the_end_of_the_output() -> None:
    error = failure("The image x", [f"line {n}" for n in range(100)], 7)
    assert "status 7" in error.what
    assert error.detail.splitlines() == [f"line {n}" for n in range(85, 100)]


def test_progress_names_phases_and_every_tenth_percent_once() -> None:
    said: list[str] = []
    progress = Progress(said.append)
    progress.read("I: downloading packages with apt...")
    progress.read("0 upgraded, 50 newly installed, 0 to remove and 0 not upgraded.")
    for word in ("Unpacking", "Setting up"):
        for number in range(50):
            progress.read(f"{word} package{number} (1.0) ...")
    assert said[0] == "downloading the base system"
    progress.read("I: installing remaining packages inside the chroot...")
    progress.read("0 upgraded, 100 newly installed, 0 to remove and 0 not upgraded.")
    for number in range(100):
        progress.read(f"Unpacking other{number} (1.0) ...")
        progress.read(f"Setting up other{number} (1.0) ...")
    bar = [int(line.split()[-2]) for line in said if line.endswith("%")]
    assert bar == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100], "one bar, which never goes back"
    assert "installing the other packages" in said


async def test_without_mmdebstrap_the_distributions_own_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "mint", "ID_LIKE": "ubuntu debian"})
    with pytest.raises(LabError, match="not installed") as caught:
        await mmdebstrap(["trixie"], what="The image x", folder=tmp_path, say=quiet)
    assert "sudo apt install mmdebstrap" in caught.value.hint


async def test_a_cancelled_build_ends_mmdebstrap_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\necho 'I: running apt-get update...'\nexec sleep 1000\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    started = asyncio.Event()
    task = asyncio.create_task(mmdebstrap([], what="x", folder=tmp_path, say=lambda _: started.set()))
    await started.wait()
    pid = int((tmp_path / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def test_mmdebstraps_own_end_is_reported_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text("#!/bin/sh\necho 'E: something broke' >&2\nexit 25\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LabError, match="status 25") as caught:
        await mmdebstrap([], what="The image x", folder=tmp_path, say=quiet)
    assert caught.value.detail == "E: something broke"


async def test_debians_keys_are_named_for_a_system_whose_apt_does_not_trust_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for keys, expected in ((tmp_path / "keys.gpg", [f"--keyring={tmp_path}/keys.gpg"]), (None, [])):
        monkeypatch.setattr("nestlab.images.system_packages.keyring", lambda keys=keys: keys)
        await mmdebstrap(["trixie", "x"], what="The image x", folder=tmp_path, say=quiet)
        words = (tmp_path / "words").read_text().split()
        assert [word for word in words if word.startswith("--keyring")] == expected
        assert words[-2:] == ["trixie", "x"]


def test_sbin_is_on_the_path_of_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert "/usr/sbin" in debstrap._environment(Path("/tmp"))["PATH"].split(":")


async def test_it_is_told_nothing_of_our_environment_but_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("NESTLAB_PVE_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "APT_CONFIG", "PERL5OPT"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    await mmdebstrap([], what="x", folder=tmp_path, say=quiet, variables={"confine_text": "text"})
    told = (tmp_path / "environment").read_text()
    assert "hush" not in told
    assert {"https_proxy=http://proxy:3128", "confine_text=text"} <= set(told.splitlines())


async def test_output_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text(
        "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\necho\nyes | head -n 20000\necho 'E: last'\nexit 25\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LabError, match="status 25") as caught:
        await mmdebstrap([], what="The image x", folder=tmp_path, say=quiet)
    assert caught.value.detail.splitlines()[-1] == "E: last"
    assert len(caught.value.detail) < 15 * 4097


def test_a_script_that_failed_is_not_taken_for_a_failed_download() -> None:
    said = ["curl: (6) Could not resolve host: example.org", "nestlab: the script ended with status 6", "E: run_hooks"]
    error = failure("The image x", said, 25)
    assert "its script failed" in error.what
    assert "without a network" in error.hint


def test_where_namespaces_are_forbidden_nothing_is_built_without_them() -> None:
    error = failure("The image x", ["nestlab: cannot confine: unshare: Operation not permitted"], 25)
    assert "cannot be kept apart" in error.what
    assert "user.max_user_namespaces" in error.hint
