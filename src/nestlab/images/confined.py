"""Becomes another program, within bounds, which ends with whoever started it: for what reads files from elsewhere.

It is run as a file, without nestlab: `python -I -S confined.py MEMORY FILE PROGRAM WORD…`. MEMORY is in bytes of
address space, FILE in bytes of the largest file that it may write (setrlimit(2)).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
"""linux/prctl.h: a signal when the parent is gone; it stays over exec."""


def main(words: list[str]) -> None:
    memory, largest, *argv = words
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    bounds = {resource.RLIMIT_AS: int(memory), resource.RLIMIT_FSIZE: int(largest), resource.RLIMIT_CORE: 0}
    for what, most in bounds.items():
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails, and the program says so
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1:])
