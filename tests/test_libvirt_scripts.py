"""What a host's libvirt is told to do it does to domains of the lab alone: the scripts with a virsh that stands in for
libvirt's, which keeps its domains in a folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.libvirt import scripts, virsh
from nestlab.engines.libvirt.mark import domain_uuid
from nestlab.engines.libvirt.virsh import Libvirt
from nestlab.hosts.local import LocalHost

VIRSH = r"""#!/bin/sh
DOMAINS=@DOMAINS@; NEXT=@NEXT@
# virsh -q -c URI COMMAND UUID …: domains are folders in $DOMAINS
shift 3
if [ $# = 0 ]; then # its own commands, which it shows as it reads them
  while read -r line; do
    printf 'virsh # %s\n' "$line"
    printf '%s\n' "$line" >>"$DOMAINS/typed"
    set -- $line
    cat "$DOMAINS/$2/answer" 2>/dev/null || echo "error: failed to get domain '$2'" >&2
    echo
  done
  exit
fi
command=$1; uuid=$2
[ "$uuid" != --inactive ] || uuid=$3
echo "$*" >>"$DOMAINS/asked"
cd "$DOMAINS/$uuid" 2>/dev/null || case $command in
  define) mkdir -p "$DOMAINS/$NEXT"; cat "$uuid" >"$DOMAINS/$NEXT/xml"; exit ;;
  *) echo "error: failed to get domain '$uuid'" >&2; exit 1 ;;
esac
case $command in
  domuuid) echo "error: failed to get domain '$uuid'" >&2; exit 1 ;; # takes a name, and no UUID
  domstate) echo "shut off" ;;
  metadata) grep -q 'owner=' xml && cat xml || { echo "error: metadata not found" >&2; exit 1; } ;;
  dumpxml) cat xml ;;
  destroy) [ -e running ] && rm running || { echo "error: domain is not running" >&2; exit 1; } ;;
  undefine) rm -rf "$DOMAINS/$uuid" ;;
  blockresize) echo "$*" >>resized ;;
esac
"""
UUID = domain_uuid("pair", "hv1/web")
MINE = '<domain><metadata><made owner="{}"/></metadata></domain>'


@pytest.fixture
def domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    folder = tmp_path / "domains"
    folder.mkdir()
    (tmp_path / "bin" / "virsh").write_text(VIRSH.replace("@DOMAINS@", str(folder)).replace("@NEXT@", UUID))
    (tmp_path / "bin" / "virsh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def libvirt() -> Libvirt:
    return Libvirt(LocalHost(), "pair", lambda: "ssh-ed25519 AAAA nestlab")


def there(domains: Path, text: str, *files: str) -> Path:
    place = domains / UUID
    place.mkdir()
    (place / "xml").write_text(text)
    for name in files:
        (place / name).write_text("")
    return place


async def test_a_domain_is_defined_and_read_back(domains: Path, libvirt: Libvirt, tmp_path: Path) -> None:
    made = await libvirt.define("hv1/web", str(tmp_path), MINE.format(libvirt.owner))
    assert made.tag == "domain"
    assert (tmp_path / "domain.xml").read_text() == MINE.format(libvirt.owner)
    assert not (tmp_path / "domain.new").exists()


@pytest.mark.parametrize("text", ["<domain/>", MINE.format("0" * 32)], ids=["nobody's", "another lab's"])
async def test_a_domain_that_is_not_the_labs_is_neither_defined_anew_nor_ended_nor_forgotten(
    domains: Path, libvirt: Libvirt, tmp_path: Path, text: str
) -> None:
    place = there(domains, text, "running")
    theirs = "Somebody else's is in its place"
    with pytest.raises(LabError, match=theirs):
        await libvirt.define("hv1/web", str(tmp_path), MINE.format(libvirt.owner))
    with pytest.raises(LabError, match=theirs):
        await libvirt.undefine("hv1/web")
    with pytest.raises(LabError, match=theirs):
        await libvirt.does("hv1/web", "blockresize", "vda", "1B")
    assert (place / "xml").read_text() == text
    assert (place / "running").exists()
    verbs = {line.split()[0] for line in (domains / "asked").read_text().splitlines()}
    assert verbs <= {"metadata", "domstate"}


async def test_the_labs_own_domain_is_ended_and_forgotten_once(domains: Path, libvirt: Libvirt) -> None:
    there(domains, MINE.format(libvirt.owner), "running")
    await libvirt.undefine("hv1/web")
    assert not (domains / UUID).exists()
    await libvirt.undefine("hv1/web")


async def test_a_qemu_is_asked_through_its_libvirt(domains: Path, libvirt: Libvirt) -> None:
    place = there(domains, MINE.format(libvirt.owner))
    (place / "answer").write_text('{"return":{"enabled":true},"id":"libvirt-1"}\n')
    assert await libvirt.ask("hv1/web", {"execute": "query-kvm"}) == [{"enabled": True}]
    (place / "answer").write_text('{"error":{"class":"GenericError","desc":"no"},"id":"libvirt-1"}\n')
    with pytest.raises(LabError, match="refused query-kvm: no"):
        await libvirt.ask("hv1/web", {"execute": "query-kvm"})
    for nonsense in ("", "[]", "{}", '{"return":{"enabled":"yes"}}', "x" * 100, "[" * 10000):
        (place / "answer").write_text(nonsense)
        with pytest.raises(LabError):
            await libvirt.ask("hv1/web", {"execute": "query-kvm"})


async def test_what_is_typed_into_a_machine_is_no_argument_of_virsh_and_stays_as_it_is(
    domains: Path, libvirt: Libvirt
) -> None:
    place = there(domains, MINE.format(libvirt.owner))
    (place / "answer").write_text('{"return":{},"id":"libvirt-1"}\n')
    await libvirt.ask("hv1/web", {"execute": "set_link", "arguments": {"name": "a'b \" \\ \n é", "up": True}})
    [typed] = (domains / "typed").read_text().splitlines()
    words = shlex.split(typed)
    assert words[:2] == ["qemu-monitor-command", UUID]
    assert json.loads(words[2])["arguments"]["name"] == "a'b \" \\ \n é"
    assert not (domains / "asked").exists()


async def test_a_host_without_virsh_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("sh", "cat"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError) as caught:
        await Libvirt(LocalHost(), "pair", lambda: "ssh-ed25519 AAAA").does("hv1/web", "domif-setlink")
    assert "It has no virsh" in caught.value.what
    assert "libvirt-daemon-system" in caught.value.hint


def test_what_libvirt_says_is_shown_short_and_harmless() -> None:
    error = virsh.refused("define hv1/web", "hv1", "\x1b[2J" + "x" * 5000 + "\n" * 50 + "error: last\n")
    assert "\x1b" not in str(error)
    assert len(error.detail) < 1000
    assert "error: last" in error.detail


@pytest.mark.parametrize("name", ["DEFINE", "START", "UNDEFINE", "KILL", "LOOK", "ASK", "DOES"])
def test_every_script_is_one_that_a_posix_shell_reads(name: str) -> None:
    assert subprocess.run(("sh", "-n"), input=getattr(scripts, name), text=True, check=False).returncode == 0
