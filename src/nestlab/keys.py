"""Ed25519 key pairs for ssh, in the forms that OpenSSH and dropbear read.

By `cryptography` (which asyncssh brings), whose Ed25519 alone costs a fifteenth of importing asyncssh.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeyPair:
    """`private`: OpenSSH's private key file. `public`: its line for authorized_keys and known_hosts, without newline.
    `dropbear`: dropbear's file of a host key."""

    private: str = field(repr=False)
    public: str
    dropbear: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)


def generate(comment: str) -> KeyPair:
    """A new key pair. The comment must be one line."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return _pair(key.private_bytes_raw(), key.public_key().public_bytes_raw(), comment)


def read(private: str) -> KeyPair:
    """The pair whose OpenSSH private key file (ed25519, without passphrase) this is. ValueError if it is not one."""
    lines = private.strip().splitlines()
    if not lines or lines[0] != _BEGIN or lines[-1] != _END:
        raise ValueError("not an OpenSSH private key")
    data = base64.b64decode("".join(lines[1:-1]))
    if not data.startswith(_MAGIC + _string(b"none") + _string(b"none") + _string(b"") + b"\0\0\0\1"):
        raise ValueError("not one OpenSSH private key without passphrase")
    _, rest = _take(data[len(_MAGIC) + 20 :])
    secret, _ = _take(rest)
    kind, rest = _take(secret[8:])
    if kind != _TYPE or secret[:4] != secret[4:8]:
        raise ValueError("not an ed25519 private key")
    public, rest = _take(rest)
    both, rest = _take(rest)
    comment, _ = _take(rest)
    if len(public) != 32 or len(both) != 64 or both[32:] != public:
        raise ValueError("a damaged ed25519 private key")
    return _pair(both[:32], public, comment.decode())


def fingerprint(public: str) -> str:
    """SHA256:… of a public key line, as ssh-keygen -l shows it. ValueError if it is not one."""
    words = public.split()
    if len(words) < 2:
        raise ValueError("not a public key line")
    digest = hashlib.sha256(base64.b64decode(words[1], validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


_TYPE = b"ssh-ed25519"
_MAGIC = b"openssh-key-v1\0"
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"


def _pair(seed: bytes, public: bytes, comment: str) -> KeyPair:
    if "\n" in comment:
        raise ValueError("the comment of a key is one line")
    blob = _string(_TYPE) + _string(public)
    # The two equal words tell a right passphrase from a wrong one (openssh PROTOCOL.key); there is none here.
    check = os.urandom(4)
    secret = check * 2 + blob + _string(seed + public) + _string(comment.encode())
    secret += bytes(range(1, 1 + -len(secret) % 8))
    data = _MAGIC + _string(b"none") + _string(b"none") + _string(b"") + b"\0\0\0\1" + _string(blob) + _string(secret)
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return KeyPair(
        private="\n".join([_BEGIN, *lines, _END, ""]),
        public=" ".join([_TYPE.decode(), base64.b64encode(blob).decode(), comment]).rstrip(),
        dropbear=_string(_TYPE) + _string(seed + public),
    )


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The string at the start of `data`, and what follows it."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("a truncated key")
    return data[4 : 4 + size], data[4 + size :]
