"""What in a machine's configuration keeps its guests from KVM or from the network: `qm config` and cpu-models.conf of
Proxmox VE, `virsh dumpxml`, and command lines of QEMU, also in the middle of a log. Pure.

Read line by line, without a parser of the format: what is given may be cut off, or hostile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from nestlab.base.frozen import frozen

GENERIC = r"(?:qemu|kvm)(?:32|64)|cpu64-rhel\d|x86-64-v[1-4][\w-]*|core2duo|coreduo|n270|pentium\d?|486"
"""CPU models that are no processor's: what goes with vmx or svm is not in them."""

_INTEL = (
    r"(?:Conroe|Penryn|Nehalem|Westmere|SandyBridge|IvyBridge|Haswell|Broadwell|Skylake|Cascadelake|Cooperlake|Icelake"
    r"|SapphireRapids|GraniteRapids|SierraForest|ClearwaterForest|Snowridge|Denverton|KnightsMill)[\w.-]*"
)
_AMD = r"(?:EPYC|Opteron_G|Dhyana|athlon|phenom)[\w.-]*"

LONGEST = 200
"""Characters of a line that are shown."""

_HOST = "Give it the host's own CPU instead"


@frozen
class Remark:
    """Something in a configuration: `line` is its text, `number` counts from 1, `times` such lines are there. `sure`:
    it is wrong whatever the machine is for; else only if it is to have guests of its own."""

    name: str
    number: int
    line: str
    cause: str
    do: str
    see: str
    sure: bool = True
    times: int = 1


def remarks(text: str) -> tuple[Remark, ...]:
    """What is wrong in the configurations in a text, in the order of their lines, the same line once; () where there
    are none."""
    readers = (_PVE_MARK, _pve), (r"^cpu-model:", _pve_models), (_XML_MARK, _libvirt), (r"-cpu\b", _commands)
    wanted = [reader for mark, reader in readers if re.search(mark, text, re.MULTILINE)]
    lines = text.split("\n") if wanted else []
    found = [remark for reader in wanted for remark in reader(lines)]
    one = {(each.name, each.number): each for each in reversed(found)}
    alike: dict[tuple[str, str, str], list[Remark]] = {}
    for each in sorted(one.values(), key=lambda each: each.number):
        alike.setdefault((each.name, each.line, each.cause), []).append(each)
    return tuple(replace(same[0], times=len(same)) for same in alike.values())


def _remark(name: str, at: int, line: str, told: tuple[str, str, str], *, sure: bool = True) -> Remark:
    cause, do, see = told
    return Remark(name, at + 1, line.strip()[:LONGEST], cause, do, see, sure)


# -- Proxmox VE

_PVE_LINE = re.compile(
    r"(agent|args|balloon|bios|boot|bootdisk|cores|cpu|cpulimit|efidisk0|hostpci\d+|ide\d+|kvm|machine|memory|meta|name"
    r"|net\d+|numa|onboot|ostype|parent|sata\d+|scsi\d+|scsihw|serial\d+|smbios1|sockets|tags|template|tpmstate0|vga"
    r"|virtio\d+|vmgenid): +(\S.*)"
)
_PVE_MARK = r"^(?:memory|scsihw|vmgenid|smbios1|cores|ostype): "
_PVE_SEE = "Proxmox VE: Administration Guide, Qemu/KVM Virtual Machines: CPU Type; Nested Virtualization"
_PVE_HOST = f"{_HOST}: `qm set VMID --cpu host`; then stop and start it (a reboot from inside keeps the old CPU)."


