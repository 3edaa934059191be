"""/nodes/{node}/tasks: following, reading and stopping workers."""

from __future__ import annotations

import re
from typing import Any

from nestlab.testing.fake_pve.refusals import wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task, shown

UPID = re.compile(r"UPID:([a-zA-Z0-9\-]+):[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:\s]+:[^:\s]*:([^:\s]+):$")
BASE = "/nodes/{node}/tasks/{upid}"


def mine(ask: Ask, privilege: str) -> Task | None:
    """The task, if it is on this node; of others' tasks only for who has the privilege on the node."""
    match = UPID.match(ask["upid"])
    if not match:
        raise wrong("upid", "unable to parse worker upid")
    if not owner(ask, match[2]):
        ask.need(f"/nodes/{ask.node}", privilege)
    return next((task for task in ask.tasks.all if task.upid == ask["upid"] and task.node == ask.node), None)


def owner(ask: Ask, user: str) -> bool:
    """A task belongs to who started it; a user's tokens' tasks are the user's too."""
    return user == ask.user or user.partition("!")[0] == ask.user


@serve("GET", f"{BASE}/status")
def status(ask: Ask) -> Any:
    task = mine(ask, "Sys.Audit")
    if task is None:
        raise wrong("upid", "no such task")
    if task.status is None:
        return {**shown(task), "status": "running"}
    return {**shown(task), "status": "stopped", "exitstatus": task.status}


@serve("GET", f"{BASE}/log")
def log(ask: Ask) -> Any:
    task = mine(ask, "Sys.Audit")
    if task is None:
        return [{"n": 1, "t": "unable to open file - No such file or directory"}]
    if ask.on("download"):
        return "".join(f"{line}\n" for line in task.log).encode()
    start, limit = int(ask.get("start") or 0), int(ask.get("limit", 50))
    lines = task.log[start : start + limit] if limit else task.log[start:]
    rows = [{"n": start + number, "t": line} for number, line in enumerate(lines, 1)]
    return rows or [{"n": start + 1, "t": "no content"}]


@serve("DELETE", BASE)
def stop(ask: Ask) -> Any:
    task = mine(ask, "Sys.Modify")
    if task is not None and task.status is None:
        ask.tasks.stop(task)


def listed(task: Task) -> dict[str, Any]:
    row = shown(task)
    if task.status is not None:
        row.update(endtime=task.endtime, status=task.status)
    return row


def kind_of(task: Task) -> str:
    status = task.status or ""
    return "ok" if status == "OK" else "warning" if status.startswith("WARNINGS") else "error"


@serve("GET", "/nodes/{node}/tasks")
def tasks(ask: Ask) -> Any:
    """The node's tasks, newest first: ended ones, or those that run (`source=active`)."""
    everything = ask.has(f"/nodes/{ask.node}", "Sys.Audit")
    source = ask.get("source", "archive")
    found = []
    for task in reversed(ask.tasks.all):
        ended = task.status is not None
        if task.node != ask.node or not (everything or owner(ask, task.user)):
            continue
        if (source == "active" and ended) or (source == "archive" and not ended):
            continue
        wanted = str(ask.get("statusfilter") or "")
        tests = (
            ask.get("vmid") is None or task.id == str(ask.vmid),
            not ask.get("typefilter") or task.kind == ask["typefilter"],
            not ask.get("userfilter") or ask["userfilter"] in task.user,
            not ask.on("errors") or kind_of(task) == "error",
            not wanted or kind_of(task) in re.split("[,;]", wanted),
            ask.get("since") is None or task.starttime >= int(ask["since"]),
            ask.get("until") is None or task.starttime <= int(ask["until"]),
        )
        if all(tests):
            found.append(listed(task) | ({} if ended else {"saved": "0", "status": "RUNNING"}))
    start, limit = int(ask.get("start") or 0), int(ask.get("limit", 50))
    return found[start : start + limit]


@serve("GET", "/cluster/tasks")
def cluster_tasks(ask: Ask) -> Any:
    rows = [task for task in reversed(ask.tasks.all) if ask.has("/", "Sys.Audit") or owner(ask, task.user)]
    return [
        {key: value for key, value in listed(task).items() if key not in ("pid", "pstart")} | {"saved": "1"}
        for task in rows[:25]
    ]
