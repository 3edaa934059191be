"""The POSIX shell script that collects facts from a host, and the parser of its output. Pure.

The script changes nothing, loads no module and forks little (a virtual machine's shell is slow): most files come from
one grep. Its output is parts, each begun by a line with a word made for that run, so that no file's content can pass
for one. It is given the source of `probe.py`, which is the first choice for what both can see.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from nestlab.base.errors import LabError
from nestlab.doctor import advisories, gather_output
from nestlab.doctor.modprobe_options import DIRECTORIES
from nestlab.explain import clouds
from nestlab.hosts import probe
from nestlab.hosts.facts import Device, Facts, Holder, Package

MODULES = (
    "kvm kvm_intel kvm_amd kvm_pvm kvm_hv kvm_pr msr vboxdrv vmmon mshv mshv_root mshv_vtl acrn"
    " xen_privcmd xen_evtchn xen_gntdev"
)
TOOLS = (
    "modprobe update-grub grub2-mkconfig grub-mkconfig grubby proxmox-boot-tool kernelstub update-initramfs dracut"
    " mkinitcpio systemctl python3 qm virsh sudo"
)
NODES = ("/dev/vhost-net", "/dev/net/tun")
CGROUPS = ("/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers", "/proc/cgroups")
RECORD = "/var/lib/nestlab/doctor/record.json"
FILES = f"/etc/default/grub /etc/default/grub.d/*.cfg /etc/kernel/cmdline /etc/kernel/proxmox-boot-uuids {RECORD}"
CLOUDS = re.compile("|".join(["KubeVirt", *(re.escape(word) for cloud in clouds.CLOUDS for word in cloud.dmi)]))
"""Asset tags that name a cloud. Others are their owner's, and nobody else's business."""

_DMI = "sys_vendor product_name product_version product_family board_vendor board_name bios_vendor bios_version"
_READ = (
    *(path for path in probe.PATHS.split() if path not in ("/proc/cpuinfo", *gather_output.ROUTES)),
    *(f"/sys/class/dmi/id/{name}" for name in f"{_DMI} chassis_asset_tag".split()),
    *CGROUPS,
    "/sys/module/kvm*/parameters/* /proc/cmdline /proc/sys/kernel/version /proc/sys/kernel/random/boot_id",
    "/sys/kernel/security/lockdown /sys/kernel/mm/ksm/run /sys/kernel/mm/hugepages/hugepages-*/nr_hugepages",
)
_SAID = (
    r"kvm(_[a-z]+|-pvm| \[[0-9]+\])?:|vmx|svm|[^a-z]sev[^a-z]|tdx|vt-x|by (bios|firmware)|memory encryption|locked down"
    r"|invalid for parameter|vboxdrv|vmmon"
)
_CVES = "|".join(advisories.CVES)

# The numbers of VMs and holders come first, because the probe makes a VM of its own; the rest runs beside the probe.
SCRIPT = rf"""
exec 2>/dev/null
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
read -r mark </proc/sys/kernel/random/uuid || mark=nestlab-$$-$PPID
read -r release </proc/sys/kernel/osrelease
printf 'nestlab facts %s\n' "$mark"
part() {{ printf '\n%s %s\n' "$mark" "$1"; }}
has() {{ command -v "$1" >/dev/null; }}
# For what may hang: another process's memory, a network's file system, rpm's lock, programs.
bound= long=
timeout 9 true && bound='timeout 9' long='timeout 30'

part read
grep -s '' /dev/null {" ".join(_READ)}
part marks
for f in {" ".join((*probe.MARKS, *NODES))}; do [ -e "$f" ] && echo "$f"; done
part id
id
part modules
scan=
for m in {MODULES}; do
  d=/sys/module/$m
  [ -d $d ] || continue
  count=- how=builtin users=
  read -r count <$d/refcnt
  [ -e $d/initstate ] && how=loaded
  for h in $d/holders/*; do [ -e "$h" ] && users="$users ${{h##*/}}"; done
  echo "$m $how $count$users"
  case $m/$count in kvm/*) ;; kvm_*/0) scan=${{scan:-0}} ;; kvm_*) scan=1 ;; esac
