"""Whether a machine is up, by a screen that no longer changes. Pure.

What is shown before a system runs stands still too: nothing, QEMU's own notice, a firmware, a boot loader's menu. So
does what is shown after its end. None of them counts. What nestlab cannot read (a picture, other fonts) counts,
whatever it is: that a screen stands still does not prove that it shows what somebody wants to see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nestlab.base.picture import Picture, alike
from nestlab.explain import screen

FIRMWARE = re.compile(
    r"SeaBIOS \(version|^iPXE|^Machine UUID|^Press ESC for boot menu|^Booting from |^Boot failed|BdsDxe: |"
    r">>\s*Start (PXE|HTTP)|^Press any key to (boot from|enter the Boot Manager)|^(GRUB|LILO)? ?[Ll]oading\b|"
    r"^(SYS|ISO|PXE)LINUX |^boot:$|^Decompressing Linux|not initialized the display"
)
"""The last line of what stands there before a system shows something."""

MENU = re.compile(r"\bGNU GRUB\b|\bUEFI Interactive Shell\b|\bWindows Boot Manager\b|\bBoot Manager Menu\b")
"""Anywhere on the screen of a boot loader that waits for somebody."""

CLOCK = 50.0
"""Seconds in which a place as small as a cursor may change once more beside its blinking, as a clock does each minute.
What does so more often is something that turns or counts."""


def early(picture: Picture) -> bool:
    """Whether this is no system's: an empty screen, a firmware's, a boot loader's."""
    blank = Picture(picture.width, picture.height, picture.pixels[-3:] * (picture.width * picture.height))
    if alike(picture, blank):
        return True
    lines = [line.strip() for line in screen.text(picture) if line.strip()]
    return bool(lines) and bool(FIRMWARE.search(lines[-1]) or MENU.search("\n".join(lines)))


@dataclass
class Stillness:
    """Of one screen, as it is looked at again and again; `seconds`: how long it stays as it is."""

    seconds: float
    changes: int = 0
    """Times that it showed something new, the first look among them."""
    _shown: Picture | None = None
    _small: set[str] = field(default_factory=set)
    """All that it was since then: it differs by what a cursor covers."""
    _since: float = 0.0

    def look(self, picture: Picture, now: float) -> bool:
        """Whether it has stood still for its time, by `now`, in seconds of any clock."""
        if self._shown is not None and alike(self._shown, picture):
            self._small.add(picture.digest)
            if len(self._small) <= 2 + (now - self._since) / CLOCK:
                return now - self._since >= self.seconds and not early(picture) and not screen.end(picture)
        self._shown, self._since, self._small = picture, now, {picture.digest}
        self.changes += 1
        return False

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return min(5.0, max(0.2, self.seconds / 6))
