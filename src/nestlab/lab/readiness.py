"""How it is known that a machine is up: the `ready:` of a lab file. Pure."""

from __future__ import annotations

from typing import Literal, get_args

from nestlab.base.frozen import frozen

By = Literal["ssh", "agent", "port", "console", "screen", "none"]
BYS: tuple[str, ...] = get_args(By)

STILL, LONGEST_STILL = 30, 120
"""Nominal seconds that a screen stays as it is, if nothing else is said; and at most, which is less than a machine that
shows no other life is waited for (`engines.qemu.wait`)."""


@frozen
class Ready:
    """`ssh`: it takes a login with the lab's key, and nestlab works in it. By everything else nestlab never logs in.

    `agent`: its QEMU guest agent answers. `port`: it takes TCP connections there, at the address that it is given by
    DHCP on its first card. `console`: its serial console shows `pattern` (see `console_pattern`). `screen`: its screen
    has stayed as it is for `still` nominal seconds, and shows neither nothing, nor firmware, nor a known end (see
    `explain.stillness`). `none`: nothing is expected of it.
    """

    by: By = "ssh"
    port: int | None = None
    pattern: str | None = None
    still: int | None = None

    @property
    def said(self) -> str:
        """As the lab file says it: `ready: {port: 3389}`."""
        if self.by == "port":
            return f"ready: {{port: {self.port}}}"
        if self.by == "screen":
            return "ready: {screen: still}" if self.still == STILL else f"ready: {{screen: still, for: {self.still}s}}"
        return "ready: {console: …}" if self.by == "console" else f"ready: {self.by}"

    @property
    def awaited(self) -> str:
        """What is waited for: `its port 3389`."""
        return {
            "ssh": "ssh",
            "agent": "its guest agent",
            "port": f"its port {self.port}",
            "console": f"its console to show {self.pattern}",
            "screen": f"its screen to stand still for {self.still} s",
            "none": "its QEMU",
        }[self.by]

    @property
    def seen(self) -> str:
        """What was seen of a machine that is up, with its subject."""
        return {
            "ssh": "it answers over ssh",
            "agent": "its guest agent answers",
            "port": f"it takes connections on port {self.port}",
            "console": f"its console showed {self.pattern}",
            "screen": f"its screen stood still for {self.still} s",
            "none": "its QEMU runs it",
        }[self.by]

    @property
    def unseen(self) -> str:
        """The same of one that is not."""
        return {
            "ssh": "it does not answer over ssh",
            "agent": "its guest agent does not answer",
            "port": f"nothing takes connections on its port {self.port}",
            "console": f"its console has not shown {self.pattern}",
            "screen": f"its screen has not stood still for {self.still} s with more on it than firmware shows",
            "none": "its QEMU does not answer",
        }[self.by]