def _pve(lines: list[str]) -> Iterator[Remark]:
    matches = {at: match for at, line in enumerate(lines) if (match := _PVE_LINE.fullmatch(line.strip()))}
    keys = {match[1] for match in matches.values()}
    if len(keys) < 3 or not keys & {"memory", "scsihw", "vmgenid", "smbios1", "cores", "ostype"}:
        return
    emulated = any(match[1] == "kvm" and match[2] == "0" for match in matches.values())
    for at, match in matches.items():
        key, value = match[1], match[2]
        if key == "cpu":
            yield from _pve_cpu(at, lines[at], value, emulated=emulated)
        elif key == "args" and (cpu := re.search(r"-cpu[ =]['\"]?([^\s'\"]+)", value)):
            told = f"`args` gives QEMU a second -cpu ({cpu[1][:60]}), which replaces the one of `cpu:`."
            added = re.search(r"\+(vmx|svm)\b", cpu[1])
            told += f" In it {why}" if added and (why := _by_hand(cpu[1].split(",")[0], added[1])) else ""
            do = f"Remove it: `qm set VMID --delete args` (where it has nothing else). {_PVE_HOST}"
            yield _remark("pve-args-cpu", at, lines[at], (told, do, _PVE_SEE), sure=not cpu[1].startswith("host"))
        elif key == "kvm" and value == "0":
            told = "`kvm: 0` emulates this machine: tens of times slower, and without the host's vmx or svm."
            do = "Switch it on: `qm set VMID --kvm 1`; if that does not start, run `nestlab doctor` on the node."
            yield _remark("pve-kvm-off", at, lines[at], (told, do, _PVE_SEE))
        elif key.startswith("net") and re.search(r"(?:^|,)firewall=1(?:,|$)", value):
            yield _firewall(at, lines[at], key, value)
    if "cpu" not in keys and not emulated:
        told = "It has no `cpu:`, so its CPU is kvm64, which has neither vmx nor svm."
        at = min(matches)
        yield _remark("pve-cpu-default", at, lines[at], (told, _PVE_HOST, _PVE_SEE), sure=False)


def _pve_cpu(at: int, line: str, value: str, *, emulated: bool) -> Iterator[Remark]:
    model = re.sub(r"^cputype=", "", value.split(",")[0])
    if model == "host" and emulated:
        told = "`cpu: host` needs KVM, and `kvm: 0` switches it off: the machine does not start."
        do = "`qm set VMID --kvm 1`, or `--cpu max` to emulate (with svm for its guests)."
        yield _remark("pve-host-without-kvm", at, line, (told, do, _PVE_SEE))
    elif taken := re.search(r"-(vmx|svm|nested-virt)\b", value):
        told = f"`{taken[0]}` takes virtualization from the CPU: guests in this machine get no KVM."
        yield _remark("cpu-flag-off", at, line, (told, _PVE_HOST, _PVE_SEE))
    elif added := re.search(r"\+(vmx|svm)\b", value):
        told = f"{added[1]} is added by hand to {model}: what goes with it is not in that model, and guests crash."
        yield _remark("cpu-by-hand", at, line, (told, _PVE_HOST, _PVE_SEE))
    elif re.fullmatch(GENERIC, model) and "+nested-virt" not in value:
        told = f"The CPU model {model} has neither vmx nor svm: guests in this machine get no KVM."
        do = f"If it is to have guests of its own: {_PVE_HOST[0].lower()}{_PVE_HOST[1:]}"
        do += " Proxmox VE 9.1 and later can also add `flags=+nested-virt` to that model."
        yield _remark("cpu-model-without-virtualization", at, line, (told, do, _PVE_SEE), sure=False)


def _firewall(at: int, line: str, key: str, value: str) -> Remark:
    without = re.sub(r",?firewall=1", "", value)
    without = without if re.fullmatch(r"[\w.:=,/-]{1,120}", without) else "virtio=MAC,bridge=BRIDGE"
    cause = (
        f"`firewall=1` puts a filter before this card ({key}): with the firewall on, frames from other MAC addresses"
        " than its own are dropped, so guests bridged inside this machine reach nothing and are not reached."
    )
    do = (
        f"For a nested node, take it off that card: `qm set VMID --{key} '{without}'`; or let its MAC filter be:"
        " `macfilter: 0` under [OPTIONS] in /etc/pve/firewall/VMID.fw."
    )
    see = "Proxmox VE: Administration Guide, Firewall: VM/Container configuration (macfilter)"
    return _remark("pve-firewall-on-nested-card", at, line, (cause, do, see), sure=False)


