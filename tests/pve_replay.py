"""The recorded cluster set up in the fake, with what its recorder did between requests without recording it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from nestlab.testing.fake_pve import FakePve, Guest, Storage
from nestlab.testing.fake_pve.access import Token, User
from nestlab.testing.fake_pve.endpoints.drives import bytes_of, drives, split
from nestlab.testing.fake_pve.world import Sdn, Volume, World, guest_digest
from pve_recorded_cluster import CONTAINER, DISK, FIRST, LIMITED, MACHINE, MIB, NOT_FIRST, TEMPLATE
from pve_recordings import Answer, Recorded, ask, compared, guest_path, recorded

GONE = ("Configuration file '", "unable to find configuration file")
"""What a message begins with when the guest of the request was not there."""


def linked(replay: Replay) -> None:
    replay.present("pve1", "qemu", 173)
    replay.present("pve1", "qemu", 174)
    for volume in replay.world.volumes.values():
        if volume.vmid == 174:
            volume.parent = "local:173/base-173-disk-0.qcow2"


def options(vmid: int, **changes: Any) -> Callable[[Replay], None]:
    """A step that changes a guest's configuration; None takes an option away."""

    def step(replay: Replay) -> None:
        guest = replay.present(replay.world.guests[vmid].node if vmid in replay.world.guests else "pve1", "qemu", vmid)
        for name, value in changes.items():
            guest.config.pop(name, None)
            guest.pending.pop(name, None)
            if value is not None:
                guest.config[name] = value

    return step


def again(replay: Replay) -> None:
    """VM 150 was made anew, with less."""
    replay.remove(150)
    guest = replay.present("pve1", "qemu", 150)
    for name in ("ide2", "scsihw", "serial0"):
        guest.config.pop(name)


def snapshot(replay: Replay) -> None:
    guest = replay.present("pve1", "qemu", 170)
    guest.snapshots["sn1"] = {**guest.config, "snaptime": 1}


STEPS: dict[str, Callable[[Replay], None]] = {
    "05 pool-delete-empty": lambda replay: replay.remove(133),
    "06 config-put-add-disk": options(140, template=0),
    "06 status-after-timeout": options(140, agent="1"),
    "06 pending-list": options(140, agent="1"),
    "06 locked-config": options(140, lock="backup"),
    "07 template-delete": lambda replay: replay.remove(157),
    "07 template-clone-linked": options(156, template=1),
    "07 migrate-pre-offline": again,
    "07 migrate-cdrom": options(150, ide0="local:iso/test.iso,media=cdrom"),
    "07 migrate-pre-cdrom": options(150, ide0="local:iso/test.iso,media=cdrom"),
    "07 migrate-pre-hostpci": options(150, ide0=None, hostpci0="0000:00:01.0"),
    "07 migrate-ok-targetstorage": options(150, hostpci0=None),
    "07 slow-clone-same-newid": lambda replay: replay.cloning(171),
    "07 migrate-pre-online-snapshot": snapshot,
    "07 migrate-linked-clone": linked,
    "08 dl-unreachable": lambda replay: replay.file_on("local:iso/x.iso", 1, "iso"),
    "08 zone-delete-inuse": lambda replay: setattr(replay.world.sdn, "lock", ""),
    "08 lock-clean": lambda replay: setattr(replay.world, "sdn", Sdn()),
    "13 delete-with-bad-unused": options(240, unused0="nosuchstore:1/vm-1-disk-0.raw"),
}
"""What the recorder did before a request without recording it."""


