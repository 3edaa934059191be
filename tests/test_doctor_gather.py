"""The doctor's gathering: its script run for real, here and with other programs around it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.doctor import advisories, gather
from nestlab.doctor.examine import examine
from nestlab.hosts import probe
from nestlab.hosts.facts import Facts, Holder, Package
from nestlab.hosts.local import LocalHost
from waiting import LONG

SOURCE = Path(probe.__file__).read_bytes()
RELEASE = os.uname().release
NEEDED = (
    "cat",
    "date",
    "dd",
    "df",
    "find",
    "grep",
    "gzip",
    "id",
    "ls",
    "od",
    "sed",
    "sh",
    "timeout",
    "tr",
    "true",
    "uname",
)


def run(*shell: str, script: str = gather.SCRIPT, path: str = os.environ["PATH"]) -> Facts:
    """The facts that a shell gathers. It says nothing but facts."""
    command = [*(shell or ("sh",)), "-c", script]
    done = subprocess.run(command, input=SOURCE, capture_output=True, timeout=LONG, env={"PATH": path}, check=True)
    assert done.stderr == b""
    return gather.parse(done.stdout.decode(errors="replace"), "this machine")


alone = pytest.mark.skipif(
    any(Path(folder, "libvirtd").exists() for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin")),
    reason="this machine's own libvirtd is found, too",
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder for PATH with little in it: no python3, dmesg, dpkg or rpm."""
    if any(Path(folder, "python3").exists() for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin")):
        pytest.skip("needs a system whose sbin is not its bin")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        if there := shutil.which(name):
            (folder / name).symlink_to(there)
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


# -- on this machine


async def test_this_machine_says_what_any_linux_can() -> None:
    host = LocalHost()
    facts, quick = await examine(host), await host.facts()
    assert facts.examined
    assert facts.python
    for name in ("kernel", "arch", "distribution", "vendor", "flags", "provider", "modules", "cpus", "memory", "uid"):
        assert getattr(facts, name) == getattr(quick, name)
    assert facts.kvm == quick.kvm
    assert dict(facts.parameters).items() >= dict(quick.parameters).items()
    assert facts.kernel_build == os.uname().version
    assert facts.cmdline == Path("/proc/cmdline").read_text().strip()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.disk["/"] > 0
    assert facts.device.exists == Path("/dev/kvm").exists()
    assert "python3" in facts.tools
    assert {name for name in facts.modules if not name.startswith("kvm")} == set()
    assert all(facts.kernel_modules[name].loaded or facts.kernel_modules[name].builtin for name in facts.modules)
    assert len(facts.messages) <= 40
    assert "kvm" not in facts.unseen


async def test_what_was_gathered_goes_round() -> None:
    facts = await examine(LocalHost())
    assert Facts.from_json(facts.to_json()) == facts


def test_without_python_it_sees_the_same_but_not_into_kvm(bare: Path) -> None:
    full, shell = run(), run(path=str(bare))
    assert full.python
    assert not shell.python
    assert shell.unseen["kvm"] == "there is no python3"
    assert shell.unseen["messages"] == "dmesg: there is no such command"
    assert shell.kvm.opened == full.kvm.opened
    assert shell.kvm.ran is None
    same = "kernel arch distribution vendor model flags virtualization provider modules parameters cpus memory routes"
    also = "user uid container machine dmi kernel_build cmdline boot_id lockdown device groups nodes cgroups"
    for name in f"{same} {also} hugepages iommu".split():
        assert getattr(shell, name) == getattr(full, name), name
    assert shell.disk.keys() == full.disk.keys()
    assert abs(shell.clock - full.clock) < 60


def test_another_shell_gathers_the_same() -> None:
    ours = run()
    for shell in (("dash",), ("busybox", "sh"), ("bash",)):
        if shutil.which(shell[0]):
            other = run(*shell)
            for name in ("kernel", "parameters", "device", "files", "nodes", "kernel_modules", "package", "dmi", "uid"):
                assert getattr(other, name) == getattr(ours, name), (shell, name)


def test_busybox_alone_is_enough(tmp_path: Path) -> None:
    if not (busybox := shutil.which("busybox")):
        pytest.skip("needs busybox")
    if any(Path(folder, "python3").exists() for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin")):
        pytest.skip("needs a system whose sbin is not its bin")
    for name in (*NEEDED, "dmesg"):
        (tmp_path / name).symlink_to(busybox)
    full, small = run(), run(str(tmp_path / "sh"), path=str(tmp_path))
    for name in ("kernel", "flags", "cpus", "parameters", "device", "kernel_modules", "swap", "hugepages", "readonly"):
        assert getattr(small, name) == getattr(full, name), name
    assert len(small.messages) <= 40


def test_an_unprivileged_user_sees_what_was_left_out(tmp_path: Path) -> None:
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    facts = run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", path="/usr/bin:/bin")
    assert facts.uid == 65534
    assert facts.readonly
    assert facts.unseen["msr"] == "not root"
    if Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() == "1":
        assert "not permitted" in facts.unseen["messages"]
        assert facts.messages == ()
    if not os.stat("/dev/kvm").st_mode & 0o007 if os.path.exists("/dev/kvm") else False:  # noqa: PTH110, PTH116
        assert facts.kvm.error == "/dev/kvm: Permission denied"


@pytest.fixture
def holding() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that has /dev/kvm open under the arguments of a Proxmox guest."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/kvm")
    argv = ["/usr/bin/kvm", "-c", "exec 3<>/dev/kvm; echo; read x", "-id", "100", "-name", "web01,debug-threads=on"]
    with subprocess.Popen(argv, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate(b"\n", timeout=LONG)


@pytest.mark.parametrize("find", [True, False], ids=["find", "ls"])
def test_who_has_kvm_open_is_found(holding: subprocess.Popen[bytes], find: bool) -> None:
    script = gather.SCRIPT if find else gather.SCRIPT.replace("find /dev/null -lname x", "false")
    found = [each for each in run(script=script).holders if each.pid == holding.pid]
    assert found == [Holder(holding.pid, "sh", "pve", "100 web01")]


# -- with another root


def rooted(root: Path) -> str:
    """The script with its configuration and documentation in `root`."""
    script = gather.SCRIPT
    for folder in ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/etc/default/grub", "/etc/kernel/", "/usr/share/doc"):
        script = script.replace(f" {folder}", f" {root}{folder}").replace(f"={folder}", f"={root}{folder}")
    return script


def test_configuration_is_kept_to_the_byte(tmp_path: Path) -> None:
    etc, usr = tmp_path / "etc/modprobe.d", tmp_path / "usr/lib/modprobe.d"
    for folder in (etc, usr, tmp_path / "etc/default"):
        folder.mkdir(parents=True)
    (etc / "a kvm.conf").write_bytes(b"# kvm\n\n\noptions kvm_intel nested=1")
    (etc / "b.conf").write_bytes(b"options snd\n")
    (etc / "masked.conf").symlink_to("/dev/null")
    (etc / "kvm.txt").write_bytes(b"options kvm nested=1\n")
    os.mkfifo(etc / "pipe.conf")
    (usr / "masked.conf").write_bytes(b"options kvm_amd nested=0\r\n")
    (usr / "odd.conf").write_bytes(b"# \xff kvm\n")
    (tmp_path / "etc/default/grub").write_bytes(b'GRUB_CMDLINE_LINUX="a"\n')
    found = {path.removeprefix(str(tmp_path)): text for path, text in run(script=rooted(tmp_path)).files.items()}
    ours = {path: text for path, text in found.items() if path.startswith(("/etc/modprobe.d", "/usr/lib/modprobe.d"))}
    assert ours == {
        "/etc/modprobe.d/a kvm.conf": "# kvm\n\n\noptions kvm_intel nested=1",
        "/etc/modprobe.d/masked.conf": "",
        "/usr/lib/modprobe.d/masked.conf": "options kvm_amd nested=0\r\n",
        "/usr/lib/modprobe.d/odd.conf": "# \ufffd kvm\n",
    }
    assert found["/etc/default/grub"] == 'GRUB_CMDLINE_LINUX="a"\n'


def test_what_looks_like_a_mark_is_content(tmp_path: Path) -> None:
    etc = tmp_path / "etc/modprobe.d"
    etc.mkdir(parents=True)
    text = "nestlab facts 0\n\n0 end\n\n@@nestlab@@ kvm\nprobe\n$mark end\n/proc/cmdline:kvm\n"
    (etc / "kvm.conf").write_text(text)
    facts = run(script=rooted(tmp_path))
    assert facts.files[str(etc / "kvm.conf")] == text
    assert facts.cmdline == Path("/proc/cmdline").read_text().strip()


CHANGELOG = f"""linux (6.12.99-1) trixie; urgency=medium
  * several [CVE-2025-11111 CVE-2025-22222], {advisories.CVES[0]}
  * ({advisories.CVES[1]})
"""


def test_the_changelog_of_debians_kernel_is_read(bare: Path, tmp_path: Path) -> None:
    name = f"linux-image-{RELEASE}"
    folder = tmp_path / "usr/share/doc" / name
    folder.mkdir(parents=True)
    (folder / "changelog.gz").write_bytes(gzip.compress(CHANGELOG.encode()))
    said = f"installed {name} 6.12.99-1\ninstalled qemu-system-x86 1:10.0.2+ds-2\nnot-installed pve-manager \n"
    said += "not-installed libvirt-daemon \ninstalled libvirt-clients 9.0.0-4+deb12u2"
    program(bare, "dpkg-query", f"echo '{said}'; echo no packages >&2; exit 1")
    facts = run(script=rooted(tmp_path), path=str(bare))
    cves = tuple(sorted({"CVE-2025-11111", *advisories.CVES[:2]}))
    assert facts.package == Package(name, "6.12.99-1", changelog=True, cves=cves)
    assert facts.versions["qemu"] == "10.0.2"
    assert facts.versions["libvirt"] == "9.0.0"
    assert "pve" not in facts.versions
    assert "changelog" not in facts.unseen


@alone
def test_a_changelog_that_breaks_off_was_not_read_to_its_end(bare: Path, tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/doc" / f"proxmox-kernel-{RELEASE}-signed"
    folder.mkdir(parents=True)
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(CHANGELOG.encode() * 9)[:-9])
    said = f"installed proxmox-kernel-{RELEASE}-signed 6.17.2-1\ninstalled pve-manager 9.1.1\n"
    program(bare, "dpkg-query", f"echo '{said}installed pve-qemu-kvm 10.1.2-3'")
    facts = run(script=rooted(tmp_path), path=str(bare))
    assert facts.package.name == f"proxmox-kernel-{RELEASE}-signed"
    assert not facts.package.changelog
    assert "changelog" in facts.unseen
    assert facts.versions == {"pve": "9.1.1", "qemu": "10.1.2"}


def test_the_changelog_of_an_rpm_is_read(bare: Path, tmp_path: Path) -> None:
    kernel = tmp_path / f"vmlinuz-{RELEASE}"
    kernel.touch()
    said = f"is kernel-core 6.12.5-200.fc41\\n- KVM: fix {{{advisories.CVES[2]}}}\\n"
    program(bare, "rpm", f"case $* in *-f*) printf '{said}' ;; *) echo installed qemu-kvm-core 9.1.2 ;; esac")
    facts = run(script=gather.SCRIPT.replace(" /boot/vmlinuz-", f" {tmp_path}/vmlinuz-"), path=str(bare))
    assert facts.package == Package("kernel-core", "6.12.5-200.fc41", changelog=True, cves=(advisories.CVES[2],))
    assert facts.versions["qemu"] == "9.1.2"


@alone
def test_programs_give_their_version_where_no_package_does(bare: Path) -> None:
    program(bare, "qemu-system-x86_64", "echo QEMU emulator version 10.0.2; echo Copyright 2003-2024")
    program(bare, "virsh", "echo 11.3.0")
    assert run(path=str(bare)).versions == {"qemu": "10.0.2", "libvirt": "11.3.0"}


def test_messages_are_the_first_and_the_last_that_matter(bare: Path) -> None:
    first = "[    0.000000] Memory Encryption Features active: AMD SEV"
    noise = "[    0.1] several kvm-clock: x"
    program(bare, "dmesg", f"echo '{first}'; echo '{noise}'; for i in $(seq 900); do echo \"[ 1.0] kvm: $i\"; done")
    (bare / "seq").symlink_to(shutil.which("seq") or "")
    found = run(path=str(bare)).messages
    assert found[0] == first
    assert found[-1] == "[ 1.0] kvm: 900"
    assert len(found) == 40
    assert noise not in found


def test_a_dmesg_that_is_refused_is_said(bare: Path) -> None:
    refusal = "dmesg: read kernel buffer failed: Operation not permitted"
    program(bare, "dmesg", f"echo '{refusal}' >&2; exit 1")
    facts = run(path=str(bare))
    assert facts.unseen["messages"] == refusal
    assert facts.messages == ()


def test_a_python_that_fails_is_said(bare: Path) -> None:
    program(bare, "python3", "cat >/dev/null; echo 'SyntaxError: {\"' >&2; exit 1")
    facts = run(path=str(bare))
    assert not facts.python
    assert facts.unseen["kvm"] == 'python3 failed: SyntaxError: {"'
    assert facts.cpus == os.cpu_count()


@pytest.mark.parametrize("shell", ["sh", "busybox"])
def test_registers_are_read_at_their_numbers(tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    with (tmp_path / "msr").open("wb") as file:
        for number, value in ((0x3A, 5), (0xC0010114, 0x18)):
            file.seek(number)
            file.write(value.to_bytes(8, "little"))
    script = gather.SCRIPT.replace("/dev/cpu/0/msr", str(tmp_path / "msr"))
    command = (shell, "sh") if shell == "busybox" else (shell,)
    facts = run(*command, script=script)
    assert facts.msr == {"0x3a": 5, "0xc0010114": 0x18}
    assert "msr" not in facts.unseen
