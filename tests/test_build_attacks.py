"""A real build of an image whose lab wants more than an image: the user's rights, files, secrets, and other labs'."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.home.directories import Home
from nestlab.images import build, package_cache
from nestlab.images.recipes import DEBIAN, extend

pytestmark = pytest.mark.guest

TARGETS = "/var/run/nestlab-attack", "/var/lock/nestlab-attack"
"""In Debian /var/run and /var/lock are links to /run: followed outside the image they would be the host's."""

SCRIPT = r"""
echo "script-ran as $(id -u)"
env | grep -i 'hush' && exit 41
cat /proc/1/environ | grep -i 'hush' && exit 42
for f in /proc/self/fd/*; do
    n=${f##*/}
    case $n in 0 | 1 | 2) continue ;; esac
    case $(readlink "$f") in "" | /nestlab-script | /proc/*) continue ;; esac
    exit 45
done
ls /proc | grep -c '^[0-9]' >/root/processes
cp /etc/shadow /root/shadow
chroot . /bin/sh -c 'ls /home' >/root/homes 2>&1 || :
test ! -e "$OUTSIDE"
(exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null && exit 43
mknod /root/disk b 8 0 2>/dev/null && exit 44
# What is run after it is replaced: it runs where this does.
printf '#!/bin/sh\ntouch %s/owned-later /run/nestlab-attack-later\nexec /usr/lib/real/depmod "$@"\n' "$OUTSIDE" >/x
mkdir /usr/lib/real
ln -s /usr/bin/kmod /usr/lib/real/depmod
rm /usr/sbin/depmod
mv /x /usr/sbin/depmod
chmod 755 /usr/sbin/depmod
ln -s "$OUTSIDE" /var/log/apt.d
rm -rf /var/lib/apt/lists && ln -s "$OUTSIDE" /var/lib/apt/lists
chmod 4755 /bin/cat
setsid sleep 10000 &
"""


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """A folder of the host's that everybody may write to."""
    place = Path("/var/tmp") / f"nestlab-outside-{os.getpid()}"
    place.mkdir()
    place.chmod(0o777)
    (place / "keep").write_text("keep")
    try:
        yield place
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the packages that this machine's cache has, one of which somebody replaced by another of its size."""
    cache = tmp_path_factory.mktemp("cache")
    kept = package_cache.folder(cache)
    for deb in package_cache.folder(Home.of(os.environ, Path.home()).cache).glob("*.deb"):
        shutil.copy(deb, kept)
    return cache


def poisoned(cache: Path) -> dict[Path, bytes]:
    """Replaces the kept packages of the shell and of the guest agent, and returns what they were."""
    were = {}
    for name in ("dash", "qemu-guest-agent"):
        for deb in package_cache.folder(cache).glob(f"{name}_*.deb"):
            were[deb] = deb.read_bytes()
            deb.write_bytes(were[deb][:-64] + bytes(64))
    return were


async def test_a_build_stays_within_the_image(cache: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NESTLAB_PVE_TOKEN", "hush")
    monkeypatch.setenv("SOME_SECRET", "hush")
    before = poisoned(cache)
    debs = set(package_cache.folder(cache).iterdir())
    fake = "/var/cache/apt/archives/bash_99_amd64.deb"
    added = {fake: b"no package", **dict.fromkeys(TARGETS, b"from the lab"), "/root/hushed": b"a secret of the lab's"}
    recipe = extend(DEBIAN, files=added, script=SCRIPT.replace("$OUTSIDE", str(outside)))
    said: list[str] = []
    image = await build(recipe, cache, said.append)

    assert sorted(path.name for path in outside.iterdir()) == ["keep"], "nothing of the host's was touched"
    for target in (*TARGETS, "/run/nestlab-attack-later"):
        assert not Path(target).exists()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\00010000" in _read(path)]

    # The cache has what it had, and what was poisoned is whole again: it was not taken, but fetched and kept.
    assert {deb.name for deb in package_cache.folder(cache).iterdir()} >= {deb.name for deb in debs}
    assert not list(package_cache.folder(cache).glob("bash_99*"))
    assert all(deb.read_bytes() == content for deb, content in before.items())

    # What the image holds is for the eyes of its owner alone.
    for place in (cache / "images", image.folder):
        assert place.stat().st_mode & 0o077 == 0
    assert not any("hushed" in word or "secret of" in word for word in said)

    # Set-uid, devices and links of the image are the image's.
    assert image.root is not None
    tree = _listing(image.root)
    assert "nestlab-attack" in tree("/run") or "nestlab-attack" in tree("/var/run")
    assert "disk" not in tree("/root").split()
    assert "hushed" in tree("/root")


async def test_a_script_that_fails_is_told_with_its_output_and_leaves_nothing(cache: Path) -> None:
    recipe = extend(DEBIAN, script="echo about to fail; curl https://example.org; exit 9")
    with pytest.raises(LabError, match="its script failed") as caught:
        await build(recipe, cache, lambda _: None)
    assert "about to fail" in caught.value.detail
    assert "without a network" in caught.value.hint
    hidden = [path.name for path in (cache / "images").iterdir() if path.name.endswith(".partial")]
    assert hidden == []


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _listing(root: Path) -> Callable[[str], str]:
    """What a folder of the file system has, as debugfs of this machine tells."""
    debugfs = shutil.which("debugfs", path="/usr/sbin:/sbin:" + os.environ["PATH"])
    if debugfs is None:
        pytest.skip("there is no debugfs here")

    def listed(folder: str) -> str:
        return subprocess.run([debugfs, "-R", f"ls {folder}", str(root)], capture_output=True, text=True).stdout

    return listed