class Replay:
    """One recording, played against a fake of its own."""

    def __init__(self, file: str, pve: FakePve) -> None:
        self.file, self.pve = file, pve
        self.world: World = pve.world
        self.rows = list(recorded(file))
        self.limited: dict[str, tuple[str, str]] = {}
        self.names: dict[str, str] = {}
        self.cluster()
        self.people()

    def cluster(self) -> None:
        """Two nodes without KVM, four storages, a few files."""
        self.world.clustername = "lab"
        for node in self.world.nodes.values():
            node.kvm, node.cpus, node.flags = False, 2, "fpu vme"
        self.file_on("local:iso/test.iso", 2 * MIB, "iso")
        self.file_on("local:snippets/ud.yml", 43, "snippet")
        self.file_on(TEMPLATE, 52 * MIB, "tzst")
        if self.file in ("01", "02", "03", "04"):
            if self.file in ("03", "04"):
                self.stores()
            return
        self.stores()
        for name, note in (("cloud", ""), ("backed", "backing"), ("bad", "garbage")):
            self.file_on(f"local:import/{name}.qcow2", 64 * MIB, "qcow2", note)
            self.file_on(f"/root/img/{name.replace('cloud', 'src')}.qcow2", 64 * MIB, "qcow2", note)
        self.pve.world.pools["labpool"] = {"comment": "", "vms": set(), "storage": set()}

    def stores(self) -> None:
        self.world.storages["local"].content += ",import"
        self.world.storages["lab1"] = Storage("lab1", path="/var/lib/lab1", content="images,rootdir")
        self.world.storages["isoonly"] = Storage("isoonly", path="/iso", content="iso", nodes=("pve1",))
        self.world.storages["disabled1"] = Storage("disabled1", path="/off", content="images", disabled=True)

    def file_on(self, volid: str, size: int, form: str, note: str = "") -> None:
        store, _, rest = volid.partition(":")
        content = rest.partition("/")[0]
        folders = {"iso": "/var/lib/vz/template/iso/", "import": "/var/lib/vz/import/"}
        path = folders.get(content, "") + rest.rpartition("/")[2] if rest else volid
        self.world.keep(Volume(volid, store, "pve1", content, form, size, path, note=note, used=4096))

    def people(self) -> None:
        """root@pam's token, and from the third recording on lab@pve with tokens that may little."""
        access = self.world.access
        if self.file in ("01", "03"):
            return
        access.users["lab@pve"] = User("secret12", {"comment": "B", "email": "lab@example.org", "firstname": "La",
                                                    "lastname": "B", "enable": 1, "expire": 0})  # fmt: skip
        for name, token in (("full", Token("f", 0)), ("none", Token("n", 1, comment="no rights"))):
            access.users["lab@pve"].tokens[name] = token
        access.acl["/", "user", "lab@pve", "PVEAdmin"] = 1
        if self.file != "02":
            access.roles["LabRole"] = frozenset(
                ["Datastore.Audit", "VM.Allocate", "VM.Audit", "VM.Config.Options", "VM.PowerMgmt"]
            )

    def token(self, auth: str) -> str:
        """The Authorization of a limited token, made when it is first asked for."""
        if auth not in self.limited:
            users = self.world.access.users
            if "PVEAdmin" in auth:
                self.limited[auth] = ("lab@pve!full", users["lab@pve"].tokens["full"].value)
            elif self.file == "12":
                self.world.access.acl.clear()
                users.pop("lab@pve", None)
                self.limited = {auth: self.pve.add_token("lab@pve", "lim", LIMITED[auth])}
            else:
                self.limited[auth] = ("lab@pve!none", users["lab@pve"].tokens["none"].value)
        name, value = self.limited[auth]
        return f"PVEAPIToken={name}={value}"

    def headers(self, one: Recorded) -> dict[str, str]:
        """What the recorder sent to say who it is."""
        name, value = self.pve.token
        bad = {
            "wrong secret": f"{name}={'0' * 8}-0000", "unknown token id": f"root@pam!nosuch={value}",
            "unknown user": f"nosuch@pam!lab={value}", "not a uuid": f"{name}=x", "no secret": name,
            '":" between': f"{name}:{value}", "no realm": f"root!lab={value}", "foreign": "",
        }  # fmt: skip
        if one.auth in ("none", "Authorization: Basic"):
            return {}
        if one.auth == "Authorization: Bearer":
            return {"Authorization": f"Bearer {value}"}
        if one.auth.startswith("ticket"):
            return self.with_ticket(one)
        if one.auth.startswith("token ("):
            for text, header in bad.items():
                if text in one.auth:
                    return {"Authorization": f"PVEAPIToken={header}"}
        if "standalone" in one.auth or "expired" in one.auth:
            return {"Authorization": "PVEAPIToken=root@pam!lab=elsewhere"}
        if one.auth.startswith(("token-limited", "token (")):
            return {"Authorization": self.token(one.auth)}
        return {"Authorization": f"PVEAPIToken={name}={value}"}

    def with_ticket(self, one: Recorded) -> dict[str, str]:
        ticket, csrf = self.world.access.ticket("root@pam")
        if any(text in one.auth for text in ("nonsense", "changed", "made 8000", "future", "standalone")):
            ticket = "PVE:root@pam:00000000::bad"
        found = {"Cookie": f"PVEAuthCookie={ticket}", "CSRFPreventionToken": csrf}
        if one.name.startswith(("csrf-missing", "csrf-wrong")):
            del found["CSRFPreventionToken"]
        return found

    def unredacted(self, one: Recorded) -> Recorded:
        """The recording's `<redacted:…>` replaced by secrets of the fake."""
        ticket, _csrf = self.world.access.ticket("root@pam")

        def real(value: Any) -> Any:
            text = str(value)
            if "redacted:ticket-signature" in text:
                return "PVE:root@pam:6B0347AA::old" if "expired" in one.name else ticket
            if "redacted:root-password" in text:
                return self.pve.password
            return re.sub(r"<redacted:[^>]*>", "a-secret-of-16-chars", text) if "<redacted:" in text else value

        headers = {key: real(value) for key, value in one.headers.items() if "CSRF" not in key}
        if "Authorization" in headers and "PVE:" in headers["Authorization"]:
            headers["Authorization"] = f"PVEAuthCookie={ticket}"
        return replace(one, params={key: real(value) for key, value in one.params.items()}, headers=headers)

    def play(self) -> dict[str, str]:
        """Everything in order: {name: first difference} of the answers that are not the same."""
        found = {}
        for one in self.rows:
            self.before(one)
            text = compared(one, self.answer(self.renamed(self.unredacted(one))))
            if text:
                found[one.name] = text
        return found

    def answer(self, one: Recorded) -> Answer:
        got = ask(self.pve, one, self.headers(one))
        theirs, ours = ((body.get("data") if isinstance(body, dict) else None) for body in (one.body, got.body))
        if isinstance(theirs, str) and isinstance(ours, str):
            self.names[theirs] = ours
        if "/config" in one.path and isinstance(theirs, dict) and isinstance(ours, dict) and "digest" in theirs:
            self.names[theirs["digest"]] = ours.get("digest", "")
        return got

    def renamed(self, one: Recorded) -> Recorded:
        """UPIDs, lock tokens and digests that the recorded PVE gave out, as the fake did."""
        path = one.path
        for theirs, ours in self.names.items():
            if theirs.startswith("UPID:"):
                path = path.replace(quote(theirs, safe=""), quote(ours, safe=""))
        lock = {"lock-token": self.world.sdn.lock} if str(one.params.get("lock-token", "")).startswith("01a2") else {}
        params = {key: self.names.get(str(value), value) for key, value in one.params.items()}
        digest = params.get("digest")
        place = guest_path(path)
        if digest in one.params.values() and one.status == 200 and place and place[2] in self.world.guests:
            params["digest"] = guest_digest(self.world.guests[place[2]])
        return replace(one, path=path, params={**params, **lock})

    def before(self, one: Recorded) -> None:
        """Guests come and go, start and stop unrecorded: bring the fake to where the recorded cluster was."""
        self.created(one)
        place = guest_path(one.path)
        self.locks(one)
        if step := STEPS.get(f"{self.file} {one.name}"):
            step(self)
        if place is None:
            return
        node, kind, vmid = place
        told = (one.exit_status or "") + one.reason
        if any(text in told for text in GONE):
            here = self.world.guests.get(vmid)
            if here and here.node == node and here.kind == kind:
                self.remove(vmid)
        elif one.status != 400 or vmid in self.world.guests:
            guest = self.present(node, kind, vmid)
            self.state(one, guest, told)

    def created(self, one: Recorded) -> None:
        """The guest that a request makes is not there before, unless the answer says so."""
        made = one.method == "POST" and re.search(r"/(qemu|lxc)$|/clone$", one.path)
        number = one.params.get("newid" if one.path.endswith("/clone") else "vmid")
        if not made or not str(number).isdigit() or (one.status not in (200, 0) and "already" not in one.reason):
            return
        vmid = int(str(number))
        match = re.search(r"(?:VM|CT) \d+ already exists on node '(\w+)'", one.reason)
        if match:
            kind = "lxc" if "CT " in one.reason.partition(" - ")[2] or one.reason.startswith("CT") else "qemu"
            self.present(match[1], kind, vmid)
        elif "config file already exists" not in one.reason and "can't lock" not in one.reason:
            self.remove(vmid)

    def cloning(self, vmid: int) -> None:
        note: dict[str, str | int] = {"lock": "clone", "description": " qmclone temporary file"}
        self.world.guests[vmid] = Guest(vmid, "pve1", "qemu", note)

    def remove(self, vmid: int) -> None:
        self.world.guests.pop(vmid, None)
        for volume in list(self.world.volumes.values()):
            if volume.vmid == vmid and vmid != 777:
                self.world.drop(volume)

    def present(self, node: str, kind: str, vmid: int) -> Guest:
        """The guest, made with the configuration it had if it is not there yet."""
        guest = self.world.guests.get(vmid)
        if guest is not None and guest.kind == kind and guest.node == node:
            return guest
        guest = self.world.guests[vmid] = Guest(vmid, node, kind, self.known_config(kind, vmid))
        content = "images" if kind == "qemu" else "rootdir"
        for key in drives(guest.config, unused=True):
            file, options = split(guest.config[key])
            store, _, name = file.partition(":")
            if name and self.world.volume(file, node) is None:
                form, size = name.rpartition(".")[2], bytes_of(options.get("size", "4M"))
                path = f"/var/lib/vz/images/{name}"
                self.world.keep(Volume(file, store, node, content, form, size, path, vmid, used=331776))
        return guest

    def known_config(self, kind: str, vmid: int) -> dict[str, Any]:
        """The configuration that is recorded of a guest somewhere, or that of most."""
        if vmid in FIRST:
            config = {**MACHINE, "name": f"vm{vmid}", **FIRST[vmid]}
            return {key: value for key, value in config.items() if value is not None}
        for row in self.rows:
            if row.status == 200 and row.path.endswith(f"/{kind}/{vmid}/config") and row.method == "GET":
                data = row.body.get("data") if isinstance(row.body, dict) else None
                if isinstance(data, dict) and not row.params:
                    gone = {key for key, value in data.items() if key in NOT_FIRST or "temporary file" in str(value)}
                    return {key: value for key, value in data.items() if key not in gone}
        if kind == "lxc":
            return {**CONTAINER, "hostname": f"ct{vmid}", "rootfs": f"local:{vmid}/vm-{vmid}-disk-0.raw,size=1G"}
        cloudinit = f"local:{vmid}/vm-{vmid}-cloudinit.qcow2,media=cdrom"
        return {**MACHINE, "name": f"vm{vmid}", "scsi0": DISK.format(vmid, "qcow2"), "ide2": cloudinit}

    def state(self, one: Recorded, guest: Guest, told: str) -> None:
        """Running or not, locked or not, as the recorded answer shows it was."""
        guest.obeys = False
        ending = one.path.rpartition("/")[2]
        if match := re.search(r"is locked \((\w+)\)", told):
            guest.config["lock"] = match[1]
        elif guest.config.get("lock") == "backup" and one.method != "GET" and "lock" not in f"{one.params}{one.name}":
            del guest.config["lock"]
        running = self.running(one, guest, told, ending)
        if running is not None and running != guest.running:
            guest.running, guest.paused, guest.started = running, False, time.time()
            guest.machine = dict(guest.config) if running else {}
        if ending == "start" and guest.kind == "qemu":
            guest.config["kvm"] = 1 if "KVM virtualisation" in told else 0
            if not str(guest.config.get("cpu", "max")).startswith("max") and "KVM" not in told:
                guest.config["cpu"] = "max"
        if "No QEMU guest agent" in told:
            guest.config.pop("agent", None)
            guest.machine.pop("agent", None)
        if "protection mode" in told:
            guest.config["protection"] = 1
        if "HA resources" in told:
            guest.ha = {}

    def running(self, one: Recorded, guest: Guest, told: str, ending: str) -> bool | None:
        data = one.body.get("data") if isinstance(one.body, dict) else None
        if ending == "current" and isinstance(data, dict):
            return bool(data["status"] == "running")
        if "without --online" in told or "No QEMU guest agent" in told:
            return True
        if "not running" in told and "agent" not in told:
            return False
        if "already running" in told or "is running" in told or "guest agent is not running" in told:
            return True
        if ending == "start":
            return False
        if ending in ("reboot", "reset", "suspend", "resume", "shutdown") and one.status == 200:
            return "stopped" not in one.name
        if ending == "template" and one.status == 200:
            return False
        if ending == "migrate" and one.status == 200 and one.method == "POST":
            return bool(one.params.get("online"))
        if one.method == "DELETE" and guest_path(one.path) and re.search(r"/\d+$", one.path) and one.status == 200:
            return False
        return None

    def locks(self, one: Recorded) -> None:
        """Lock files that were held while the recorder asked."""
        told = (one.exit_status or "") + one.reason
        match = re.search(r"can't lock file '/var/lock/qemu-server/lock-(\d+).conf'", told)
        self.world.lock_timeout = 0.01
        for vmid in list(self.world.held):
            self.world.held[vmid] = [entry for entry in self.world.held[vmid] if entry[0] != "somebody"]
        if match:
            self.pve.hold(int(match[1]))
