"""termproxy, vncproxy and the websocket behind them."""

from __future__ import annotations

import secrets
import time
from typing import Any

from nestlab.testing.fake_pve.consoles import Console
from nestlab.testing.fake_pve.endpoints.settings import ONE
from nestlab.testing.fake_pve.refusals import Refusal
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.screens import Screen
from nestlab.testing.fake_pve.world import Guest

CT = "/nodes/{node}/lxc/{vmid}"


def console(ask: Ask) -> dict[str, Any]:
    """A ticket and a port, for the websocket of the same guest, user and node."""
    guest = ask.guest()
    upid = ask.worker("vncproxy", guest.vmid, lambda task: None)
    ticket = f"PVEVNC:{int(time.time()):08X}::{secrets.token_urlsafe(48)}"
    ask.world.consoles[ticket] = made = Console(guest.vmid, ask.user, ticket)
    if why := unfit(ask, guest):
        made.greeting, made.over = f"{why}\r\n".encode(), True
    return {"user": ask.user, "ticket": ticket, "port": "5900", "upid": upid}


def unfit(ask: Ask, guest: Guest) -> str:
    """What `qm terminal` says on the terminal when it cannot show a serial port: the request itself succeeds."""
    serial = str(ask.get("serial") or "")
    config = guest.machine if guest.running else guest.config
    if guest.kind == "qemu" and serial and not config.get(serial):
        return f"serial interface '{serial}' is not configured"
    if guest.kind == "qemu" and not any(config.get(f"serial{number}") == "socket" for number in range(4)):
        return "unable to find a serial interface"
    return "" if guest.running else f"VM {guest.vmid} not running"


@serve("POST", f"{ONE}/vncproxy")
def vncproxy(ask: Ask) -> Any:
    found = {**console(ask), "cert": "-----BEGIN CERTIFICATE-----\n"}
    given = ask.on("generate-password") or not ask.on("websocket")
    password = secrets.token_hex(4) if given else found["ticket"][:8]
    guest = ask.guest()
    if guest.running and not str((guest.machine or guest.config).get("vga", "")).startswith("serial"):
        waiting = ask.world.consoles[found["ticket"]]
        screen = Screen(waiting.vmid, waiting.user, waiting.ticket, password=password, picture=guest.screen)
        ask.world.consoles[found["ticket"]] = screen
    return {**found, "password": password} if given else found


@serve("POST", f"{ONE}/termproxy", "/nodes/{node}/lxc/{vmid}/termproxy")
def termproxy(ask: Ask) -> Any:
    return console(ask)


@serve("GET", f"{ONE}/vncwebsocket", f"{CT}/vncwebsocket")
def websocket(ask: Ask) -> Any:
    """The port of a ticket; 401 for one that was not given for this guest and user, or too long ago."""
    found = ask.world.consoles.get(ask["vncticket"])
    if found is None or (found.vmid, found.user) != (ask.vmid, ask.user) or not found.valid:
        raise Refusal(401, "permission denied - invalid PVEVNC ticket")
    return {"port": str(ask["port"])}
