"""What a disk image is, by its name and first bytes."""

from __future__ import annotations

from pathlib import Path

from nestlab.lab.model import Format, is_template

_ENDINGS: dict[str, Format] = {".qcow2": "qcow2", ".raw": "raw", ".iso": "iso"}
_QCOW2_MAGIC = b"QFI\xfb"
"""docs/interop/qcow2.rst of QEMU: the header begins with it."""


def size_of(path: str, form: Format | None) -> int:
    """Bytes of a disk as a guest sees it; 0 where there is none, or it cannot be read. Of qcow2 they stand at offset
    24 of the header."""
    try:
        with Path(path).open("rb") as opened:
            header = opened.read(32)
            if form == "qcow2":
                return int.from_bytes(header[24:32]) if header[:4] == _QCOW2_MAGIC else 0
            return opened.seek(0, 2) if form == "raw" else 0
    except OSError:
        return 0


def of_file(path: str, stated: Format | None, said: bool) -> Format | tuple[str, str] | None:
    """The format of a disk file (None: a container template), or what is wrong and what to do. `said`: the format was
    stated, rightly or not."""
    file = Path(path)
    try:
        if file.is_dir():
            return f"{path} is a directory", "Name a file."
        if file.exists() and not (file.is_file() or file.is_block_device()):
            return f"{path} is neither a file nor a disk", "Name a file."
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
        return "qcow2" if magic == _QCOW2_MAGIC else "raw"
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    return f"the name of {file.name} does not tell what it is", "Add `format: qcow2`, `raw` or `iso`."
