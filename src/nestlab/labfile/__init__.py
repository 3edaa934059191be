"""The lab file: YAML text -> `Lab`, or every mistake at once with its place.

`fields` is the one table of what a lab file may say: `read` checks by it, and the JSON Schema (`schema`) and the
reference (`reference`) are generated from it. The way of a file: `compose` (YAML with places, variables, anchors) ->
`load` (includes) -> `overrides` (`--set`) -> `read` (types) -> `to_lab` (defaults, memory, images) -> `network` (what
must fit together on a segment) -> `Lab`. `render` goes back.
"""

from nestlab.labfile.parse import check, parse, parse_text
from nestlab.labfile.render import render

__all__ = ["check", "parse", "parse_text", "render"]
