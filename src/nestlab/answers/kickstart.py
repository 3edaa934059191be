"""The installer of Fedora, Red Hat and their kin (Anaconda): a kickstart, over HTTP.

Commands and sections: the kickstart syntax reference of pykickstart.
"""

from __future__ import annotations

from collections.abc import Iterator

from nestlab.answers.model import HOST_NAME, Answers, ServerAddress

PACKAGES = ("@core", "openssh-server", "cloud-init", "qemu-guest-agent")
_SECTIONS = ("%packages", "%pre", "%pre-install", "%post", "%onerror", "%traceback", "%addon")


def cmdline(server: ServerAddress) -> tuple[str, ...]:
    """Words for the installer's kernel. In text mode it asks nothing that the kickstart answers; `inst.cmdline` ends
    the installation where it would ask."""
    host, port = server.log
    return (f"inst.ks={server.url}/ks.cfg", "inst.cmdline", f"inst.syslog={host}:{port}", "ip=dhcp")


def text(answers: Answers, server: ServerAddress, disk: str) -> str:
    """The kickstart. The disk is found by its serial number, in %pre."""
    lines = [
        "text --non-interactive",
        f"lang {answers.locale}",
        f"keyboard --xlayouts={answers.keyboard}",
        f"timezone {answers.timezone} --utc",
        f"network --bootproto=dhcp --hostname={HOST_NAME}.{answers.domain}",
        *_account(answers),
        *(f'sshkey --username={answers.user} "{key}"' for key in answers.ssh_keys),
        "firstboot --disable",
        "selinux --enforcing",
        "%include /tmp/nestlab-disk",
        "poweroff",
        *_source(server),
        "%packages",
        *dict.fromkeys((*PACKAGES, *answers.packages)),
        "%end",
        "%pre --erroronfail",
        _tell(server, "started"),
        *_disk(answers, disk),
        _tell(server, "partitioning"),
        "%end",
        *_post(answers, server),
        "%onerror",
        f"curl -s -T /tmp/anaconda.log {server.url}/log/anaconda || true",
        _tell(server, "failed"),
        "%end",
        *answers.extra.splitlines(),
    ]
    return "\n".join(lines) + "\n"


def mistakes(answers: Answers) -> Iterator[tuple[str, str, str]]:
    """What Anaconda would not take."""
    if answers.filesystem == "zfs":
        yield "filesystem", "Anaconda makes no zfs", "Say ext4, xfs or btrfs."
    opened = ""
    for number, line in enumerate(answers.extra.splitlines(), 1):
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if word == "%end":
            if not opened:
                yield "extra", f"line {number} ends a section that did not begin", "Leave `%end` out."
            opened = ""
        elif word.startswith("%") and word not in ("%include", "%ksappend"):
            if opened:
                yield "extra", f"{word} in line {number} begins inside {opened}", "End that section with `%end`."
            elif word not in _SECTIONS:
                yield "extra", f"{word} in line {number} is no section of a kickstart", f"Use {', '.join(_SECTIONS)}."
            opened = word
    if opened:
        yield "extra", f"its section {opened} does not end", "End it with `%end`."


def _account(answers: Answers) -> Iterator[str]:
    secret = f"--iscrypted {answers.password}" if answers.password else "--lock"
    if answers.user == "root":
        yield f"rootpw {secret}"
        return
    yield "rootpw --lock"
    secret = f"--iscrypted --password={answers.password}" if answers.password else "--lock"
    yield f"user --name={answers.user} --groups=wheel {secret}"


def _source(server: ServerAddress) -> Iterator[str]:
    """Without a mirror packages come from the medium."""
    if server.mirror is not None:
        host, path = server.mirror
        yield f"url --url=http://{host}{path}"


def _disk(answers: Answers, disk: str) -> Iterator[str]:
    kind = "btrfs" if answers.filesystem == "btrfs" else "plain"
    yield "for d in /sys/block/*; do"
    yield "  s=$(cat $d/serial $d/device/serial 2>/dev/null | head -n 1)"
    yield f'  [ "$s" = {disk} ] || continue'
    yield "  n=${d##*/}"
    yield '  echo "ignoredisk --only-use=$n"'
    yield '  echo "clearpart --all --initlabel --drives=$n"'
    yield f'  echo "autopart --type={kind} --fstype={answers.filesystem} --nohome --noswap"'
    yield '  echo "bootloader --boot-drive=$n"'
    yield "done > /tmp/nestlab-disk"
    yield "[ -s /tmp/nestlab-disk ]"


def _post(answers: Answers, server: ServerAddress) -> Iterator[str]:
    for number, script in enumerate(answers.commands):
        mark = f"NESTLAB{number}"
        yield "%post --erroronfail --log=/root/nestlab-post.log"
        yield f"cat > /root/nestlab-{number} <<'{mark}'"
        yield script
        yield mark
        yield f"sh -eu /root/nestlab-{number} && rm /root/nestlab-{number}"
        yield "%end"
    yield "%post --erroronfail"
    yield "rm -f /etc/ssh/ssh_host_*; : > /etc/machine-id"
    yield _tell(server, "installed")
    yield "%end"


def _tell(server: ServerAddress, stage: str) -> str:
    return f"curl -s -o /dev/null {server.stage(stage)} || true"
