"""Which hypervisor of a lab an installer runs in (`nestlab images build --in`)."""

from __future__ import annotations

from nestlab.base.errors import LabError
from nestlab.hosts.ssh import SshHost
from nestlab.install.inside import Inside
from nestlab.verbs.local import GUEST_QEMU
from nestlab.verbs.session import Session

KINDS = ("kvm", "libvirt")
"""Hypervisors that have a QEMU which is nobody else's, and what `install.runner` is run by."""


async def inside(session: Session, path: str) -> Inside:
    """The machine as a place for installers. LabError for what is no such hypervisor, Unreachable for one that does not
    run."""
    machine = session.blueprint[path].machine
    if machine.hypervisor not in KINDS or not machine.nests:
        what = f"No installer can be run in {path}: it is {_kind(machine.hypervisor)}."
        raise LabError(what, hint=f"Name a hypervisor of kind {' or '.join(KINDS)}, or leave --in out.")
    host = await session.nest.host(path)
    if not isinstance(host, SshHost):
        raise LabError(f"No installer can be run in {path}: ssh leads nowhere there.", hint="Leave --in out.")
    await host.connect()
    return Inside(host, f"{session.blueprint.lab}:{path}", GUEST_QEMU, machine.internet)


def _kind(hypervisor: str | None) -> str:
    return f"a hypervisor of kind {hypervisor}" if hypervisor else "no hypervisor"
