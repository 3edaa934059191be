"""Requests about one guest of a Proxmox VE, made with the rights that its pool grants."""

from __future__ import annotations

from typing import Any

from nestlab.wire.pve.api import Api, Params
from nestlab.wire.pve.errors import Denied, Missing


async def ask(api: Api, guest: str, part: str, params: Params | None = None) -> Any:
    """The answer of PVE below the path of a guest (`/nodes/pve1/qemu/100`). Missing when it is gone.

    Privileges are looked at before the guest is, and one that is gone is in no pool (pve-access-control,
    RPCEnvironment.pm: compile_acl_path): whose privileges come from the pool is then refused."""
    try:
        return await api.get(f"{guest}/{part}", params)
    except Denied as error:
        vmid = guest.rpartition("/")[2]
        if error.path != f"/vms/{vmid}" or "VM.Audit" not in error.privileges:
            raise
        message = f"no such VM ({vmid}), or it is not in the pool any more: {error.message}"
        raise Missing(error.what, hint=error.hint, status=error.status, message=message) from error
