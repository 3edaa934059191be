"""Trust in a Proxmox VE's certificate: its SHA-256 fingerprint is stated, or a CA file has signed it.

There is no third way. What a node shows is compared on each new connection, before anything is sent on it.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.frozen import frozen

TIMEOUT = 10.0

COMPARE = (
    "Compare it, on the node: `openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem` "
    "(pveproxy-ssl.pem there, if that file exists)"
)


@frozen
class Trust:
    """`pins`: fingerprints, one of which the certificate must have. `ca`: a file of certificates, one of which must
    have signed it (for the host's name). With both, a pin decides."""

    pins: tuple[bytes, ...] = ()
    ca: Path | None = None

    @staticmethod
    def of(fingerprints: str = "", ca: str = "") -> Trust:
        """From what people write: fingerprints as `AB:CD:…` (as PVE and openssl show them) or without colons, several
        with commas or spaces between. LabError if one is none, or is not SHA-256."""
        pins = tuple(parse(each) for each in re.split(r"[\s,]+", fingerprints.strip()) if each)
        return Trust(pins, Path(ca).expanduser() if ca else None)

    def context(self) -> ssl.SSLContext:
        """For a CA file. LabError if it cannot be used.

        X.509's strict rules stay off (Python 3.13 has them on): PVE's own root, /etc/pve/pve-root-ca.pem, has no key
        usage extension and would be refused."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=self.ca)
        except OSError as error:  # SSLError too
            what = f"The CA file {self.ca} cannot be used: {error.strerror or error}."
            raise LabError(what, hint="Copy /etc/pve/pve-root-ca.pem from a node; it is a PEM file.") from error
        return context


def parse(fingerprint: str) -> bytes:
    """The digest that a fingerprint shows."""
    text = fingerprint.strip().lower().removeprefix("sha256:").removeprefix("sha256").lstrip("=: ").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        what = f"{fingerprint!r} is not a SHA-256 fingerprint: 32 pairs of hexadecimal digits."
        raise LabError(what, hint=f"{COMPARE}.")
    return bytes.fromhex(text)


def show(digest: bytes) -> str:
    """As PVE and openssl show it: `AB:CD:…`."""
    return digest.hex(":").upper()


async def seen(host: str, port: int) -> bytes:
    """The fingerprint of the certificate that is shown there now; nothing is sent. Unreachable if nobody is there."""
    import asyncio

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(patience.allowed(TIMEOUT)):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except (OSError, TimeoutError) as error:
        what = f"Proxmox VE on {host}:{port} does not answer: {str(error) or 'no answer in time'}."
        raise Unreachable(what, hint=f"See whether https://{host}:{port} opens in a browser.") from error
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return hashlib.sha256(certificate).digest()


def unstated(host: str, port: int, digest: bytes) -> LabError:
    """The error when neither a fingerprint nor a CA file is stated."""
    what = f"Nothing says which certificate {host}:{port} should have. It shows the one with the fingerprint\n  "
    return LabError(what + show(digest), hint=f"{COMPARE}; if it is the same, {_state(digest)}")


def mismatch(host: str, port: int, digest: bytes, pins: tuple[bytes, ...]) -> LabError:
    """The error when another certificate is shown than the one that is stated."""
    stated = " or ".join(map(show, pins))
    what = f"{host}:{port} shows another certificate than it should; nothing was sent to it."
    detail = f"shown:  {show(digest)}\nstated: {stated}"
    hint = f"Somebody may be in between; or it was renewed. {COMPARE}; if it is the one shown, {_state(digest)}"
    return LabError(what, hint=hint, detail=detail)


def unsigned(host: str, port: int, ca: Path, reason: str) -> LabError:
    """The error when the CA file did not sign the certificate that is shown."""
    what = f"The certificate of {host}:{port} is not one that {ca} vouches for: {reason}."
    hint = "Use a name that is in the certificate, the cluster's /etc/pve/pve-root-ca.pem, or a fingerprint"
    return LabError(what, hint=f"{hint}: NESTLAB_PVE_FINGERPRINT. {COMPARE}.")


def _state(digest: bytes) -> str:
    return (
        "`nestlab pve trust` keeps it, or set "
        f"NESTLAB_PVE_FINGERPRINT={show(digest)}. Or set NESTLAB_PVE_CA to a copy of the cluster's "
        "/etc/pve/pve-root-ca.pem (or of the public authorities, if its certificate is from one)."
    )
