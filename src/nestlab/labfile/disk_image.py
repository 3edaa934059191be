"""What a disk image is, by its name and first bytes."""

from __future__ import annotations

from pathlib import Path

from nestlab.base import regular
from nestlab.lab.model import MIB, SOURCE_LIMIT, SOURCES_LIMIT, Format, format_size, is_template
from nestlab.labfile.disk_header import QCOW2, Disk, Fault, examine

_ENDINGS: dict[str, Format] = {".qcow2": "qcow2", ".raw": "raw", ".iso": "iso"}


def size_of(path: str, form: Format | None) -> int:
    """Bytes of a disk as a guest sees it; 0 where there is none, or it cannot be read."""
    if form not in ("qcow2", "raw"):
        return 0
    try:
        found = examine(path, form)
    except (OSError, ValueError):
        return 0
    return found.size if isinstance(found, Disk) else 0


def of_disk(path: str, stated: Format | None, said: bool) -> Format | Fault | None:
    """As `of_file`, of a file that QEMU is to be given: it is refused where `disk_header` says so."""
    form = of_file(path, stated, said)
    if isinstance(form, tuple) or is_template(path):
        return form
    try:
        found = examine(path, form)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{path} cannot be read: {reason}", "Check who may read it (ls -l)."
    return found if isinstance(found, tuple) else form


def of_iso(path: str) -> Fault | None:
    """What is wrong with a file that is to be an ISO: its volume descriptor is looked at (ECMA-119, 8.1)."""
    form = of_disk(path, "iso", True)
    if isinstance(form, tuple):
        return form
    try:
        with Path(path).open("rb") as opened:
            opened.seek(16 * 2048)
            if opened.read(6)[1:] == b"CD001":
                return None
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}", "Check who may read it (ls -l)."
    return f"{path} is no ISO", "Its download may have broken off, or be a web page: get it again."


def size_of_source(path: str) -> int | Fault:
    """Bytes of a file that is to be copied, or what is wrong and what to do."""
    try:
        size = regular.check(Path(path)).st_size
        with regular.opened(Path(path)):
            pass  # it may be read
    except FileNotFoundError:
        return f"there is no file {path}", "Paths are relative to the lab file that names them."
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{path} cannot be read: {reason}", "Name a file that is on a disk."
    if size > SOURCE_LIMIT:
        what = f"{path} has {format_size(-(-size // MIB) * MIB)}, more than {format_size(SOURCE_LIMIT)}"
        return what, "Copy it when the machine is up: nestlab cp."
    return size


def too_many_bytes() -> Fault:
    """What is said where the files to copy are too large together."""
    return (
        f"the files to copy have more than {format_size(SOURCES_LIMIT)} up to here",
        "Copy large ones by `nestlab cp`.",
    )


def of_file(path: str, stated: Format | None, said: bool) -> Format | Fault | None:
    """The format of a disk file (None: a container template), or what is wrong and what to do. `said`: the format was
    stated, rightly or not."""
    file = Path(path)
    try:
        if file.is_dir():
            return f"{path} is a directory", "Name a file."
        if file.exists() and not (file.is_file() or file.is_block_device()):
            return f"{path} is neither a file nor a disk", "Name a file."
        if not file.is_block_device():
            regular.check(file)
        with file.open("rb") as opened:
            magic = opened.read(4)
    except FileNotFoundError:
        return f"there is no file {path}", "Paths are relative to the lab file that names them."
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{path} cannot be read: {reason}", "Check who may read it (ls -l)."
    if said:
        return stated or "raw"
    if is_template(path):
        return None
    ending = file.suffix.lower()
    if ending == ".img":
        return "qcow2" if magic == QCOW2 else "raw"
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    return f"the name of {file.name} does not tell what it is", "Add `format: qcow2`, `raw` or `iso`."
