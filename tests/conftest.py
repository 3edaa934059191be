"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell's background jobs ignore Ctrl-C, and so would everything that tests start and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
