"""The site: where labs are kept, on which host, and how engines are made there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines import Inside
from nestlab.home.directories import Home, LabHome
from nestlab.home.paths import Place
from nestlab.hosts.host import Host
from nestlab.images import package_names, system_packages
from nestlab.lab.places import On, called
from nestlab.verbs.platform import LocalPlatform, Platform


@frozen
class Site:
    """Where labs are: directories, the host, and how engines are made there (`on`) and inside hypervisors (`inside`,
    by kind). `needs`: what building images lacks here. `elsewhere`: how another place becomes the platform of a lab.
    `names`: asks a mirror for the names of its packages; None: only what the cache has of them is known."""

    home: Home
    host: Callable[[], Host]
    on: Inside
    inside: Mapping[str, Inside]
    needs: Callable[[], tuple[system_packages.Need, ...]] = system_packages.look
    elsewhere: Callable[[LabHome, On, bool], Platform] | None = None
    names: package_names.Fetch | None = None

    def platform(self, place: LabHome, on: On | None, *, named: bool = False) -> Platform:
        """The platform of a lab's outermost machines; the caller closes it. `named`: its address is the user's, and
        not only a lab file's."""
        if on is None:
            return LocalPlatform(self.host(), self.on, self.home.cache, Place(str(place.root)))
        if self.elsewhere is None:
            raise LabError(f"Lab {place.name} is on {called(on)}.", hint="Only labs on this machine can be made here.")
        return self.elsewhere(place, on, named)
