"""What nestlab may do on a Proxmox VE: what is needed, how it is granted, and what is missing."""

from __future__ import annotations

import shlex

import pytest

from nestlab.base.errors import LabError
from nestlab.wire.pve.privileges import (
    ROLES,
    Scope,
    explain,
    grant,
    major,
    missing,
    needed,
    setup,
    setup_commands,
    zone_steps,
)

SCOPE = Scope("lab", ("local", "fast"), ("labs",), ("vmbr1",), images=("local",))
USER, TOKEN = "nestlab@pve", "ci"


def granted(version: str) -> dict[str, dict[str, int]]:
    """What the setup grants, as GET /access/permissions would answer."""
    roles: dict[str, str] = {}
    held: dict[str, dict[str, int]] = {}
    for step in setup(version, SCOPE, USER, TOKEN):
        params = dict(step.params)
        if step.path == "/access/roles":
            roles[params["roleid"]] = params["privs"]
        if step.path == "/access/acl":
            assert (params["users"], params["tokens"]) == (USER, f"{USER}!{TOKEN}")
            names = roles[params["roles"]].split(",")
            held.setdefault(params["path"], {}).update(dict.fromkeys(names, int(params["propagate"])))
    return held


@pytest.mark.parametrize("version", ["8.0.3", "8.4.1", "9.0", "9.1.10", "pve-manager/9.1.10/abc", "10.0"])
def test_the_setup_grants_exactly_what_is_needed(version: str) -> None:
    held = granted(version)
    assert missing(held, version, SCOPE) == ()
    for path, names in held.items():
        for name in names:
            less = {other: dict(those) for other, those in held.items()}
            del less[path][name]
            assert [(lack.path, lack.privilege) for lack in missing(less, version, SCOPE)] == [(path, name)]


def test_pve_8_and_9_differ_in_the_guest_agent() -> None:
    eight, nine = needed("8.4.1"), needed("9.1.10")
    assert set(eight["/pool/{pool}"]) - set(nine["/pool/{pool}"]) == {"VM.Monitor"}
    assert set(nine["/pool/{pool}"]) - set(eight["/pool/{pool}"]) == {"VM.GuestAgent.Unrestricted"}
    assert {path: names for path, names in eight.items() if path != "/pool/{pool}"} == {
        path: names for path, names in nine.items() if path != "/pool/{pool}"
    }


def test_nothing_is_granted_that_opens_the_whole_cluster() -> None:
    for version in ("8.4.1", "9.1.10"):
        names = {name for each in needed(version).values() for name in each}
        dangerous = {
            "Permissions.Modify",
            "Sys.Modify",
            "Sys.Console",
            "Sys.PowerMgmt",
            "User.Modify",
            "Realm.Allocate",
        }
        assert not names & dangerous
        assert "/" not in needed(version)
        assert granted(version)["/sdn"] == {"SDN.Allocate": 0}, "not for all zones below"


def test_the_commands_are_those_of_pveum() -> None:
    lines = setup_commands("9.1.10", "lab", ["local"], ["labs"], ["vmbr1"], USER, TOKEN)
    assert lines[0] == "pveum pool add lab --comment nestlab"
    assert "pveum user add nestlab@pve --comment nestlab" in lines
    assert "pveum user token add nestlab@pve ci --privsep 1" in lines
    assert (
        "pveum acl modify /sdn --roles NestlabApply --users nestlab@pve --tokens 'nestlab@pve!ci' --propagate 0"
        in lines
    )
    assert "pveum role add NestlabBridge --privs SDN.Use || pveum role modify NestlabBridge --privs SDN.Use" in lines
    assert len(lines) == len(set(lines))
    for line in lines:
        assert shlex.split(line)[0] == "pveum"


def test_a_pool_named_like_the_comment_keeps_its_comment() -> None:
    lines = setup_commands("9", "nestlab", ["local"], [], [], USER, TOKEN)
    assert lines[0] == "pveum pool add nestlab --comment nestlab"


def test_names_are_quoted_for_the_shell() -> None:
    lines = setup_commands("9", "a b;c", ["local"], [], [], USER, TOKEN)
    assert shlex.split(lines[0])[:4] == ["pveum", "pool", "add", "a b;c"]


