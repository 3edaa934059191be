"""Hypervisors that nestlab boots and does not work in: one file each, found by being here and having a `FOREIGN`.

Adding one is adding a file. Pure.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nestlab.kinds.foreign.recipe import Foreign, Vendor, Wish

__all__ = ["Foreign", "Vendor", "Wish", "foreign"]


@cache
def foreign() -> Mapping[str, Foreign]:
    """Every one, by name, in the order of the names."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [recipe for module in modules if isinstance(recipe := getattr(module, "FOREIGN", None), Foreign)]
    return MappingProxyType({recipe.name: recipe for recipe in sorted(found, key=lambda recipe: recipe.name)})
