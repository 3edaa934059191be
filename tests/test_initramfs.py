"""The initramfs as a value: the archive the kernel unpacks, and the order of its modules."""

from __future__ import annotations

import io
import stat
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from nestlab.images import image_builder, initramfs
from nestlab.images.initramfs import Entry
from nestlab.images.recipes import TINY, extend

DEPENDENCIES = """\
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/arch/x86/kvm/kvm-amd.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/arch/x86/kvm/kvm.ko.xz: kernel/virt/lib/irqbypass.ko.xz
kernel/virt/lib/irqbypass.ko.xz:
"""


def unpack(archive: bytes) -> dict[str, Entry]:
    """A reader of newc archives, from the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""
    found: dict[str, Entry] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, major, minor, length = fields[1], fields[6], fields[9], fields[10], fields[11]
        name = archive[at + 110 : at + 110 + length]
        assert name.endswith(b"\0")
        start = -(-(at + 110 + length) // 4) * 4
        path = name[:-1].decode()
        if path == "TRAILER!!!":
            return found
        assert path not in found, "the kernel would unpack it twice"
        found[path] = Entry(path, mode, archive[start : start + size], (major, minor))
        at = -(-(start + size) // 4) * 4


names = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(paths, st.binary(max_size=50), max_size=8))
def test_what_goes_into_an_archive_comes_out_of_it(contents: dict[str, bytes]) -> None:
    files = {path: data for path, data in contents.items() if not any(p.startswith(path + "/") for p in contents)}
    entries = unpack(initramfs.cpio(initramfs.file(path, data) for path, data in files.items()))
    assert {path: entry.data for path, entry in entries.items() if stat.S_ISREG(entry.mode)} == files


@given(st.dictionaries(paths, st.binary(max_size=50), max_size=8))
def test_a_folder_comes_before_what_is_in_it(contents: dict[str, bytes]) -> None:
    files = [path for path in contents if not any(p.startswith(path + "/") for p in contents)]
    seen: set[str] = {""}
    for path, entry in unpack(initramfs.cpio(initramfs.file(path, b"") for path in files)).items():
        assert path.rpartition("/")[0] in seen
        if stat.S_ISDIR(entry.mode):
            seen.add(path)


def test_the_same_entries_give_the_same_bytes() -> None:
    entries = [initramfs.file("init", b"x", 0o755), initramfs.link("bin/sh", "busybox")]
    assert initramfs.cpio(entries) == initramfs.cpio(entries)


def test_links_and_devices_are_what_the_kernel_expects() -> None:
    entries = unpack(initramfs.cpio([initramfs.link("sbin", "bin"), initramfs.character_device("dev/console", 5, 1)]))
    assert entries["sbin"].data == b"bin"
    assert stat.S_ISLNK(entries["sbin"].mode)
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)


def test_a_later_entry_replaces_an_earlier_one_of_the_same_path() -> None:
    entries = unpack(initramfs.cpio([initramfs.file("etc/hosts", b"old"), initramfs.file("etc/hosts", b"new")]))
    assert entries["etc/hosts"].data == b"new"


def test_an_archive_fills_whole_sectors_so_that_a_drive_can_carry_it() -> None:
    assert len(initramfs.cpio([initramfs.file("a", b"b")])) % 512 == 0


def test_a_module_comes_after_what_it_needs() -> None:
    order = [initramfs.module_name(path) for path in initramfs.module_order(DEPENDENCIES, ["virtio_net", "kvm-amd"])]
    assert order == ["failover", "net_failover", "virtio_net", "irqbypass", "kvm", "kvm_amd"]


def test_a_module_that_is_built_in_or_absent_is_left_out() -> None:
    assert initramfs.module_order(DEPENDENCIES, ["ext4", "failover"]) == ("kernel/net/core/failover.ko",)


def test_a_module_is_named_as_proc_modules_spells_it() -> None:
    assert initramfs.module_name("kernel/arch/x86/kvm/kvm-amd.ko.xz") == "kvm_amd"


def test_files_of_the_user_replace_those_of_the_base() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("usr/bin/busybox")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"busy"))
    buffer.seek(0)
    wanted = {"/etc/passwd": "alice", "/bin/ls": "#!/bin/sh\n", "/sbin/hello": "#!/bin/sh\n", "/etc/new": "new"}
    with tarfile.open(fileobj=buffer) as tar:
        members = {member.name: member for member in tar}
        entries = list(image_builder._userland(tar, members, extend(TINY, files=wanted)))
    found = unpack(initramfs.cpio(entries))
    assert found["etc/passwd"].data == b"alice"
    assert found["etc/new"].data == b"new"
    assert found["bin/ls"] == initramfs.file("bin/ls", b"#!/bin/sh\n", 0o755)
    assert found["bin/hello"].mode == stat.S_IFREG | 0o755
    assert stat.S_ISLNK(found["sbin"].mode)
    assert stat.S_ISLNK(found["bin/cat"].mode)
