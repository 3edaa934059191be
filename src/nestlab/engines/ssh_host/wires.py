"""The switch of a lab on a host that ssh reaches: it runs there, and is started, asked and ended through ssh."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu.environment import Wires
from nestlab.engines.ssh_host.uploads import Uploads
from nestlab.hosts.host import Host
from nestlab.lab.faults import Impairment
from nestlab.network.netboot_offer import Offer, to_json
from nestlab.network.switch import CONTROL, socket_name
from nestlab.network.switch_control import PATH_LIMIT
from nestlab.wire import shapes

_SERVED = shapes.table(shapes.text)

THERE = '[ -S "$1/$2" ] && echo there; :'


@frozen
class RemoteWires(Wires):
    """See `Wires`. `directory`: there."""

    uploads: Uploads

    async def ensure(self, segments: Iterable[str], host: Host, vlans: Mapping[str, Collection[int]]) -> None:
        names = list(segments)
        tagged = {name: sorted(numbers) for name, numbers in vlans.items()}
        for name in names:
            words = ("", "trunk", "4094") if name in tagged else ("",)
            longest = max(len(f"{self.directory}/{socket_name(name, word)}".encode()) for word in words)
            if longest > PATH_LIMIT:
                what = f"The socket of segment {name} in {self.directory} on {self.uploads.host.address} would have"
                hint = "Give the segment a shorter name, or set NESTLAB_HOME there to a shorter path."
                raise LabError(f"{what} {longest} bytes of path, of which Linux takes {PATH_LIMIT}.", hint=hint)
        await self.uploads.ask("ensure", segments=names, vlans=tagged)

    async def impair(self, rules: Mapping[str, Mapping[str, Impairment]]) -> None:
        told = {
            name: {mac: [each.delay, each.jitter, each.loss, each.rate] for mac, each in cards.items()}
            for name, cards in rules.items()
        }
        await self.uploads.ask("impair", rules=told)

    async def serve(self, segment: str, offer: Offer | None, host: Host, say: Say) -> None:
        """See `Wires.serve`. Its files are sent there first, once, as those of images are."""
        if offer is None:
            if await self._there():
                await self.uploads.ask("withdraw", segment=segment)
            return
        files = {name: await self.uploads.file(Path(path), say) for name, path in offer.files.items()}
        await self.uploads.ask("serve", offer=to_json(replace(offer, files=files)))

    async def served(self) -> Mapping[str, str]:
        if not await self._there():
            return {}
        return _SERVED(await self.uploads.ask("served"))

    async def remove(self, segment: str) -> None:
        if await self._there():
            await self.uploads.ask("remove", segments=[segment])

    async def observe(self) -> frozenset[str]:
        return frozenset(map(str, await self.uploads.ask("observe"))) if await self._there() else frozenset()

    async def _there(self) -> bool:
        """Whether a switch is there, or was."""
        asked = ("sh", "-c", THERE, "there", self.uploads.place.switch, CONTROL)
        return "there" in (await self.uploads.host.run(asked)).text


def wires(uploads: Uploads) -> RemoteWires:
    """The wires of a uploads's lab, after `look`."""
    return RemoteWires(uploads.name, Path(uploads.place.switch), uploads)
