"""/agent: the guest agent of a machine, which answers once a test has booted one (`FakePve.boot_agent`)."""

from __future__ import annotations

import base64
from typing import Any

from nestlab.testing.fake_pve.endpoints.settings import ONE
from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import Agent, Value

BASE = f"{ONE}/agent"


def enabled(value: Value) -> bool:
    first = str(value).split(",")[0].removeprefix("enabled=")
    return first == "1"


def agent(ask: Ask) -> Agent:
    """The agent, or what PVE says without one; whether it is enabled was settled when the machine started."""
    guest = ask.guest()
    config = guest.machine if guest.running else guest.config
    if not enabled(config.get("agent", 0)):
        raise died("No QEMU guest agent configured")
    if not guest.running:
        raise died(f"VM {guest.vmid} is not running")
    if guest.agent is None:
        raise died("QEMU guest agent is not running")
    return guest.agent


@serve("POST", f"{BASE}/ping")
def ping(ask: Ask) -> Any:
    agent(ask).ping()
    return {"result": {}}


@serve("GET", f"{BASE}/get-osinfo")
def osinfo(ask: Ask) -> Any:
    agent(ask)
    return {"result": {"id": "debian", "name": "Debian GNU/Linux", "version-id": "13", "kernel-release": "6.12.0"}}


@serve("GET", f"{BASE}/get-host-name")
def host_name(ask: Ask) -> Any:
    agent(ask)
    return {"result": {"host-name": ask.guest().name}}


@serve("GET", f"{BASE}/info")
def info(ask: Ask) -> Any:
    agent(ask)
    return {"result": {"version": "10.0.3", "supported_commands": []}}


@serve("GET", f"{BASE}/get-fsinfo")
def fsinfo(ask: Ask) -> Any:
    agent(ask)
    return {"result": []}


@serve("GET", f"{BASE}/network-get-interfaces")
def interfaces(ask: Ask) -> Any:
    return {"result": agent(ask).cards()}


@serve("POST", f"{BASE}/exec")
def execute(ask: Ask) -> Any:
    """Run a command: an array, of which a single string with blanks is one program name."""
    found = agent(ask)
    command = ask["command"] if isinstance(ask["command"], list) else [ask["command"]]
    if not all(word.isascii() for word in command):  # PVE writes its JSON as characters, not as UTF-8 (QMPClient.pm)
        raise died(f"VM {ask.vmid} qga command 'guest-exec' failed - Wide character in syswrite")
    text = ask.get("input-data")
    return {"pid": found.execute(command, None if text is None else octets(str(text)))}


@serve("GET", f"{BASE}/exec-status")
def exec_status(ask: Ask) -> Any:
    return agent(ask).status(int(ask["pid"]))


@serve("GET", f"{BASE}/file-read")
def file_read(ask: Ask) -> Any:
    data = agent(ask).read(str(ask["file"]))
    return {"content": data.decode("latin-1"), "bytes-read": len(data)}


@serve("POST", f"{BASE}/file-write")
def file_write(ask: Ask) -> Any:
    """Write a file over whatever is there; `encode=0` says that the content is base64 already."""
    found = agent(ask)
    text = str(ask["content"])
    found.write(str(ask["file"]), octets(text) if ask.on("encode", True) else base64.b64decode(text))


def octets(text: str) -> bytes:
    """Perl's bytes of a text; encode_base64 dies of what is none."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise died("Wide character in subroutine entry at /usr/share/perl5/PVE/API2/Qemu/Agent.pm") from None


@serve("POST", f"{BASE}/set-user-password")
def password(ask: Ask) -> Any:
    agent(ask)
    return {"result": {}}


@serve("POST", f"{BASE}/shutdown")
def shutdown(ask: Ask) -> Any:
    agent(ask)
    return {"result": {}}
