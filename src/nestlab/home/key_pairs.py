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


def fingerprint(public: str) -> str:
    """SHA256:… of a public key line, as ssh-keygen -l shows it. ValueError if it is not one."""
    words = public.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        raise ValueError("not a public key line") from None
    digest = hashlib.sha256(blob).digest()
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
