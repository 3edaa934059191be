"""SUSE Harvester: KVM on Kubernetes."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign, Wish
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="harvester",
    title="Harvester",
    look="`kubectl get nodes -o yaml` shows devices.kubevirt.io/kvm there",
    source="Harvester documentation: hardware and network requirements (testing)",
    cpus=8,
    memory=32 * GIB,
    usual_memory=32 * GIB,
    disk=250 * GIB,
    keys={
        "display": Wish(True, "it installs on a screen"),
        "firmware": Wish("uefi", "its documentation asks for it"),
    },
)
