"""PVE's web server on loopback: HTTPS with its own certificate, tickets, tokens, CSRF, formatters, bodies."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import re
import socket
import ssl
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nestlab.testing.fake_pve import consoles, forms
from nestlab.testing.fake_pve.refusals import Hangup, Refusal

if TYPE_CHECKING:
    from nestlab.testing.fake_pve.fake import FakePve

HTML = "<!DOCTYPE html>\n<html><head><title>Proxmox VE</title></head><body></body></html>\n"


def certificate(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """A key and a self-signed certificate for 127.0.0.1, as PEM; both in one, and the certificate as DER."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{names[0]}.lab.local")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName(item) for item in (*names, "localhost")]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([*alternatives, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + built.public_bytes(pem), built.public_bytes(serialization.Encoding.DER)


def fingerprint(der: bytes) -> str:
    """SHA-256 as PVE shows it: AA:BB:…"""
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())


class Server(ThreadingHTTPServer):
    """The listening socket; a connection's handshake happens in its own thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fake: FakePve) -> None:
        self.fake = fake
        self.open: set[socket.socket] = set()
        self.away = 0.0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        super().__init__(("127.0.0.1", 0), Handler)

    def certify(self, names: tuple[str, ...]) -> str:
        """Answer with a new certificate from now on; returns its fingerprint."""
        pem, der = certificate(names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pve.pem")
            file.touch(mode=0o600)
            file.write_bytes(pem)
            context.load_cert_chain(file)
        self.context = context
        return fingerprint(der)

    def restart(self, seconds: float) -> None:
        """All connections end, and none is taken for so many seconds."""
        self.away = time.monotonic() + seconds
        for each in list(self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return time.monotonic() >= self.away

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class Local(ThreadingHTTPServer):
    """pvedaemon's listening socket: at the loopback of the node, without TLS, for who is on the node."""

    daemon_threads = True

    def __init__(self, fake: FakePve, port: int = 0) -> None:
        self.fake = fake
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), LocalHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    trusted = False
    """It is with pvedaemon, which is root's and asks for no CSRF token (HTTPServer.pm: auth_handler)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server | Local
    timeout = 60

    def setup(self) -> None:
        raw = self.request
        raw.settimeout(20)
        if not isinstance(self.server, Server):
            self.server.open.add(self.request)
            return super().setup()
        if raw.recv(1, 2) == b"\x16":  # MSG_PEEK: the first byte of a TLS handshake
            self.request = self.server.context.wrap_socket(raw, server_side=True)
        else:
            self.close_connection = True
        self.server.open.add(self.request)
        return super().setup()

    def finish(self) -> None:
        self.server.open.discard(self.request)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.serve()

    do_POST = do_PUT = do_DELETE = do_GET

    def serve(self) -> None:
        if not self.trusted and not isinstance(self.request, ssl.SSLSocket):
            return self.send(301, "Moved Permanently", b"Moved Permanently", "text/plain")
        formatter = "json"
        try:
            match = re.match(r"/api2/([^/]+)(/.*)?$", urlsplit(self.path).path)
            if not match:
                return self.send(404, "Not Found", b"", "text/plain")
            formatter = match[1]
            path = (match[2] or "/").rstrip("/") or "/"
            data = self.answered(formatter, path)
            if path.endswith("/vncwebsocket") and self.headers.get("Upgrade", "").lower() == "websocket":
                return self.websocket()
            self.reply(formatter, data)
        except Refusal as refusal:
            self.refuse(formatter, refusal)
        except Hangup:
            self.close_connection = True
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    def answered(self, formatter: str, path: str) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length) if length else b""
        user = self.user(path)
        if formatter not in ("json", "extjs", "html"):
            raise Refusal(501, f"no formatter for uri {unquote(path)}, {formatter}")
        if formatter == "html":
            return None
        given, upload = self.parameters(path, data)
        return self.server.fake.ask(self.command, path, user, given, upload)

    def parameters(self, path: str, data: bytes) -> tuple[dict[str, Any], forms.Upload | None]:
        kind = self.headers.get("Content-Type") or ""
        query = forms.form(urlsplit(self.path).query)
        if self.command in ("GET", "DELETE"):
            if data or (self.command == "DELETE" and "Content-Length" in self.headers and kind):
                raise Refusal(501, f"Unexpected content for method '{self.command}'")
            return query, None
        if path.endswith("/upload") and "/storage/" in path:
            if not kind.startswith("multipart/form-data"):
                raise Hangup
            fields, upload = forms.multipart(kind, data)
            return {**fields, **({"filename": upload.filename} if upload else {})}, upload
        if len(data) > forms.LIMIT:
            raise Refusal(501, "for data too large")
        return {**query, **forms.body(kind, data)}, None

    def user(self, path: str) -> str:
        """Who asks: a token, or a ticket with its CSRF token where something would be changed."""
        if path == "/access/ticket" or path in ("/access/domains", "/access/openid/auth-url"):
            return ""
        access = self.server.fake.world.access
        header = self.headers.get("Authorization") or ""
        if header.startswith("PVEAPIToken"):
            found = access.token_user(unquote(header.removeprefix("PVEAPIToken")[1:]))
            if found is None:
                raise self.server.fake.unknown_user()
            return found
        cookie = re.search(r"(?:^|;\s*)PVEAuthCookie=([^;]*)", self.headers.get("Cookie") or "")
        ticket = unquote(cookie[1]) if cookie else header if header.startswith("PVE:") else ""
        ticket = ticket or unquote(header.removeprefix("PVEAuthCookie=")) if header.startswith("PVEAuth") else ticket
        if not ticket:
            raise Refusal(401, "No ticket")
        known = access.ticket_user(ticket)
        if known is None:
            raise self.server.fake.unknown_user()
        if self.command != "GET" and not self.trusted and self.headers.get("CSRFPreventionToken") != known[1]:
            raise Refusal(401, "Permission denied - invalid csrf token")
        return known[0]

    def websocket(self) -> None:
        """Speak the terminal's protocol on this connection until it ends."""
        console = self.server.fake.world.consoles[forms.form(urlsplit(self.path).query)["vncticket"]]
        key = consoles.accept(self.headers.get("Sec-WebSocket-Key", ""))
        head = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n"
        head += "Sec-WebSocket-Protocol: binary\r\n" if self.headers.get("Sec-WebSocket-Protocol") else ""
        self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\n{head}\r\n".encode())
        self.wfile.flush()
        self.close_connection = True
        console.show(self.rfile, self.wfile)

    def reply(self, formatter: str, data: Any) -> None:
        if formatter == "html":
            return self.send(200, "OK", HTML.encode(), "text/html")
        if isinstance(data, bytes):
            return self.send(200, "OK", data, "text/plain")
        content: dict[str, Any] = {"data": data}
        if formatter == "extjs":
            content["success"] = 1
        self.send(200, "OK", json.dumps(content).encode(), "application/json;charset=UTF-8")
        return None

    def refuse(self, formatter: str, refusal: Refusal) -> None:
        """The message in the reason phrase, up to its first line break, and in the body."""
        reason = refusal.message.split("\n")[0]
        if refusal.status == 401 and refusal.errors is None and refusal.message != "authentication failure":
            return self.send(401, reason, b"", "application/json")
        if 595 <= refusal.status <= 599:  # what the proxy to another node says has no body
            return self.send(refusal.status, reason, b"", "text/plain")
        plain = (
            "for data",
            "Unexpected",
            "no formatter",
            "malformed",
            "Not a HASH",
            "upload '",
            "wrong field",
            "Bad R",
        )
        if refusal.message.startswith(plain):
            return self.send(refusal.status, reason, refusal.message.encode(), "text/plain")
        end = "" if refusal.status == 501 or refusal.message.endswith("\n") else "\n"
        content: dict[str, Any] = {"data": None, "message": refusal.message + end}
        if refusal.errors is not None:
            content["errors"] = refusal.errors
        status = refusal.status
        if formatter == "extjs":
            content.update(success=0, status=status)
            status, reason = 200, "OK"
        self.send(status, reason, json.dumps(content).encode(), "application/json;charset=UTF-8")
        return None

    def send(self, status: int, reason: str, content: bytes, kind: str) -> None:
        line = f"HTTP/1.1 {status} {reason}\r\n".encode("utf-8", "replace")
        head = f"Server: pve-api-daemon/3.0\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        if self.close_connection:
            head += "Connection: close\r\n"
        self.wfile.write(line + head.encode() + b"\r\n" + content)
        self.wfile.flush()


class LocalHandler(Handler):
    """A connection with pvedaemon."""

    trusted = True
