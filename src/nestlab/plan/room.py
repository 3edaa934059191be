"""How much memory and how many CPUs a machine can have without a restart. Pure."""

from __future__ import annotations

from nestlab.base.frozen import frozen


@frozen
class Room:
    """What a running machine can become while it runs. Its memory: from the `memory` bytes that its start gave it to
    `more` above them, in steps of ROOM_STEP. Its CPUs: 1 to `cpus`, where it has `cores` in each of its sockets; 0:
    they stay as many as they are. `plugged`: it has the device already that its memory above `memory` is in. `asked`:
    the memory and CPUs that it was last asked to have while it ran; zeros: those of its start."""

    memory: int = 0
    more: int = 0
    cores: int = 0
    cpus: int = 0
    plugged: bool = False
    asked: tuple[int, int] = (0, 0)

    def takes(self, memory: int | None = None, cpus: int | None = None) -> bool:
        """Whether it can have so much; None: that stays as it is."""
        above = 0 if memory is None else memory - self.memory
        return (memory is None or (0 <= above <= self.more and above % ROOM_STEP == 0)) and (
            cpus is None or 1 <= cpus <= self.cpus
        )


ROOM_STEP = 2 << 20
"""Bytes: the block size of QEMU's virtio-mem, a huge page."""

NO_ROOM = Room()

ANY_SIZE = Room(0, 1 << 50, 1, 1 << 13)
"""A container's: its memory and CPUs are limits of a control group."""