def _pve_models(lines: list[str]) -> Iterator[Remark]:
    """/etc/pve/virtual-guest/cpu-models.conf: sections `cpu-model: NAME` with indented keys."""
    section, base, added = "", "", dict[int, str]()
    for at, line in enumerate([*lines, "cpu-model: end"]):
        if head := re.fullmatch(r"cpu-model: +([\w.-]+)\s*", line):
            if section and (re.fullmatch(GENERIC, base) or not base):
                for number, flag in added.items():
                    told = (
                        f"The custom model {section} adds {flag} by hand to {base or 'kvm64 (the default)'}: what goes"
                        " with it is not in that model, and guests of its machines crash or are refused."
                    )
                    do = f"Write `reported-model host` there, or use `cpu: host`. {_PVE_HOST}"
                    yield _remark("cpu-by-hand", number, lines[number], (told, do, _PVE_SEE))
            section, base, added = head[1], "", {}
        elif section and (model := re.fullmatch(r"\s+reported-model +(\S+)\s*", line)):
            base = model[1]
        elif section and (flags := re.match(r"\s+flags +.*\+(vmx|svm)\b", line)):
            added[at] = flags[1]


# -- libvirt

_XML_MARK = r"<domain\b|<cpu\b[^>]{0,80} mode="
"""A domain, or its CPU alone, as people quote it."""
_XML_SEE = "libvirt: Domain XML format: CPU model and topology; Network interfaces; Network Filters"
_XML_HOST = f"{_HOST}: `virt-xml NAME --edit --cpu host-passthrough`; then shut it down and start it."


def _libvirt(lines: list[str]) -> Iterator[Remark]:
    first = next((at for at, line in enumerate(lines) if re.search(_XML_MARK, line)), None)
    if first is None:
        return
    text = "\n".join(lines)
    kvm = re.search(r"<domain\b[^>]{0,300}type=['\"]kvm['\"]", text)
    arm = re.search(r"arch=['\"](?!x86_64|i686)", text)
    model = re.search(r"<model\b[^>]{0,120}>([\w.+-]{1,60})</model>", text)
    base = model[1] if model else ""
    for at, line in enumerate(lines):
        yield from _xml_line(at, line, base)
    if arm:
        return
    if not kvm and re.search(r"<domain\b[^>]{0,300}type=['\"]qemu['\"]", text):
        told = "type='qemu' emulates this machine: tens of times slower, and without the host's vmx or svm."
        do = "Say type='kvm' (`virsh edit NAME`); if libvirt refuses that, run `nestlab doctor` on the host."
        yield _remark("libvirt-emulated", first, lines[first], (told, do, _XML_SEE))
    elif kvm and not re.search(r"<cpu\b", text) and "</domain>" in text:
        told = "It has no <cpu>, so its CPU is qemu64, which has neither vmx nor svm."
        yield _remark("libvirt-cpu-default", first, lines[first], (told, _XML_HOST, _XML_SEE), sure=False)


def _xml_line(at: int, line: str, base: str) -> Iterator[Remark]:
    feature = re.search(r"<feature\b(?=[^>]{0,120}name=['\"](vmx|svm)['\"])[^>]{0,120}policy=['\"](\w+)['\"]", line)
    if feature and feature[2] in ("disable", "forbid"):
        told = f"{feature[1]} is taken from the CPU: guests in this machine get no KVM."
        yield _remark("cpu-flag-off", at, line, (told, f"Remove that line (`virsh edit NAME`). {_XML_HOST}", _XML_SEE))
    elif feature and feature[2] in ("require", "force") and (why := _by_hand(base, feature[1])):
        yield _remark("cpu-by-hand", at, line, (why, _XML_HOST, _XML_SEE))
    if re.search(r"<qemu:arg value=['\"]-cpu['\"]", line):
        told = "A second -cpu is given past libvirt, which replaces the one of <cpu>, whatever that says."
        yield _remark("libvirt-args-cpu", at, line, (told, f"Remove it (`virsh edit NAME`). {_XML_HOST}", _XML_SEE))
    if filters := re.search(r"<filterref filter=['\"](clean-traffic[\w-]*|no-mac-spoofing|no-ip-spoofing)['\"]", line):
        told = (
            f"The network filter {filters[1]} drops frames from other addresses than the card's own: guests bridged"
            " inside this machine reach nothing and are not reached."
        )
        do = "For a nested hypervisor, remove it from that <interface> (`virsh edit NAME`)."
        yield _remark("libvirt-filter-on-nested-card", at, line, (told, do, _XML_SEE), sure=False)
    if re.search(r"<interface\b[^>]{0,80}type=['\"]direct['\"]", line) and "trustGuestRxFilters='yes'" not in line:
        told = (
            "A macvtap card (type='direct') takes frames for its own MAC address only, not for guests bridged inside."
        )
        do = "Use a bridge (type='bridge') for a nested hypervisor, or trustGuestRxFilters='yes' with a virtio card."
        yield _remark("libvirt-macvtap-on-nested-card", at, line, (told, do, _XML_SEE), sure=False)


