"""Directories of nestlab: a state directory with one directory per lab, and a cache that may be deleted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.files import make_folder, sync_folder
from nestlab.base.frozen import frozen
from nestlab.lab.model import LAB_NAME_LIMIT, NAME

SOCKET_LIMIT = 107
"""Bytes of a unix socket's path: sockaddr_un.sun_path has 108 with the final NUL (unix(7))."""

SOCKET_NAME = "console.sock"
"""The longest name that a socket in a machine's directory may have."""


@frozen
class LabHome:
    """One lab's directory, 0700. What is in it cannot be asked of the world."""

    name: str
    root: Path

    @property
    def blueprint(self) -> Path:
        """The blueprint that was applied last, done or not (see `store`)."""
        return self.root / "lab.json"

    @property
    def applied(self) -> Path:
        """The blueprint that was last applied to its end: what the next plan is compared with."""
        return self.root / "applied.json"

    @property
    def former_names(self) -> Path:
        """What the lab was called before, once it was renamed (see `former_names`)."""
        return self.root / "former-names.json"

    @property
    def rename(self) -> Path:
        """What the lab was about to be called when a rename was interrupted (see `former_names`)."""
        return self.root / "rename.json"

    @property
    def leases(self) -> Path:
        return self.root / "leases.json"

    @property
    def key(self) -> Path:
        """The private key (0600) that all machines of the lab let in; the public one is beside it (`.pub`)."""
        return self.root / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        """How OpenSSH reaches the lab's machines, once `nestlab ssh-config` was asked."""
        return self.root / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The pinned host keys of the machines in `ssh_config`."""
        return self.root / "known_hosts"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def speeds(self) -> Path:
        """How slow the lab's hosts were when they were measured (see `speeds`)."""
        return self.root / "speeds.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def machines(self) -> Path:
        return self.root / "m"

    def machine(self, path: str) -> Path:
        """The directory of a machine on the lab's host: 8 hex digits, so that socket paths stay short."""
        return self.machines / hashlib.sha256(path.encode()).hexdigest()[:8]


@frozen
class Home:
    """`state`: what must not be lost. `cache`: images, packages and programs, all of which can be made again."""

    state: Path
    cache: Path

    @staticmethod
    def of(environ: Mapping[str, str], user: Path) -> Home:
        """NESTLAB_HOME and NESTLAB_CACHE, else the XDG base directories (absolute ones only, as their specification
        says), else ~/.local/state and ~/.cache. `user` is the home directory."""

        def place(own: str, xdg: str, default: str) -> Path:
            if environ.get(own):
                return Path(environ[own]).absolute()
            base = Path(environ.get(xdg, ""))
            return (base if base.is_absolute() else user / default) / "nestlab"

        return Home(
            place("NESTLAB_HOME", "XDG_STATE_HOME", ".local/state"),
            place("NESTLAB_CACHE", "XDG_CACHE_HOME", ".cache"),
        )

    def join(self) -> None:
        """Make this home known to the cache, whose images its labs stand on. LabError when that cannot be written."""
        link = self.cache / "homes" / hashlib.sha256(os.fsencode(self.state)).hexdigest()[:16]
        if os.path.lexists(link):
            return
        try:
            make_folder(link.parent)
            for other in link.parent.iterdir():
                if not other.exists():
                    other.unlink(missing_ok=True)  # its home is gone
            link.symlink_to(self.state)
            sync_folder(link.parent)
        except FileExistsError:
            return
        except OSError as error:
            hint = "Set NESTLAB_CACHE to a directory that you can write."
            raise LabError(f"{link} cannot be made: {error.strerror}.", hint=hint) from error

    def joined(self) -> list[Home]:
        """This home, and the others that use its cache and are still there."""
        try:
            links = sorted((self.cache / "homes").iterdir())
        except (FileNotFoundError, NotADirectoryError):
            links = []
        others = {Path(os.readlink(link)) for link in links if link.is_symlink() and link.exists()}  # noqa: PTH115
        return [self, *(Home(state, self.cache) for state in sorted(others - {self.state}))]

    def labs(self) -> list[str]:
        """The names of the labs that have a directory here, in order."""
        try:
            found = [entry.name for entry in os.scandir(self.state / "labs") if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unusable(self.state / "labs", error) from error
        return sorted(name for name in found if NAME.fullmatch(name))

    def lab(self, name: str) -> LabHome:
        """A lab's directory, made if it is not there. LabError if it is another user's, cannot be made, or lies so
        deep that its sockets could not be opened."""
        home = self.existing(name) or LabHome(name, self.state / "labs" / name)
        check_socket(home.machine("") / SOCKET_NAME)
        try:
            make_folder(home.root)
        except OSError as error:
            raise _unusable(home.root, error) from error
        return _owned(home)

    def existing(self, name: str) -> LabHome | None:
        """A lab's directory, or None. LabError if it is another user's or the name is not one of a lab."""
        if not NAME.fullmatch(name) or len(name) > LAB_NAME_LIMIT:
            hint = f"A lab's name has at most {LAB_NAME_LIMIT} of a-z, 0-9 and -, and starts with a letter."
            raise LabError(f"{name!r} is not the name of a lab.", hint=hint)
        home = LabHome(name, self.state / "labs" / name)
        return _owned(home) if os.path.lexists(home.root) else None


def check_socket(path: Path) -> Path:
    """The path itself. LabError when it is too long for a unix socket."""
    length = len(os.fsencode(path))
    if length > SOCKET_LIMIT:
        what = f"The path of a socket would have {length} bytes, and Linux allows {SOCKET_LIMIT}: {path}"
        raise LabError(what, hint="Set NESTLAB_HOME to a directory with a shorter path.")
    return path


def _owned(home: LabHome) -> LabHome:
    try:
        status = home.root.stat()
        if status.st_uid == os.geteuid() and status.st_mode & 0o077:
            home.root.chmod(0o700)
    except OSError as error:
        raise _unusable(home.root, error) from error
    if status.st_uid != os.geteuid():
        what = f"Lab {home.name} in {home.root} belongs to user {status.st_uid}, and this is user {os.geteuid()}."
        raise LabError(what, hint="Run nestlab as that user, or set NESTLAB_HOME to a directory of your own.")
    return home


def _unusable(path: Path, error: OSError) -> LabError:
    hint = "Set NESTLAB_HOME to a directory that you can write."
    return LabError(f"{path} cannot be used: {error.strerror}.", hint=hint)
