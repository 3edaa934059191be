"""A hypervisor of the user's own choice, of which nothing is known."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign

FOREIGN = Foreign(name="other", title="a hypervisor of your own choice", look="as its manual says")
