"""A directory that looks like a host's root to the surgeon: modprobe, update-grub and the like are scripts that do in
it what the real ones do to a host."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nestlab.doctor.change_record import Record
from nestlab.doctor.remedies import remedies
from nestlab.doctor.surgery import Outcome, Surgeon
from nestlab.hosts.facts import Facts, Holder, Module
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost

MODPROBE = r"""#!/bin/sh
echo "modprobe $*" >> "$FAKE_LOG"
config=$FAKE_ROOT/etc/modprobe.d unload=
while :; do case $1 in -r) unload=1; shift;; -C) config=/nowhere; shift 2;; *) break;; esac; done
module=$1; shift
all=$FAKE_ROOT/sys/module
if [ "$unload" ]; then
  if [ "$(cat "$all/$module/refcnt")" != 0 ]; then echo "modprobe: FATAL: Module $module is in use." >&2; exit 1; fi
  [ -z "$FAKE_SLOW" ] || sleep "$FAKE_SLOW"
  rm -rf "${all:?}/$module" "$all/kvm"; exit 0
fi
if [ -s "$FAKE_LOG.fail" ]; then
  sed -i 1d "$FAKE_LOG.fail"; echo "modprobe: ERROR: could not insert '$module'" >&2; exit 1
fi
value() {  # module, parameter, default, further options
  cat "$config"/*.conf 2>/dev/null | awk -v m="$1" -v p="$2=" -v v="$3" -v more="$4" '
    $1 == "options" && $2 == m { for (i = 3; i <= NF; i++) if (index($i, p) == 1) v = substr($i, length(p) + 1) }
    END { n = split(more, a, " "); for (i = 1; i <= n; i++) if (index(a[i], p) == 1) v = substr(a[i], length(p) + 1)
          print v }'
}
put() { mkdir -p "${1%/*}"; echo "$2" > "$1"; chmod "$3" "$1"; }
umask 022
mkdir -p "$all"
if [ ! -d "$all/kvm" ]; then
  own=$all/kvm/parameters
  put "$own/ignore_msrs" "$(value kvm ignore_msrs N | tr 10yn YNYN)" 644
  put "$own/report_ignored_msrs" Y 644
  put "$own/halt_poll_ns" 200000 644
  put "$own/enable_pmu" Y 444
fi
[ "$module" = kvm ] && exit 0
[ -d "$all/$module" ] && exit 0
found=$(value "$module" nested 1 "$*")
case $module in kvm_intel) found=$(echo "$found" | tr 10yn YNYN);; esac
put "$all/$module/parameters/nested" "$found" 444
put "$all/$module/refcnt" 0 444
"""
INSMOD = """#!/bin/sh
echo "insmod $*" >> "$FAKE_LOG"
module=${1##*/}; shift
: > "$FAKE_LOG.fail"
exec modprobe -C /dev/null "${module%.ko}" "$@"
"""
GRUB = """#!/bin/sh
[ -z "$FAKE_SICK" ] || { echo "update-grub: sick" >&2; exit 3; }
. "$FAKE_ROOT/etc/default/grub"
echo "linux $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT" > "$FAKE_ROOT/boot/grub.cfg"
"""
SCRIPTS = {
    "modprobe": MODPROBE,
    "insmod": INSMOD,
    "modinfo": '#!/bin/sh\necho "/lib/modules/$2.ko"\n',
    "update-grub": GRUB,
    "proxmox-boot-tool": '#!/bin/sh\ncat "$FAKE_ROOT/etc/kernel/cmdline" > "$FAKE_ROOT/boot/esp"\n',
    "grubby": """#!/bin/sh
