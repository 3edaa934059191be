"""Ed25519 key pairs for ssh, in the forms that OpenSSH and dropbear read.

By `cryptography` (which asyncssh brings), whose Ed25519 alone costs a fifteenth of importing asyncssh.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import field

from nestlab.base.frozen import frozen


@frozen
class KeyPair:
    """`private`: OpenSSH's private key file. `public`: its line for authorized_keys and known_hosts, without newline.
    `dropbear`: dropbear's file of a host key."""

    private: str = field(repr=False)
    public: str
    dropbear: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)


@frozen
class RsaPair:
    """As in KeyPair."""

    private: str = field(repr=False)
    public: str


def generate(comment: str) -> KeyPair:
    """A new key pair. The comment must be one line."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return _pair(key.private_bytes_raw(), key.public_key().public_bytes_raw(), comment)


def generate_rsa(bits: int, comment: str) -> RsaPair:
    """A new RSA key pair, for what knows no other. The comment must be one line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if "\n" in comment:
        raise ValueError("the comment of a key is one line")
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return RsaPair(private.decode(), f"{public.decode()} {comment}".rstrip())


def generate_pem(bits: int) -> str:
    """A new private RSA key as OpenSSL writes it (PKCS#8, PEM)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def fingerprint(public: str) -> str:
    """SHA256:… of a public key line, as ssh-keygen -l shows it. ValueError if it is not one."""
    words = public.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        raise ValueError("not a public key line") from None
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_of(private: str) -> str:
    """The public key line, without a comment, in OpenSSH's file of a private key. ValueError if it is not one
    (PROTOCOL.key of OpenSSH: after the names of no cipher and the number of keys stands the public key)."""
    data = base64.b64decode("".join(line for line in private.splitlines() if "-" not in line), validate=True)
    head = _MAGIC + _string(b"none") + _string(b"none") + _string(b"") + b"\0\0\0\1"
    blob = _string(_TYPE)
    size = len(blob) + 4 + 32
    found = data[len(head) + 4 : len(head) + 4 + size]
    if not data.startswith(head + size.to_bytes(4, "big") + blob) or len(found) != size:
        raise ValueError("not a private key of Ed25519 without a passphrase")
    return f"{_TYPE.decode()} {base64.b64encode(found).decode()}"


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
