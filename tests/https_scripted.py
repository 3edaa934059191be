"""A small HTTPS server on loopback that answers as it is told, and remembers what it was sent byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """As pveproxy writes it: the reason phrase says what is wrong, and the connection ends after an error."""

    status: int = 200
    reason: str = "OK"
    body: bytes = b'{"data":null}'


class Hangup(Exception):
    """Close the connection without an answer."""


def data(value: Any) -> Answer:
    return Answer(body=json.dumps({"data": value}).encode())


def refuse(status: int, message: str, errors: dict[str, str] | None = None) -> Answer:
    content: dict[str, Any] = {"data": None, "message": message + "\n"}
    if errors:
        content["errors"] = errors
    return Answer(status, message.split("\n")[0], b"" if status == 401 else json.dumps(content).encode())


Reply = Callable[[Asked], "Answer | asyncio.Future[Answer]"]


@dataclass
class Server:
    port: int
    fingerprint: str
    certificate: Path
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    received: int = 0
    """Bytes that came through TLS."""
    most: int = 0
    """Requests at one time."""
    renew: Callable[[Path], None] = lambda _: None
    """From now on show the certificate in this file to new connections."""
    _now: int = 0


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, str]:
    """A new self-signed certificate with its key, as one PEM file, and its fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=9))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}-{made.serial_number:x}.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return path, ":".join(digest[at : at + 2] for at in range(0, 64, 2))


@contextlib.asynccontextmanager
async def serving(reply: Reply, folder: Path) -> AsyncIterator[Server]:
    """Serve on a free port."""
    path, fingerprint = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = Server(0, fingerprint, path, renew=context.load_cert_chain)
    writers: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, Hangup):
            while await _one(server, reply, reader, writer):
                pass
        writer.transport.abort() if writer.transport.is_closing() else writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def _one(server: Server, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and its answer; whether another may follow."""
    head = await reader.readuntil(b"\r\n\r\n")
    server.received += len(head)
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    server.received += len(body)
    asked = Asked(method, target, headers, body)
    server.asked.append(asked)
    server._now += 1
    server.most = max(server.most, server._now)
    try:
        answer = reply(asked)
        if not isinstance(answer, Answer):
            answer = await answer
    finally:
        server._now -= 1
    close = answer.status >= 400
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", f"Content-Length: {len(answer.body)}"]
    lines += ["Connection: close"] if close else []
    writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
    await writer.drain()
    return not close