def _by_hand(base: str, flag: str) -> str:
    """What is wrong with adding a flag to a model, "" if nothing is."""
    if re.fullmatch(GENERIC, base):
        return (
            f"{flag} is added by hand to the generic model {base}: what goes with it (SSE4.1 and later instructions,"
            " the host's VMX or SVM capabilities) is not in that, and guests in this machine crash or are refused."
        )
    if (flag == "svm" and re.fullmatch(_INTEL, base)) or (flag == "vmx" and re.fullmatch(_AMD, base)):
        maker = "an Intel" if flag == "svm" else "an AMD"
        return f"{flag} is added to {base}, {maker} model, whose vendor has no {flag}: KVM in it refuses to load."
    return ""


# -- QEMU's command line

_QEMU = re.compile(r"(?:^|[\s/'\"])(?:qemu-system-(?:x86_64|i386)|qemu-kvm|bin/kvm)\b[^\n]{0,20}?(?=\s+['\"]?-)")
_CPU = re.compile(r"\s['\"]?-cpu['\"]?[\s=]+['\"]?([\w.+=,:-]{1,600})")
_ON_KVM = re.compile(r"-enable-kvm\b|-accel['\"]?\s+['\"]?kvm\b|accel=kvm\b|bin/kvm\b|qemu-kvm\b")
_QEMU_SEE = "QEMU documentation: Recommendations for KVM CPU model configuration on x86 hosts"
_QEMU_HOST = f"{_HOST}: `-accel kvm -cpu host`."


def _commands(lines: list[str]) -> Iterator[Remark]:
    """Also those that a backslash continues on the next lines, as scripts and libvirt's logs have them."""
    at = 0
    while at < len(lines):
        end = at
        while end + 1 < len(lines) and end - at < 400 and lines[end].rstrip().endswith("\\"):
            end += 1
        command = "\n".join(line.rstrip().rstrip("\\") for line in lines[at : end + 1])[:60000]
        if _QEMU.search(command.replace("\n", " ")):
            yield from _command(at, lines, command)
        at = end + 1


def _command(at: int, lines: list[str], command: str) -> Iterator[Remark]:
    cpu = _CPU.search(command)
    if cpu is None:
        return
    here = at + command[: cpu.start(1)].count("\n")
    line = f"-cpu {cpu[1]}" if len(lines[here]) > LONGEST else lines[here]
    base, *words = cpu[1].split(",")
    on = {word[1:] for word in words if word.startswith("+")} | {w[:-3] for w in words if w.endswith("=on")}
    off = {word[1:] for word in words if word.startswith("-")} | {w[:-4] for w in words if w.endswith("=off")}
    kvm = _ON_KVM.search(command) is not None
    for flag in ("vmx", "svm"):
        if flag in off:
            told = f"-{flag} takes virtualization from the CPU: guests in this machine get no KVM."
            yield _remark("cpu-flag-off", here, line, (told, f"Leave that out. {_QEMU_HOST}", _QEMU_SEE))
        elif flag in on and not kvm and flag == "vmx":
            told = "vmx is asked for without KVM: QEMU's emulation (TCG) has svm only, and says so on its start."
            do = f"{_QEMU_HOST} Without hardware virtualization: `-cpu EPYC,+svm,+npt`, an AMD CPU."
            yield _remark("vmx-without-kvm", here, line, (told, do, _QEMU_SEE))
        elif flag in on and kvm and (why := _by_hand(base, flag)):
            yield _remark("cpu-by-hand", here, line, (why, _QEMU_HOST, _QEMU_SEE))
    if base == "host" and not kvm:
        told = "`-cpu host` needs KVM, and this command line does not ask for it: QEMU does not start."
        do = "Add `-accel kvm`; without hardware virtualization take `-cpu max`."
        yield _remark("host-without-kvm", here, line, (told, do, _QEMU_SEE))
