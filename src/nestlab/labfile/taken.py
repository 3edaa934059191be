"""What a lab file takes from this computer for its machines, from outside of its own folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from nestlab.lab.model import Lab, Taken

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
"""What is in the name of a variable that holds a secret."""


def taken(lab: Lab, named: Mapping[str, str], variables: Mapping[str, str], folder: Path) -> Iterator[Taken]:
    """`named`: the files that lab files name, with their keys; `variables`: those of the environment that they use,
    with theirs. Only what machines get counts. What is hidden in the folder, and what a link leads to, is outside."""
    given = set(_given(lab))
    for path, key in named.items():
        if (path in given or key.endswith("cloud_init")) and not _inside(path, folder):
            yield Taken(path + "/" * Path(path).is_dir(), key, _private(path))
    for name, key in variables.items():
        if key.partition(".")[0] not in _OURS:
            yield Taken(f"${name}", key, _SECRET.search(name) is not None)


_OURS = ("lab", "on", "patience", "include")
"""Keys of the lab file whose values no machine is told."""


def _given(lab: Lab) -> Iterator[str]:
    """The files that machines get."""
    for netboot in (segment.netboot for segment in lab.segments if segment.netboot is not None):
        yield from (path for path in (netboot.kernel, netboot.initrd, netboot.files) if path is not None)
    for placed in lab.walk():
        image, setup = placed.machine.image, placed.machine.setup
        if image.file is not None:
            yield image.file
        yield from (disk.file for disk in placed.machine.disks if disk.file is not None)
        yield from (each for each in placed.machine.cdroms if isinstance(each, str))
        for file in (*image.files, *(setup.files if setup else ())):
            if file.source is not None:
                yield file.source


def _inside(path: str, folder: Path) -> bool:
    """Whether it is in the folder, with its links resolved, and not hidden there as ~/.ssh is."""
    root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    if root == Path("/") or not real.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in real.relative_to(root).parts)


def _private(path: str) -> bool:
    """Whether its mode lets only some users read it. Of what is in a folder nobody knows."""
    try:
        mode = Path(path).stat().st_mode
        return stat.S_ISDIR(mode) or not mode & stat.S_IROTH
    except OSError:
        return True
