"""Privileges and built-in roles of PVE 8 and 9 (pve-access-control, AccessControl.pm), as `GET /access/roles` lists."""

from __future__ import annotations

VM_USE = ["VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.PowerMgmt"]
VM_ADMIN = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.Migrate",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
]
GUEST_9 = [
    "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileRead",
    "VM.GuestAgent.FileSystemMgmt",
    "VM.GuestAgent.FileWrite",
    "VM.GuestAgent.Unrestricted",
    "VM.Replicate",
]
GUEST_9_USE = [name for name in GUEST_9 if name.endswith(("Audit", "FileRead", "FileSystemMgmt", "FileWrite"))]
GUEST_8 = ["VM.Monitor"]
STORE = ["Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"]
SYSTEM = ["Sys.Audit", "Sys.Console", "Sys.Syslog"]
TOP = ["Permissions.Modify", "Realm.Allocate", "Sys.AccessNetwork", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt"]
SDN = ["SDN.Allocate", "SDN.Audit", "SDN.Use"]
MAPPING = ["Mapping.Audit", "Mapping.Modify", "Mapping.Use"]
USER = ["Group.Allocate", "Realm.AllocateUser", "User.Modify"]
POOL = ["Pool.Allocate", "Pool.Audit"]


def builtin(major: int) -> dict[str, frozenset[str]]:
    """The roles that a cluster of this major version has. PVE 9 has VM.GuestAgent.* instead of VM.Monitor."""
    guest = GUEST_9 if major >= 9 else GUEST_8
    vm_user = [*VM_USE, *(GUEST_9_USE if major >= 9 else ())]
    admin = [*VM_ADMIN, *guest, *STORE, *SYSTEM, *SDN, *MAPPING, *USER, *POOL]
    audits = [name for name in (*admin, *TOP) if name.endswith(".Audit")]
    return {
        "NoAccess": frozenset(),
        "Administrator": frozenset([*admin, *TOP]),
        "PVEAdmin": frozenset(admin) - {"Mapping.Modify"},
        "PVEAuditor": frozenset(audits),
        "PVEDatastoreAdmin": frozenset(STORE),
        "PVEDatastoreUser": frozenset(["Datastore.AllocateSpace", "Datastore.Audit"]),
        "PVEMappingAdmin": frozenset(MAPPING),
        "PVEMappingUser": frozenset(["Mapping.Audit", "Mapping.Use"]),
        "PVEPoolAdmin": frozenset(POOL),
        "PVEPoolUser": frozenset(["Pool.Audit"]),
        "PVESDNAdmin": frozenset(SDN),
        "PVESDNUser": frozenset(["SDN.Audit", "SDN.Use"]),
        "PVESysAdmin": frozenset(SYSTEM),
        "PVETemplateUser": frozenset(["VM.Audit", "VM.Clone"]),
        "PVEUserAdmin": frozenset(USER),
        "PVEVMAdmin": frozenset([*VM_ADMIN, *guest]),
        "PVEVMUser": frozenset(vm_user),
    }


def privileges(major: int) -> frozenset[str]:
    """Every privilege of a major version; any other is "invalid privilege"."""
    return builtin(major)["Administrator"]