done
[ -e /dev/kvm ] && scan=${{scan:-1}}
if [ "$scan" = 1 ]; then
  echo scanned
  if find /dev/null -lname x; then
    found=$(find /proc/[0-9]*/fd -lname anon_inode:kvm-vm -o -lname /dev/kvm)
  else
    found=$(ls -ln /proc/[0-9]*/fd |
      sed -n -E -e '/^\/proc/h' -e '/-> (anon_inode:kvm-vm|\/dev\/kvm)$/{{' -e g -e p -e '}}')
  fi
  last=
  for f in $found; do
    f=${{f#/proc/}} f=${{f%%/*}}
    [ "$f" = "$last" ] && continue
    last=$f command=
    read -r command </proc/$f/comm
    part "holder $f"
    printf '%s\n' "$command"
    $bound cat /proc/$f/cmdline
  done
fi

rest() {{
part device
ls -lLd /dev/kvm
part available
[ -d "/lib/modules/$release" ] || echo none
grep -soE '^[^:]*/({MODULES.replace(" ", "|").replace("_", "[-_]")})\.ko' \
  /lib/modules/$release/modules.dep /lib/modules/$release/modules.builtin
part tools
for t in {TOOLS}; do has $t && echo $t; done
part disk
if [ -d /var/lib ]; then $bound df -Pk / /var/lib; else $bound df -Pk /; fi
part iommu
[ -d /sys/kernel/iommu_groups ] && set -- /sys/kernel/iommu_groups/* && [ -e "$1" -o "$#" = 1 ] && echo $# "$1"
part mounts
grep -sE '^[^ ]+ (/|/etc|/etc/modprobe\.d) ' /proc/self/mounts
d=/etc/modprobe.d
[ -d $d ] || d=/etc
[ -w $d ] && echo writable
part container
[ -r /proc/1/environ ] && tr '\0' '\n' </proc/1/environ | grep '^container='
part messages
if has dmesg; then
  {{ dmesg 2>&1 || echo 'dmesg: failed'; }} | grep -iE '^dmesg: |{_SAID}' |
    sed -e '1,20b' -e ':a' -e '$q;N;41,$D;ba'
else
  echo 'dmesg: there is no such command'
fi
part msr
m=/dev/cpu/0/msr
if [ ! -e $m ]; then echo 'no module msr'
elif (: <$m); then
  for n in 58 3221291284; do
    echo $n $($bound dd if=$m bs=8 count=1 iflag=skip_bytes skip=$n | od -An -v -tx1)
  done
else echo 'permission denied'
fi
configuration
packages
}}

show() {{ part "file $1"; [ ! -f "$1" ] || cat "$1"; }}
configuration() {{
  set --
  dirs=
  part denied
  for d in {" ".join(DIRECTORIES)}; do
    [ -d $d ] || continue
    case $d in /lib/*) [ -L /lib -o -L $d ] && continue ;; esac
    if [ -r $d -a -x $d ]; then dirs="$dirs $d"; else echo $d; continue; fi
    for f in $d/*.conf; do
      [ -f "$f" ] || continue
      if [ -r "$f" ]; then set -- "$@" "$f"; else echo "$f"; fi
    done
  done
  for f in {FILES}; do [ -e "$f" -a ! -r "$f" ] && echo "$f"; done
  for d in {RECORD.rpartition("/")[0]} /etc/kernel /etc/default; do [ -d $d -a ! -x $d ] && echo $d; done
  # A file hides those of its name in later directories, also if it is empty or /dev/null.
  grep -ls kvm /dev/null "$@" | while IFS= read -r f; do
    for d in $dirs; do [ -e "$d/${{f##*/}}" ] && show "$d/${{f##*/}}"; done
  done
  for f in {FILES}; do [ -r "$f" ] && show "$f"; done
}}

# Of a changelog: the package, the CVEs that count, the first other one, and CVE-0-0 if it was read to its end.
cves() {{
  grep -oE '^is [^ ]+ [^ ]+$|CVE-[0-9]+-[0-9]+' |
    sed -n -E -e '/^(is .*|CVE-0-0|{_CVES})$/{{p;d;}}' -e 'x;/./{{x;d;}};x;h;p'
}}
packages() {{
  r=$release known=
  part packages
  if has dpkg-query; then
    known=$(dpkg-query -W -f='${{db:Status-Status}} ${{Package}} ${{Version}}\n' \
      linux-image-$r linux-image-unsigned-$r linux-image-uc-$r proxmox-kernel-$r-signed proxmox-kernel-$r \
      pve-kernel-$r pve-manager pve-qemu-kvm qemu-system-x86 \
      libvirt-daemon libvirt-clients)
    printf '%s\n' "$known"
    part changelog
    for p in linux-modules-$r linux-image-unsigned-$r linux-image-$r \
      proxmox-kernel-$r-signed proxmox-kernel-$r pve-kernel-$r; do
      for f in changelog.Debian.gz changelog.gz; do
        f=/usr/share/doc/$p/$f
        [ -r $f ] && {{ gzip -dc $f && echo CVE-0-0; }} | cves && break 2
      done
    done
  elif has rpm; then
    known=$($bound rpm -q --qf 'installed %{{NAME}} %{{VERSION}}\n' \
      qemu-kvm-core qemu-system-x86-core qemu-x86 libvirt-daemon libvirt-client | grep '^installed ')
    printf '%s\n' "$known"
    part changelog
    for f in /lib/modules/$r/vmlinuz /boot/vmlinuz-$r; do
      [ -e $f ] || continue
      {{ $bound rpm -q --qf 'is %{{NAME}} %{{VERSION}}-%{{RELEASE}}\n[%{{CHANGELOGTEXT}}\n]' -f $f && echo CVE-0-0; }} |
        cves && break
    done
  else
    echo none
  fi
  case $known in
  *'installed qemu-'* | *'installed pve-qemu'*) ;;
  *) for q in qemu-system-x86_64 kvm /usr/libexec/qemu-kvm; do
      has $q && {{ part qemu; $bound $q --version; break; }}
    done ;;
  esac
  case $known in
  *'installed libvirt-'*) ;;
  *) for q in libvirtd virsh; do has $q && {{ part libvirt; $bound $q --version; break; }}; done ;;
  esac
}}

