"""What a segment of a lab file serves to machines that boot from it, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from nestlab.base import regular
from nestlab.lab.model import Image, Machine
from nestlab.lab.netboot import Netboot, boots_by_network, server_of
from nestlab.labfile import url_image
from nestlab.labfile.disk_header import Fault
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.read import Section

_HEADER, _AT = b"HdrS", 0x202
"""What a kernel for x86 has (Linux, Documentation/arch/x86/boot.rst), and where."""

_FETCHED = ("kernel", "initrd")
"""What may be downloaded."""

_SOURCES = ("kernel", "image", "files")
_ONLY = {
    "initrd": ("kernel",),
    "cmdline": ("kernel", "image"),
    "bios": ("files",),
    "uefi": ("files",),
    "ipxe": ("files",),
}
"""What goes with which source only."""


def netboot(section: Section | None) -> Netboot | None:
    """What a segment's `netboot` says."""
    if section is None:
        return None
    said = dict(section.values)
    for name in _FETCHED:
        if isinstance(fetched := said.get(name), Section):
            said[name], said[f"{name}_image"] = None, _downloaded(fetched)[0]
    return Netboot(**said)


def is_kernel(path: Path) -> bool:
    """Whether a file is a kernel that iPXE starts. OSError if it cannot be read."""
    with path.open("rb") as opened:
        opened.seek(_AT)
        return opened.read(len(_HEADER)) == _HEADER


def _downloaded(section: Section) -> tuple[Image | None, list[Complaint]]:
    """A file that is served as it is downloaded, and what is wrong with what is said of it."""
    if "url" not in section.at:
        what, hint = "it says no `url`", "Say its path as it is, or `{url: …, sha256: …}`."
        return None, [(section.node, section.key, what, hint)]
    wrong = list(url_image.out_of_place(section, "url"))
    for name in ("from", "file", "install", "user", "cloud_init", "format"):
        if name in section.at:
            what = f"`{name}` means nothing of what is served as it is"
            wrong.append((section.keys[name], f"{section.key}.{name}", what, "Leave it out."))
    image, more = url_image.downloaded(section, "raw")
    wrong += more
    if image is None or wrong:
        return None, wrong
    if image.checksum is None:
        return None, [(section.node, section.key, "its checksum is not said", "Say its `sha256` or `sha512`.")]
    kept = image.compression if "compression" in section.at else None  # iPXE and Linux unpack what is packed
    return replace(image, format="raw", compression=kept), []


def of_segment(section: Section, local: bool) -> Iterator[Complaint]:
    """Mistakes in what a segment serves."""
    about = section.values.get("netboot")
    if not isinstance(about, Section):
        return
    if not local:
        what = "`netboot` means nothing on a Proxmox VE: nothing of nestlab's is on its networks"
        hint = "Leave it out, and attach an ISO (`cdroms`), or run a DHCP and TFTP server in a machine of the lab."
        yield section.keys["netboot"], f"{section.key}.netboot", what, hint
        return
    sources = [name for name in _SOURCES if name in about.at]
    if len(sources) != 1:
        first = "it says neither `kernel`, `image` nor `files`"
        what = f"`{sources[0]}` and `{sources[1]}` exclude each other" if sources else first
        node = about.at[sources[1]] if sources else about.node
        yield node, f"{about.key}.{sources[1]}" if sources else about.key, what, "Say one of them."
        return
    for name, needs in _ONLY.items():
        if name in about.at and sources[0] not in needs:
            what = f"`{name}` means nothing with `{sources[0]}`"
            yield about.keys[name], f"{about.key}.{name}", what, f"It goes with `{'` or `'.join(needs)}`."
    yield from _of_files(about)


def _of_files(about: Section) -> Iterator[Complaint]:
    said = about.values
    for name in ("kernel", "initrd"):
        if isinstance(said.get(name), Section):
            yield from _downloaded(said[name])[1]
        elif name in said and (fault := _not_readable(said[name], kernel=name == "kernel")) is not None:
            yield about.at[name], f"{about.key}.{name}", *fault
    if "files" not in said:
        return
    folder = said["files"]
    if not Path(folder).is_dir():
        what = f"there is no folder {folder}"
        yield about.at["files"], f"{about.key}.files", what, "Paths are relative to the lab file that names them."
        return
    loaded = [name for name in ("bios", "uefi", "ipxe") if name in about.at]
    if not loaded:
        what = "it does not say what is loaded first"
        yield about.node, about.key, what, "Say `bios: pxelinux.0`, `uefi: bootnetx64.efi`, or `ipxe: boot.ipxe`."
    for name in loaded:
        if name in said and (fault := _not_inside(folder, said[name])) is not None:
            yield about.at[name], f"{about.key}.{name}", *fault


