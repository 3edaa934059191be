"""/agent: the guest agent of a machine, which answers once a test has booted one (`FakePve.boot_agent`)."""

from __future__ import annotations

import base64
from typing import Any

from nestlab.fakepve.endpoints.settings import ONE
from nestlab.fakepve.refusals import died
from nestlab.fakepve.routes import Ask, serve
from nestlab.fakepve.world import Agent, Value

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
    agent(ask)
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
    return {"result": agent(ask).interfaces}


@serve("POST", f"{BASE}/exec")
def execute(ask: Ask) -> Any:
    """Run a command: an array, of which a single string with blanks is one program name."""
    found = agent(ask)
    command = ask["command"] if isinstance(ask["command"], list) else [ask["command"]]
    text = str(ask.get("input-data") or "")
    found.ran.append((command, text))
    code, out, err = found.commands.get(command[0], (127, "", f"{command[0]}: command not found\n"))
    if command[0] not in found.commands and "" in found.commands:
        code, out, err = found.commands[""]
    if code == 127 and command[0] not in found.commands:
        problem = f"VM {ask.vmid} qga command 'guest-exec' failed - Failed to execute child process \"{command[0]}\""
        raise died(f"{problem} (No such file or directory)")
    pid = 1000 + len(found.ran)
    row: dict[str, Any] = {"exited": 1, "exitcode": code}
    found.waiting[pid] = row | ({"out-data": out} if out else {}) | ({"err-data": err} if err else {})
    return {"pid": pid}


@serve("GET", f"{BASE}/exec-status")
def exec_status(ask: Ask) -> Any:
    """The result of a command, once: after it was told it is forgotten."""
    found = agent(ask)
    pid = int(ask["pid"])
    if pid not in found.waiting:
        raise died(f"VM {ask.vmid} qga command 'guest-exec-status' failed - PID {pid} does not exist")
    return found.waiting.pop(pid)


@serve("GET", f"{BASE}/file-read")
def file_read(ask: Ask) -> Any:
    found = agent(ask)
    if ask["file"] not in found.files:
        problem = (
            f"VM {ask.vmid} qga command 'guest-file-open' failed - failed to open file '{ask['file']}' (mode: 'r')"
        )
        raise died(f"{problem}: No such file or directory")
    data = found.files[ask["file"]]
    return {"content": data.decode("latin-1"), "bytes-read": len(data)}


@serve("POST", f"{BASE}/file-write")
def file_write(ask: Ask) -> Any:
    """Write a file over whatever is there; `encode=0` says that the content is base64 already."""
    found = agent(ask)
    text = str(ask["content"])
    found.files[ask["file"]] = text.encode() if ask.on("encode", True) else base64.b64decode(text)


@serve("POST", f"{BASE}/set-user-password")
def password(ask: Ask) -> Any:
    agent(ask)
    return {"result": {}}


@serve("POST", f"{BASE}/shutdown")
def shutdown(ask: Ask) -> Any:
    agent(ask)
    return {"result": {}}
