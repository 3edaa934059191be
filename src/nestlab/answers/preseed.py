"""Debian's installer: a preseed, over HTTP.

Names and values of questions: the installation guide of Debian 13, appendix B ("Automating the installation using
preseeding"). What was asked in spite of them was seen with the netboot installer of Debian 13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nestlab.answers.model import HOST_NAME, Answers, ServerAddress

_LINE = re.compile(r"(#.*|\s*|[a-z0-9][a-z0-9+.-]*\s+\S+/\S+\s+[a-z]+(\s.*)?)")

PACKAGES = ("openssh-server", "cloud-init", "qemu-guest-agent")
"""What every installed image has: the way in, and what gives each machine its own identity."""


def cmdline(answers: Answers, server: ServerAddress) -> tuple[str, ...]:
    """Words for the installer's kernel. What is asked before the network is up stands here: a DHCP server that gives no
    name server leads to a question, whatever the priority."""
    return (
        "auto=true",
        "priority=critical",
        "DEBIAN_FRONTEND=text",
        f"url={server.url}/preseed.cfg",
        f"locale={answers.locale}",
        f"keymap={answers.keyboard.partition('-')[0]}",
        f"hostname={HOST_NAME}",
        f"domain={answers.domain}",
        f"netcfg/get_nameservers={server.name_server}",
        "netcfg/no_default_route=true",
        "netcfg/choose_interface=auto",
        f"mirror/suite={answers.suite}",
    )


def text(answers: Answers, server: ServerAddress, disk: str) -> str:
    """The preseed. It says nothing twice, and `extra` stands last: the last of two answers counts."""
    lines = [
        f"d-i debian-installer/locale string {answers.locale}",
        f"d-i keyboard-configuration/xkb-keymap select {answers.keyboard.partition('-')[0]}",
        *_mirror(server),
        *_accounts(answers),
        "d-i clock-setup/utc boolean true",
        f"d-i time/zone string {answers.timezone}",
        "d-i clock-setup/ntp boolean false",
        *_disk(answers, disk),
        "d-i apt-setup/cdrom/set-first boolean false",
        "d-i base-installer/install-recommends boolean false",
        "tasksel tasksel/first multiselect",
        f"d-i pkgsel/include string {' '.join(dict.fromkeys((*PACKAGES, *answers.packages)))}",
        "d-i pkgsel/upgrade select none",
        "popularity-contest popularity-contest/participate boolean false",
        "d-i grub-installer/only_debian boolean true",
        "d-i grub-installer/force-efi-extra-removable boolean true",
        f"d-i preseed/early_command string {_early(server)}",
        f"d-i partman/early_command string {_partman(server, disk)}",
        f"d-i preseed/late_command string {_late(answers, server)}",
        "d-i finish-install/reboot_in_progress note",
        "d-i debian-installer/exit/poweroff boolean true",
        *answers.extra.splitlines(),
    ]
    return "\n".join(lines) + "\n"


def mistakes(answers: Answers) -> Iterator[tuple[str, str, str]]:
    """What Debian's installer would not take."""
    if answers.filesystem == "zfs":
        yield "filesystem", "Debian's installer makes no zfs", "Say ext4, xfs or btrfs."
    for number, line in enumerate(answers.extra.splitlines(), 1):
        if not _LINE.fullmatch(line):
            hint = "A line of a preseed is `OWNER QUESTION TYPE VALUE`, such as `d-i apt-setup/contrib boolean true`."
            yield "extra", f"line {number} is none of a preseed: {line!r}", hint


def _mirror(server: ServerAddress) -> Iterator[str]:
    yield "d-i apt-setup/disable-cdrom-entries boolean true"
    if server.mirror is None:
        if not server.outward:  # all there is comes from the ISO
            yield "d-i apt-setup/use_mirror boolean false"
            yield "d-i apt-setup/services-select multiselect"
        return
    host, path = server.mirror
    yield "d-i mirror/country string manual"
    yield f"d-i mirror/http/hostname string {host}"
    yield f"d-i mirror/http/directory string {path}"
    yield "d-i mirror/http/proxy string"
    yield "d-i apt-setup/services-select multiselect"


