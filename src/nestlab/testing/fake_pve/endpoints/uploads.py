"""Uploads to a storage, and downloads by the node, which has no network here."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints.stores import ONE
from nestlab.testing.fake_pve.forms import Upload, cleaned
from nestlab.testing.fake_pve.refusals import died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Storage, Volume, new_uuid

FOLDERS = {"iso": "template/iso", "vztmpl": "template/cache", "import": "import"}
ENDINGS = {"iso": r"\.(iso|img)$", "vztmpl": r"\.tar\.(gz|xz|zst|bz2)$", "import": r"\.(ova|ovf|qcow2|raw|vmdk)$"}
FORMATS = {"img": "iso", "zst": "tzst", "gz": "tgz", "xz": "txz"}
KEPT = 64 << 20
"""Bytes up to which an upload's content is kept for tests to read."""


def target(ask: Ask, filename: str) -> tuple[Storage, str]:
    """The storage and the file's name there, checked as before any task."""
    kind, name = ask["content"], cleaned(filename)
    if not re.search(ENDINGS[kind], name, re.IGNORECASE):
        raise wrong("filename", "invalid filename or wrong extension" if kind == "import" else "wrong file extension")
    store = ask.world.storage(ask["storage"])
    if kind not in store.contents():
        raise died(f"storage '{store.name}' does not support '{kind}' content")
    return disks.usable(ask.world, store.name, ask.node), name


@serve("POST", f"{ONE}/upload")
def upload(ask: Ask) -> Any:
    """Take a file in: a task of the node that was asked, whichever node it is for, checks its sum and its format."""
    file = ask.upload or Upload(str(ask.get("filename", "")), b"")
    store, name = target(ask, file.filename)

    def work(task: Task) -> None:
        stored(ask, task, store, name, file)

    return ask.tasks.start(ask.world.entry, "imgcopy", "", ask.user, work)


def stored(ask: Ask, task: Task, store: Storage, name: str, file: Upload) -> None:
    kind, temporary = ask["content"], f"/var/tmp/pveupload-{new_uuid().replace('-', '')}"
    path = f"{store.path}/{FOLDERS[kind]}/{name}"
    task.say(f"starting file import from: {temporary}")
    if algorithm := ask.get("checksum-algorithm"):
        got = hashlib.new(algorithm, file.data).hexdigest()
        task.say("calculating checksum...")
        if got != str(ask.get("checksum", "")).lower():
            raise died(f"checksum mismatch: got '{got}' != expect '{ask.get('checksum')}'")
        task.log[-1] += "OK, checksum verified"
    size = measured(kind, name, file, temporary)
    task.say(f"target node: {ask.node}", f"target file: {path}", f"file size is: {len(file.data)}")
    task.say(f"command: cp -- {temporary} {path}")
    if ask.world.used(store.name, ask.node) + len(file.data) > store.total:
        raise died(f"import failed: command 'cp -- {temporary} {path}' failed: exit code 1")
    task.work()
    ending = name.rpartition(".")[2].lower()
    ask.world.keep(
        Volume(
            f"{store.name}:{kind}/{name}", store.name, "" if store.shared else ask.node, kind,
            FORMATS.get(ending, ending), size if kind == "import" else len(file.data), path, used=len(file.data),
            sha256=hashlib.sha256(file.data).hexdigest(), data=file.data if len(file.data) <= KEPT else b"",
            file=ask.world.iron.keep(file.data) if ask.world.iron else "",
        )
    )  # fmt: skip
    task.say("finished file import successfully")


def measured(kind: str, name: str, file: Upload, temporary: str) -> int:
    """The virtual size of a disk image; what cannot be one is refused in qemu-img's words."""
    data = file.data
    if kind != "import" or name.endswith(".raw"):
        return len(data)
    start = f"qemu-img: Could not open '{temporary}'"
    if name.endswith(".qcow2"):
        if data[:4] != b"QFI\xfb":
            raise died(f"{start}: Image is not in qcow2 format")
        return int.from_bytes(data[24:32], "big")
    if name.endswith(".vmdk") and data[:4] not in (b"KDMV", b"# Di"):
        raise died(f"{start}: invalid VMDK image descriptor")
    if name.endswith(".ova") and data[257:262] != b"ustar":
        raise died(f"command 'tar -t -f {temporary}' failed: exit code 2")
    return len(data)


@serve("POST", f"{ONE}/download-url")
def download(ask: Ask) -> Any:
    """Everything but the syntax is found out in the task. The fake fetches nothing."""
    store, name = target(ask, ask["filename"])
    path = f"{store.path}/{FOLDERS[ask['content']]}/{name}"
    host = re.sub(r"^\w+://([^/]*).*$", r"\1", ask["url"])

    def work(task: Task) -> None:
        task.say(f"downloading {ask['url']} to {path}")
        if ask.world.volume(f"{store.name}:{ask['content']}/{name}", ask.node):
            raise died(f"refusing to override existing file '{path}'")
        task.work()
        if re.fullmatch(r"[\d.]+(:\d+)?", host):
            there = host if ":" in host else f"{host}:80"
            raise died(f"download failed: Connecting to {there}... failed: No route to host.")
        raise died(f"download failed: wget: unable to resolve host address '{host}'")

    return ask.worker("download", name, work)
