"""Whether a machine may move to another node of a Proxmox VE with what is nested in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nestlab.engines.pve.full_copy import layers
from nestlab.engines.pve.migration import Move, Side, judge, version_of

INTEL = Side("pve1", "GenuineIntel", "Xeon", frozenset({"vmx", "avx2"}), (6, 17, 2))
AMD = Side("pve1", "AuthenticAMD", "EPYC", frozenset({"svm", "avx2"}), (6, 17, 2))


def move(source: Side = INTEL, target: Side | None = None, **rest: Any) -> Move:
    whole: dict[str, Any] = {
        "path": "hv1", "running": True, "hypervisor": True, "container": False, "kvm": True, "cpu": "host",
        "qemu": (10, 1, 2), "inside": (), "source": source, "target": target or replace(source, node="pve2"), **rest,
    }  # fmt: skip
    return Move(**whole)


@pytest.mark.parametrize(
    ("case", "allowed", "online", "said"),
    [
        (move(running=False, inside=("hv1/web",)), True, False, "it is off"),
        (move(running=False, layers=("local:1/base-1-disk-0.raw/2/x",)), True, False, "a whole copy with another VMID"),
        (move(layers=("local:1/base-1-disk-0.raw/2/x",)), False, True, "layers over a template's that pve2 does not"),
        (move(hypervisor=False), True, True, "nothing runs inside it"),
        (move(container=True, hypervisor=False), True, False, "a container"),
        (move(inside=("hv1/web",)), True, True, "hv1/web runs inside; CPUs fit (host), and Linux 5.3 and QEMU 4.2"),
        (move(), True, True, "no machine runs inside it"),
        (move(inside=None), False, True, "cannot be asked"),
        (move(AMD, inside=("hv1/web",)), False, True, "on AuthenticAMD a guest that runs is not carried over safely"),
        (move(AMD), True, True, "Linux 5.8 and QEMU 5.1"),
        (move(target=replace(AMD, node="pve2")), False, True, "of GenuineIntel and pve2 one of AuthenticAMD"),
        (move(target=replace(INTEL, node="pve2", model="Core")), False, True, "are not the same"),
        (move(target=replace(INTEL, node="pve2", flags=frozenset({"vmx"}))), False, True, "are not the same"),
        (
            move(target=replace(INTEL, node="pve2", model="Core"), cpu="Haswell-noTSX,flags=+nested-virt"),
            True,
            True,
            "CPUs fit",
        ),
        (move(target=replace(INTEL, node="pve2", kernel=(5, 2, 9))), False, True, "pve2 5.2.9, and it runs on QEMU"),
        (move(qemu=(4, 1, 1)), False, True, "QEMU 4.1.1"),
        (move(qemu=()), False, True, "QEMU that is not told"),
        (move(target=Side("pve2")), False, True, "node pve2 does not tell its CPU"),
        (move(replace(INTEL, vendor="CentaurHauls")), False, True, "nothing is known"),
        (move(AMD, kvm=False, cpu="max", inside=("hv1/web",)), False, True, "it is emulated, and hv1/web runs inside"),
        (move(AMD, kvm=False, cpu="max"), True, True, "it is emulated"),
    ],
)
def test_what_nests_moves_only_where_its_state_is_carried(case: Move, allowed: bool, online: bool, said: str) -> None:
    ruling = judge(case)
    assert (ruling.allowed, ruling.online) == (allowed, online)
    assert said in ruling.why
    assert ruling.allowed or "nestlab stop hv1" in ruling.hint


@pytest.mark.parametrize(
    ("text", "version"),
    [("6.17.2-1-pve", (6, 17, 2)), ("10.1.2", (10, 1, 2)), ("Linux 6.8.12-1-pve #1", (6, 8, 12)), ("", ()), (None, ())],
)
def test_versions_are_read_from_what_a_node_says(text: object, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_disks_that_are_layers_over_those_of_a_template_are_known_by_their_names() -> None:
    config = {
        "virtio0": "local:100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2,serial=root,size=2G",
        "virtio1": "local-zfs:base-100-disk-1/vm-101-disk-1,serial=boot",
        "scsi0": "ceph:base-100-disk-2/vm-101-disk-2",
        "virtio2": "local-lvm:vm-101-disk-3,serial=nestlab-id",
        "ide2": "local:iso/base-1-disk-0.iso,media=cdrom",
        "net0": "virtio=base-1-disk-0/x",
    }
    assert layers(config, {"ceph"}) == [str(config[key]).split(",")[0] for key in ("virtio0", "virtio1")]
