"""A certificate for one installation's answer server, which the installer knows by its fingerprint alone."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from ipaddress import ip_address
from pathlib import Path

from nestlab.base.frozen import frozen

VALID = datetime.timedelta(days=30)
_EARLY = datetime.timedelta(days=365)
"""An installer's clock may be behind."""


@frozen
class Certificate:
    """`fingerprint`: SHA-256 of the certificate, as 32 pairs of upper-case hex digits with colons."""

    context: ssl.SSLContext
    fingerprint: str


def self_signed(address: str, folder: Path) -> Certificate:
    """A certificate for `address` with a key of its own, P-256. Both are in a file of `folder`, its owner's alone, only
    as long as it takes OpenSSL to read them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nestlab answer server")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    paper = folder / "answer-server.pem"
    paper.touch(mode=0o600)
    try:
        paper.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(paper)
    finally:
        paper.unlink()
    digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return Certificate(context, ":".join(digest[at : at + 2] for at in range(0, 64, 2)))
