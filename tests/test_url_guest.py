"""A machine that boots what was downloaded, and a Proxmox VE that is handed it."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

import leaks
from blueprints import draft
from command_line import Cli
from disk_headers import qcow2
from nestlab.base.errors import LabError
from nestlab.engines.pve.boot_images import Role, Workshop
from nestlab.engines.pve.images import Stock
from nestlab.images.image_files import Cache, ImageFiles, key_of
from nestlab.lab.disks import Disk
from nestlab.lab.model import GIB, MIB, Image, Machine
from nestlab.lab.places import Pve
from nestlab.testing.fake_pve import FakePve
from pve_lab import assert_valid, client, cluster
from test_url_images import ova
from url_server import serving
from waiting import VERY_LONG

SENTENCE = "booted from what was downloaded"

LAB = """
lab: fetched
machines:
  m: {{image: {{url: {url}, sha256: {digits}}}, memory: 128M, ready: {{console: "{sentence}"}}}}
  cd:
    image: none
    memory: 128M
    cdroms: [{{url: {cd}, sha256: {sha_cd}}}]
    ready: {{console: "{sentence}"}}
  t: {{image: tiny, disks: {{data: {{url: {data}, sha256: {sha_data}, size: 2M}}}}}}
"""


def boot_code(sentence: str) -> bytes:
    """What a PC's firmware starts at 0x7c00: writes a sentence to the serial port, then halts."""
    text = f"\r\n{sentence}\r\n".encode() + b"\0"
    code = bytes.fromhex(
        "31c0 8ed8 fc be 0000 bafd03".replace(" ", "")
    )  # xor ax,ax; mov ds,ax; cld; mov si,…; mov dx,3fd
    code += bytes.fromhex("ac 84c0 7410 88c4".replace(" ", ""))  # lodsb; test al,al; jz halt; mov ah,al
    code += bytes.fromhex("ec a820 74fb".replace(" ", ""))  # in al,dx; test al,20h; jz back
    code += bytes.fromhex(
        "b2f8 88e0 ee b2fd ebeb".replace(" ", "")
    )  # mov dl,f8h; mov al,ah; out dx,al; mov dl,fdh; next
    code += bytes.fromhex("fa f4 ebfd".replace(" ", ""))  # cli; hlt; again
    place = 0x7C00 + len(code)
    return (code[:6] + place.to_bytes(2, "little") + code[8:] + text).ljust(2048, b"\0")