# The system's own first: one on the PATH may be a version manager's, which takes its time.
python=python3
case :$PATH: in *:/usr/bin:*) [ -x /usr/bin/python3 ] && python=/usr/bin/python3 ;; esac
if has $python; then $long $python -ISE - 2>&1; fi | {{
  rest </dev/null
  part probe
  said=$(cat)
  printf '%s\n' "$said"
  case $said in *'{gather_output.PROBED}'*) ;; *)
    part cpu
    sed '/^$/q' /proc/cpuinfo
    part read
    grep -s '' /dev/null {" ".join(gather_output.ROUTES)} /sys/devices/system/cpu/online
    part arch
    uname -m
    part clock
    date +%s
    part kvm
    if [ -e /dev/kvm ]; then (: <>/dev/kvm) 2>&1 && echo opened; else echo '/dev/kvm: No such file or directory'; fi
  esac
  part end
}}
"""


def parse(text: str, where: str) -> Facts:
    """The facts in what SCRIPT printed on `where`. LabError if it printed something else, or not to its end."""
    begin = re.search(r"^nestlab facts ([\w-]+)$", text, re.MULTILINE)
    parts = text[begin.end() :].split(f"\n{begin[1]} ") if begin else []
    if not begin or parts[-1].strip() != "end":
        what = f"{where}: what it was asked brought no facts." if not begin else f"{where}: its facts broke off."
        raise LabError(what, hint="Is its shell a POSIX shell, and does it stay connected?", detail=text[-500:])
    named: dict[str, str] = {}
    for part in parts[1:]:
        name, _, content = part.partition("\n")
        named[name] = named[name] + content if name == "read" and name in named else content
    try:
        return _facts(named)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        what = f"{where}: the facts it told make no sense: {error}."
        raise LabError(what, hint="This is a bug in nestlab, or its /proc and /sys lie.", detail=text[:500]) from error


def _facts(parts: dict[str, str]) -> Facts:
    files = gather_output.files(parts.get("read", ""))
    files.update(dict.fromkeys(parts.get("marks", "").split(), ""))
    modules = gather_output.modules(parts.get("modules", ""), parts.get("available", ""))
    found = gather_output.of_probe(parts.get("probe", "")) or gather_output.of_files(parts, files)
    found["parameters"] = {**probe.facts(files, [])["parameters"], **found["parameters"]}  # type: ignore[dict-item]
    uid, _, groups = gather_output.identity(parts.get("id", ""))
    uid = found.setdefault("uid", uid)
    container, machine = gather_output.place(files, set(found["flags"]), parts)
    memory = files.get("/proc/meminfo", "")
    package = _package(parts)
    return Facts(
        **found,
        **_kernel(files),
        examined=True,
        unseen=_unseen(parts, uid, package, container),
        container=container,
        machine=machine,
        dmi=_dmi(files),
        package=package,
        versions=gather_output.versions(parts),
        kernel_modules=modules,
        device=gather_output.device(parts.get("device", "")) or Device(),
        nodes=frozenset(name for name in NODES if name in files),
        cgroups=_cgroups(files),
        groups=groups,
        holders=_holders(parts),
        files={name[5:]: content for name, content in parts.items() if name.startswith("file ")},
        tools=frozenset(parts.get("tools", "").split()),
        readonly=gather_output.readonly(parts.get("mounts", ""), uid),
        messages=tuple(line for line in _lines(parts, "messages") if not line.startswith("dmesg: ")),
        msr=gather_output.registers(parts.get("msr", "")),
        disk=gather_output.disk(parts.get("disk", "")),
        swap=gather_output.kib(memory, "SwapTotal"),
        ksm={"0": False, "1": True, "2": False}.get(files.get("/sys/kernel/mm/ksm/run", "").strip()),
        hugepages=gather_output.hugepages(files),
        iommu=gather_output.groups(parts.get("iommu", "")),
    )


def _kernel(files: dict[str, str]) -> dict[str, Any]:
    mode = re.search(r"\[(\w+)\]", files.get("/sys/kernel/security/lockdown", ""))
    return {
        "kernel_build": files.get("/proc/sys/kernel/version", "").strip(),
        "cmdline": files.get("/proc/cmdline", "").strip(),
        "boot_id": files.get("/proc/sys/kernel/random/boot_id", "").strip(),
        "lockdown": mode[1] if mode else "",
    }


def _cgroups(files: dict[str, str]) -> frozenset[str] | None:
    """Of version 2 by its file of controllers; of version 1 by the table, whose last column says enabled."""
    found = {word for path in CGROUPS[:2] for word in files.get(path, "").split()}
    rows = (line.split() for line in files.get(CGROUPS[2], "").splitlines() if not line.startswith("#"))
    found |= {row[0] for row in rows if len(row) == 4 and row[3] == "1"}
    return frozenset(found) if any(path in files for path in CGROUPS) else None


def _dmi(files: dict[str, str]) -> dict[str, str]:
    folder = "/sys/class/dmi/id/"
    found = {path.removeprefix(folder): text.strip() for path, text in files.items() if path.startswith(folder)}
    if not CLOUDS.search(found.get("chassis_asset_tag", "")):
        found.pop("chassis_asset_tag", None)
    return {name: value for name, value in found.items() if value}


def _holders(parts: dict[str, str]) -> tuple[Holder, ...]:
    said = {name[7:]: content for name, content in parts.items() if name.startswith("holder ")}
    return tuple(gather_output.holder(int(pid), said[pid]) for pid in sorted(said, key=int))


def _package(parts: dict[str, str]) -> Package:
    name, version = gather_output.kernel_package(parts.get("packages", ""), parts.get("changelog", ""))
    cves = [word for word in _lines(parts, "changelog") if word.startswith("CVE-")]
    kept = tuple(sorted({word for word in cves if word != "CVE-0-0"}))
    return Package(name, version, changelog="CVE-0-0" in cves, cves=kept)


def _unseen(parts: dict[str, str], uid: int, package: Package, container: str) -> dict[str, str]:
    """The facts that are out of sight, and why."""
    unseen = dict.fromkeys(_lines(parts, "denied"), "permission denied")
    refused = [line for line in _lines(parts, "messages") if line.startswith("dmesg: ")]
    if refused:
        unseen["messages"] = refused[0]
    if not package.changelog:
        known = f"of {package.name} " if package.name else "of the running kernel "
        reason = f"no changelog {known}is installed" if package.name or not container else ""
        unseen["changelog"] = reason or "the kernel's package is not in this container"
    if "scanned" in parts.get("modules", "").split() and (uid != 0 or container):
        unseen["holders"] = "not root" if uid != 0 else f"only the processes of this container ({container})"
    msr = parts.get("msr", "").strip()
    if not gather_output.registers(msr):
        unseen["msr"] = msr if msr and not msr[0].isdigit() else "it cannot be read"
        if uid != 0:
            unseen["msr"] = "not root"
    if parts.get("available", "").split()[:1] == ["none"]:
        unseen["modules"] = "there is no directory of modules for the running kernel"
    said = parts.get("probe", "").strip()
    if gather_output.PROBED not in said:
        unseen["kvm"] = f"python3 failed: {said.splitlines()[-1][:200]}" if said else "there is no python3"
    return unseen


def _lines(parts: dict[str, str], name: str) -> list[str]:
    return [line for line in parts.get(name, "").splitlines() if line.strip()]


if __name__ == "__main__":  # to write it to gather.sh, from where a hurried doctor reads it
    sys.stdout.write(SCRIPT)
