"""Which CPU models there are, and how Proxmox VE writes a CPU that QEMU's words say. Pure.

Names are facts of QEMU 10 (`-cpu help`) and of PVE 9 (qemu-server, CPUConfig.pm and CPUFlags.pm).
"""

from __future__ import annotations

import re

from nestlab.lab.hardware import flags_of, model_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS = _words(
    """
    486 Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS Cascadelake-Server
    Cascadelake-Server-noTSX ClearwaterForest Conroe Cooperlake Denverton DiamondRapids Dhyana EPYC EPYC-Genoa
    EPYC-IBPB EPYC-Milan EPYC-Rome EPYC-Turin GraniteRapids Haswell Haswell-IBRS Haswell-noTSX
    Haswell-noTSX-IBRS Icelake-Server Icelake-Server-noTSX IvyBridge IvyBridge-IBRS KnightsMill Nehalem
    Nehalem-IBRS Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 Penryn SandyBridge SandyBridge-IBRS
    SapphireRapids SierraForest Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Server
    Skylake-Server-IBRS Skylake-Server-noTSX-IBRS Snowridge Westmere Westmere-IBRS YongFeng athlon base core2duo
    coreduo host kvm32 kvm64 max n270 pentium pentium2 pentium3 phenom qemu32 qemu64
    """
)
"""Models of QEMU, without the versions (`-v2`) that some have."""

_VERSION = re.compile(r"-v\d+$")

_NOT_ON_PVE = _words(
    """
    Denverton DiamondRapids Dhyana Snowridge YongFeng base n270
    """
)

_PVE_VERSIONS = _words(
    """
    Cascadelake-Server-v2 Cascadelake-Server-v4 Cascadelake-Server-v5 Cooperlake-v2 EPYC-Genoa-v2 EPYC-Milan-v2
    EPYC-Milan-v3 EPYC-Rome-v2 EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Rome-v5 EPYC-v3 EPYC-v4 EPYC-v5 GraniteRapids-v2
    GraniteRapids-v3 Icelake-Server-v3 Icelake-Server-v4 Icelake-Server-v5 Icelake-Server-v6 Icelake-Server-v7
    SapphireRapids-v2 SapphireRapids-v3 SapphireRapids-v4 SierraForest-v2 SierraForest-v3 Skylake-Client-v4
    Skylake-Server-v4 Skylake-Server-v5
    """
)

PVE_FLAGS = (
    *("aes", "amd-no-ssb", "amd-ssbd", "hv-evmcs", "hv-tlbflush", "ibpb", "md-clear", "pcid", "pdpe1gb", "spec-ctrl"),
    *("ssbd", "virt-ssbd"),
)
"""The flags that a machine on a Proxmox VE may be given, beside vmx and svm, which it calls nested-virt."""

NESTED = "nested-virt"


def known(model: str) -> bool:
    """Whether QEMU has the model."""
    return _VERSION.sub("", model) in MODELS


def on_pve(cpu: str) -> str:
    """The `cpu` option of a Proxmox VE: `Haswell,flags=+aes;-pcid`. ValueError says what PVE cannot."""
    model = model_of(cpu)
    if model in _NOT_ON_PVE or (_VERSION.search(model) and model not in _PVE_VERSIONS):
        raise ValueError(f"Proxmox VE has no CPU model {model}")
    flags: dict[str, str] = {}
    hidden = ""
    for name, value in flags_of(cpu).items():
        sign = {"on": "+", "off": "-"}.get(value)
        if name == "kvm" and sign is not None:
            hidden = ",hidden=1" if sign == "-" else ""
        elif name in ("vmx", "svm") and sign is not None:
            if model != "host":
                flags[NESTED] = sign
        elif name in PVE_FLAGS and sign is not None:
            flags[name] = sign
        else:
            raise ValueError(f"Proxmox VE gives a machine no `{name}`: of flags it takes {', '.join(PVE_FLAGS)}")
    text = ";".join(f"{sign}{name}" for name, sign in flags.items())
    return model + hidden + (f",flags={text}" if text else "")
