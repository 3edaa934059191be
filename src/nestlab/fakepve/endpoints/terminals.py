"""termproxy, vncproxy and the websocket behind them."""

from __future__ import annotations

import secrets
import time
from typing import Any

from nestlab.fakepve.endpoints.settings import ONE
from nestlab.fakepve.refusals import Refusal
from nestlab.fakepve.routes import Ask, serve

CT = "/nodes/{node}/lxc/{vmid}"


def console(ask: Ask) -> dict[str, Any]:
    """A ticket and a port, for the websocket of the same guest, user and node."""
    guest = ask.guest()
    upid = ask.worker("vncproxy", guest.vmid, lambda task: None)
    ticket = f"PVEVNC:{int(time.time()):08X}::{secrets.token_urlsafe(48)}"
    ask.world.consoles[ticket] = (guest.vmid, ask.user)
    return {"user": ask.user, "ticket": ticket, "port": "5900", "upid": upid}


@serve("POST", f"{ONE}/vncproxy")
def vncproxy(ask: Ask) -> Any:
    found = {**console(ask), "cert": "-----BEGIN CERTIFICATE-----\n"}
    return {**found, "password": "fakefake"} if ask.on("generate-password") or not ask.on("websocket") else found


@serve("POST", f"{ONE}/termproxy", "/nodes/{node}/lxc/{vmid}/termproxy")
def termproxy(ask: Ask) -> Any:
    return console(ask)


@serve("GET", f"{ONE}/vncwebsocket", f"{CT}/vncwebsocket")
def websocket(ask: Ask) -> Any:
    """What a client of the websocket has to say first; 401 for a ticket that was not given for this guest and user."""
    if ask.world.consoles.get(ask["vncticket"]) != (ask.vmid, ask.user):
        raise Refusal(401, "permission denied - invalid PVEVNC ticket")
    return f"{ask.user}:{ask['vncticket']}"
