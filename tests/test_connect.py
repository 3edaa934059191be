"""What other programs are told of a lab: read back by the programs themselves, OpenSSH and a shell."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blueprints import pair
from nestlab.base.errors import LabError
from nestlab.show import addresses, inventory
from nestlab.show.ssh_config import SshEntry, known_hosts, ssh_config, ssh_name
from test_cli import Console, console  # noqa: F401 - the fixture

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ hv1"


def entries() -> list[SshEntry]:
    return [
        SshEntry("pair", path, "127.0.0.1", port, "root", "/labs/pair/id_ed25519", KEY)
        for path, port in (("hv1", 20001), ("hv1/web", 20002), ("hv2", 20003), ("hv2/web", 20004))
    ]


def understood(config: Path, name: str) -> dict[str, str]:
    """What OpenSSH makes of a name."""
    done = subprocess.run(["ssh", "-G", "-F", str(config), name], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@needs_ssh
def test_openssh_reaches_an_inner_machine_through_the_outer_one_with_a_pinned_key(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    config = console.folder / "pair.conf"
    config.write_text(console.run("ssh-config").stdout)
    place = console.home.lab("pair")
    said = understood(config, "pair.hv1.web")
    assert (said["hostname"], said["port"], said["user"]) == ("127.0.0.1", "20001", "root")
    assert said["proxyjump"] == "pair.hv1"
    assert said["hostkeyalias"] == "pair.hv1.web"
    assert said["identityfile"] == str(place.key)
    assert said["userknownhostsfile"] == str(place.known_hosts)
    assert (said["stricthostkeychecking"], said["identitiesonly"], said["forwardagent"]) == ("true", "yes", "no")
    assert "proxyjump" not in understood(config, "pair.hv1")


@needs_ssh
def test_no_other_host_of_the_user_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(ssh_config("pair", entries(), {}, "/labs/pair/known_hosts"))
    for name in ("web", "hv1", "pair", "pair.hv1.web.example.org", "x.pair.hv1"):
        assert understood(config, name)["hostname"] == name


@needs_ssh
def test_a_path_with_a_space_and_a_percent_sign_is_read_as_it_is(tmp_path: Path) -> None:
    config = tmp_path / "config"
    entry = SshEntry("pair", "hv1", "127.0.0.1", 1, "root", "/a b/50%d/key", KEY)
    config.write_text(ssh_config("pair", [entry], {}, "/a b/known"))
    said = understood(config, "pair.hv1")
    assert said["identityfile"].replace("%%", "%") == "/a b/50%d/key"
    assert said["userknownhostsfile"].strip('"') == "/a b/known"


@needs_ssh
def test_a_machine_that_no_network_leads_to_is_reached_by_a_command_with_its_key_pinned(tmp_path: Path) -> None:
    config = tmp_path / "config"
    words = ("env", "NESTLAB_HOME=/a b/50%d", "/usr/bin/python3", "-m", "nestlab", "ssh", "--stdio", "pair:hv1")
    carried = SshEntry("pair", "hv1", "pair.hv1", 22, "root", "/key", KEY, words)
    inner = SshEntry("pair", "hv1/web", "127.0.0.1", 20001, "root", "/key", KEY)
    config.write_text(ssh_config("pair", [carried, inner], {}, "/known"))
    said = understood(config, "pair.hv1")
    assert said["proxycommand"].replace("%%", "%") == shlex.join(words)
    assert (said["hostkeyalias"], said["stricthostkeychecking"]) == ("pair.hv1", "true")
    assert understood(config, "pair.hv1.web")["proxyjump"] == "pair.hv1"
    bad = SshEntry("pair", "hv1", "pair.hv1", 22, "root", "/key", KEY, ("env", "A=1\nHost *"))
    with pytest.raises(LabError, match="line break"):
        ssh_config("pair", [bad], {}, "/known")


@needs_ssh
def test_openssh_runs_that_command_with_every_word_as_it_is(tmp_path: Path) -> None:
    config, told = tmp_path / "config", tmp_path / "told"
    script = "import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))"
    words = (sys.executable, "-c", script, str(told), "50%d", "it's $HOME `x`", "a  b")
    config.write_text(ssh_config("pair", [SshEntry("pair", "hv1", "x", 22, "root", "/key", KEY, words)], {}, "/known"))
    subprocess.run(["ssh", "-F", str(config), "pair.hv1", "true"], capture_output=True, check=False)
    assert told.read_text() == repr(list(words[4:]))


def test_a_path_that_ssh_config_cannot_hold_is_refused() -> None:
    entry = SshEntry("pair", "hv1", "127.0.0.1", 1, "root", '/a"b/key', KEY)
    with pytest.raises(LabError, match="cannot hold"):
        ssh_config("pair", [entry], {}, "/known")


def test_the_config_follows_the_machines_once_it_was_asked_for(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    place = console.home.lab("pair")
    assert not place.ssh_config.exists()
    console.run("ssh-config", "pair")
    assert place.ssh_config.stat().st_mode & 0o777 == 0o600
    console.run("stop", "pair", "hv2")
    text = place.ssh_config.read_text()
    assert "Host pair.hv1.web\n" in text
    assert "Host pair.hv2" not in text
    assert "# pair.hv2: it does not run" in text
    assert "# pair.hv2.web: hv2, in which it runs, cannot be reached" in text
    console.run("start", "pair")
    assert "Host pair.hv2.web\n" in place.ssh_config.read_text()


def test_every_name_has_its_own_key_in_known_hosts() -> None:
    lines = known_hosts(entries()).splitlines()
    assert lines[1] == f"{ssh_name('pair', 'hv1/web')} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ"
    assert len({line.split()[0] for line in lines}) == 4


def test_an_inventory_groups_by_level_kind_segment_and_hypervisor() -> None:
    data = inventory.inventory(pair(), entries(), "/labs/pair/ssh config")
    groups = {name: each["hosts"] for name, each in data.items() if "hosts" in each}
    assert groups["level_1"] == groups["kind_kvm"] == groups["hypervisors"] == ["pair.hv1", "pair.hv2"]
    assert groups["level_2"] == groups["guests"] == ["pair.hv1.web", "pair.hv2.web"]
    assert groups["inside_hv1"] == ["pair.hv1.web"]
    assert len(groups["segment_wire"]) == len(groups["lab_pair"]) == 4
    assert set(data["all"]["children"]) == {*groups, "ungrouped"}
    variables = data["_meta"]["hostvars"]["pair.hv1.web"]
    assert variables["ansible_ssh_common_args"] == "-F '/labs/pair/ssh config'"


def test_the_static_inventory_is_yaml_with_the_same_groups_and_hosts() -> None:
    from ruamel.yaml import YAML

    data = inventory.inventory(pair(), entries(), "/config")
    read = YAML(typ="safe").load(inventory.as_yaml(data))["all"]
    assert read["hosts"] == data["_meta"]["hostvars"]
    groups = {name: list(each["hosts"]) for name, each in read["children"].items()}
    assert groups == {name: each["hosts"] for name, each in data.items() if "hosts" in each}
    assert YAML(typ="safe").load(inventory.as_yaml(inventory.inventory(pair(), [], "/config"))) == {
        "all": {"hosts": {}}
    }


def test_an_inventory_script_answers_list_and_host(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    listed = json.loads(console.run("inventory", "pair", "--list").stdout)
    one = json.loads(console.run("inventory", "pair", "--host", "pair.hv2.web").stdout)
    assert one == listed["_meta"]["hostvars"]["pair.hv2.web"]
    assert "No host web" in console.run("inventory", "pair", "--host", "web", status=2).stderr
    console.run("stop", "pair", "hv2")
    assert "left out: hv2: it does not run" in console.run("inventory", "pair").stderr


def test_hosts_are_named_within_the_lab_only(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    lines = [line for line in console.run("hosts", "pair").stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 8
    assert all(line.endswith(".pair.internal") and len(line.split()) == 2 for line in lines)
    cards = console.json("hosts", "pair")["cards"]
    assert [card["machine"] for card in cards] == ["hv1", "hv1/web", "hv2", "hv2/web"]
    assert "52:54:" in console.run("hosts", "pair", "--table").stdout


def test_a_shell_gets_back_every_variable_as_it_was() -> None:
    files = {"SSH_KEY": "/it's a $(touch pwned) `path`; \\"}
    found = addresses.variables(pair(), entries(), files)
    script = f"{addresses.exports(found)}\nexec env -0"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    given = dict(line.split("=", 1) for line in done.stdout.split("\0") if line.startswith("NESTLAB_"))
    assert given == found
    assert given["NESTLAB_HV1__WEB_SSH"] == "pair.hv1.web"


def test_a_machine_that_only_a_command_leads_to_has_no_port() -> None:
    carried = SshEntry("pair", "hv1", "pair.hv1", 22, "root", "/key", KEY, ("nestlab",))
    found = addresses.variables(pair(), [carried], {})
    assert found["NESTLAB_HV1_SSH"] == "pair.hv1"
    assert "NESTLAB_HV1_PORT" not in found


def test_two_machines_never_share_a_variable() -> None:
    from blueprints import draft, guest, hypervisor

    lab = draft("odd", guest("a--b"), hypervisor("a", guest("b")))
    found = addresses.variables(lab, [SshEntry("odd", path, "h", 1, "u", "k", KEY) for path in ("a--b", "a/b")], {})
    assert found["NESTLAB_A__B_SSH"] == "odd.a--b"
    assert found["NESTLAB_A__B_2_SSH"] == "odd.a.b"


def test_env_is_for_eval(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    text = console.run("env", "pair").stdout
    assert "export NESTLAB_HV2__WEB_SSH=pair.hv2.web\n" in text
    assert console.json("env", "pair")["NESTLAB_LAB"] == "pair"
