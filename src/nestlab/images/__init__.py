"""Images: built from recipes, kept by digest in a cache folder, never booted or mounted to be made.

`build(recipe, cache, say)` makes an image or finds it made; `find`, `ls`, `rm` and `gc` look after the cache.
Recipes are in `nestlab.images.recipes`; what an image promises to the engines is in docs/images.md.
"""

from __future__ import annotations

from pathlib import Path

from nestlab.images.image_cache import BuiltImage, Part, find, ls, rm
from nestlab.images.recipes import Recipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nestlab.base.events import Say

__all__ = ["BuiltImage", "Part", "build", "find", "ls", "rm"]


async def build(recipe: Recipe, cache: Path, say: Say) -> BuiltImage:
    """The image of a recipe: at once if the cache has it, else made by mmdebstrap (about half a minute).

    Raises LabError, and leaves nothing behind, if mmdebstrap, the network, the disk or the user's rights do not
    suffice. Several processes may call it: one builds, the others wait for it.
    """
    found = find(recipe, cache)
    if found is not None:
        return found
    from nestlab.images.image_builder import make

    return await make(recipe, cache, say)
