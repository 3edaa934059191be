"""`nestlab images build --in`: from the command line to an image of the cache, and what is refused before."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from install_in_sshd import HASH, QEMU
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts, Kvm
from nestlab.hosts.ssh import SshHost
from nestlab.images import installed
from nestlab.images.qemu_runtime import choose_qemu_img
from nestlab.install import golden
from nestlab.install import inside as inside_a_hypervisor
from nestlab.install.inside import Inside
from nestlab.install.installation import Job
from nestlab.lab.model import MIB
from nestlab.testing.fake_engine import FakeEngine
from nestlab.verbs import install_inside
from nestlab.wire import ssh
from sshd import PROGRAM, Sshd, sshd
from test_cli import Console, console  # noqa: F401
from test_install_inside import iso

CACHE = Home.of(os.environ, Path.home()).cache

KVM = Facts(
    arch="x86_64",
    flags=frozenset({"svm", "lm"}),
    virtualization="kvm",
    provider="kvm_amd",
    kvm=Kvm(opened=True, api=12, ran=True),
    memory_available=1 << 40,
)

LAB = """
lab: office
images:
  web:
    install: {{system: ubuntu, iso: {iso}, disk: 1G, memory: 512M, password: "{hash}"{more}}}
machines:
  files: {{image: web}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if PROGRAM is None:
        pytest.skip("openssh-server is not installed")
    with sshd(tmp_path_factory.mktemp("sshd"), "MaxSessions 100") as running:
        yield running


@pytest.fixture
def facts() -> Facts:
    return KVM


@pytest.fixture
def office(
    console: Console,  # noqa: F811
    server: Sshd,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Console]:
    """A lab whose `hv1` is an sshd of this machine, and a lab file with an image that is installed."""
    there: list[SshHost] = []

    async def host(engine: FakeEngine, path: str) -> SshHost:
        async def connect(_: float) -> ssh.Connection:
            return await server.connect()

        there.append(SshHost(path, connect))
        there[-1]._facts = facts
        return there[-1]

    async def close(engine: FakeEngine) -> None:
        await asyncio.gather(*(each.close() for each in there))
        await closed(engine)

    closed = FakeEngine.close
    console.run("up", "pair.yaml", "--no-verify")
    monkeypatch.setattr(FakeEngine, "host", host)
    monkeypatch.setattr(FakeEngine, "close", close)
    monkeypatch.setattr(install_inside, "GUEST_QEMU", QEMU)
    monkeypatch.setattr(inside_a_hypervisor, "GIB", MIB)
    (console.folder / "office.yaml").write_text(lab_file(console.folder))
    monkeypatch.setattr(golden, "choose_qemu_img", lambda _, say: choose_qemu_img(CACHE, say))
    with tempfile.TemporaryDirectory(prefix="nl") as folder:  # paths of sockets are short
        console.home = Home(console.home.state, Path(folder) / "cache")
        console.env["NESTLAB_CACHE"] = str(console.home.cache)
        monkeypatch.setattr(install_inside, "Inside", lambda *words: replace(Inside(*words), root=f"{folder}/install"))
        yield console


def lab_file(folder: Path, more: str = "") -> str:
    return LAB.format(iso=iso(folder), hash=HASH.replace("$", "$$"), more=more)


def test_an_image_is_made_inside_a_hypervisor_and_is_one_of_the_cache(office: Console) -> None:
    said = office.run("images", "build", "office.yaml", "--in", "pair:hv1")
    assert "starting Ubuntu's installer in pair:hv1" in said.output
    assert "web  install-" in said.stdout
    assert said.stdout.rstrip().endswith("built")
    [made] = installed.ls(office.home.cache)
    assert (made.called, made.family, made.inside, made.size) == ("web", "ubuntu", "pair:hv1", 1 << 30)
    assert "ubuntu's installer, in pair:hv1" in office.run("images", "ls").stdout
    again = office.run("images", "build", "office.yaml", "--in", "hv1")
    assert again.stdout.rstrip().endswith("was built already")


def test_what_is_installed_nowhere_is_refused_with_what_to_say(office: Console) -> None:
    said = office.run("images", "build", "tiny", "--in", "hv1", status=2)
    assert "None of these images is installed, and --in hv1 says where installers run." in said.output
    said = office.run("images", "build", "office.yaml", "--in", "pair:hv1/web", status=2)
    assert "No installer can be run in hv1/web: it is no hypervisor." in said.output
    said = office.run("images", "build", "office.yaml", "--in", "pair:hv9", status=2)
    assert "Lab pair has no machine hv9." in said.output
    assert "Traceback" not in said.output
    assert installed.ls(office.home.cache) == ()


def test_a_node_of_proxmox_ve_runs_no_installer_of_nestlabs(office: Console) -> None:
    """What it runs are its own VMs."""
    (office.folder / "nodes.yaml").write_text("lab: nodes\nmachines: {pve1: {hypervisor: pve}}\n")
    office.run("up", "nodes.yaml", "--no-verify")
    said = office.run("images", "build", "office.yaml", "--in", "nodes:pve1", status=2)
    assert "No installer can be run in pve1: it is a hypervisor of kind pve." in said.output
    assert "Name a hypervisor of kind kvm or libvirt, or leave --in out." in said.output
    assert installed.ls(office.home.cache) == ()


def test_an_installer_that_wants_the_internet_is_not_run_where_there_is_none(office: Console) -> None:
    (office.folder / "office.yaml").write_text(lab_file(office.folder, ", internet: true"))
    said = office.run("images", "build", "office.yaml", "--in", "pair:hv1", status=2)
    assert "its installer is to reach the internet, and pair:hv1 does not." in said.output


@pytest.mark.parametrize("facts", [Facts()])
def test_an_installer_is_not_emulated_inside_a_guest(office: Console) -> None:
    said = office.run("images", "build", "office.yaml", "--in", "pair:hv1", status=2)
    assert "its installer would be emulated inside pair:hv1, for hours: /dev/kvm cannot be opened" in said.output
    assert "Leave --in out" in said.output


async def test_uefi_is_refused_where_the_hypervisor_is_emulated(server: Sshd, tmp_path: Path) -> None:
    from nestlab.answers import Answers

    async def connect(_: float) -> ssh.Connection:
        return await server.connect()

    patience.of_lab(1.0, 1.0)
    job = Job("lab.yaml:3: image web", "ubuntu", Answers(), iso=iso(tmp_path), firmware="uefi")
    host = SshHost("hv1", connect)
    host._facts = replace(KVM, virtualization="qemu")
    with pytest.raises(LabError, match="QEMU's emulation ends when UEFI starts under KVM in it"):
        await golden.means_inside(job, Inside(host, "pair:hv1", QEMU), tmp_path, lambda _: None)
    await host.close()