def _not_readable(path: str, *, kernel: bool) -> Fault | None:
    """Why a file cannot be served."""
    try:
        regular.check(Path(path))
        fine = is_kernel(Path(path)) or not kernel
    except FileNotFoundError:
        return f"there is no file {path}", "Paths are relative to the lab file that names them."
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{path} cannot be read: {reason}", "Name a file that is on a disk."
    if not fine:
        what = f"{path} is no Linux kernel for x86 (a bzImage)"
        return what, "Boot loaders, and systems other than Linux, are started by `files`."
    return None


def _not_inside(folder: str, name: str) -> Fault | None:
    root, path = Path(folder).resolve(), (Path(folder) / name).resolve()
    hidden = any(part.startswith(".") for part in name.split("/"))
    if not path.is_relative_to(root) or path == root or hidden:
        return f"{name} is not inside {folder}, or hidden there", "It is served by its path from there."
    fault = _not_readable(str(path), kernel=False)
    return None if fault is None else (fault[0], f"It is looked for in {folder}.")


def of_machines(segments: Section | None, machines: Iterable[Machine], uses: Sequence[Use]) -> Iterator[Complaint]:
    """Machines that could not boot from what their segments serve, and one that has the address that is served from."""
    serving = {name: about for name, about in segments.sections() if "netboot" in about.values} if segments else {}
    if not serving:
        return
    by_path = dict(_walk(machines, ""))
    fine = {path for path, machine in by_path.items() if _boots(machine, serving)}
    for use in uses:
        about = serving.get(use.link.segment)
        if about is None:
            continue
        if use.link.address and use.link.address == _server(about):
            node, key = use.place("address")
            what = f"{use.link.address} is the first address of {use.link.segment}, which its `netboot` answers from"
            yield node, key, what, "Choose another."
        machine = by_path.get(use.path)
        if machine is not None and use.path not in fine and (fault := _unfit(machine, use, about)) is not None:
            yield use.node, use.key, *fault


def _walk(machines: Iterable[Machine], outer: str) -> Iterator[tuple[str, Machine]]:
    for machine in machines:
        path = f"{outer}{machine.name}"
        yield path, machine
        yield from _walk(machine.machines, f"{path}/")


def _server(about: Section) -> str | None:
    cidr = about.values.get("cidr")
    return str(server_of(IPv4Network(cidr)).ip) if cidr else None


def _boots(machine: Machine, serving: Mapping[str, Section]) -> bool:
    """Whether it needs nothing of what is served, or gets it on some segment."""
    if not boots_by_network(machine):
        return True
    return any(
        link.segment not in serving or _why_not(machine, link.vlan, serving[link.segment]) is None
        for link in machine.links
    )


def _unfit(machine: Machine, use: Use, about: Section) -> Fault | None:
    return _why_not(machine, use.link.vlan, about)


def _why_not(machine: Machine, vlan: int | None, about: Section) -> Fault | None:
    """Why a machine does not boot from what a segment serves."""
    said = about.values["netboot"]
    if not isinstance(said, Section):
        return None
    served = netboot(said)
    assert served is not None
    if vlan is not None:
        what = f"it boots from the network, and on VLAN {vlan} nothing is served: `netboot` is for frames without a tag"
        return what, "Leave out `vlan`, or give it another segment to boot from."
    firmware = machine.hardware.firmware
    if firmware == "secure" and served.uefi is None:
        what = "it boots from the network with Secure Boot, and iPXE, which would start it, is not signed"
        return what, "Serve a signed loader: `netboot: {files: …, uefi: shimx64.efi}`; or say `firmware: uefi`."
    if not served.for_firmware(uefi=machine.hardware.uefi):
        name, key = ("UEFI", "uefi") if machine.hardware.uefi else ("BIOS", "bios")
        return f"it boots from the network by its {name}, and `netboot` serves nothing for that", f"Say `{key}:` there."
    return None
