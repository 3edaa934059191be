"""Every error that a real Proxmox VE 9.1 was recorded to answer, read as the error that it is.

The recordings are not part of the repository: NESTLAB_PVE_RECORDINGS names their directory.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nestlab.base.errors import LabError, Refused, Unreachable
from nestlab.wire.pve import encode, privileges, tasks
from nestlab.wire.pve.errors import Denied, Invalid, Locked, Missing, PveError, refusal
from nestlab.wire.pve.https import read
from nestlab.wire.pve.retries import repeatable

RECORDINGS = Path(os.environ.get("NESTLAB_PVE_RECORDINGS") or "recordings-nowhere") / "http"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs recordings of a Proxmox VE")

USUAL = {400: "Invalid", 401: "Unauthorized", 403: "Denied"}
"""What an error is by its status alone; PveError for every other status."""

UNUSUAL = {
    "Missing": {
        "01": "http-unknown-node",
        "02": (
            "cluster-config-join-badnode storage-get-missing node-storage-status-missing content-missing-storage "
            "role-missing"
        ),
        "03": (
            "user-create-badrealm user-get-missing user-put-missing token-get-missing role-delete-missing "
            "acl-unknown-role acl-unknown-user acl-unknown-token group-delete-missing pool-nested-noparent "
            "pool-get-missing pool-get-missing-old pool-delete-missing pool-put-missing pool-old-delete-missing"
        ),
        "05": "create-unknown-storage config-disk-too-big dump-sshkeys-plus config-form-bools-lower",
        "06": (
            "config-get-snapshot-missing missing-GET-config missing-PUT-config missing-POST-config "
            "missing-GET-pending missing-GET-status-current missing-POST-status-reset missing-GET-snapshot "
            "missing-POST-snapshot missing-POST-clone missing-POST-template missing-GET-migrate "
            "missing-POST-migrate missing-POST-agent-ping missing-GET-agent-get-osinfo missing-POST-monitor "
            "missing-POST-vncproxy missing-GET-cloudinit-dump missing-DELETE vm-on-other-node-config "
            "vm-on-other-node-status vm-on-other-node-delete vm-as-lxc vm-as-lxc-status delete-again "
            "config-after-delete"
        ),
        "07": (
            "snap-config-missing clone-snap-missing clone-target-missing clone-storage-missing "
            "source-after-clones task-status-via-pve2 clone-aborted-target task-wellformed-missing "
            "task-other-node-upid migrate-missing-node migrated-old-node-config migrate-vm-already-gone "
            "migrate-storage-missing ha-add-missing cicustom-missing-regenerate"
        ),
        "08": "storage-missing zone-missing vnet-missing vnet-delete-missing net-get-missing net-delete-missing",
        "10": "delnode-api-missing",
        "11": (
            "aplinfo-download create-storage-missing migrate-pre migrate missing-config missing-delete "
            "missing-status ct-as-qemu clone-clean-config"
        ),
        "14": "delnode-api-unknown",
    },
    "Exists": {
        "02": "cluster-create-in-cluster storage-create-dup content-alloc-dup",
        "03": "user-create-dup token-create-dup role-create-dup group-dup pool-dup",
        "05": "create-existing create-existing-othernode nextid-taken",
        "07": "clone-existing clone-self ha-add-dup slow-clone-same-newid",
        "08": "zone-dup vnet-dup subnet-dup vnet-create-locked-wrong vnet-create-locked-ok net-create-dup",
        "10": "create-again",
        "11": "create-existing vm-with-ct-id nextid-ct-taken",
        "12": "pool ok-create",
        "15": "create-again",
    },
    "Denied": {
        "05": (
            "create-args-token create-hookscript-token create-cpu-affinity-token import-path-token "
            "disk-path-as-volume-token"
        ),
        "06": (
            "config-put-skiplock-token config-put-args-token start-force-cpu start-force-cpu-token "
            "monitor-rootonly-token monitor-unknown lock-set-token locked-start-skiplock-token"
        ),
        "07": "migrate-force-token migrate-network-token",
        "11": "create-path-template-token",
        "12": "create-hostpci0 create-args config-delete-disk-then-destroy",
    },
    "Changed": {
        "06": "config-put-digest-mismatch config-post-digest-mismatch config-put-digest-bad",
        "08": "fw-digest",
        "11": "config-digest",
    },
    "Locked": {
        "06": (
            "config-put-locked-suspended clone-of-suspended locked-put locked-clone locked-migrate "
            "locked-template filelock-put"
        ),
        "07": "slow-clone-create-same-id slow-clone-source-put slow-clone-target-config-put",
        "08": (
            "lock lock-again lock-clean-again locked-zone-notoken locked-zone-wrongtoken "
            "locked-vnet-delete-notoken locked-apply-notoken locked-rollback-notoken locked-release-wrong "
            "locked-release-notoken"
        ),
    },
    "Invalid": {
        "08": "zone-vxlan-nopeers vnet-tag-simple subnet-badgw vnet-delete-with-subnet vnet-delete-in-use-by-vm",
    },
    "NoQuorum": {
        "10": (
            "addnode addnode-dup addnode-dup-ip addnode-old-apiversion write-without-quorum "
            "config-put-without-quorum pool-without-quorum start-without-quorum delnode-without-quorum "
            "user-without-quorum addnode-apiversion-zero addnode-same-ip addnode-self "
            "addnode-again-without-quorum"
        ),
    },
}
"""What is another error than its status says: names of recordings by error and file."""


def records() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(RECORDINGS.glob("*.jsonl")):
        with file.open() as lines:
            yield from ((file.name[:2], json.loads(line)) for line in lines)


def raised(record: dict[str, Any]) -> PveError | None:
    """The error of a recorded answer; None where there was a good one, or none."""
    answer, request = record["response"], record["request"]
    if answer["status"] in (0, 200, 301):
        return None
    body = answer["body"]
    raw = json.dumps(body) if isinstance(body, dict) else body or ""
    got = read(answer["status"], answer["reason_or_message"], raw.encode())
    return refusal(
        "pve1:8006", f"{request['method']} {request['path']}", got.status, got.message, parameters=got.errors
    )


def errors() -> Iterator[tuple[str, dict[str, Any], PveError]]:
    for file, record in records():
        error = raised(record)
        if error is not None:
            yield file, record, error


def test_every_error_is_the_one_it_should_be() -> None:
    named = {
        (file, name): kind for kind, files in UNUSUAL.items() for file, names in files.items() for name in names.split()
    }
    wrong, seen = [], 0
    for file, record, error in errors():
        usual = USUAL.get(record["response"]["status"], "PveError")
        expected = named.get((file, record["name"]), usual)
        seen += 1
        if type(error).__name__ != expected:
            wrong.append((file, record["name"], expected, type(error).__name__, error.message))
    assert wrong == []
    assert seen > 500


def test_every_error_says_what_where_and_what_to_do() -> None:
    for _, record, error in errors():
        request = record["request"]
        assert "pve1:8006" in error.what
        assert f"{request['method']} {request['path']}" in error.what
        assert error.hint, record["name"]
        assert "\n" not in error.what


def test_every_wrong_parameter_that_was_told_is_named() -> None:
    for _, record, error in errors():
        body = record["response"]["body"]
        told = body.get("errors") if isinstance(body, dict) else None
        for name, text in (told or {}).items():
            assert name in error.parameters
            assert f"{name}: {' '.join(text.split())}" in error.what


def test_every_detail_behind_a_line_break_is_shown() -> None:
    for _, record, error in errors():
        body = record["response"]["body"]
        for line in body.get("message", "").splitlines() if isinstance(body, dict) else ():
            assert " ".join(line.strip().rstrip(".").split()) in error.what


def test_every_missing_privilege_that_was_told_is_named_with_its_path() -> None:
    found = 0
    for _, record, error in errors():
        told = re.search(r"Permission check failed \((/\S*), ([\w.|]+)\)", record["response"]["reason_or_message"])
        if told:
            assert isinstance(error, Denied)
            assert (error.path, "|".join(error.privileges)) == told.groups()
            assert all(name in error.hint for name in error.privileges)
            found += 1
    assert found > 80


def test_a_guest_that_is_missing_is_told_from_other_things_that_are() -> None:
    for _, record, error in errors():
        message = record["response"]["reason_or_message"]
        told = re.search(r"/(?:qemu-server|lxc)/(\d+)\.conf' does not exist|file for VM (\d+)", message)
        if isinstance(error, Missing):
            assert error.guest == (int(told[1] or told[2]) if told else None)


def test_only_locks_that_were_not_free_in_time_are_worth_asking_again() -> None:
    for _, record, error in errors():
        again = repeatable(error, "POST")
        assert again == ("can't lock file" in record["response"]["reason_or_message"]), record["name"]
        if again:
            assert isinstance(error, Locked)
            assert isinstance(error, Refused)
        assert not isinstance(error, Unreachable)


def test_every_task_that_failed_is_an_error_of_the_right_kind() -> None:
    kinds = {
        "Permission check failed": "Denied",
        "does not exist": "Missing",
        "unable to find configuration file": "Missing",
        "can't lock file": "Locked",
        "VM is locked": "Locked",
        "already used": "Exists",
        "refusing to override": "Exists",
        "Parameter verification failed": "Invalid",
        "Permission denied": "NoQuorum",
        "authentication failure": "Unauthorized",
    }
    seen = 0
    for _, record in records():
        status = (record.get("task") or {}).get("status")
        ending = status.get("exitstatus", "") if isinstance(status, dict) else ""
        if not ending or ending == "OK" or ending.startswith("WARNINGS"):
            continue
        code, message = tasks._code(ending)
        error = refusal("pve1", "qmstart 100", code, message, upid="UPID", log="log")
        expected = next((kind for text, kind in kinds.items() if text in ending), "PveError")
        assert type(error).__name__ == expected, ending
        assert (error.detail, error.upid) == ("log", "UPID")
        seen += 1
    assert seen > 50


def test_every_upid_is_read_and_names_the_node_that_is_asked() -> None:
    seen = set(re.findall(r"UPID:[^\s\"'%/<>|]+:", "".join(file.read_text() for file in RECORDINGS.glob("*.jsonl"))))
    for text in seen:
        assert text.split(":")[1] == encode.upid(text).node
    assert len(seen) > 200


def test_a_nested_refusal_names_its_parameters() -> None:
    nested = [error for file, record, error in errors() if file == "08" and record["name"] == "vnet-tag-simple"]
    assert isinstance(nested[0], Invalid)
    assert nested[0].parameters == {"tag": "vlan tag is not allowed on simple zone"}


def test_what_a_limited_user_was_refused_is_among_what_nestlab_asks_for() -> None:
    """Every privilege that making, running and removing a machine was refused for is granted by `nestlab pve setup`."""
    granted = {name for names in privileges.needed("9.1.10").values() for name in names}
    for file, record, error in errors():
        if file == "12" and isinstance(error, Denied) and error.privileges and "Sys." not in "".join(error.privileges):
            assert granted & set(error.privileges), record["name"]


def test_permissions_as_recorded_are_read() -> None:
    held = next(
        record["response"]["body"]["data"]
        for file, record in records()
        if file == "12" and record["name"] == "permissions"
    )
    scope = privileges.Scope("lab", ("local",), bridges=("vmbr0",))
    lacks = {(lack.path, lack.privilege) for lack in privileges.missing(held, "9.1.10", scope)}
    assert ("/storage/local", "Datastore.AllocateTemplate") in lacks
    assert ("/storage/local", "Datastore.AllocateSpace") not in lacks
    assert ("/sdn/zones/localnetwork/vmbr0", "SDN.Use") not in lacks
    assert ("/pool/lab", "VM.Allocate") in lacks
    assert ("/nodes", "Sys.Audit") in lacks


def test_what_was_recorded_is_never_a_crash() -> None:
    for _, record in records():
        error = raised(record)
        assert error is None or isinstance(error, LabError)