def _accounts(answers: Answers) -> Iterator[str]:
    root = answers.user == "root"
    yield f"d-i passwd/root-login boolean {'true' if root else 'false'}"
    yield f"d-i passwd/make-user boolean {'false' if root else 'true'}"
    if root:
        yield f"d-i passwd/root-password-crypted password {answers.password or '*'}"
    else:
        yield f"d-i passwd/user-fullname string {answers.user}"
        yield f"d-i passwd/username string {answers.user}"
        yield f"d-i passwd/user-password-crypted password {answers.password or '*'}"


def _disk(answers: Answers, disk: str) -> Iterator[str]:
    """One partition for all, and where the firmware is UEFI one for it; no swap. `atomic` would add swap."""
    yield "d-i partman-auto/method string regular"
    yield "d-i partman-basicfilesystems/no_swap boolean false"
    yield f"d-i partman/default_filesystem string {answers.filesystem}"
    yield (
        "d-i partman-auto/expert_recipe string nestlab :: "
        "64 64 64 fat32 $iflabel{ gpt } $reusemethod{ } method{ efi } format{ } . "
        "1 1 1 free $iflabel{ gpt } $bios_boot{ } method{ biosgrub } . "
        f"1000 50 -1 {answers.filesystem} $primary{{ }} $bootable{{ }} method{{ format }} format{{ }} "
        f"use_filesystem{{ }} filesystem{{ {answers.filesystem} }} mountpoint{{ / }} ."
    )
    yield "d-i partman-auto/choose_recipe select nestlab"
    yield "d-i partman/confirm_write_new_label boolean true"
    yield "d-i partman/choose_partition select finish"
    yield "d-i partman/confirm boolean true"
    yield "d-i partman/confirm_nooverwrite boolean true"
    yield "d-i partman-efi/non_efi_system boolean true"


def _early(server: ServerAddress) -> str:
    """Whoever is left behind must have let go of stdout, which the installer waits for."""
    host, port = server.log
    log = f"(tail -n +1 -f /var/log/syslog | nc {host} {port}) </dev/null >/dev/null 2>&1 &"
    return f"{log} {_tell(server, 'started')}"


def _partman(server: ServerAddress, disk: str) -> str:
    """The disk is found by its serial number: which letter it has is for the kernel to say."""
    find = (
        f'for d in /sys/block/*; do s=$(cat $d/serial $d/device/serial 2>/dev/null | head -n 1); [ "$s" != {disk} ] || '
    )
    find += "{ debconf-set partman-auto/disk /dev/${d##*/}; debconf-set grub-installer/bootdev /dev/${d##*/}; }; done"
    return f"{_tell(server, 'partitioning')}; {find}"


def _late(answers: Answers, server: ServerAddress) -> str:
    """`in-target` runs a command in the installed system; scripts are fetched, for a preseed's line cannot hold one."""
    steps = []
    if answers.ssh_keys:
        home = "/target/root" if answers.user == "root" else f"/target/home/{answers.user}"
        steps.append(f"mkdir -p -m 700 {home}/.ssh")
        steps.append(f"wget -q -O {home}/.ssh/authorized_keys {server.url}/authorized_keys")
        if answers.user != "root":
            steps.append(f"in-target chown -R {answers.user}: /home/{answers.user}/.ssh")
    for number in range(len(answers.commands)):
        at = f"/target/tmp/nestlab-{number}"
        steps.append(f"wget -q -O {at} {server.url}/command/{number}")
        steps.append(f"in-target sh -eu /tmp/nestlab-{number}")
        steps.append(f"rm {at}")
    steps.append(server.sources("/target"))
    steps.append("rm -f /target/etc/ssh/ssh_host_*")
    steps.append(": > /target/etc/machine-id")
    return " && ".join([*steps, _tell(server, "installed")])


def _tell(server: ServerAddress, stage: str) -> str:
    return f"wget -q -O /dev/null {server.stage(stage)}"
