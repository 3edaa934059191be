"""Private keys that the user's OpenSSH would log in with: from the agent, and from files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base import patience

if TYPE_CHECKING:
    import asyncssh

DEFAULT = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")


@dataclass
class Keys:
    """Keys to offer, in the order in which ssh offers them.

    `names` are for people, one per key; `locked` are files with a passphrase whose keys the agent does not have;
    `bad` says of files why they are no use."""

    pairs: list[asyncssh.SSHKeyPair] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    agent: asyncssh.SSHAgentClient | None = None

    def close(self) -> None:
        """Let go of the agent: nothing can be signed with its keys any more."""
        if self.agent is not None:
            self.agent.close()


@dataclass
class _File:
    """A file of a key: what it has, and the public key that it is about, if that is known."""

    path: Path
    pairs: Sequence[asyncssh.SSHKeyPair] = ()
    public: bytes = b""
    locked: bool = False
    bad: str = ""


async def gather(
    identities: Sequence[Path] | None, certificates: Sequence[Path], agent: str | None, *, only: bool
) -> Keys:
    """The keys: `identities` (None: the default ones), and those of the agent whose socket is `agent`; with `only`
    (IdentitiesOnly) of the agent's no others than `identities`. What is missing or cannot be read is left out."""
    paths = [Path.home() / ".ssh" / name for name in DEFAULT] if identities is None else identities
    files = [file for file in await asyncio.to_thread(_load, paths, certificates) if file]
    keys = Keys(bad=[file.bad for file in files if file.bad])
    if agent:
        await _ask_agent(keys, agent)
    wanted = {file.public for file in files if file.public}
    held = {pair.key_public_data for pair in keys.pairs}
    first = [pair for pair in keys.pairs if pair.key_public_data in wanted]
    others = [] if only else [pair for pair in keys.pairs if pair.key_public_data not in wanted]
    keys.pairs = first + others
    keys.names = [f"{_comment(pair)} (agent) {fingerprint(pair.key_public_data)}" for pair in keys.pairs]
    for file in files:
        if file.locked and file.public not in held:
            keys.locked.append(file.path)
        for pair in file.pairs:
            if pair.has_cert or pair.key_public_data not in held:
                keys.pairs.append(pair)
                keys.names.append(f"{file.path} {fingerprint(pair.key_public_data)}")
    keys.names = list(dict.fromkeys(keys.names))
    return keys


def fingerprint(public: bytes) -> str:
    """Of a public key, as ssh prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")


async def _ask_agent(keys: Keys, path: str) -> None:
    """Add the agent's keys; an agent that does not answer has none."""
    import asyncssh

    try:
        async with asyncio.timeout(patience.allowed(10)):
            keys.agent = await asyncssh.connect_agent(path)
            keys.pairs = list(await keys.agent.get_keys())
    except (OSError, ValueError) as error:
        keys.bad.append(f"The ssh agent at {path} does not answer: {error}.")


def _load(paths: Sequence[Path], certificates: Sequence[Path]) -> list[_File | None]:
    return [_load_one(path, [str(each) for each in certificates if os.access(each, os.R_OK)]) for path in paths]


def _load_one(path: Path, certificates: list[str]) -> _File | None:
    import asyncssh

    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return _File(path, public=public) if (public := _public(path)) else None
    except OSError as error:
        return _File(path, bad=f"The key {path} cannot be read: {error.strerror}.")
    public = _public(path)
    if b"PRIVATE KEY" not in text:
        return _File(path, public=public)
    try:
        pairs = asyncssh.load_keypairs(str(path), certlist=certificates)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        if "passphrase" in str(error).lower():
            return _File(path, public=public, locked=True)
        return _File(path, public=public, bad=f"The key {path} cannot be used: {error}.")
    except (OSError, ValueError) as error:  # of a certificate
        return _File(path, public=public, bad=f"The key {path} cannot be used: {error}.")
    return _File(path, pairs, pairs[0].key_public_data if pairs else public)


def _public(path: Path) -> bytes:
    """The public key beside a private one, or in the file itself; empty if there is none."""
    import asyncssh

    for each in (path.with_name(path.name + ".pub"), path):
        try:
            return asyncssh.read_public_key(each).public_data
        except (OSError, ValueError):
            continue
    return b""


def _comment(pair: asyncssh.SSHKeyPair) -> str:
    return (pair.get_comment_bytes() or b"a key").decode(errors="replace")
