"""A guest that counts, by which a test sees that it goes on where it was."""

from __future__ import annotations

from collections.abc import Callable

BEGIN = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done >/dev/null 2>&1 </dev/null & echo begun"
"""What has a guest count, in its shell."""

READ = ("cat", "/tmp/n")


def number(asked: Callable[[], str]) -> int:
    """Where it is, as READ says in it. The file is empty for an instant whenever it is written: then it is read
    again."""
    while not (said := asked().strip()):
        pass
    return int(said)
