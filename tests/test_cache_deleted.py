"""The cache deleted under a lab that runs: on a real machine, with a cache of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from nestlab.home.directories import Home
from nestlab.images.image_files import key_of
from nestlab.lab.model import Image

pytestmark = pytest.mark.guest

LAB = "lab: bare\nmachines: {web: {image: tiny, memory: 128M}}\n"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """One with the image that is needed, and with this machine's QEMU, by links that can be deleted."""
    usual, own = Home.of(os.environ, Path.home()).cache, tmp_path / "cache"
    Cli(tmp_path)("images", "build", "tiny")
    for name in ("runtime", "loader"):
        if (usual / name).exists():
            own.mkdir(exist_ok=True)
            (own / name).symlink_to(usual / name)
    key = key_of(Image(base="tiny"))
    shutil.copytree(usual / "images" / key, own / "images" / key)
    return own


@pytest.fixture
def cli(tmp_path: Path, cache: Path) -> Iterator[Cli]:
    made = Cli(tmp_path, {"NESTLAB_CACHE": str(cache)})
    yield made
    made("down", "bare", "--yes", status=None)


def test_what_runs_goes_on_and_plan_says_what_a_restart_would_cost(cli: Cli, cache: Path) -> None:
    file = cli.file(LAB)
    cli("up", file, "--no-verify")
    assert "no longer in the cache" not in cli("plan", file)
    shutil.rmtree(cache)
    said = " ".join(cli("plan", file).text.split())
    assert "nothing to do" in said
    assert "no longer in the cache: image tiny of web. What runs goes on; before it starts again its image is" in said
    assert cli("exec", "web", "--", "hostname").text == "web\n"
    assert cli.machines("bare")["web"]["state"] == "running"
    cli("stop", "bare")
    after = cli("plan", file)
    assert "no longer in the cache" not in after
    assert "build" in after
