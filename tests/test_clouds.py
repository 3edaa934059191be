"""Clouds: a machine's provider is known by what it shows, and its tenant is told what a tenant can do."""

from __future__ import annotations

import re

import pytest

from nestlab.explain.clouds import AZURE, AZURE_TAG, CLOUDS, EC2, GCE, HETZNER, Cloud, Nests, by_dmi, by_log

each_cloud = pytest.mark.parametrize("cloud", CLOUDS, ids=lambda each: each.name)


@each_cloud
def test_a_cloud_is_known_by_each_of_its_dmi_strings(cloud: Cloud) -> None:
    for word in cloud.dmi:
        assert by_dmi(("", "SeaBIOS", f"{word} x"), "kvm") == cloud


@each_cloud
def test_a_cloud_is_known_by_the_words_of_a_log(cloud: Cloud) -> None:
    for word in cloud.log:
        assert word == word.lower()
        assert by_log(f"[0.0] dmi: {word}10-0\n".encode()) == cloud


@each_cloud
def test_a_tenant_is_told_nothing_that_only_the_host_of_a_machine_can_do(cloud: Cloud) -> None:
    way = cloud.below()
    text = " ".join((way.do, *way.commands))
    assert not re.search(r"qm set|virsh|virt-xml|modprobe|firmware setup|BIOS", text)
    assert way.do[-1] == "."
    assert cloud.see
    assert (cloud.nests is Nests.OPERATOR) == ("If you run it" in text)


def test_no_string_is_that_of_two_clouds() -> None:
    words = [word for cloud in CLOUDS for word in (*cloud.dmi, *cloud.log)]
    assert len(words) - words.count(AZURE_TAG) + 1 == len(set(words))


def test_machines_of_other_hypervisors_are_in_no_cloud() -> None:
    for dmi in (("QEMU", "Standard PC (Q35 + ICH9, 2009)"), ("Microsoft Corporation", "Virtual Machine"), ("VMware",)):
        assert by_dmi(dmi, "kvm") is None
    assert by_log(b"linux version 6.12.48+deb13-amd64 kvm: no hardware support") is None


@pytest.mark.parametrize("product", ["m8i.xlarge", "c8i-flex.large", "r8id.2xlarge"])
def test_an_instance_whose_type_nests_is_changed_where_it_is(product: str) -> None:
    way = EC2.below(product)
    assert way.do.startswith(f"The type {product} nests.")
    assert [line.split()[2] for line in way.commands] == [
        "stop-instances",
        "modify-instance-cpu-options",
        "start-instances",
    ]
    assert "run-instances" not in " ".join(way.commands)


@pytest.mark.parametrize("product", ["m7g.large", "c6a.4xlarge", "t2.micro", "m8g.xlarge", "a1.medium"])
def test_an_instance_whose_type_does_not_nest_gets_another_type_and_keeps_its_disks(product: str) -> None:
    way = EC2.below(product)
    assert way.do.startswith(f"The type {product} does not nest.")
    assert "modify-instance-attribute" in " ".join(way.commands)


def test_a_type_that_only_the_provider_knows_is_looked_up_in_its_list() -> None:
    way = EC2.below("m7i-flex.large")
    assert "describe-instance-types" in " ".join(way.commands)
    assert EC2.type_nests("m7i-flex.large") is None
    assert len(set(way.commands)) == len(way.commands)


def test_what_is_no_type_of_this_provider_is_not_told_as_one() -> None:
    assert EC2.type_of("$(evil).large; x") == EC2.type_of("HVM domU") == GCE.type_of("e2.standard") == ""
    assert "Google Compute Engine" not in GCE.below("Google Compute Engine").do


def test_types_that_never_nest_are_named_where_dmi_does_not_tell_the_type() -> None:
    assert "E2" in GCE.below().do
    assert "Trusted Launch" in AZURE.below().do


def test_a_provider_that_does_not_nest_gets_no_command() -> None:
    way = by_dmi(("Hetzner", "vServer"), "kvm")
    assert way is HETZNER
    assert way.below().commands == ()
    assert "dedicated server" in way.below().do


def test_kernels_made_for_a_cloud_show_it() -> None:
    assert by_log(b"linux version 6.14.0-1018-aws (buildd@x)") == EC2
    assert by_log(b"6.8.0-1017-gcp\n") == GCE
    assert by_log(b"terraform-provider-aws 5.60") is None