for each in "$FAKE_ROOT"/boot/loader/entries/*.conf; do
  sed -i -e "s/^options .*/& ${2#--args=}/" "$each"
done
echo "GRUB_CMDLINE_LINUX=\\"${2#--args=}\\"" > "$FAKE_ROOT/etc/default/grub"
""",
    "id": "#!/bin/sh\necho ${FAKE_ID:-0}\n",
}

GRUB = 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'

Tree = dict[str, tuple[int, bytes | None]]


@dataclass
class FakeRoot:
    """`tools`: which scripts the host has. `builtin`: the vendor module cannot be loaded again."""

    folder: Path
    vendor: str = "kvm_amd"
    builtin: bool = False
    tools: tuple[str, ...] = ("modprobe",)
    holders: tuple[Holder, ...] = ()

    def __post_init__(self) -> None:
        self.root = self.folder / "root"
        self.log = self.folder / "log"
        bins = self.folder / "bin"
        bins.mkdir(parents=True)
        (self.root / "sys/module").mkdir(parents=True)
        (self.root / "var/lib").mkdir(parents=True)
        self.write("/proc/sys/kernel/random/boot_id", "first\n")
        for name in {*self.tools, "modprobe", "id", "insmod", "modinfo"}:
            (bins / name).write_text(SCRIPTS[name])
            (bins / name).chmod(0o755)
        self.env = {
            "PATH": f"{bins}:{os.environ['PATH']}",
            "FAKE_ROOT": str(self.root),
            "FAKE_LOG": str(self.log),
        }

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)
        self.at(path).chmod(mode)

    def read(self, path: str) -> str:
        return self.at(path).read_text()

    def parameter(self, name: str) -> str:
        module, _, own = name.partition(".")
        return self.read(f"/sys/module/{module}/parameters/{own}").strip()

    def load(self, *options: str) -> None:
        """Load the vendor module, like somebody at the shell."""
        subprocess.run(["modprobe", self.vendor, *options], env=self.env, check=True)
        self.log.unlink(missing_ok=True)

    def use(self, count: int) -> None:
        path = self.at(f"/sys/module/{self.vendor}/refcnt")
        path.chmod(0o644)
        path.write_text(f"{count}\n")
        path.chmod(0o444)

    def reboot(self) -> None:
        shutil.rmtree(self.at("/sys/module"))
        self.write("/proc/sys/kernel/random/boot_id", "second\n")
        self.load()

    def commands(self) -> list[str]:
        """What modprobe and insmod were called with."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def facts(self) -> Facts:
        files = {}
        for pattern in ("etc/modprobe.d/*.conf", "etc/default/grub", "etc/kernel/*"):
            for each in self.root.glob(pattern):
                files[f"/{each.relative_to(self.root)}"] = each.read_text(errors="replace")
        parameters, modules = {}, {}
        for folder in self.at("/sys/module").iterdir():
            for each in (folder / "parameters").iterdir():
                parameters[f"{folder.name}.{each.name}"] = each.read_text().strip()
            count = folder / "refcnt"
            refcnt = int(count.read_text()) if count.exists() and not self.builtin else None
            modules[folder.name] = Module(loaded=not self.builtin, builtin=self.builtin, refcnt=refcnt)
        intel = self.vendor == "kvm_intel"
        return Facts(
            kernel="6.12.0",
            arch="x86_64",
            vendor="GenuineIntel" if intel else "AuthenticAMD",
            flags=frozenset({"vmx" if intel else "svm", "lm"}),
            provider=self.vendor if self.vendor in modules else "",
            parameters=parameters,
            uid=0,
            examined=True,
            kernel_modules=modules,
            holders=self.holders,
            files=files,
            tools=frozenset(self.tools),
        )

    def tree(self) -> Tree:
        """Every path with its mode and, for files, its content."""
        found: Tree = {}
        for each in sorted(self.root.rglob("*")):
            content = None if each.is_dir() else each.read_bytes()
            found[str(each.relative_to(self.root))] = (each.lstat().st_mode, content)
        return found

    def surgeon(self, host: Host | None = None, said: list[str] | None = None) -> Surgeon:
        heard: list[str] = [] if said is None else said
        return Surgeon(host or LocalHost(), heard.append, str(self.root), self.env)


def grub(folder: Path) -> FakeRoot:
    """A host whose vendor module is built in, with nested off, and which GRUB boots."""
    root = FakeRoot(folder, builtin=True, tools=("update-grub",))
    root.write("/etc/default/grub", GRUB, 0o640)
    root.load("nested=0")
    root.at("/boot").mkdir()
    subprocess.run(["update-grub"], env=root.env, check=True)
    return root


async def fix(root: FakeRoot, *checks: str, host: LocalHost | None = None, **more: Any) -> Outcome:
    return await root.surgeon(host).fix(remedies(root.facts(), checks, **more))


async def undo(root: FakeRoot, host: LocalHost | None = None) -> Outcome:
    return await root.surgeon(host).undo()


async def record(root: FakeRoot) -> Record | None:
    return (await root.surgeon().hands.record())[1]
