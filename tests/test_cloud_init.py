"""Seeds for disk images that are not nestlab's, read back from the image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from nestlab.images.cloud_init import iso, seed
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.model import Image, Machine

MANAGEMENT = "52:54:00:00:00:0F"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
PUBLIC = "ssh-ed25519 BBBB"
KEY = "ssh-ed25519 CCCC lab\n"
NICS = (
    Nic("wire", "52:54:00:AA:00:01", 1400, ("10.77.0.11/24", "fd77::11/64")),
    Nic("a-rather-long-name", "52:54:00:aa:00:02", 1500, ("10.78.0.11/16",), bridge=True),
)
SPEC = Spec(
    "hv1/web",
    Machine("web", image=Image(file="/disk.qcow2")),
    NICS,
    "10.0.3.0/24",
    "k",
    (),
    "d" * 40,
    hosts="10.77.0.11 web\n",
)


def made(spec: Spec = SPEC, user: str = "root") -> bytes:
    image = replace(spec.machine.image, user=user)
    return seed(replace(spec, machine=replace(spec.machine, image=image)), KEY, PRIVATE, PUBLIC, MANAGEMENT)


def files_of(image: bytes, tree: str = "rr_path") -> dict[str, bytes]:
    """The files of an ISO image by name, through Rock Ridge or Joliet."""
    disc = pycdlib.PyCdlib()
    disc.open_fp(BytesIO(image))
    found = {}
    for child in disc.list_children(**{tree: "/"}):
        if child.is_file():
            name = (
                child.rock_ridge.name().decode() if tree == "rr_path" else child.file_identifier().decode("utf-16-be")
            )
            data = BytesIO()
            disc.get_file_from_iso_fp(data, **{tree: f"/{name}"})
            found[name] = data.getvalue()
    disc.close()
    return found


def settings_of(name: str, spec: Spec = SPEC, user: str = "root") -> Any:
    return json.loads(files_of(made(spec, user))[name].decode().removeprefix("#cloud-config\n"))


@pytest.mark.parametrize("tree", ["rr_path", "joliet_path"])
def test_the_volume_has_the_three_files_under_their_own_names(tree: str) -> None:
    assert set(files_of(made(), tree)) == {"user-data", "meta-data", "network-config"}


def test_the_volume_is_called_cidata() -> None:
    disc = pycdlib.PyCdlib()
    disc.open_fp(BytesIO(made()))
    assert disc.pvd.volume_identifier.decode().strip() == "cidata"
    disc.close()


@pytest.mark.skipif(not shutil.which("blkid"), reason="needs blkid")
def test_blkid_finds_the_volume_as_cloud_init_does(tmp_path: Path) -> None:
    (tmp_path / "seed.iso").write_bytes(made())
    argv = ["blkid", "-p", "-o", "export", str(tmp_path / "seed.iso")]
    seen = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"LABEL=cidata", "TYPE=iso9660"} <= set(seen)


def test_large_files_survive() -> None:
    data = os.urandom(3_000_000)
    assert files_of(iso({"big": data, "empty": b""})) == {"big": data, "empty": b""}


def test_user_data_begins_as_cloud_init_demands() -> None:
    assert files_of(made())["user-data"].startswith(b"#cloud-config\n")


def test_root_gets_the_key_where_the_user_is_root() -> None:
    settings = settings_of("user-data")
    assert settings["disable_root"] is False
    assert settings["ssh_authorized_keys"] == ["ssh-ed25519 CCCC lab"]
    assert "users" not in settings


def test_another_user_gets_the_key_and_sudo_and_root_stays_out() -> None:
    settings = settings_of("user-data", user="admin")
    assert settings["disable_root"] is True
    default, admin = settings["users"]
    assert default == "default"
    assert (admin["name"], admin["lock_passwd"]) == ("admin", True)
    assert admin["ssh_authorized_keys"] == ["ssh-ed25519 CCCC lab"]


def test_nobody_logs_in_with_a_password_and_the_host_key_is_the_given_one() -> None:
    settings = settings_of("user-data")
    assert settings["ssh_pwauth"] is False
    assert settings["ssh_deletekeys"] is True
    assert settings["ssh_keys"] == {"ed25519_private": PRIVATE, "ed25519_public": PUBLIC + "\n"}


def test_the_machine_knows_its_name_and_those_of_the_others() -> None:
    settings = settings_of("user-data")
    assert (settings["hostname"], settings["manage_etc_hosts"]) == ("web", False)
    assert (
        settings["write_files"][0] | {"content": "10.77.0.11 web\n", "path": "/etc/hosts"}
        == (settings["write_files"][0])
    )


def test_other_cards_are_another_instance_and_more_memory_is_not() -> None:
    first, second = settings_of("meta-data"), settings_of("meta-data", replace(SPEC, management="10.9.0.0/24"))
    more = replace(SPEC, machine=replace(SPEC.machine, memory=SPEC.machine.memory * 2), digest="e" * 40)
    assert settings_of("meta-data", more) == first
    assert first["local-hostname"] == "web"
    assert first["instance-id"] != second["instance-id"]


def test_cards_are_found_by_mac_address_and_have_static_addresses() -> None:
    card = settings_of("network-config")["ethernets"]["lab0"]
    assert card["match"] == {"macaddress": "52:54:00:aa:00:01"}
    assert (card["mtu"], card["addresses"]) == (1400, ["10.77.0.11/24", "fd77::11/64"])
    assert (card["dhcp4"], card["dhcp6"], card["accept-ra"]) == (False, False, False)


def test_a_carried_segment_is_a_bridge_with_the_addresses() -> None:
    settings = settings_of("network-config")
    assert "addresses" not in settings["ethernets"]["lab1"]
    (name, bridge), *others = settings["bridges"].items()
    assert not others
    assert len(name) == 15
    assert (bridge["interfaces"], bridge["addresses"]) == (["lab1"], ["10.78.0.11/16"])
    assert bridge["macaddress"] == settings["ethernets"]["lab1"]["match"]["macaddress"]


def test_without_internet_there_is_an_address_and_no_way_out() -> None:
    card = settings_of("network-config")["ethernets"]["mgmt0"]
    assert card["addresses"] == ["10.0.3.15/24"]
    assert "routes" not in card
    assert "nameservers" not in card


def test_with_internet_the_host_is_gateway_and_name_server() -> None:
    spec = replace(SPEC, machine=replace(SPEC.machine, internet=True))
    card = settings_of("network-config", spec)["ethernets"]["mgmt0"]
    assert card["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.3.2"}]
    assert card["nameservers"] == {"addresses": ["10.0.3.3"]}


def test_an_mtu_too_small_for_ipv6_leaves_ipv6_out() -> None:
    spec = replace(SPEC, nics=(replace(NICS[0], mtu=1000),))
    assert settings_of("network-config", spec)["ethernets"]["lab0"]["addresses"] == ["10.77.0.11/24"]


def test_without_a_card_that_leads_to_its_host_only_the_others_are_set_up() -> None:
    out = "52:54:00:CC:00:01"
    image = seed(SPEC, KEY, PRIVATE, PUBLIC, None, out)
    network = json.loads(files_of(image)["network-config"])
    assert "mgmt0" not in network["ethernets"]
    assert network["ethernets"]["out0"]["match"] == {"macaddress": out.lower()}
    assert network["ethernets"]["out0"]["dhcp4"] is True
    assert network["ethernets"]["lab0"]["dhcp4"] is False


def said(user: str = "root", **theirs: Any) -> Any:
    """The user-data of a machine whose image says more to cloud-init."""
    image = Image(file="/disk.qcow2", user=user, cloud_init=json.dumps(theirs))
    return settings_of("user-data", replace(SPEC, machine=replace(SPEC.machine, image=image)), user)


SSHD = "/etc/ssh/sshd_config.d/50-cloud-init.conf"


def test_whether_passwords_count_is_written_before_sshd_starts_so_that_cloud_init_does_not_restart_it() -> None:
    for settings, word in ((said(), "no"), (said(ssh_pwauth=False), "no"), (said(ssh_pwauth=True), "yes")):
        [file] = [each for each in settings["write_files"] if each["path"] == SSHD]
        assert file["content"] == f"PasswordAuthentication {word}\n"
    assert SSHD not in {each["path"] for each in said(ssh_pwauth="unchanged")["write_files"]}


def test_what_the_image_says_is_merged_with_what_nestlab_says() -> None:
    mine = {"path": "/etc/motd", "content": "hello"}
    settings = said(packages=["nginx"], write_files=[mine], ssh={"emit_keys_to_console": True}, package_update=True)
    assert settings["packages"] == ["nginx"]
    assert [each["path"] for each in settings["write_files"]] == ["/etc/hosts", SSHD, "/etc/motd"]
    assert settings["ssh"] == {"emit_keys_to_console": True}
    assert settings["package_update"] is True
    assert settings["hostname"] == "web"


def test_users_of_both_are_there_and_one_that_both_name_once() -> None:
    users = said("admin", users=["default", "alice", {"name": "admin", "shell": "/bin/zsh"}])["users"]
    assert users[0] == "default"
    assert [each if isinstance(each, str) else each["name"] for each in users] == ["default", "admin", "alice"]
    assert users[1]["shell"] == "/bin/zsh"
    assert users[1]["ssh_authorized_keys"] == [KEY.strip()]


def test_all_keys_may_log_in() -> None:
    image = seed(SPEC, KEY + "ssh-ed25519 DDDD me\n", PRIVATE, PUBLIC, MANAGEMENT)
    user_data = json.loads(files_of(image)["user-data"].decode().removeprefix("#cloud-config\n"))
    assert user_data["ssh_authorized_keys"] == [KEY.strip(), "ssh-ed25519 DDDD me"]
