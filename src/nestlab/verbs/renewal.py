"""What is renewed of a machine that was restored, before anybody gets it: see docs/forks.md, the register of all that a
copy must not share with what it was made from."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.hosts.ssh import SshHost
from nestlab.lab.faults import Faults
from nestlab.lab.snapshots import Manifest
from nestlab.verbs import memory_nonce
from nestlab.verbs.session import Session

RENEW = (
    memory_nonce.WHERE
    + r"""
[ -w / ] || ! command -v sudo >/dev/null || exec sudo -n sh -c "$0" "$0" "$@"
date -s "@$1" >/dev/null 2>&1; echo "clock $(date +%s)"
cat >/dev/urandom && echo seeded
reseed='open(F, ">", "/dev/urandom") && ioctl(F, 0x5207, 0) && print "reseeded\n"'
perl -e "$reseed" 2>/dev/null || python3 -c '
import fcntl
with open("/dev/urandom", "wb") as file:
    fcntl.ioctl(file, 0x5207)
print("reseeded")' 2>/dev/null
place && echo "nonce $(cat "$at/nestlab-nonce" 2>/dev/null)"
exit 0
"""
)
"""In a machine, with its own text as $0; random bytes on stdin. Argument: seconds since the epoch. Sets its clock,
stirs the bytes into what its kernel makes random numbers from, has it use them at once (RNDRESEEDCRNG of
linux/random.h, where there is a program that can ask for it), and prints what it found."""

ANSWER = 60.0
"""Nominal seconds in which a machine does that."""

FRESH = 512
"""Random bytes that each machine gets."""


@frozen
class Renewed:
    """`clock`: seconds by which its clock is off by its own word; None: not set. `random`: `reseeded`, or `seeded`
    where its kernel takes what it was given within a minute, or "". `went_on`: the number in its memory was there;
    None: it had none. `why`: why nothing is known."""

    clock: int | None = None
    random: str = ""
    went_on: bool | None = None
    why: str = ""


async def renew(session: Session, paths: Sequence[str], manifest: Manifest) -> Mapping[str, Renewed]:
    """Renew these machines, those that nestlab logs in to."""
    known = session.blueprint.by_path()
    wanted = [path for path in paths if path in known and known[path].machine.by_ssh]
    done = await asyncio.gather(*(_one(session, path, manifest.nonces) for path in wanted))
    return dict(zip(wanted, done, strict=True))


async def _one(session: Session, path: str, nonces: Mapping[str, str]) -> Renewed:
    shift = _shift(session.faults, path)
    try:
        host = await session.nest.host(path)
        if isinstance(host, SshHost):
            await host.connect()  # which takes its time
        now = round(time.time()) + shift
        argv = ("sh", "-c", RENEW, RENEW, str(now))
        done = await host.run(argv, input=secrets.token_bytes(FRESH), check=False, timeout=ANSWER)
    except (LabError, OSError) as error:
        return Renewed(why=error.what if isinstance(error, LabError) else str(error))
    return read(done.text, now, nonces.get(path, ""))


def read(said: str, now: int, nonce: str) -> Renewed:
    """What RENEW printed. `nonce`: the SHA-256 of the number that its memory must have."""
    clock = re.search(r"^clock ([0-9]{1,12})$", said, re.MULTILINE)
    words = said.split()
    random = "reseeded" if "reseeded" in words else "seeded" if "seeded" in words else ""
    found = re.search(r"^nonce ([0-9a-f]{32})$", said, re.MULTILINE)
    went_on = None
    if nonce:
        digest = hashlib.sha256(found[1].encode()).hexdigest() if found else ""
        went_on = secrets.compare_digest(digest, nonce)
    return Renewed(int(clock[1]) - now if clock else None, random, went_on)


def _shift(faults: Faults, path: str) -> int:
    """How far ahead the user wants its clock."""
    return next((each.shift for each in faults if each.kind == "clock" and each.path == path), 0)
