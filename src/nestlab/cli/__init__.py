"""The command line: parses, prints and exits. Everything else is in `nestlab.session` and below."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The program `nestlab`."""
    for stream in (sys.stdout, sys.stderr):
        # A locale that cannot show a letter must not end nestlab.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:
        os._exit(130)


def _main(words: list[str]) -> None:
    from nestlab.cli import glance

    if "_NESTLAB_COMPLETE" not in os.environ and glance.wanted(words):
        from nestlab.cli.guard import reporting

        status = [0]
        with reporting(status, debug=False):
            glance.read(words)
            sys.stdout.flush()
        raise SystemExit(status[0])
    from nestlab.cli.app import app

    app()