def test_only_what_is_used_is_granted() -> None:
    lines = "\n".join(setup_commands("9", "lab", ["local"], [], [], USER, TOKEN))
    assert "/sdn" not in lines
    assert "NestlabBridge" not in lines
    assert "pveum acl modify /storage/local --roles NestlabDisks" in lines
    assert "pveum acl modify /storage/local --roles NestlabImages" in lines, "when no other is named for images"
    disks = "\n".join(setup_commands("9", "lab", ["local", "fast"], [], [], USER, TOKEN, images=["local"]))
    assert "pveum acl modify /storage/fast --roles NestlabDisks" in disks
    assert "pveum acl modify /storage/fast --roles NestlabImages" not in disks
    assert "pveum acl modify /storage/local --roles NestlabImages" in disks


def test_where_only_images_are_no_disks_may_be_made() -> None:
    apart = Scope("lab", ("fast",), images=("local",))
    for version in ("8.4.1", "9.1.10"):
        held = {path: needed(version)[template] for template, path in apart.paths()}
        assert held["/storage/local"] == ("Datastore.Allocate", "Datastore.AllocateTemplate", "Datastore.Audit")
        assert held["/storage/fast"] == ("Datastore.AllocateSpace", "Datastore.Audit")


def test_commands_and_requests_say_the_same() -> None:
    for step in setup("9.1.10", SCOPE, USER, TOKEN):
        words = shlex.split(step.command)
        for _, value in step.params:
            assert value in words
    assert [step.shows for step in setup("9", SCOPE, USER, TOKEN)].count(True) == 1
    assert zone_steps("labs")[0].command == "pvesh create /cluster/sdn/zones --zone labs --type simple"


def test_root_lacks_nothing() -> None:
    everything = {name: 1 for names in needed("9").values() for name in names}
    assert missing({"/": everything}, "9", SCOPE) == ()


def test_what_does_not_propagate_does_not_hold_below() -> None:
    everything = {name: 0 for names in needed("9").values() for name in names}
    lacks = missing({"/": everything}, "9", SCOPE)
    assert {lack.path for lack in lacks} == {path for _, path in SCOPE.paths()}


def test_the_nearest_path_that_is_listed_decides() -> None:
    everything = {name: 1 for names in needed("9").values() for name in names}
    lacks = missing({"/": everything, "/storage": {"Datastore.Audit": 1}}, "9", Scope("lab", ("local",)))
    assert {(lack.path, lack.privilege) for lack in lacks} == {
        ("/storage/local", "Datastore.Allocate"),
        ("/storage/local", "Datastore.AllocateSpace"),
        ("/storage/local", "Datastore.AllocateTemplate"),
    }


def test_what_lacks_is_told_in_sentences() -> None:
    held = granted("9")
    del held["/pool/lab"]["VM.PowerMgmt"]
    (lack,) = missing(held, "9", SCOPE)
    assert lack.sentence == "VM.PowerMgmt is missing on /pool/lab: nestlab could not start and stop machines."
    assert explain([lack]) == "VM.PowerMgmt is missing on /pool/lab: nestlab could not\n  start and stop machines"
    assert explain([]) == ""
    assert "VM.Allocate, VM.Audit" in explain(missing({}, "9", SCOPE))


def test_what_to_grant_names_path_and_privilege() -> None:
    hint = grant("/vms/100", ("VM.Audit", "VM.Console"))
    assert "one of VM.Audit, VM.Console on /vms/100 (or on the pool that it is in)" in hint
    assert "pveum acl modify /vms/100" in hint


@pytest.mark.parametrize("version", ["", "7.4-3", "old", "0"])
def test_a_version_that_is_not_supported_is_an_error(version: str) -> None:
    with pytest.raises(LabError, match="not supported"):
        needed(version)
    assert major("8.4.1") == 8


def test_every_kind_of_path_has_a_role_of_its_own() -> None:
    assert set(ROLES) == set(needed("9"))
    assert len(set(ROLES.values())) == len(ROLES)
    assert not any(role.upper().startswith("PVE") for role in ROLES.values())
