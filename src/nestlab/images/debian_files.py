"""A few files out of Debian's packages, kept in the cache: each set is unpacked once, and nothing else of it stays."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.home.cache import making
from nestlab.images.mmdebstrap import disk_errors
from nestlab.images.qemu_runtime import SUITE, unpack

_LAYOUT = 1


@frozen
class DebianFiles:
    """A set of files. `place`: its folder of the cache. `what`: it is called in errors. `names`: its files, which end
    up in one folder; `folders`: where the packages have them, below /usr, searched in order."""

    place: str
    what: str
    packages: tuple[str, ...]
    names: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def digest(self) -> str:
        """16 hex digits over what it is made of."""
        text = json.dumps([_LAYOUT, SUITE, self.packages, self.names])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    async def get(self, cache: Path, say: Say) -> Path:
        """The folder with the files, from the cache or unpacked into it. LabError, which names the packages, where that
        cannot be; several processes may call it."""
        folder = cache / self.place / self.digest
        if not self._whole(folder):
            try:
                with disk_errors(self.what, cache):
                    async with making(folder, say, self.what) as partial:
                        if partial is not None:
                            await unpack(partial, self.packages, self.what, say)
                            self._keep(partial)
            except LabError as error:
                raise LabError(error.what, hint=f"{error.hint} Or {self._remedy}.", detail=error.detail) from error
        if not self._whole(folder):
            raise LabError(f"{self.what} in {folder} cannot be read.", hint="Remove that folder, then repeat.")
        return folder

    @property
    def _remedy(self) -> str:
        return f"install the package{'s' * (len(self.packages) > 1)} {' and '.join(self.packages)}"

    def _whole(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name in self.names)

    def _keep(self, folder: Path) -> None:
        """The files out of the packages, and nothing else of these. LabError where one is not in them."""
        places = [folder / "usr" / each for each in self.folders]
        for name in self.names:
            found = next((place / name for place in places if (place / name).is_file()), None)
            if found is None:
                hint = f"{self._remedy[0].upper()}{self._remedy[1:]} instead."
                raise LabError(f"{self.what}: {name} is in none of Debian's packages.", hint=hint)
            shutil.copyfile(found, folder / name)
            (folder / name).chmod(0o755)
        for rest in folder.iterdir():
            if rest.is_dir() and not rest.is_symlink():
                shutil.rmtree(rest)
            elif rest.name not in self.names:
                rest.unlink()
