"""Logs and configurations, as `explain` reads them and as hints for what programs print are made."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fuzz import mutate
from fuzz.said import REPO, printed, printed_json
from nestlab.base.printable import console_lines
from nestlab.cli.explain import explain
from nestlab.engines.qemu.console import Watch
from nestlab.explain.explain import advice
from nestlab.explain.search import needles
from nestlab.explain.signatures import TABLE

CONFIGURATIONS = (
    "agent: 1\nballoon: 0\nboot: order=scsi0\ncores: 2\ncpu: host,flags=+aes;-vmx\nmemory: 4096\n"
    "net0: virtio=BC:24:11:00:00:01,"
    "bridge=vmbr0,firewall=1\nnuma: 0\nostype: win11\nscsi0: local:100/vm-100-disk-0.qcow2,size=32G\nvga: qxl\n"
    "args: -cpu host,+svm\n",
    "cpu-model: nested\n    flags +vmx;-svm\n    phys-bits host\n    hidden 1\n    reported-model qemu64\n",
    "<domain type='kvm'>\n  <cpu mode='custom' match='exact'>\n    <model fallback='allow'>Skylake-Client</model>\n"
    "    <feature policy='disable' name='vmx'/>\n  </cpu>\n  <interface type='bridge'>\n"
    "    <model type='e1000'/>\n  </interface>\n</domain>\n",
    "<domain type='qemu'>\n  <cpu mode='host-passthrough'/>\n</domain>\n",
    "qemu-system-x86_64 -machine q35,accel=kvm -cpu Skylake,-vmx -m 4G -smp 2 -enable-kvm -device virtio-net-pci\n",
    "/usr/bin/kvm -id 100 -cpu kvm64,+svm,enforce \\\n  -smp 4 -no-kvm\n",
)

BROKEN = (
    *(
        b"<",
        b"<cpu",
        b"<cpu mode='",
        b"</cpu>",
        b"-cpu ",
        b"-cpu host,",
        b"flags=",
        b"cpu:",
        b"args:",
        b"\\\n",
        b" " * 5000,
    ),
    *(
        b"\x1b[",
        b"\x1b]",
        b"\x1b" * 3000,
        b"\xc2",
        b"qemu" * 2000,
        b"kvm: " * 3000,
        b"(" * 3000,
        b"0x" * 3000,
        b"," * 9000,
    ),
)


class Fuzzed:
    """See `fuzz.target.Target`. A case is a log."""

    def __init__(self) -> None:
        self._lines = [example for signature in TABLE for example in signature.example.split("\n")]
        self._needles = [needle for signature in TABLE for needle in needles(signature.pattern)]
        self._texts = [path.read_text(errors="replace") for path in sorted((REPO / "tests/golden").glob("*/*.txt"))]

    def close(self) -> None:
        pass

    def make(self, rng: Random) -> bytes:
        ways = (
            (5.0, lambda: mutate.lines(rng, self._log(rng), self._lines).encode(errors="surrogatepass")),
            (
                3.0,
                lambda: mutate.octets(
                    rng, self._log(rng).encode(), (*BROKEN, *(needle.encode() for needle in self._needles))
                ),
            ),
            (2.0, lambda: mutate.octets(rng, rng.choice(CONFIGURATIONS).encode(), BROKEN)),
            (1.0, lambda: b" ".join(self._piece(rng) for _ in range(rng.choice((3, 30, 200))))),
            (0.05, lambda: self._long(rng)),
        )
        return mutate.one_of(rng, *ways)

    def _log(self, rng: Random) -> str:
        many = [rng.choice(self._lines) for _ in range(rng.choice((1, 2, 5, 30)))]
        many += [rng.choice((*CONFIGURATIONS, *self._texts))] if rng.random() < 0.3 else []
        rng.shuffle(many)
        return "\n".join(
            f"{rng.choice(('', '[    1.234567] ', 'Nov 01 10:00:00 pve1 kernel: '))}{line}" for line in many
        )

    def _piece(self, rng: Random) -> bytes:
        choice = rng.randrange(4)
        if choice == 0:
            return rng.choice(BROKEN)
        if choice == 1:
            return rng.choice(mutate.TEXTS).encode(errors="surrogatepass")
        return rng.choice((self._needles, self._lines)[choice - 2]).encode()

    def _long(self, rng: Random) -> bytes:
        """Half a megabyte: one piece again and again, on one line or on many."""
        piece = rng.choice(
            (*BROKEN, *(needle.encode() for needle in self._needles), rng.choice(CONFIGURATIONS).encode())
        )
        between = rng.choice((b"", b" ", b"\n", b"a"))
        return (piece + between) * (500_000 // (len(piece) + 1))

    def run(self, case: bytes, place: Path) -> str:
        file = place / "log"
        file.write_bytes(case)
        explained = explain.__wrapped__  # type: ignore[attr-defined]
        printed_json(lambda: explained([str(file)], as_json=True))
        if len(case) < 100_000:
            advice(case.decode(errors="replace"))
            watch = Watch()
            for line in case.split(b"\n"):
                watch.feed(line)
                console_lines(line)
        printed(lambda: explained([str(file)], as_json=False))
        return "explained"
