"""What a host said (`doctor --from-facts`): judged, and shown with all that would mend it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from fuzz import mutate
from fuzz.said import REPO, printed, printed_json
from nestlab.cli import doctor
from nestlab.doctor import advisories
from nestlab.doctor.finding import Want
from nestlab.doctor.fix_preview import show
from nestlab.doctor.remedies import remedies
from nestlab.hosts.facts import Facts

WANTS = (Want(), Want(guests=frozenset({"windows", "esxi", "macos"})), Want(role="plain"), Want(role="hypervisor"))

WORDS = (
    *(
        "Y",
        "N",
        "1",
        "0",
        "y",
        "n",
        "kvm_intel",
        "kvm_amd",
        "kvm_pvm",
        "kvm",
        "GenuineIntel",
        "AuthenticAMD",
        "vmx",
        "svm",
    ),
    *(
        "6.17.2-1-pve",
        "5.10.0",
        "4.15",
        "x86_64",
        "aarch64",
        "xen",
        "lxc",
        "docker",
        "wsl",
        "amazon",
        "microsoft",
        "qemu",
    ),
    *(
        "options kvm_intel nested=1\n",
        "options kvm ignore_msrs=1",
        'GRUB_CMDLINE_LINUX="quiet"\n',
        "root=/dev/sda1 kvm-amd.nested=0",
    ),
    *(
        "kvm: disabled by bios",
        "kvm_intel: VMX not supported",
        "integrity",
        "confidentiality",
        "Proxmox VE 9.1",
        "CVE-2021-3653",
    ),
)


class Fuzzed:
    """See `fuzz.target.Target`. A case is the text of a file of facts."""

    def __init__(self) -> None:
        self._seeds: list[Any] = [
            json.loads(path.read_text()) for path in sorted((REPO / "tests/facts").glob("*.json"))
        ]
        self._keys = sorted({key for seed in self._seeds for key in seed})

    def close(self) -> None:
        pass

    def make(self, rng: Random) -> bytes:
        seed = rng.choice(self._seeds)
        tree = mutate.tree(rng, seed, self._keys)
        if rng.random() < 0.6 and isinstance(tree, dict):
            tree = self._typed(rng, tree)
        if rng.random() < 0.1:
            return mutate.octets(rng, json.dumps(seed).encode())
        return mutate.json_text(rng, tree).encode(errors="surrogatepass")

    def _typed(self, rng: Random, tree: dict[str, Any]) -> dict[str, Any]:
        """Values of the right type that no host has said, so that they get past the reader."""
        good = {**rng.choice(self._seeds), **{key: tree[key] for key in tree if rng.random() < 0.3}}
        for _ in range(rng.choice((1, 2, 5))):
            key = rng.choice(list(good))
            good[key] = _like(rng, rng.choice(self._seeds).get(key, good[key]))
        return good

    def run(self, case: bytes, place: Path) -> str:
        file = place / "host.json"
        file.write_bytes(case)
        want = WANTS[len(case) % len(WANTS)]
        printed(lambda: doctor._judge_file(str(file), want, as_json=False))
        printed_json(lambda: doctor._judge_file(str(file), want, as_json=True))
        facts = Facts.from_json(case.decode())
        assert Facts.from_json(facts.to_json()) == facts
        risk = advisories.risk(facts)
        for temporary in (False, True):
            found = remedies(facts, (), want=want, temporary=temporary, accept_risk=temporary, risk=risk)
            printed(lambda found=found: doctor._tell(show(found), as_json=False))  # type: ignore[misc]
        return "judged"


def _like(rng: Random, value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return rng.choice([number for number in mutate.NUMBERS if isinstance(number, int)])
        case float():
            return rng.choice(mutate.NUMBERS)
        case str():
            return rng.choice((rng.choice(WORDS), rng.choice(mutate.TEXTS), mutate.inside(rng, value)))
        case list():
            return [_like(rng, each) for each in value for _ in range(rng.choice((0, 1, 1, 2)))] or [rng.choice(WORDS)]
        case dict():
            return {key if rng.random() < 0.8 else rng.choice(WORDS): _like(rng, each) for key, each in value.items()}
    return value
