"""A small HTTP(S) server on loopback that serves files, breaks off, resumes, redirects, lies and is slow, as told."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Thing:
    """What is at a path. `cuts`: bytes after which the next answers break off; `etag`: "" for none; `ranges`: parts may
    be asked for; `claims`: the length that is said instead; `leads`: a redirect; `pause`: seconds between pieces."""

    body: bytes = b""
    kind: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    etag: str = '"one"'
    ranges: bool = True
    claims: int | None = None
    leads: str = ""
    status: int = 200
    pause: float = 0.0
    piece: int = 1 << 16


@dataclass
class Served:
    """What the server has, and what it was asked: path, and the `Range` of each request."""

    url: str
    things: dict[str, Thing] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def put(self, path: str, body: bytes = b"", **how: object) -> str:
        self.things[path] = Thing(body, **how)  # type: ignore[arg-type]
        return self.url + path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, wanted = self.path.partition("?")[0], self.headers.get("Range", "")
        self.served.asked.append((path, wanted))
        self.served.headers.append(dict(self.headers.items()))
        thing = self.served.things.get(path, Thing(b"no", status=404))
        begin = self._begin(thing, wanted)
        body = thing.body[begin:]
        self.send_response(206 if begin else thing.status)
        if thing.leads:
            self.send_header("Location", thing.leads)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(thing.body) - 1}/{len(thing.body)}")
        if thing.etag:
            self.send_header("ETag", thing.etag)
        self.send_header("Content-Type", thing.kind)
        self.send_header("Content-Length", str(len(body) if thing.claims is None else thing.claims))
        self.end_headers()
        cut = thing.cuts.pop(0) if thing.cuts else len(body)
        with contextlib.suppress(OSError):
            for at in range(0, min(cut, len(body)), thing.piece):
                self.wfile.write(body[at : min(at + thing.piece, cut)])
                time.sleep(thing.pause)
        if cut < len(body) or thing.claims is not None:
            self.close_connection = True

    def _begin(self, thing: Thing, wanted: str) -> int:
        if not wanted or not thing.ranges or self.headers.get("If-Range") != thing.etag:
            return 0
        begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return begin if begin < len(thing.body) else 0


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Served]:
    """A server for as long as the block runs."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    served = Served(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}")
    handler.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a certificate of its own for 127.0.0.1, and the file with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    place = folder / "ca.pem"
    place.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = folder / "ca.key"
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(pem, form, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place, secret)
    return context, place
