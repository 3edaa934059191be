"""What is proven of containers. Pure."""

from __future__ import annotations

from nestlab.base.proofs import Proof
from nestlab.lab.blueprint import Spec


def claims(spec: Spec) -> list[str]:
    """What is claimed of a container, beside what its segments are."""
    return ["container"] if spec.sealed else ["reachable", "container"]


def of_sealed(spec: Spec) -> Proof:
    """Of one on a Proxmox VE itself, which nothing asks."""
    seen = "it runs; commands in it are not run from outside"
    return Proof(spec.path, spec.level, "container", None, seen, "that others reach it on a segment is proven")


def of_inner(spec: Spec, arch: str, root: str) -> list[Proof]:
    """Of one inside a hypervisor that has answered over ssh: that it is one, and unprivileged. `root`: which user its
    root is to the kernel that it runs on (/proc/self/uid_map). To a kernel of its own, a virtual machine's, it is user
    0; to that of its hypervisor it would be root there. (LXC gives each container another boot_id than the kernel's.)
    """
    reachable = Proof(spec.path, spec.level, "reachable", True, f"answers over ssh ({arch})")
    if not root.isdecimal():
        why = f"{spec.path} did not say who its root is outside"
        return [reachable, Proof(spec.path, spec.level, "container", None, why)]
    if int(root) == 0:
        seen, hint = "its root is root of its kernel", "`nestlab stop` and `up` start it as it should be"
        return [reachable, Proof(spec.path, spec.level, "container", False, seen, hint)]
    seen = f"unprivileged: its root is user {root} of the kernel that it runs on, that of {spec.parent}"
    return [reachable, Proof(spec.path, spec.level, "container", True, seen)]
