"""An own disk image that names another file of this computer never gets it into a Proxmox VE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Cli
from disk_headers import qcow2
from nestlab.base.errors import LabError
from nestlab.engines.pve.boot_images import Workshop
from nestlab.engines.pve.images import Stock
from nestlab.images.image_files import Cache, key_of
from nestlab.lab.model import Format, Image
from nestlab.lab.places import Pve
from nestlab.testing.fake_pve import FakePve
from pve_lab import assert_valid, client, cluster
from test_disk_header import HOSTILE

WAYS = [
    "machines: {m: {image: {file: d.bin, format: qcow2}}}",
    "machines: {m: {image: debian, disks: {data: {file: d.bin, format: qcow2}}}}",
]
"""Where a lab file may name a file that becomes a disk of a guest there."""


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1") as pve:
        yield pve
        assert_valid(pve)


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_over_a_file_of_this_computer_is_refused_before_a_proxmox_ve_is_asked_anything(
    way: str, fake: FakePve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(b"TOP SECRET".ljust(65536, b"."))
    (tmp_path / "d.bin").write_bytes(qcow2(65536, below=bytes(secret)).ljust(1 << 18, b"\0"))
    (tmp_path / "lab.yaml").write_text(f"lab: x\non: pve://127.0.0.1:{fake.port}\n{way}\n")
    name, token = fake.token
    env = {"NESTLAB_PVE_HOST": f"127.0.0.1:{fake.port}", "NESTLAB_PVE_TOKEN": f"{name}={token}"}
    env |= {"NESTLAB_PVE_FINGERPRINT": fake.fingerprint, "NESTLAB_CACHE": str(tmp_path / "cache")}
    said = Cli(tmp_path / "state", env)("up", "lab.yaml", "--no-verify", status=2)
    assert "d.bin" in said.text
    assert "layer over another file" in said.text
    assert "Traceback" not in said.text
    assert fake.requests == []


@pytest.mark.parametrize(("form", "content", "told"), HOSTILE, ids=range(len(HOSTILE)))
async def test_one_that_became_such_after_the_lab_was_read_is_not_uploaded(
    form: Format, content: bytes, told: str, fake: FakePve, tmp_path: Path
) -> None:
    file = tmp_path / "d.bin"
    file.write_bytes(content.ljust(4096, b"\0"))
    image = Image(file=str(file), format=form)
    api = client(fake)
    try:
        cache = tmp_path / "cache"
        stock = Stock(api, Pve("pve://127.0.0.1"), Cache(cache), cache=cache, workshop=Workshop(cache))
        with pytest.raises(LabError) as caught:
            await stock.template(key_of(image), image, "pve1", "local", lambda _: None)
    finally:
        await api.close()
    assert told in str(caught.value)
    assert fake.vms == {}
    assert [each for each in fake.requests if "upload" in each.path] == []
