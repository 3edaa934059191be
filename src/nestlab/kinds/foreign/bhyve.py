"""FreeBSD with bhyve."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="bhyve",
    title="FreeBSD with bhyve",
    look="`kldload vmm` succeeds, and `sysctl hw.vmm.vmx.initialized` (or hw.vmm.svm) shows it",
    source="FreeBSD wiki: bhyve",
    cpus=2,
    memory=2 * GIB,
    usual_memory=2 * GIB,
    disk=20 * GIB,
    vendors={
        "intel": "on Intel, bhyve needs EPT and unrestricted guests: the CPU must be that of the host",
        "amd": "on AMD, bhyve needs nested paging and NRIPS: the CPU must be that of the host",
    },
)