def medium(sentence: str) -> bytes:
    """A CD that a PC boots."""
    import pycdlib

    made, code, buffer = pycdlib.PyCdlib(), boot_code(sentence), io.BytesIO()
    made.new()
    made.add_fp(io.BytesIO(code), len(code), "/BOOT.;1")
    made.add_eltorito("/BOOT.;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4)
    made.write_fp(buffer)
    made.close()
    return buffer.getvalue()


def disk(sentence: str) -> bytes:
    """A disk of a mebibyte that a PC boots."""
    return (boot_code(sentence)[:510] + b"\x55\xaa").ljust(1 << 20, b"\0")


@pytest.mark.guest
def test_a_machine_boots_a_disk_that_was_downloaded_packed() -> None:
    body, disc, data = lzma.compress(disk(SENTENCE)), medium(SENTENCE), b"what was downloaded\n".ljust(1 << 20, b"\0")
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, serving() as served:
        url, there = served.put("/own.raw.xz", body), {"cd": served.put("/own.iso", disc)}
        there |= {"data": served.put("/data.raw", data), "sha_cd": digits(disc), "sha_data": digits(data)}
        with leaks.world(Path(folder)):
            cli = Cli(Path(folder))
            file = cli.file(LAB.format(url=url, digits=digits(body), sentence=SENTENCE, **there))
            try:
                assert "pull: done" in cli("up", file, "--no-verify")
                assert SENTENCE in cli("logs", "m").text
                assert SENTENCE in cli("logs", "cd").text
                found = "/dev/disk/by-id/virtio-data"
                read = f"head -n1 {found}; blockdev --getsize64 {found}; echo changed >{found}"
                assert cli("exec", "t", "--", "sh", "-c", read).text.split("\n")[:2] == [
                    "what was downloaded",
                    "2097152",
                ]
                assert "under disks of fetched" in cli("images", "rm", "data.raw", status=2)
                assert "under disks of fetched" in cli("images", "rm", "own.raw.xz", status=2)
                served.things.clear()
                assert "nothing to do" in cli("plan", file), "it is there, and as wanted"
            finally:
                cli("down", "fetched", "--yes", status=None)
                for name in ("own.raw.xz", "own.iso", "data.raw"):
                    cli("images", "rm", name, status=None)


def digits(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


NESTED = """
lab: nested
machines:
  hv1:
    hypervisor: kvm
    memory: 1G
    machines:
      disc: {{image: {{url: {url}, sha256: {digits}}}, memory: 128M}}
"""


@pytest.mark.guest
@pytest.mark.slow
def test_a_machine_inside_a_hypervisor_boots_it_as_well() -> None:
    body = lzma.compress(medium(SENTENCE))
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, serving() as served:
        url = served.put("/disc.iso.xz", body)
        with leaks.world(Path(folder)):
            cli = Cli(Path(folder))
            file = cli.file(NESTED.format(url=url, digits=hashlib.sha256(body).hexdigest()))
            try:
                cli("up", file, "--no-verify")
                deadline = time.monotonic() + VERY_LONG
                while SENTENCE not in cli("logs", "hv1/disc").text and time.monotonic() < deadline:
                    time.sleep(0.5)
                assert SENTENCE in cli("logs", "hv1/disc").text
            finally:
                cli("down", "nested", "--yes", status=None)
                cli("images", "rm", "disc.iso.xz", status=None)


class Bench(Workshop):
    """Makes no disks: what is uploaded is looked at elsewhere."""

    async def disk(self, artifacts: ImageFiles, role: Role, say: object) -> Path:
        return artifacts.files["root"]


async def test_a_proxmox_ve_gets_it_as_it_gets_a_file_of_the_users(tmp_path: Path) -> None:
    with cluster("pve1", "pve2") as fake, serving() as served:
        api = client(fake, None)
        try:
            await _stocked(
                fake,
                Stock(api, Pve("pve://127.0.0.1"), Cache(tmp_path), cache=tmp_path, workshop=Bench(tmp_path)),
                served.put,
                tmp_path,
            )
        finally:
            await api.close()
        assert_valid(fake)


async def _stocked(fake: FakePve, stock: Stock, put: object, cache: Path) -> None:
    assert callable(put)
    disk, disc = qcow2(GIB).ljust(4096, b"\0"), medium("x")
    for name, body, form in (("d.qcow2", disk, "qcow2"), ("d.iso", disc, "iso")):
        image = Image(url=put(f"/{name}", body), checksum=f"sha256:{hashlib.sha256(body).hexdigest()}", format=form)  # type: ignore[arg-type]
        key = key_of(image)
        assert key not in await stock.present()
        await stock.build(key, image, lambda _: None)
        assert key in await stock.present()
        spec = draft("l", Machine("m", image=image, disk=512 * MIB))["m"]
        if form == "qcow2":
            with pytest.raises(LabError, match="m is to have a disk of 512M, and its image has 1G"):
                await stock.fits(replace(spec, image=key), {key: image})
            over = replace(
                spec.machine, image=Image(base="none"), disks=(Disk("d", 512 * MIB, image=image, serial="d"),)
            )
            with pytest.raises(LabError, match="The disk d of m is to have 512M"):
                await stock.fits(
                    replace(spec, machine=over, image="none", files=(key,)), {key: image, "none": over.image}
                )
        await stock.fits(replace(spec, machine=replace(spec.machine, disk=GIB), image=key), {key: image})
        guest = fake.vms[await stock.template(key, image, "pve1", "local", lambda _: None)]
        assert guest.config["boot"] == ("order=ide2" if form == "iso" else "order=virtio0")
        assert [each.key for each in await stock.unused()] == [key] or form == "iso"
    fake.storages["local"].content += ",vztmpl"
    body = gzip.compress(ova(("./etc/hostname", b"x"), ("./usr/bin/true", b"x")))
    checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
    template = Image(url=put("/t", body), checksum=checksum, format="tar", compression="gz")
    key = key_of(template)
    await stock.build(key, template, lambda _: None)
    for _ in range(2):
        volid = await stock.container(key, template, "pve2", lambda _: None)
        assert volid == f"local:vztmpl/nestlab-{key}.tar.gz"
    volume = fake.world.volume(volid, "pve2")
    assert volume is not None
    assert (volume.content, volume.size) == ("vztmpl", len(body))
